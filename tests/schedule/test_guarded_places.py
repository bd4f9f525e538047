"""What a guard keeps in range stays so where a schedule looks at it, or writes it, without that guard.

Products add zeros for what a guard leaves out, windows are added up place by place, and threads look at all
places for rows of their own: the elements have to be there.
"""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.schedule.choices import Choices
from tests.schedule.test_walking import check

STATEMENTS = {
    "a product with a side that is masked": (
        "for n < N, d, i:  y[n+1,d] += x[n,i] * W[i,d]   if n + 1 < N and i != 2"
    ),
    "along the rows of the target": (
        "for n < N, d, i:  z[d,n+1] += x[n,i] * W[i,d]   if n + 1 < N and i != 2"
    ),
    "a product with a side that has zeros around it": (
        "for n < N, d, i:  y[n+1,d] += x[n+1,i] * W[i,d]   if n + 1 < N"
    ),
    "windows in steps, beside an axis that the guard speaks of": (
        "for n < N, d < D, p < 4:  y[2*n+p-1,d+1] += g[n,d] * (p - 0.7)"
        "   if d + 1 < D and 0 <= 2 * n + p - 1 < N"
    ),
    "the same, in two axes": (
        "for n < N, d < D, p < 3:  y[n+1,2*d+p-1] += g[n,d] * (p - 0.7)"
        "   if n + 1 < N and 0 <= 2 * d + p - 1 < D"
    ),
    "what two lines compute under a condition": (
        "for n < N, d < D:  y[n,d] += exp(g[n,d+1]) if d + 1 < D else 0\n"
        "    for n < N, d < D:  y[n,d] += 2 * exp(g[n,d+1]) if d + 1 < D else 1"
    ),
    "the same, under a guard that says nothing of it": (
        "for n < N, d < D:  y[n,d] += exp(g[n,d+1]) if d + 1 < D else 0   if c[n,d] > 0\n"
        "    for n < N, d < D:  y[n,d] += 2 * exp(g[n,d+1]) if d + 1 < D else 1   if c[n,d] > 0"
    ),
    "rows that data pick, from a place further on": (
        "for n < N, d:  y[w[n+1],d] += g[n,d]   if n + 1 < N"
    ),
    "rows that data pick which data tell": (
        "for n < N, d:  y[w[v[n]],d] += g[n,d]   if 0 <= v[n] < N"
    ),
}


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_no_element_is_touched_that_is_not_there(statement: str) -> None:
    program = lg.program(
        "f(x[N,I], W[I,D], g[N,D], c[N,D], int w[N], int v[N]) -> y[N,D], z[D,N]:\n"
        "    for n, d:  y[n,d] = c[n,d]\n"
        "    for n, d:  z[d,n] = c[n,d]\n"
        f"    {statement}\n"
    )
    rng = np.random.default_rng(0)
    for number, (N, I, D) in enumerate(((1, 3, 4), (5, 4, 3), (6, 3, 6))):
        shapes = {"x": (N, I), "W": (I, D), "g": (N, D), "c": (N, D)}
        inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        inputs |= {"w": rng.integers(0, N, N), "v": rng.integers(-1, N + 1, N)}
        for choices in (Choices(), Choices(rows=2)):
            check(program, inputs, 1 + number, choices)


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
def test_a_sum_of_what_has_no_index_under_a_guard() -> None:
    text = (
        "f(x[B,J], a, bool m[B]) -> t[B]:\n    for b < B, j < J:  t[b] += 0.4 * tanh(a)   if m[b]\n"
    )
    inputs = {"x": np.ones((3, 4)), "a": np.asarray(0.5), "m": np.array([True, False, True])}
    program = lg.program(text)
    check(program, inputs, 1, Choices())
    program(**inputs)
