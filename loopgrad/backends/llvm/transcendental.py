"""Our own exp, expm1, log, log1p and tanh: straight-line code, of any width.

No tables, no branches, no fast-math flags; fused multiply-adds are written out. So vectors and
single values give the same bits, and special values come out right.
Errors are below 2 units in the last place (exp: 1, tanh: 3), measured by
tests/backends/test_llvm_functions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from loopgrad.backends.llvm.lanes import Lanes


@dataclass(frozen=True)
class Format:
    """A floating type: its numbers, and the coefficients that its precision needs."""

    mantissa: int  # stored bits
    bias: int
    magic: float  # adding it rounds to a whole number, kept in the low bits
    ln2: tuple[float, float]  # leading part, rest; for exp, where products are exact
    log_ln2: tuple[float, float]  # for log: the leading part times an exponent is exact
    exp_range: tuple[float, float]  # beyond it exp is 0, inf
    expm1_least: float  # below it expm1 is -1
    tanh_greatest: float  # of 2|x|, above it tanh is 1
    exp_coefficients: tuple[float, ...]  # of (exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2
    log_coefficients: tuple[float, ...]  # of log((1+s)/(1-s)) = 2s + s R(s**2), from z on (fdlibm)
    least_normal: float


DOUBLE = Format(
    mantissa=52,
    bias=1023,
    magic=1.5 * 2.0**52,
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    log_ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    exp_range=(-746.0, 710.0),
    expm1_least=-50.0,
    tanh_greatest=44.0,
    exp_coefficients=(
        0.5000000000000001,
        0.16666666666666669,
        0.041666666666624115,
        0.008333333333329994,
        0.0013888888917216978,
        0.0001984126986322524,
        2.4801521292272954e-05,
        2.7557268282460348e-06,
        2.762008989525303e-07,
        2.51004502742788e-08,
    ),
    log_coefficients=(
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ),
    least_normal=2.0**-1022,
)

SINGLE = Format(
    mantissa=23,
    bias=127,
    magic=1.5 * 2.0**23,
    ln2=(0.693147182464599609375, -1.904654323148236017e-09),
    log_ln2=(6.9313812256e-01, 9.0580006145e-06),
    exp_range=(-104.0, 89.0),
    expm1_least=-30.0,
    tanh_greatest=24.0,
    exp_coefficients=(
        0.5,
        0.16666576266288757,
        0.041666556149721146,
        0.008363178931176662,
        0.0013926184037700295,
    ),
    log_coefficients=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    least_normal=2.0**-126,
)


def format_of(w: Lanes) -> Format:
    return DOUBLE if w.element == "double" else SINGLE


def _power_of_two(w: Lanes, n: str) -> str:
    f = format_of(w)
    return w.from_bits(w.whole("shl", w.whole("add", n, f.bias), f.mantissa))


def _rounded(w: Lanes, x: str, factor: float) -> tuple[str, str]:
    """x * factor, rounded to a whole number: as a float and as an integer."""
    magic = w.number(format_of(w).magic)
    shifted = w.fused(x, w.number(factor), magic)
    as_integer = w.whole("sub", w.bits(shifted), w.bits(magic))
    return w.subtract(shifted, magic), as_integer


def _reduced(w: Lanes, x: str) -> tuple[str, str]:
    """n and r with x = n ln(2) + r, |r| <= ln(2) / 2."""
    n_real, n = _rounded(w, x, math.log2(math.e))
    leading, rest = format_of(w).ln2
    r = w.fused(n_real, w.number(-leading), x)
    return n, w.fused(n_real, w.number(-rest), r)


def exp(w: Lanes, x: str) -> str:
    x = w.clamp(x, *format_of(w).exp_range)
    n, r = _reduced(w, x)
    q = w.polynomial(r, (1.0, *format_of(w).exp_coefficients))
    p = w.fused(q, r, w.number(1.0))
    # Two factors: 2**n itself may be too large or too small where the product is not.
    _, half = _rounded(w, x, math.log2(math.e) / 2)
    p = w.multiply(p, _power_of_two(w, half))
    return w.multiply(p, _power_of_two(w, w.whole("sub", n, half)))


def expm1(w: Lanes, x: str) -> str:
    n, r = _reduced(w, w.clamp(x, format_of(w).expm1_least, format_of(w).exp_range[1]))
    q = w.polynomial(r, format_of(w).exp_coefficients)
    p = w.fused(w.multiply(r, r), q, r)  # expm1(r)
    # 2**n p + (2**n - 1), halved, because 2**n may be too large where the sum is not.
    scale = _power_of_two(w, w.whole("sub", n, 1))
    half = w.fused(scale, p, w.subtract(scale, w.number(0.5)))
    result = w.add(half, half)
    tiny = w.compare("olt", w.absolute(x), w.number(2.0 ** -(format_of(w).mantissa + 2)))
    return w.select(tiny, x, result)


def tanh(w: Lanes, x: str) -> str:
    """e / (e + 2), e = expm1(2|x|)."""
    magnitude = w.absolute(x)
    twice = w.clamp(w.add(magnitude, magnitude), None, format_of(w).tanh_greatest)
    e = expm1(w, twice)
    result = w.divide(e, w.add(e, w.number(2.0)))
    return w.with_sign(result, x)


def log(w: Lanes, x: str) -> str:
    f = format_of(w)
    small = w.compare("olt", x, w.number(f.least_normal))
    scaled = w.multiply(x, w.number(2.0 ** (f.mantissa + 2)))
    # x = 2**k m, m from sqrt(1/2) to sqrt(2)
    bits = w.bits(w.select(small, scaled, x))
    above = w.whole("sub", bits, w.bits(w.number(math.sqrt(0.5))))
    exponent = w.whole("ashr", above, f.mantissa)
    m = w.from_bits(w.whole("sub", bits, w.whole("shl", exponent, f.mantissa)))
    shift = w.select_whole(small, w.whole_number(f.mantissa + 2), w.whole_number(0))
    k = w.small_to_real(w.whole("sub", exponent, shift))
    result = _log_of_product(w, k, w.subtract(m, w.number(1.0)))
    result = w.select(w.compare("oeq", x, w.number(math.inf)), x, result)
    result = w.select(w.compare("ult", x, w.number(0.0)), w.number(math.nan), result)
    return w.select(w.compare("oeq", x, w.number(0.0)), w.number(-math.inf), result)


def _log_of_product(w: Lanes, k: str, m1: str) -> str:
    """log(2**k (1 + m1)), as in fdlibm's e_log.c."""
    s = w.divide(m1, w.add(m1, w.number(2.0)))
    z = w.multiply(s, s)
    r = w.multiply(z, w.polynomial(z, format_of(w).log_coefficients))
    half_square = w.multiply(w.multiply(w.number(0.5), m1), m1)
    leading, rest = map(w.number, format_of(w).log_ln2)
    correction = w.fused(k, rest, w.multiply(s, w.add(half_square, r)))
    inner = w.subtract(w.subtract(half_square, correction), m1)
    return w.subtract(w.multiply(k, leading), inner)


def log1p(w: Lanes, x: str) -> str:
    """log(u) + (x - (u - 1)) / u, u = 1 + x rounded: the second term mends the rounding."""
    one = w.number(1.0)
    u = w.add(x, one)
    lost = w.subtract(x, w.subtract(u, one))
    logarithm = log(w, u)
    mended = w.add(logarithm, w.divide(lost, u))
    # At u = 0 and inf the quotient is NaN; below 2**-54 x itself is right, of either sign.
    ordinary = w.compare("one", w.absolute(logarithm), w.number(math.inf))
    result = w.select(ordinary, mended, logarithm)
    tiny = w.compare("olt", w.absolute(x), w.number(2.0 ** -(format_of(w).mantissa + 2)))
    return w.select(tiny, x, result)


OWN: dict[str, Callable[[Lanes, str], str]] = {
    "exp": exp,
    "expm1": expm1,
    "tanh": tanh,
    "log": log,
    "log1p": log1p,
}
