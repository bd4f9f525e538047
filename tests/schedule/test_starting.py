"""Elements that `=` does not set start from the identity of the tensor's other operation."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.ir.nodes import Extent
from loopgrad.schedule.choices import Choices
from tests.literal import literally
from tests.schedule.test_walking import check

SET = {
    "under a guard": "for i < 5, d:  z[i,d] = y[i,d]   if y[i,d] < 0.3",
    "some rows": "for i < 3, d:  z[i,d] = y[i,d]",
    "one row": "for d:  z[2,d] = y[2,d]",
}


@pytest.mark.parametrize("operator", ["max=", "min=", "*=", "+="])
@pytest.mark.parametrize("name", SET)
def test_elements_that_are_not_set(name: str, operator: str) -> None:
    program = lg.program(
        f"f(x[N,D], int w[N], y[5,D]) -> z[5,D]:\n"
        f"    {SET[name]}\n"
        f"    for n, d:  z[w[n],d] {operator} x[n,d]"
    )
    rng = np.random.default_rng(0)
    x, y = -np.abs(rng.normal(size=(3, 4))), rng.normal(size=(5, 4))
    inputs = {"x": x, "w": np.array([0, 3, 3]), "y": y}
    check(program, inputs, 2, Choices())
    if name == "under a guard":
        wanted = lg.compile(program, backend="interpret")(**inputs)
        np.testing.assert_array_equal(program(**inputs), wanted)


@pytest.mark.parametrize("guard", ["r + 1 < R", "r + 1 < R and t >= 1", "r + 1 < R - t"])
def test_rows_that_a_guard_leaves_out_of_a_product_are_zero(guard: str) -> None:
    program = lg.program(
        f"f(A[R,S], B[S,T]) -> C[R,T]:\n"
        f"    for r < R, t < T, s:  C[r,t] += A[r+1,s] * B[s,t]   if {guard}"
    )
    rng = np.random.default_rng(0)
    for rows in (1, 4, 5):
        inputs = {"A": rng.normal(size=(rows, 3)), "B": rng.normal(size=(3, 4))}
        check(program, inputs, 2, Choices())


@pytest.mark.parametrize("columns", [1, 16, 17, 33])
def test_a_guarded_sum_of_what_may_not_be_there_adds_up(columns: int) -> None:
    """Each vector of a row was stored in place of those before."""
    program = lg.program(
        "f(x[T,D], int n[T], int l) -> y[T]:\n"
        "    local r[T,T]\n"
        "    for t, u < n[t], d:  r[t,u] += x[u,d] * x[t,d]   if u < l\n"
        "    for t, u < n[t]:     y[t]   += r[t,u]            if u < l\n"
    )
    x = np.random.default_rng(5).standard_normal((20, columns))
    kernel, literal = lg.compile(program), literally(program)
    for last in (0, 7, 99):
        given = x, np.arange(20), np.int64(last)
        np.testing.assert_allclose(kernel(*given), literal(*given), rtol=0, atol=1e-12)


def test_a_sum_starts_once_before_all_loops_that_add_to_it() -> None:
    """Products have rows in blocks inside of a loop that adds up, too: that is not where it starts again."""
    program = lg.program(
        "f(x[B,C,X,Y], w[O,C,2], w2[2], c1[C]) -> y[B,O,X,Y]:\n"
        "    for b, o, c, i < X, p < 2, j < Y, q < 2:  "
        "y[b,o,i,j] += tanh(x[b,c,i+2*p,j+q-1]) * c1[c] * relu(w[o,c,p]) * w2[q]   "
        "if i+2*p < X and 0 <= j+q-1 < Y"
    ).backward()
    rng, sizes = np.random.default_rng(0), {"B": 3, "C": 5, "X": 6, "Y": 4, "O": 2}
    inputs = {
        i.name: rng.normal(size=[sizes[e.name] if isinstance(e, Extent) else 2 for e in i.extents])
        for i in program.inputs
    }
    for found, wanted in zip(
        lg.compile(program)(**inputs), literally(program)(**inputs), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
