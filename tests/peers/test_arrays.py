"""Programs as operations on whole arrays: their text, and that they compute the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.peers.arrays import Arrays
from loopgrad.peers.problem import NoContender, Problem, draw
from tests.lib.cases import EXTENTS
from tests.lib.test_library import NAMES, problem
from tests.peers.numpy_space import NumPy

WORKLOADS = Path(lg.__file__).parents[1] / "benchmarks" / "workloads.loops"


def source(text: str | lg.Program) -> str:
    program = lg.program(text) if isinstance(text, str) else text
    return Arrays(infer(program), validate(program)).source()


def run(problem: Problem) -> list[Any]:
    arrays = Arrays(problem.facts, validate(problem.program))
    scope: dict[str, Any] = {}
    exec(arrays.source(), scope)
    values = {**problem.inputs, **problem.extents, **problem.constants}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        return list(scope["function"](NumPy(), *(values[name] for _, name in arrays.arguments)))


def check(problem: Problem) -> None:
    kernel = lg.compile(problem.program, backend="interpret")
    right = kernel(*problem.inputs.values(), **problem.keywords)
    right = right if isinstance(right, tuple) else (right,)
    for found, wanted in zip(run(problem), right, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


def positive(problem: Problem) -> Problem:
    inputs = {n: abs(a) + 0.1 if a.dtype.kind == "f" else a for n, a in problem.inputs.items()}
    return Problem(problem.program, inputs, problem.keywords, {})


def test_a_product_is_an_einsum_and_others_are_broadcast() -> None:
    assert source(lg.lib.affine) == (
        """\
def function(xp, x, W, c, B, I, J):
    y = xp.expand(c, (B, J))
    y = y + xp.einsum("bc,ac->ab", W, x)
    return (y,)
"""
    )
    assert source(lg.lib.softmax) == (
        """\
def function(xp, s, B, J):
    Z = xp.sum(xp.exp(s), (1,))
    p = xp.exp(s) / Z[:, None]
    return (p,)
"""
    )


def test_slices_masks_and_gathers() -> None:
    assert source(
        "f(x[N], int w[M]) -> y[N-1], s[N], g[M]:\n"
        "    for n < N - 1:  y[n] += x[n+1] - x[n]\n"
        "    for n, m < n:   s[n] += x[m]\n"
        "    for m:          g[m] += x[w[m]]"
    ) == (
        """\
def function(xp, x, w, N, M):
    y = x[0 + 1:(N - 1) + 1] - x[0:N - 1]
    s = xp.sum(xp.where(xp.arange(0, N) < xp.arange(0, N)[:, None], x, 0), (1,))
    g = xp.take(x, (w,))
    return (y, s, g,)
"""
    )


def test_a_block_is_a_scan() -> None:
    assert source(lg.lib.linear_recurrence) == (
        """\
def function(xp, a, b, T, B, J):
    h = xp.full((T, B, J), 0)
    def step(t, carried):
        (h_1,) = carried
        h_now = b[t]
        h_now = h_now + xp.where(t > 0, a[t] * h_1, 0)
        return (h_1_now,), (h_now,)
    carried, stacked = xp.scan(step, 0, T, (xp.full((B, J), 0),))
    h = xp.place(h, 0, 0, stacked[0])
    return (h,)
""".replace("h_1_now", "h_now")
    )


# They go over time within time, write another time than the present one, or set a part under a condition.
NO_SUCH_FORM = {
    *("gaussian_mixture_full", "kalman_step", "sinkhorn", "soft_dtw", "soft_edit_distance"),
    *("rotary", "rotary_attention"),
}


# A scatter beyond its target, which a guard rules out, is none in arrays.
@pytest.mark.parametrize("name", [n for n in NAMES if n != "conv_transpose2d"])
def test_the_library(name: str) -> None:
    if name in NO_SUCH_FORM:
        with pytest.raises(NoContender):
            check(problem(name))
    else:
        check(problem(name))


@pytest.mark.parametrize("name", ["softmax", "affine", "conv1d", "causal_attention", "max_pool2d"])
def test_backwards(name: str) -> None:
    check(positive(draw(lg.lib[name].backward(), EXTENTS, dtype="float64")))


BLOCKS = {
    "starts before the block": """f(x[T]) -> h[T]:
    h[0] = x[0]
    for 1 <= t < T:
        h[t] += 0.5 * h[t-1] + x[t]""",
    "two steps back, descending": """f(x[T]) -> h[T]:
    for t descending:
        h[t] += x[t]
        h[t] += 0.5 * h[t+2]  if t < T - 2""",
    "sums over time": """f(x[T,J]) -> c[J], h[T,J]:
    for t:
        h[t,j] = 2 * x[t,j]
        for j:  c[j] += h[t,j]""",
    "time on the second axis": """f(x[B,T]) -> h[B,T]:
    for t:
        for b:  h[b,t] = x[b,t] + (h[b,t-1] if t > 0 else 1)""",
}


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS.keys())
def test_blocks(text: str) -> None:
    check(draw(lg.program(text), {"T": 5, "J": 3, "B": 2}, dtype="float64"))


OTHERS = {
    "scatter": "f(x[N], int w[N], size K) -> y[K]:\n    for n:  y[w[n]] += x[n]",
    "regions": "f(x[N]) -> y[N]:\n    y[0] = 1\n    for 1 <= n < N:  y[n] = x[n-1]",
    "guarded gather": "f(x[N]) -> y[N]:\n    for n, d < 3:  y[n] += x[n+d-1] * (d + 1)  if 0 <= n+d-1 < N",
    "before the first, under a condition": "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n-1] + 1 if n >= 1 else 0",
    "winner": "f(x[N]) -> m, w:\n    for n:  m max= x[n]\n    for n:  w min= n if x[n] == m else N",
    "counted": "f(x[N], size K) -> y:\n    for n, k < K:  y += x[n] * n / K",
    "powers and signs": "f(x[N], c = 2.0) -> y[N]:\n    for n:  y[n] -= sign(x[n] - 1) * x[n] ** c / -(n + 1)",
    "no loops": "f(x) -> y:\n    y = 2 * x",
    "integers": "f(int w[N]) -> j[N]:\n    for n:  j[n] = w[n] // 2 + w[n] % 3 if not (w[n] == 1 or n > 2) else 7",
    "stopped": "f(x[N]) -> y[N]:\n    for n:  y[n] = max(x[n], 1) * stop_gradient(min(x[n], pi)) + floor(x[n])",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS.keys())
def test_other_forms(text: str) -> None:
    check(positive(draw(lg.program(text), {"N": 5, "K": 6}, dtype="float64")))


@pytest.mark.skipif(not WORKLOADS.exists(), reason="benchmarks are not installed")
@pytest.mark.parametrize("name", ["gelu_mlp", "linear_tanh"])
def test_the_workloads(name: str) -> None:
    check(positive(draw(lg.load(str(WORKLOADS))[name], {**EXTENTS, "I": 3}, dtype="float64")))


REFUSED = {
    "blocks in blocks": "f(x[T,U]) -> h[T,U]:\n    for t, u:\n        h[t,u] = x[t,u] + (h[t,u-1] if u > 0 else 0)",
    "at another time": "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] + (h[t // 2] if t > 0 else 0)",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_such_form(reason: str) -> None:
    with pytest.raises(NoContender, match=reason):
        source(REFUSED[reason])
