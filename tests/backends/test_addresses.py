"""Calls by addresses: what they need, and what they refuse to run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.calling import calls
from loopgrad.backends.llvm.calling.addresses import Addressed, fails

pytestmark = pytest.mark.skipif(not calls.available(), reason="not this Python")


def at(*arrays: Any) -> list[int]:
    return [array.ctypes.data for array in arrays]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (0, 4), (4, 0), (300, 700)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_computes_what_a_call_does(shape: Any, dtype: Any, threads: int) -> None:
    kernel = lg.compile(lg.lib.softmax)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    out = np.full_like(x, np.nan)
    code = Addressed(kernel).plan(kernel.bind((x,), {}, (out,)), threads)
    assert code is not None and fails(code, at(x, out)) == 0
    np.testing.assert_allclose(out, kernel(x), rtol=1e-6)
    x[...] = np.random.default_rng(1).normal(size=shape)
    assert fails(code, at(x, out)) == 0
    np.testing.assert_allclose(out, kernel(x), rtol=1e-6)


def test_several_results_numbers_and_scratch() -> None:
    program = lg.program(
        "f(x[N,M], int w[N], size V, a = 2.0, k = 3) -> y[V], total, top:\n"
        "    for n, m:  t[n]    += a * x[n,m] ** k\n"
        "    for n:     y[w[n]] += t[n]\n"
        "    for i:     total   += w[i]\n"
        "    for i, j:  top   max= x[i,j]"
    )
    kernel = lg.compile(program)
    x, w = np.random.default_rng(0).normal(size=(4, 5)), np.array([2, 0, 2, 1])
    numbers = {"V": 6, "a": 0.5, "k": 2}
    outs = (np.empty(6), np.empty((), np.int64), np.empty(()))
    code = Addressed(kernel).plan(kernel.bind((x, w), numbers, outs), 1)
    assert code is not None and fails(code, at(x, w, *outs)) == 0
    for out, wanted in zip(outs, kernel(x, w, **numbers), strict=True):
        np.testing.assert_array_equal(out, wanted)


def test_what_is_not_aligned_too_few_and_in_use_does_not_run() -> None:
    kernel = lg.compile(lg.lib.softmax)
    x, out = np.ones((3, 5)), np.zeros((3, 5))
    addressed = Addressed(kernel)
    code = addressed.plan(kernel.bind((x,), {}, (out,)), 1)
    assert code is not None
    a, b = at(x, out)
    for given in ([a + 4, b], [a, b + 1], [a], [a, b, b], [a, 2**70], [a, 0]):
        assert fails(code, given) != 0
    addressed._in_use[0] = 1
    assert fails(code, [a, b]) != 0
    assert not out.any()
    addressed._in_use[0] = 0
    assert fails(code, [a, b]) == 0 and out.all()


def test_large_scratch_is_the_calls_own_and_leaves_the_mark_on_the_kernels() -> None:
    """To take memory calls Python, which may let another thread's call into the kernel's scratch."""
    kernel = lg.compile(
        "f(x[M,N], v[T]) -> y[T]:\n"
        "    for m, n:  u[n] += x[m,n]\n"
        "    for t, n:  y[t] += v[t] * u[n]**2"
    )
    addressed, v, out = Addressed(kernel), np.arange(3.0), np.empty(3)
    small, large = np.ones((2, 5)), np.ones((2, 200_000))
    code, of_large = (addressed.plan(kernel.bind((x, v), {}, (out,)), 1) for x in (small, large))
    assert code is not None and of_large is not None
    addressed._in_use[0] = 1  # some other call is in the kernel's scratch
    assert fails(code, at(small, v, out)) != 0
    assert fails(of_large, at(large, v, out)) == 0
    np.testing.assert_array_equal(out, v * 4 * 200_000)
    assert addressed._in_use[0] == 1
    addressed._in_use[0] = 0
    assert fails(code, at(small, v, out)) == 0 and addressed._in_use[0] == 0


def test_an_error_in_the_loops_is_an_answer() -> None:
    kernel = lg.compile(lg.lib.embedding)
    w, E, out = np.array([[0, 3]]), np.ones((4, 2)), np.empty((1, 2, 2))
    code = Addressed(kernel).plan(kernel.bind((w, E), {}, (out,)), 1)
    assert code is not None and fails(code, at(w, E, out)) == 0
    w[0, 1] = 4
    assert fails(code, at(w, E, out)) != 0


def test_a_plan_outlives_its_kernel() -> None:
    kernel = lg.compile(lg.program("f(x[N]) -> y[N]:\n    y[n] = 3 * x[n]"))
    x, out = np.ones(7), np.empty(7)
    code = Addressed(kernel).plan(kernel.bind((x,), {}, (out,)), 1)
    del kernel
    assert code is not None and fails(code, at(x, out)) == 0
    assert out.tolist() == [3] * 7
