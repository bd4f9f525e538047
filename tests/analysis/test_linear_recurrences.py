"""What is said of a recurrence is computed again, element by element, and compared with a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import loopgrad as lg
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.linear_recurrences import (
    START,
    Linear,
    Nonlinear,
    Recurrence,
    blocks_of,
    recurrences,
)
from loopgrad.backends.arithmetic import INTEGER, REAL
from loopgrad.ir import nodes as n
from loopgrad.ir.operations import COMPARE
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import computed_tensors
from tests.effort import EFFORT
from tests.strategies import CARRIED, Drawn, programs

EVERYTHING: dict[str, Callable[..., Any]] = {**INTEGER, **REAL}


def found_in(program: n.Program) -> tuple[Facts, list[Recurrence]]:
    facts = infer(program)
    blocks = blocks_of(facts.program.statements)
    return facts, [r for block in blocks for r in recurrences(facts, block)]


def linear(text: str) -> Linear:
    _, [found] = found_in(lg.program(text))
    assert isinstance(found, Linear), found
    return found


# ----------------------------------------------------------------------------- element by element


def value(e: n.Expression, at: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    """The expression's value, plainly; 0 times anything is 0, and the anything is not looked at."""
    below = lambda part: value(part, at, arrays)
    match e:
        case n.Number(number):
            return number
        case n.Index(name) | n.Extent(name) | n.Constant(name):
            return at[name]
        case n.Read(tensor, subscripts):
            places = tuple(below(s) for s in subscripts)
            assert all(0 <= p < s for p, s in zip(places, arrays[tensor].shape, strict=True))
            return arrays[tensor][places].item()
        case n.Conditional(condition, then, otherwise):
            return below(then) if below(condition) else below(otherwise)
        case n.Compare(operators, operands):
            pairs = zip(operators, itertools.pairwise(operands), strict=True)
            return all(COMPARE[o](below(x), below(y)) for o, (x, y) in pairs)
        case n.Apply("and", (left, right)):
            return below(left) and below(right)
        case n.Apply("or", (left, right)):
            return below(left) or below(right)
        case n.Apply("not", (operand,)):
            return not below(operand)
        case n.Apply("*", (left, right)):
            one = below(left)
            return one and one * below(right)
        case n.Apply("pi", ()):
            return math.pi
        case n.Apply(name, operands):
            return EVERYTHING[name](*map(below, operands))
        case n.Reduce("sum", ranges, body):
            return total(ranges, body, at, arrays)
    raise AssertionError(e)


def total(
    ranges: tuple[n.Range, ...], body: n.Expression, at: Mapping[str, Any], arrays: Any
) -> Any:
    if not ranges:
        return value(body, at, arrays)
    first, *rest = ranges
    assert first.lower is not None and first.upper is not None
    low, high = (value(b, at, arrays) for b in (first.lower, first.upper))
    return sum(total(tuple(rest), body, {**at, first.index: i}, arrays) for i in range(low, high))


def check(program: n.Program, found: Linear, facts: Facts, inputs: Mapping[str, Any]) -> int:
    """Each element that the block writes, against the equation of its step; how many there were."""
    names = list(computed_tensors(facts.program))
    runner = lambda p: lg.compile(p, backend="interpret")(**inputs)
    whole = facts.program.returning(*names)
    arrays = dict(zip(names, np_all(runner(whole)), strict=True)) | {
        k: np.asarray(v) for k, v in inputs.items()
    }
    sizes = {
        e.name: size
        for i in facts.program.inputs
        for e, size in zip(i.extents, np.shape(inputs[i.name]), strict=True)
        if isinstance(e, n.Extent)
    }
    sizes |= {c.name: c.value for c in facts.program.constants}
    counted = 0
    body = tuple(s for s in whole.statements if s is not found.block)
    outside = computed_tensors(replace(whole, statements=body))
    for name in found.tensors:
        arrays[name + START] = np.zeros_like(arrays[name])
        if name in outside:
            results = tuple(r for r in whole.results if r.name == name)
            without = replace(whole, statements=body, results=results)
            arrays[name + START] = np.asarray(runner(without))
    for step in found.steps:
        state = step.target.tensor
        started = arrays[state + START]
        assert step.started == (state in outside)
        turns = found.block.ranges[0]
        for at in places((turns, *step.ranges), sizes, arrays):
            place = tuple(value(s, at, arrays) for s in step.target.subscripts)
            if not all(0 <= p < s for p, s in zip(place, arrays[state].shape, strict=True)):
                continue
            expected = started[place] + value(step.addend, at, arrays)
            for term in step.terms:
                product = n.Apply("*", (term.coefficient, term.source))
                expected += total(term.summed, product, at, arrays)
            np.testing.assert_allclose(arrays[state][place], expected, rtol=1e-9, atol=1e-12)
            counted += 1
    return counted


def np_all(results: Any) -> Any:
    return results if isinstance(results, tuple) else (results,)


def places(ranges: tuple[n.Range, ...], at: Mapping[str, Any], arrays: Any) -> Any:
    if not ranges:
        yield at
        return
    first, *rest = ranges
    assert first.lower is not None and first.upper is not None
    low, high = (value(b, at, arrays) for b in (first.lower, first.upper))
    for i in range(low, high):
        yield from places(tuple(rest), {**at, first.index: i}, arrays)


# ---------------------------------------------------------------------------------------- examples

ELEMENTWISE = {
    "a sum so far": (
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] + (h[t-1] if t > 0 else 0)",
        "1 if t > 0 else 0",
    ),
    "minGRU": (
        "f(x[T,K], Wz[J,K], Wh[J,K]) -> h[T,J]:\n"
        "    for t:\n"
        "        for j, k:  za[t,j] += Wz[j,k] * x[t,k]\n"
        "        for j, k:  n[t,j] += Wh[j,k] * x[t,k]\n"
        "        for j:  z[t,j] = sigmoid(za[t,j])\n"
        "        for j:  p[t,j] = h[t-1,j] if t > 0 else 0\n"
        "        for j:  h[t,j] = (1 - z[t,j]) * p[t,j] + z[t,j] * n[t,j]",
        "1 - z[t,j] if t > 0 else 0",
    ),
    "backwards in time": (
        "f(x[T]) -> h[T]:\n    for t descending:\n        h[t] = -x[t] * (h[t+1] / 2 if t < T-1 else 1)",
        "1 / 2 * -x[t] if t < T - 1 else 0",
    ),
    "one place ahead": (
        "f(x[T], h0) -> h[T+1]:\n    h[0] = h0\n    for t < T:\n        h[t+1] = x[t] * h[t]",
        "x[t]",
    ),
    "from what is given": (
        "f(x[T], a[T]) -> h[T]:\n"
        "    for t:  h[t] = x[t]\n"
        "    for t:\n        h[t] += a[t] * h[t-1]   if t > 0",
        "a[t] if t > 0 else 0",
    ),
    "within another": (
        "f(x[B,T], a[B,T]) -> h[B,T]:\n"
        "    for b < B:\n        for t < T:\n            h[b,t] = x[b,t] + (a[b,t] * h[b,t-1] if t > 0 else 0)",
        "a[b,t] if t > 0 else 0",
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_element_by_element(name: str) -> None:
    text, coefficient = ELEMENTWISE[name]
    found = linear(text)
    assert found.coefficient is not None
    assert show_expression(found.coefficient) == coefficient


MIXING = {
    "by a matrix": (
        "f(x[T,J], A[J,J]) -> h[T,J]:\n"
        "    for t:\n"
        "        for j:  h[t,j] += x[t,j]\n"
        "        for j, i:  h[t,j] += A[j,i] * h[t-1,i]   if t > 0",
        1,
    ),
    "two turns back": (
        "f(x[T], a, b) -> h[T]:\n"
        "    for t:\n"
        "        h[t] = x[t] + (a * h[t-1] if t > 0 else 0) + (b * h[t-2] if t > 1 else 0)",
        2,
    ),
    "two states": (
        "f(x[T], a) -> p[T], v[T]:\n"
        "    for t:\n"
        "        v[t] = x[t] + (v[t-1] - a * p[t-1] if t > 0 else 0)\n"
        "        p[t] = v[t] + (p[t-1] if t > 0 else 0)",
        1,
    ),
    "places shifted": (
        "f(x[T,J]) -> h[T,J]:\n"
        "    for t:\n"
        "        for j:  h[t,j] = x[t,j] + (h[t-1,j-1] if t > 0 and j > 0 else 0)",
        1,
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_states_that_mix(name: str) -> None:
    text, order = MIXING[name]
    found = linear(text)
    assert found.coefficient is None and found.order == order


@pytest.mark.parametrize("text", [t for t, _ in (*ELEMENTWISE.values(), *MIXING.values())])
def test_the_equations_hold(text: str) -> None:
    rng = np.random.default_rng(0)
    program = lg.program(text)
    facts, [found] = found_in(program)
    assert isinstance(found, Linear)
    sizes = {"B": 2, "T": 5, "J": 3, "K": 2}
    inputs = {
        i.name: rng.normal(size=tuple(sizes[e.name] for e in i.extents if isinstance(e, n.Extent)))
        for i in program.inputs
    }
    if found.block in facts.program.statements:
        assert check(program, found, facts, inputs) > 4


@pytest.mark.parametrize("name", ["ugrnn", "linear_recurrence"])
def test_every_backward_of_a_recurrence_is_linear(name: str) -> None:
    """In what it carries; the forward's tensors are given."""
    program = getattr(lg.lib, name)
    backward = program.backward()
    facts, [found] = found_in(backward)
    assert isinstance(found, Linear) and found.steps[0].target.tensor == "h.grad'"
    rng = np.random.default_rng(1)
    sizes = {"T": 4, "B": 2, "J": 3, "J'": 3, "K": 2}
    inputs = {
        i.name: rng.normal(size=tuple(sizes[e.name] for e in i.extents if isinstance(e, n.Extent)))
        for i in facts.program.inputs
    }
    assert check(backward, found, facts, inputs) == (sizes["T"] - 1) * sizes["B"] * sizes["J"]


def test_what_stands_there_before() -> None:
    """A tensor of the ring that begins outside of the block, and is no state."""
    text = (
        "f(x[T,J], A[J,J]) -> h[T,J]:\n"
        "    for t, j:  s[t,j] = x[t,j]\n"
        "    for t:\n"
        "        for j, i:  s[t,j] += A[j,i] * h[t-1,i]   if t > 0\n"
        "        for j:  h[t,j] = s[t,j] / 2"
    )
    program = lg.program(text)
    facts, [found] = found_in(program)
    assert isinstance(found, Linear)
    [step] = found.steps
    assert show_expression(step.addend) == "s..start[t,j] / 2"
    rng = np.random.default_rng(2)
    inputs = {"x": rng.normal(size=(4, 3)), "A": rng.normal(size=(3, 3))}
    assert check(program, found, facts, inputs) == 12


NONLINEAR = {
    "tanh": ("h[t] = tanh(h[t-1]) if t > 0 else x[t]", "`tanh(h[t-1])` is no linear function"),
    "a square": ("h[t] = h[t-1] * h[t-1] if t > 0 else x[t]", "no linear function of `h[t-1]`"),
    "a quotient": ("h[t] = 1 / h[t-1] if t > 0 else x[t]", "`1 / h[t-1]` is no linear function"),
    "a condition": (
        "h[t] = x[t] if t == 0 or h[max(t-1, 0)] > 0 else 1",
        "no linear function of `h[max(t-1, 0)]`",
    ),
    "a maximum": (
        "h[t] = max(h[t-1], x[t]) if t > 0 else x[t]",
        "`max(h[t-1], x[t])` is no linear",
    ),
    "max=": ("h[t] max= h[t-1] if t > 0 else x[t]", "`max=` is no sum"),
    "half as far back": (
        "h[t] = h[t//2] + x[t] if t > 0 else x[t]",
        "`h[t//2]` is not a fixed number of turns back",
    ),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_what_is_not_linear_says_where(name: str) -> None:
    line, reason = NONLINEAR[name]
    _, [found] = found_in(lg.program(f"f(x[T]) -> h[T]:\n    for t:\n        {line}"))
    assert isinstance(found, Nonlinear)
    assert reason in found.reason and found.tensors == ("h",)


def test_what_is_no_recurrence() -> None:
    text = "f(x[T]) -> s, y[T]:\n    for t:\n        y[t] = tanh(x[t])\n        s += y[t]"
    assert found_in(lg.program(text))[1] == []


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@settings(max_examples=20 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(among=CARRIED))
def test_drawn_recurrences(drawn: Drawn) -> None:
    program = lg.program(drawn.text)
    facts, found = found_in(program)
    with np.errstate(all="ignore"):
        for one in found:
            if isinstance(one, Linear) and one.block in facts.program.statements:
                check(program, one, facts, drawn.inputs())
