"""Vector loops whose last vector does values again, and those outside of the interior one by one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.fused.again import may_run_again
from loopgrad.ir.nodes import Accumulate, Expression, Extent, Index, Number, Read, Reduction
from loopgrad.schedule.tree import Node, Over, Step
from tests.effort import sample
from tests.literal import literally

PROGRAMS = {
    "a pool": "f(x[B,N]) -> y[B,N//2]:\n    for b, n < N//2, d < 2:  y[b,n] max= x[b,2*n+d]",
    "its gradient": "f(x[B,N], y[B,N//2], g[B,N//2]) -> d[B,N]:\n"
    "    for b, n < N//2, k < 2:  d[b,2*n+k] += g[b,n]   if x[b,2*n+k] == y[b,n]",
    "borders": "f(x[B,N]) -> y[B,N]:\n"
    "    for b, n:  y[b,n] = (x[b,n-1] if n > 0 else 0) + x[b,n] * (x[b,n+2] if n + 2 < N else 1)",
    "a window": "f(x[B,N], w[K]) -> y[B,N]:\n"
    "    for b, n, k:  y[b,n] += tanh(x[b,n+k-1]) * w[k]   if 0 <= n+k-1 < N",
    "overlapping": "f(g[B,N]) -> z[B+1,N+1]:\n"
    "    for b < B, n < N, a < 2, c < 2:  z[b+a,n+c] += g[b,n]",
    "handed on": "f(x[B,N]) -> y[B,N], z[B,N]:\n"
    "    for b, n < N:  t[b,n] = x[b,n-1] * 2   if n > 0\n"
    "    for b, n:  y[b,n] = t[b,n] + 1\n"
    "    for b, n:  z[b,n] = y[b,n] * t[b,n]   if n < N - 1",
    "downwards": "f(x[B,N]) -> y[B,N]:\n    for b, n:  y[b,n] = x[b,N-n] + 1   if n > 0",
    "whole numbers": "f(int x[B,N]) -> y[B,N//2]:\n"
    "    for b, n < N//2:  y[b,n] = x[b,2*n] - (x[b,2*n+2] if 2*n + 2 < N else 7)",
    "in place": "f(x[B,N]) -> y[B,N]:\n    for b, n:  y[b,n] = x[b,n]\n    for b, n:  y[b,n] *= x[b,n+1]   if n + 1 < N",
}
LENGTHS = [*range(20), 23, 24, 25, 31, 32, 33, 40, 63, 65, 100]


Arrays = list[np.ndarray[Any, Any]]


def inputs(program: lg.Program, length: int, dtype: Any) -> Arrays:
    """Small whole numbers, of which many are equal."""
    rng, sizes = np.random.default_rng(length), {"B": 3, "N": length, "K": 3}
    return [
        rng.integers(
            -3, 4, [sizes[e.name] if isinstance(e, Extent) else length // 2 for e in i.extents]
        ).astype(np.int64 if i.kind == "int" else dtype)
        for i in program.inputs
    ]


def listed(results: Any) -> Arrays:
    return list(results) if isinstance(results, tuple) else [results]


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_all_lengths(text: str) -> None:
    program = lg.program(text)
    literal = literally(program)
    for length in sample(LENGTHS, 14):
        for dtype in (np.float32, np.float64):
            given = inputs(program, length, dtype)
            pairs = zip(listed(program(*given)), listed(literal(*given)), strict=True)
            for found, expected in pairs:
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_nothing_is_stored_beside_the_results(text: str) -> None:
    kernel = lg.compile(lg.program(text))
    for length in (5, 8, 9, 13, 31):
        given = inputs(kernel.program, length, np.float64)
        expected = listed(kernel(*given))
        memory = [np.full(e.size + 64, 77, e.dtype) for e in expected]
        outs = [m[32:-32].reshape(e.shape) for m, e in zip(memory, expected, strict=True)]
        kernel(*given, out=tuple(outs) if len(outs) > 1 else outs[0])
        for m, out, e in zip(memory, outs, expected, strict=True):
            assert np.array_equal(out, e)
            assert (m[:32] == 77).all() and (m[-32:] == 77).all()


@pytest.mark.skipif(this_machine().vector_bytes != 32, reason="masks cost nothing")
def test_whole_vectors_have_no_masks_and_the_last_begins_before_the_end() -> None:
    text = lg.compile(lg.program(PROGRAMS["a pool"])).runner.text("float")
    blocks = re.split(r"\n(?=[\w.]+:\n)", text)
    whole = [b for b in blocks if "store <8 x float>" in b and "load <8 x float>" in b]
    assert any("llvm.masked" not in b and re.search(r"select i1 %\w+, i64", b) for b in whole)


def test_what_another_turn_left_is_not_done_again() -> None:
    """Here a vector more would add twice."""
    for text in (
        "f(x[B,N], z[N]) -> y[N]:\n    for n:  y[n] = z[n]\n    for b, n:  y[n] += x[b,n+1]   if n + 1 < N",
        "f(x[B,N], z[N]) -> y[N]:\n    for n:  y[n] = z[n]\n    for n:  y[n] *= x[0,n+1]   if n + 1 < N",
        "f(x[B,N], z[N]) -> y[N+1]:\n    for n < N:  y[n] += z[n]\n    for n < N:  y[n+1] += x[0,n]   if n > 0",
    ):
        program = lg.program(text)
        for length in (4, 5, 8, 9, 13, 23):
            x, z = np.random.default_rng(length).normal(size=(2, 2, length))
            np.testing.assert_allclose(program(x, z[0]), literally(program)(x, z[0]), rtol=1e-12)


N, K, X = Index("n"), Index("k"), Read("x", (Index("n"),))
T, OF_K = Read("t", (N,)), Read("t", (N, K))


def put(
    target: Read, value: Expression, how: Reduction = Reduction.SET, first: bool = False
) -> Step:
    return Step(Accumulate(target, how, value), first)


def over(index: str, *body: Node) -> Over:
    return Over(index, Number(0), Extent(index.upper()), body)


def test_which_loops_may() -> None:
    add, one = Reduction.ADD, Number(1)
    assert may_run_again(over("n", put(T, X), put(T, one, add)))
    assert may_run_again(over("n", over("k", put(T, X, add, first=True)), put(T, one, add)))
    assert may_run_again(over("n", over("k", put(OF_K, X), put(OF_K, one, add))))
    # Without a value of k nothing is put, and 1 is added to what was there before.
    assert not may_run_again(over("n", over("k", put(T, X)), put(T, one, add)))
    # The second loop over k may have more values than the first.
    assert not may_run_again(over("n", over("k", put(OF_K, X)), over("k", put(OF_K, one, add))))
    assert not may_run_again(over("n", put(T, one, add)))
    assert not may_run_again(over("n", put(Read("t", (Number(0),)), X)))
    assert not may_run_again(over("n", put(Read("u", (N,)), T), put(T, X)))
