"""Derives the coefficients of `loopgrad/backends/llvm/mathematics`: minimax polynomials.

    python benchmarks/derive_coefficients.py [--only erf_small]      (needs mpmath)

Each polynomial minimises the largest weighted error over its interval (the algorithm of Remez, on a
grid, in 100 digits). Coefficients are then rounded to the working precision one after another, those
that matter most first, and what is left is fitted again.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpmath import mp, mpf

mp.dps = 100
GRID = 600

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Problem:
    """P(x) is to be near `wanted(x)` from `low` to `high`; errors count `weight(x)` times."""

    name: str
    count: int
    low: float
    high: float
    wanted: Function
    weight: Function
    single: bool


def series(function: Function, x: Any, small: Function) -> Any:
    """`function(x)`, but `small(x)` where it would cancel."""
    return small(x) if abs(x) < mpf(10) ** -12 else function(x)


def sine(z: Any) -> Any:
    """S in sin(r) = r + r**3 S(r**2)."""
    r = mp.sqrt(z)
    return series(lambda z: (mp.sin(r) - r) / r**3, z, lambda z: mpf(-1) / 6 + z / 120)


def small_erf(z: Any) -> Any:
    """P in erf(x) = x + x P(x**2)."""
    x, c = mp.sqrt(z), 2 / mp.sqrt(mp.pi)
    return series(lambda z: mp.erf(x) / x - 1, z, lambda z: c - 1 - c * z / 3)


def atanh(z: Any) -> Any:
    """A in 2 atanh(s) = 2 s + s**3 A(s**2)."""
    s = mp.sqrt(z)
    return series(lambda z: (2 * mp.atanh(s) - 2 * s) / s**3, z, lambda z: mpf(2) / 3 + 2 * z / 5)


def _relative_atanh(z: Any) -> Any:
    s = mp.sqrt(z)
    return z / 2 if z < mpf(10) ** -12 else s**3 / (2 * mp.atanh(s))


def _relative_sine(z: Any) -> Any:
    r = mp.sqrt(z)
    return z if z < mpf(10) ** -12 else r**3 / mp.sin(r)


def _relative_erf(z: Any) -> Any:
    x = mp.sqrt(z)
    return mp.sqrt(mp.pi) / 2 if z < mpf(10) ** -12 else x / mp.erf(x)


def binary_log(z: Any) -> Any:
    """P in log2((1+s)/(1-s)) = s P(s**2)."""
    s = mp.sqrt(z)
    return series(
        lambda z: 2 * mp.atanh(s) / s / mp.log(2), z, lambda z: (2 + 2 * z / 3) / mp.log(2)
    )


def log_tail(z: Any) -> Any:
    """T in 2 atanh(s) = 2 s + s**3 (2/3 + s**2 T(s**2))."""
    return 2 * sum(z**k / (2 * k + 5) for k in range(30))


def binary_power(f: Any) -> Any:
    """E in 2**f = 1 + f E(f)."""
    return series(lambda f: (2**f - 1) / f, f, lambda f: mp.log(2) * (1 + f * mp.log(2) / 2))


def _log_erfc(x: Any) -> Any:
    return mp.log(mp.erfc(x))


def _relative_erfc(x: Any) -> Any:
    return mp.erfc(x) / mp.erf(x)


S2 = 0.17158**2  # s**2 of m from sqrt(1/2) to sqrt(2), s = (m - 1) / (m + 1)
QUARTER = 1.5708 + 0.012  # the reduced argument of sin, with what the reduction may miss by
PROBLEMS = [
    Problem("sine single", 5, 0.0, QUARTER**2, sine, _relative_sine, True),
    Problem("sine double", 8, 0.0, QUARTER**2, sine, _relative_sine, False),
    Problem("erf_small single", 6, 0.0, 0.84**2, small_erf, _relative_erf, True),
    Problem("erf_small double", 12, 0.0, 0.90**2, small_erf, _relative_erf, False),
    Problem(
        "erf_large single",
        8,
        0.83,
        3.93,
        lambda x: mp.log(mp.erfc(x)),
        lambda x: mp.erfc(x) / mp.erf(x),
        True,
    ),
    Problem(
        "erf_large double",
        20,
        0.89,
        5.94,
        lambda x: mp.log(mp.erfc(x)),
        lambda x: mp.erfc(x) / mp.erf(x),
        False,
    ),
    Problem("atanh single", 5, 0.0, 1 / 9 + 1e-4, atanh, _relative_atanh, True),
    Problem("atanh double", 10, 0.0, 1 / 9 + 1e-4, atanh, _relative_atanh, False),
    Problem("power_log", 5, 0.0, S2, binary_log, lambda z: 1 / binary_log(z), False),
    Problem("power_exp", 7, -0.501, 0.501, binary_power, lambda f: abs(f) / 2**f, False),
    Problem("power_tail", 7, 0.0, S2, log_tail, lambda z: z**2 / 2, False),
]


def rounded(value: Any, single: bool) -> float:
    number = float(value)
    return float(struct.unpack("f", struct.pack("f", number))[0]) if single else number


def remez(
    count: int, points: list[Any], values: list[Any], weights: list[Any]
) -> tuple[list[Any], Any]:
    """Coefficients, the constant one first, and the largest weighted error on the points.

    `values` may hold what coefficients already fixed leave, and `weights` the power that remains.
    """
    n = len(points)
    chosen = [round((1 - mp.cos(mp.pi * i / count)) / 2 * (n - 1)) for i in range(count + 1)]
    for _ in range(15):
        matrix, right = mp.matrix(count + 1), mp.matrix(count + 1, 1)
        for row, at in enumerate(chosen):
            for k in range(count):
                matrix[row, k] = weights[at] * points[at] ** k
            matrix[row, count] = (-1) ** row
            right[row] = weights[at] * values[at]
        solution = mp.lu_solve(matrix, right)
        coefficients = [solution[k] for k in range(count)]
        errors = [
            w * (v - mp.polyval(coefficients[::-1], x))
            for x, v, w in zip(points, values, weights, strict=True)
        ]
        largest = max(map(abs, errors))
        if largest <= abs(solution[count]) * mpf("1.0001"):
            break
        better = extremes(errors, count + 1)
        if not better:
            break
        chosen = better
    return coefficients, largest


def extremes(errors: list[Any], wanted: int) -> list[int]:
    """Where errors of alternating sign are largest."""
    runs: list[int] = []
    for i, e in enumerate(errors):
        if runs and (errors[runs[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > wanted:
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return runs if len(runs) == wanted else []


def solve(problem: Problem) -> tuple[list[float], float]:
    """Coefficients of the working precision, and log2 of the largest weighted error."""
    low, high = mpf(problem.low), mpf(problem.high)
    points = [low + (high - low) * (1 - mp.cos(mp.pi * i / (GRID - 1))) / 2 for i in range(GRID)]
    points = [x or high / 10**6 for x in points]
    values, weights = [problem.wanted(x) for x in points], [problem.weight(x) for x in points]
    fixed: list[float] = []
    left, power = values, weights
    while len(fixed) < problem.count:
        coefficients, _ = remez(problem.count - len(fixed), points, left, power)
        c = rounded(coefficients[0], problem.single)
        fixed.append(c)
        left = [(v - c) / x for v, x in zip(left, points, strict=True)]
        power = [w * x for w, x in zip(power, points, strict=True)]
    worst = max(
        abs(w * (v - mp.polyval(fixed[::-1], x)))
        for x, v, w in zip(points, values, weights, strict=True)
    )
    return fixed, float(mp.log(worst, 2))


ERF_GREATEST = mpf("3.925")  # erf is 1 from there on, in single precision
ERF_SCALE = rounded(mpf("7.49") / ERF_GREATEST, single=True)
ERF_DEGREE = 6


def erf_part(number: int) -> tuple[list[float], float]:
    """Of erf(x) = x (c + P(r)), r = x ERF_SCALE - number from -1/2 to 1/2: c, and the coefficients of P.

    The constant one is what rounding takes from c. And log2 of the largest relative error.
    """
    low = mpf(number and number - 0.5)
    high = min(mpf(number + 0.5), ERF_GREATEST * ERF_SCALE)
    points = [low + (high - low) * (1 - mp.cos(mp.pi * i / (GRID - 1))) / 2 for i in range(GRID)]
    values = [1 + small_erf((at / ERF_SCALE) ** 2) for at in points]
    points = [at - number for at in points]
    exact, error = remez(ERF_DEGREE + 1, points, values, [1 / v for v in values])
    leading = rounded(exact[0], single=True)
    rest = [exact[0] - mpf(leading), *exact[1:]]
    return [leading, *(rounded(c, single=True) for c in rest)], float(mp.log(error, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a name")
    arguments = parser.parse_args()
    for problem in PROBLEMS:
        if arguments.only in problem.name:
            coefficients, error = solve(problem)
            print(f"{problem.name}  # error 2**{error:.1f}")
            for c in coefficients:
                print(f"    {c!r},")
    if arguments.only in "erf_parts":
        parts, errors = zip(*map(erf_part, range(8)), strict=True)
        print(f"ERF_SCALE = {ERF_SCALE!r}")
        print(f"erf_parts  # error 2**{max(errors):.1f}")
        for row in zip(*parts, strict=True):
            print(f"    {row!r},")


if __name__ == "__main__":
    main()
