"""Programs as literal loops in Python source, which runs without numba, only slower."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends.binding import element_dtype
from loopgrad.peers.literal import Literal
from loopgrad.peers.problem import Problem, draw
from tests.lib.test_library import NAMES, problem

FUNCTIONS = """f(x[N], int w[N], c = 0.5, k = 2) -> y[N], m, j[N]:
    for n:  y[n] = sigmoid(x[n]) + softplus(x[n]) * rsqrt(n + 1) - sign(x[n]) ** k + log1p(abs(x[n]))
    for n:  m    max= max(x[n], c) + min(x[n], 0) + (floor(x[n]) if x[n] > 0 else 1 / k) + relu(w[n] - 1)
    for n:  j[n] = w[n] // 2 + w[n] % 2 if not (x[n] < 0 or w[n] == 1) else -w[n] ** 2
"""


def run(problem: Problem) -> dict[str, Any]:
    literal = Literal(infer(problem.program))
    scope: dict[str, Any] = {"np": np, "math": math, "real": problem.real.type}
    exec(literal.source(), scope)
    arrays = dict(problem.inputs)
    for tensor in problem.facts.tensors.values():
        if tensor.role != "input":
            dtype = element_dtype(tensor.element, problem.real)
            arrays[tensor.name] = np.empty(problem.shapes[tensor.name], dtype)
    values = {**problem.extents, **problem.constants}
    scope["function"](
        *(arrays[n] if kind == "tensor" else values[n] for kind, n in literal.arguments)
    )
    return {name: arrays[name] for name in problem.results}


def check(problem: Problem) -> None:
    expected = lg.compile(problem.program, backend="interpret")(
        *problem.inputs.values(), **problem.keywords
    )
    expected = expected if isinstance(expected, tuple) else (expected,)
    for name, right in zip(problem.results, expected, strict=True):
        np.testing.assert_allclose(run(problem)[name], right, rtol=1e-5, atol=1e-5)


def test_softmax_reads_as_written() -> None:
    assert Literal(infer(lg.lib.softmax)).source("softmax") == (
        """\
def softmax(s, Z, p, B, J):
    Z[...] = 0
    p[...] = 0
    for b in range(0, B):
        for j in range(0, J):
            Z[b] += math.exp(s[b, j])
    for b in range(0, B):
        for j in range(0, J):
            p[b, j] += (math.exp(s[b, j]) / Z[b])
"""
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_library_computes_the_same(name: str) -> None:
    check(problem(name))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_integers_and_conditions(dtype: str) -> None:
    problem = draw(lg.program(FUNCTIONS), {"N": 7}, dtype=dtype)
    check(problem)
    assert run(problem)["y"].dtype == dtype


def test_descending_blocks() -> None:
    text = """f(x[T]) -> h[T]:
    for t descending:
        h[t] += x[t]
        h[t] += 0.5 * h[t+1]  if t < T - 1
"""
    check(draw(lg.program(text), {"T": 5}))
