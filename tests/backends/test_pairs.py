"""Sums and extrema over pairs of elements that are no products: tiles, around their edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally
from tests.schedule.test_walking import Choices, check

# Of elements a and b: as a program says it, and as NumPy does.
VALUES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "squares": ("(x[b,i] - c[j,i])**2", lambda a, b: (a - b) ** 2),
    "distances": ("3 * abs(x[b,i] - c[j,i])", lambda a, b: 3 * abs(a - b)),
    "sums": ("c[j,i] + x[b,i]", lambda a, b: a + b),
    "a choice": (
        "(x[b,i] if x[b,i] < c[j,i] else 2 * c[j,i])",
        lambda a, b: np.where(a < b, a, 2 * b),
    ),
    "products of sums": (
        "(x[b,i] + c[j,i]) * (x[b,i] - 2 * c[j,i])",
        lambda a, b: (a + b) * (a - 2 * b),
    ),
}
TOTALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "+=": lambda v: v.sum(2),
    "-=": lambda v: -v.sum(2),
    "max=": lambda v: v.max(2, initial=-np.inf),
    "min=": lambda v: v.min(2, initial=np.inf),
}
# Of rows, columns and sums: around tiles, vectors, panels, and blocks of rows.
SIZES = [(0, 9, 9), (1, 1, 1), (3, 16, 0), (4, 32, 9), (5, 33, 3), (7, 63, 40), (97, 65, 11)]
SIZES += [(2, 130, 9), (9, 17, 300), (193, 15, 8)]


def _program(value: str, how: str) -> lg.Program:
    return lg.program(
        f"f(x[B,I], c[J,I]) -> y[B,J]:\n    for b, j, i:  y[b,j] {how} {VALUES[value][0]}\n"
    )


def _schedule(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


CASES = [
    ("squares", "+="),
    ("squares", "-="),
    ("distances", "+="),
    ("sums", "max="),
    ("sums", "min="),
]
CASES += [("a choice", "max="), ("products of sums", "-=")]


@pytest.mark.parametrize("value, how", CASES)
def test_results_are_those_of_numpy(value: str, how: str) -> None:
    program, rng = _program(value, how), np.random.default_rng(5)
    assert "pairs:" in show(optimized(infer(program), validate(program)))
    kernel, before = lg.compile(program), lg.get_num_threads()
    try:
        for i, (rows, columns, sums) in enumerate(2 * SIZES):
            lg.set_num_threads(1 + i // len(SIZES))
            element = ("f4", "f8")[(i + i // len(SIZES)) % 2]
            x = rng.standard_normal((rows, sums)).astype(element)
            c = rng.standard_normal((columns, sums)).astype(element)
            if sums > 8 and rows > 3:
                x[1, 2], x[2, 3], c[-1, 4] = np.nan, np.inf, -np.inf
            wide = np.broadcast_arrays(x[:, None].astype(float), c[None].astype(float))
            with np.errstate(all="ignore"):
                expected = TOTALS[how](VALUES[value][1](*wide))
            exact = 1e-4 if element == "f4" else 1e-11
            np.testing.assert_allclose(kernel(x, c), expected, rtol=exact, atol=10 * exact)
    finally:
        lg.set_num_threads(before)


PROGRAMS = {
    # What is added to is there before, a batch, an axis that is turned, and what follows on the rows.
    "added to": """f(x[B,I], c[J,I], z[B,J]) -> y[B,J]:
    for b, j:     y[b,j] += z[b,j] * z[b,j]
    for b, j, i:  y[b,j] -= (x[b,i] - c[j,i])**2
""",
    "an extremum of what is there": """f(x[B,I], c[J,I], z[B,J]) -> y[B,J]:
    for b, j:     y[b,j] max= z[b,j]
    for b, j, i:  y[b,j] max= x[b,i] - c[j,i]
""",
    "a batch, and rows of two indices": """f(x[A,B,T,I], c[A,J,I]) -> y[A,B,T,J]:
    for a, b, t, j, i:  y[a,b,t,j] += abs(x[a,b,t,i] - c[a,j,i])
""",
    "sums over two indices": """f(x[B,K,I], c[J,I,K]) -> y[B,J]:
    for b, j, i, k:  y[b,j] min= x[b,k,i] + c[j,i,k]
""",
    "attention by distances": """f(x[B,T,I], c[B,U,I], v[B,U,J]) -> y[B,T,J]:
    for b, t, u, i:  d[b,t,u] += (x[b,t,i] - c[b,u,i])**2
    for b, t, u:     Z[b,t]   += exp(-d[b,t,u])
    for b, t, u, j:  y[b,t,j] += exp(-d[b,t,u]) / Z[b,t] * v[b,u,j]
""",
    "points among themselves": """f(x[B,I]) -> y[B]:
    for b, j < B, i:  d[b,j] += (x[b,i] - x[j,i])**2
    for b, j < B:     y[b] += d[b,j] / (1 + d[b,j])
""",
    "columns that a product makes": """f(x[B,I], w[J,I], c[K,J]) -> y[B,K]:
    for b, j, i:  h[b,j] += w[j,i] * x[b,i]
    for b, k, j:  y[b,k] += abs(h[b,j] - c[k,j])
""",
}


def _drawn(name: str, rows: int) -> list[np.ndarray]:
    sizes = {"A": 2, "B": rows, "T": 5, "I": 11, "J": 18, "K": 13, "U": 19}
    if name == "attention by distances":
        sizes |= {"B": 2, "T": rows}
    rng = np.random.default_rng(rows)
    inputs = lg.program(PROGRAMS[name]).inputs
    return [rng.standard_normal(tuple(sizes[e.name] for e in p.extents)) for p in inputs]


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_literal_loops(name: str) -> None:
    program = lg.program(PROGRAMS[name])
    assert "pairs:" in _schedule(PROGRAMS[name])
    kernel, literal = lg.compile(program), literally(program)
    for rows in (1, 6, 101):
        inputs = _drawn(name, rows)
        np.testing.assert_allclose(kernel(*inputs), literal(*inputs), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["attention by distances", "columns that a product makes"])
def test_gradients_are_those_of_the_literal_loops(name: str) -> None:
    program, inputs = lg.program(PROGRAMS[name]), _drawn(name, 101)
    backward = literally(program.backward(recompute=True))
    result, pullback = lg.vjp(program, *inputs)
    seed = np.random.default_rng(8).standard_normal(result.shape)
    for one, other in zip(pullback(seed), backward(*inputs, seed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_schedules_come_to_what_programs_say(name: str, threads: int) -> None:
    program, rng = lg.program(PROGRAMS[name]), np.random.default_rng(7)
    sizes = {"A": 2, "B": 4, "T": 2, "I": 3, "J": 2, "K": 2, "U": 3}
    inputs = {
        p.name: rng.standard_normal(tuple(sizes[e.name] for e in p.extents)) for p in program.inputs
    }
    check(program, inputs, threads, Choices())
    check(program, inputs, threads, Choices(fuse=False))


@pytest.mark.parametrize(
    "statement",
    [
        "for b, j, i:  y[b,j] += exp(x[b,i] - c[j,i])",  # a function takes longer than to read
        "for b, j, i:  y[b,j] += abs(x[b,i] - c[j,i]) * z[i]",  # three tensors
        "for b, j, i <= j:  y[b,j] max= x[b,i] + c[j,i]",  # sums that end at the row
        "for b, j, i < 3:  y[b,j] += abs(x[b,i] - c[j,i])",  # few terms
        "for b, i, j:  y[b,i] max= x[b,j] + z[j,i]",  # lanes read what lies along the columns
        "for b, j < 4, i:  y[b,j] += abs(x[b,i] - c[j,i])",  # few columns
        "for b, j, i < I - 1:  y[b,j] max= x[b,i+1] + c[j,i]",  # places beside each other
    ],
)
def test_others_are_loops(statement: str) -> None:
    others = {"z[i]": ", c[J,I], z[I]", "z[j,i]": ", z[I,I]"}
    given = next((others[read] for read in others if read in statement), ", c[J,I]")
    columns = "I" if "y[b,i]" in statement else "J"
    text = f"f(x[B,I]{given}) -> y[B,{columns}]:\n    {statement}\n"
    assert "pairs:" not in _schedule(text)
