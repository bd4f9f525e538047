"""Rows of a thread's own memory: lanes behind the end of a loop store too, into what fills up the line."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.writing.pieces import MASKED_BYTES
from tests.backends import canaries

TEXT = """f(l[B,I], A[I,J]) -> y[B,J]:
    for b, i, j:  m[b,j] max= l[b,i] + A[i,j]
    for b, i, j:  Z[b,j] += exp(l[b,i] + A[i,j] - m[b,j])   if A[i,j] > -1
    for b, j:     y[b,j] = m[b,j] + log(Z[b,j] + 1)"""

# Each turn of s adds to the first elements of the row alone.
PARTS = """f(x[R,S], g[R,S]) -> y[R,S]:
    for r, s, u < s:  a[r,u] += x[r,s] * g[r,u]
    for r, s:         a[r,s] += g[r,s]
    for r, s:         y[r,s] = tanh(a[r,s])"""

LAST = """g(m[B,J], Z[B,J]) -> y[B,J]:
    for b, j:  y[b,j] = m[b,j] + log(Z[b,j] + 1)"""


def masked_stores(text: str) -> int:
    """Stores of some lanes: under a mask, or without AVX-512 in pieces, of which half a vector is one."""
    code, size = lg.compile(lg.program(text)).runner.text("float"), this_machine().vector_bytes
    pieces = code.count(f"store <{size // 8} x float>") if size < MASKED_BYTES else 0
    return code.count("call void @llvm.masked.store.") + pieces


def test_only_what_is_not_the_threads_own_is_stored_under_a_mask() -> None:
    assert masked_stores(TEXT) == masked_stores(LAST) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 50])
def test_rows_of_all_lengths(dtype: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    inputs = [rng.normal(size=s).astype(dtype) for s in ((3, 5), (5, columns))]
    program = lg.program(TEXT)
    wanted = lg.compile(program, backend="interpret")(*inputs)
    with canaries.watched():
        got = lg.compile(program)(*inputs)
    np.testing.assert_allclose(got, wanted, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("columns", [1, 4, 9, 15, 16, 17, 33])
def test_what_a_loop_does_not_reach_stays(columns: int) -> None:
    rng = np.random.default_rng(columns)
    inputs = [rng.normal(size=(3, columns)) for _ in "xg"]
    program = lg.program(PARTS)
    wanted = lg.compile(program, backend="interpret")(*inputs)
    np.testing.assert_allclose(lg.compile(program)(*inputs), wanted, rtol=1e-12)
