"""Factors that vanish stay factors: measured where they do, in float32, beside the literal loops."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.simplify.numbers.evaluate import Setting, computed, prepared, shape_of
from loopgrad.simplify.numbers.floats import Floats, array, numbers
from loopgrad.simplify.numbers.spaces import worlds
from loopgrad.simplify.searching.cost import cost
from loopgrad.stable.singles import Singles

SIZES = {"B": 40, "N": 30, "T": 4}
DRAWS = 9
SATURATING = (3.0, 6.0, 10.0)  # of `tanh` and `sigmoid`
SMALL = (1e-2, 1e-3)

SUM = "f(a[B,N], w[N]) -> s[B]:\n    for b, n:  s[b] += w[n] * {}"
STORED = """
f(a[B,N], w[N]) -> s[B]:
    for b, n:  y[b,n] = {}
    for b, n:  s[b] += w[n] * {}
"""
GATED = """
f(a[T,B,N], w[N]) -> h[T,B]:
    for t:
        for b, n:  h[t,b] += (1 - tanh(a[t,b,n])**2) * w[n]
        for b:     h[t,b] += h[t-1,b] if t > 0 else 0
"""
TEMPORARIES = """
f(a[B,N], w[N]) -> s[B]:
    for b, n:  y[b,n] = tanh(a[b,n])
    for b, n:  q[b,n] = y[b,n]**2
    for b, n:  d[b,n] += 1
    for b, n:  d[b,n] -= q[b,n]
    for b, n:  s[b] += w[n] * d[b,n]
"""
CASES: dict[str, tuple[str, tuple[float, ...]]] = {
    "of a tanh": (SUM.format("(1 - tanh(a[b,n])**2)"), SATURATING),
    "of a sigmoid": (SUM.format("(1 - sigmoid(a[b,n]))"), SATURATING),
    "turned": (SUM.format("(tanh(a[b,n])**2 - 1)"), SATURATING),
    "a product of two": (SUM.format("(1 - tanh(a[b,n])**2) * (1 - sigmoid(a[b,n]))"), SATURATING),
    "a square": (SUM.format("(1 - tanh(a[b,n]))**2"), SATURATING),
    "a quotient": (SUM.format("(1 - tanh(a[b,n])) / (1 + tanh(a[b,n]))"), SATURATING),
    "of two factors": (SUM.format("(1 - tanh(a[b,n])) * (1 + tanh(a[b,n]))"), SATURATING),
    "beside what grows": (SUM.format("a[b,n] * (1 - sigmoid(a[b,n]))"), SATURATING),
    "alone": (
        "f(a[B,N]) -> s[B]:\n    for b, n:  s[b] += 1 - tanh(a[b,n])**2",
        SATURATING,
    ),
    "of an error function": (SUM.format("(1 + erf(a[b,n])) / 2"), (-2.0, -3.0)),
    "of an exponential": (SUM.format("(1 - exp(-a[b,n]))"), SMALL),
    "of a cosine": (SUM.format("(1 - cos(a[b,n]))"), SMALL),
    "of an input": (SUM.format("(1 - a[b,n]**2)"), (1 - 1e-3, 1 - 1e-5)),
    "of another number": (SUM.format("(a[b,n] - 2.5)"), (2.5 - 1e-3, 2.5 - 1e-5)),
    "stored": (STORED.format("tanh(a[b,n])", "(1 - y[b,n])"), SATURATING),
    "squared when stored": (STORED.format("tanh(a[b,n])**2", "(1 - y[b,n])"), SATURATING),
    "through temporaries": (TEMPORARIES, SATURATING),
    "in a recurrence": (GATED, SATURATING),
    "of sums over columns": (
        "f(a[B,N], w[N]) -> s[N]:\n    for b, n:  s[n] += w[n] * (1 - tanh(a[b,n])**2)",
        SATURATING,
    ),
    "of gathered rows": (
        "f(a[B,N], w[N], int r[T]) -> s[T]:\n"
        "    for t, n:  s[t] += w[n] * (1 - tanh(a[r[t],n])**2)",
        SATURATING,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_are_those_of_the_literal_loops(name: str) -> None:
    """At most twice, in the median of several draws; forward and backward."""
    text, sizes = CASES[name]
    forward = lg.program(textwrap.dedent(text))
    for literal in (forward, forward.backward()):
        simplified = literal.simplify()
        assert cost(simplified).value <= cost(literal).value
        for size in sizes:
            before, after = _errors(literal, simplified, size)
            for result in before:
                assert after[result] <= max(2 * before[result], 1e-6), (result, size)


def _errors(literal: Program, simplified: Program, size: float) -> list[dict[str, float]]:
    """Of both programs, for each result: the medians of the largest error relative to the largest element."""
    inputs = _inputs(literal, size)
    exact = _run(literal, Floats(), inputs)
    found = []
    for program in (literal, simplified):
        run = _run(program, Singles(), inputs)
        errors = {}
        for name in [r.name for r in literal.results]:
            off = _largest(run[name] - exact[name]) / _largest(exact[name])
            errors[name] = float(np.median(off))
        found.append(errors)
    return found


def _inputs(literal: Program, size: float) -> dict[str, NDArray[Any]]:
    """Of both programs; what the forward computes is in float64. `a` is about so large."""
    rng = np.random.default_rng(1)
    near = next((number for number in (1.0, 2.5) if 0 < number - size < 0.1), 0.0)
    found: dict[str, NDArray[Any]] = {}
    for program in (literal.primal or literal, literal):
        facts = infer(program)
        for i in facts.program.inputs:
            shape = (DRAWS, *shape_of(facts.tensors[i.name].extents, SIZES))
            if i.kind == "int":
                rows = rng.integers(0, SIZES["B"], shape[1:])
                found[i.name] = np.array(np.broadcast_to(rows, shape))
            elif i.name not in found:
                found[i.name] = rng.normal(size=shape)
                if i.name == "a":
                    found[i.name] = size + 0.1 * (near - size or size) * found[i.name]
                found[i.name] = found[i.name].astype(np.float32).astype(np.float64)
        if program is not literal:
            found = _run(program, Floats(), found) | found
    return found


def _run(
    program: Program, lines: Floats, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    facts = infer(program)
    given = {}
    for i in facts.program.inputs:
        whole = i.kind == "int"
        given[i.name] = inputs[i.name] if whole else numbers(inputs[i.name].astype(lines.dtype))
    sizes = {extent: SIZES[extent] for extent in facts.extents}
    found = computed(prepared(facts.program), Setting(sizes, {}, given), lines, worlds(DRAWS))
    return {t.name: array(found[t.name]) for t in facts.tensors.values() if t.role != "input"}


def _largest(values: NDArray[Any]) -> NDArray[Any]:
    return np.abs(values).reshape(DRAWS, -1).max(axis=1)
