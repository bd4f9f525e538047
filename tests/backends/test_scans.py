"""Recurrences that are linear in their state run as scans, and come to what their steps come to."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import choices_of
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends.test_forced_schedules import forced
from tests.derivatives import as_tuple
from tests.effort import EFFORT, sample
from tests.literal import literally

# Recurrences over the last axis; x is what is taken in, and a what the state is multiplied by.
UPWARDS = {
    "sum": "s[{b}t] += x[{b}t] + (s[{b}t-1] if t > 0 else 0)",
    "two statements": "s[{b}t] += x[{b}t]\n        {f}s[{b}t] += s[{b}t-1]   if t > 0",
    "decay": "s[{b}t] = a[{b}t] * (s[{b}t-1] if t > 0 else 0.5) + x[{b}t]",
    "mean": "s[{b}t] = (s[{b}t-1] * t + x[{b}t]) / (t + 1) if t >= 1 else x[{b}t]",
    "away": "s[{b}t] -= x[{b}t]\n        {f}s[{b}t] -= a[{b}t] * s[{b}t-1]   if 1 <= t",
    "product": "s[{b}t] *= a[{b}t]\n        {f}s[{b}t] *= s[{b}t-1]   if t != 0",
    "greatest": "s[{b}t] max= x[{b}t]\n        {f}s[{b}t] max= s[{b}t-1]   if t > 0",
    "least": "s[{b}t] = min(x[{b}t], s[{b}t-1]) if t > 0 else x[{b}t]",
    "reset": "s[{b}t] = x[{b}t] + (s[{b}t-1] if t % 7 > 0 else 0)",
    "data": "s[{b}t] += x[{b}t]\n        {f}s[{b}t] += a[{b}t] * s[{b}t-1]   if t > 0 and a[{b}t] > 0.3",
    "negated": "s[{b}t] = x[{b}t] - (-(s[{b}t-1] if t > 0 else 1) / (1 + a[{b}t]))",
}
DOWNWARDS = {
    "sum": "s[{b}t] += x[{b}t] + (s[{b}t+1] if t < T-1 else 0)",
    "decay": "s[{b}t] = a[{b}t] * (s[{b}t+1] if t + 1 < T else 0.5) + x[{b}t]",
    "greatest": "s[{b}t] = max(x[{b}t], s[{b}t+1]) if t != T-1 else x[{b}t]",
    "data": "s[{b}t] += x[{b}t]\n        {f}s[{b}t-1] += a[{b}t] * s[{b}t]   if t > 0",
}
AXES = ("", "B,", "B,C,")
LENGTHS = (0, 1, 2, 7, 8, 9, 10, 15, 16, 17, 18, 31, 32, 33, 34, 35, 50)


def written(body: str, axes: str, descending: bool = False) -> str:
    indices = axes.lower()
    over = f"for {indices[:-1].replace(',', ', ')}: " if axes else ""
    body = body.format(b=indices, f=over)
    way = " descending" if descending else ""
    inputs = ", ".join(f"{name}[{axes}T]" for name in "xa" if f"{name}[{indices}t" in body)
    return f"f({inputs}) -> s[{axes}T]:\n    for t < T{way}:\n        {over}{body}"


def programs() -> Iterator[Any]:
    for axes in AXES:
        for name, body in UPWARDS.items():
            yield pytest.param(written(body, axes), id=f"{name}[{axes}T]")
        for name, body in DOWNWARDS.items():
            yield pytest.param(written(body, axes, True), id=f"{name} down [{axes}T]")
    moved = "f(x[B,T], a[B,T]) -> s[B,T+1]:\n    for t < T:\n        for b:  s[b,t+1] += {}"
    yield pytest.param(moved.format("a[b,t] * (s[b,t] - x[b,t])"), id="a state more")


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def given(
    rng: np.random.Generator, program: lg.Program, dtype: Any, sizes: dict[str, int]
) -> dict[str, Any]:
    shape = [sizes[e.name] for e in program.inputs[0].extents]  # type: ignore[union-attr]
    values = {"x": rng.normal(size=shape), "a": rng.uniform(0.2, 1.1, size=shape)}
    return {i.name: values[i.name].astype(dtype) for i in program.inputs}


@pytest.mark.parametrize("text", sample(list(programs()), 2))
def test_scans_are_their_steps(text: str) -> None:
    program = lg.program(text)
    assert " scan:" in scheduled(program)
    slow = lg.compile(program, backend="interpret")
    rng = np.random.default_rng(len(text))
    lengths = rng.permutation(LENGTHS)[: 4 * EFFORT]
    for threads in (1, 2):
        with forced(threads):
            fast = lg.compile(program)
            for length, dtype in itertools.product(lengths, (np.float32, np.float64)):
                inputs = given(rng, program, dtype, {"B": 3, "C": 2, "T": int(length)})
                tolerance = 5e-5 if dtype is np.float32 else 1e-11
                np.testing.assert_allclose(fast(**inputs), slow(**inputs), tolerance, tolerance)


# Values that products of factors, or sums taken in another order, would lose.
HARD = {
    "vanishing and back": ([1e-30, 1e-30, 1e30, 1e30], [0.0]),
    "overflowing and back": ([1e30, 1e30, 1e-30, 1e-30], [0.0]),
    "nothing to multiply": ([3e38], [0.0]),
    "zeros": ([0.5, 0.0, 2.0], [1.0, -2.0]),
    "great sums that cancel": ([1.0], [-3e38, 3e38, 3e38, -3e38]),
    "infinity": ([0.5], [1.0] * 20 + [float("inf")] + [1.0] * 9),
    "infinite factor": ([0.5] * 20 + [float("inf")], [1.0, 0.0]),
    "nan": ([0.5], [1.0] * 5 + [float("nan")] + [1.0] * 30),
    "nan factor": ([0.5] * 17 + [float("nan")], [1.0]),
    "subnormal": ([1e-3], [1e-38, 0.0, 0.0, 0.0]),
    "strong decay": ([1e-9], [1.0, -1.0]),
    "growth": ([3.0], [1.0]),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("body", ["decay", "away", "product", "greatest", "least", "sum"])
@pytest.mark.parametrize("start", [0.0, 1.0, 1e30])
def test_scans_lose_nothing(name: str, body: str, start: float) -> None:
    program = lg.program(written(UPWARDS[body], ""))
    factors, addends = (np.resize(np.float32(v), 67) for v in HARD[name])
    addends[0] = start
    values = {"x": addends, "a": factors}
    inputs = {i.name: values[i.name] for i in program.inputs}
    with np.errstate(all="ignore"):
        expected = literally(program)(**inputs)
    np.testing.assert_allclose(lg.compile(program)(**inputs), expected, rtol=1e-5, atol=0)


def test_a_subscript_out_of_range_is_found() -> None:
    program = lg.program(
        "f(x[K], int w[T]) -> s[T]:\n    for t:\n        s[t] = x[w[t]] + (s[t-1] if t > 0 else 0)"
    )
    assert " scan:" in scheduled(program)
    kernel, x = lg.compile(program), np.arange(5.0)
    w = np.arange(40) % 5
    np.testing.assert_allclose(kernel(x, w), np.cumsum(x[w]))
    w[37] = 5
    with pytest.raises(IndexError, match="element 5"):
        kernel(x, w)


NOT_LINEAR = {
    "square": "s[t] = x[t] + (s[t-1] ** 2 if t > 0 else 0)",
    "function": "s[t] = tanh(x[t] + (s[t-1] if t > 0 else 0))",
    "divisor": "s[t] = x[t] / (s[t-1] if t > 0 else 1)",
    "two back": "s[t] = x[t] + (s[t-2] if t > 1 else 0)",
    "two times": "s[t] = x[t] + (s[t-1] + s[t-2] if t > 1 else 0)",
    "condition": "s[t] = x[t] + (s[t-1] if t > 0 and s[t-1] > 0 else 0)",
    "greatest and sum": "s[t] = max(x[t], 2 * s[t-1] if t > 0 else 0)",
}


@pytest.mark.parametrize("body", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_what_is_not_linear_is_no_scan(body: str) -> None:
    program = lg.program(written(body, ""))
    assert "scan" not in scheduled(program)
    x = np.random.default_rng(0).uniform(0.5, 1.0, 40)
    expected = lg.compile(program, backend="interpret")(x)
    np.testing.assert_allclose(lg.compile(program)(x), expected)


def test_recurrences_run_step_by_step_where_that_is_chosen() -> None:
    program = lg.program(written(UPWARDS["decay"], "B,"))
    assert "scan" in scheduled(program)
    choices = choices_of("no scan")
    assert "scan" not in show(optimized(infer(program), validate(program), choices))
    inputs = given(np.random.default_rng(0), program, np.float64, {"B": 3, "T": 40})
    slow = lg.compile(program, schedule="no scan")(**inputs)
    np.testing.assert_allclose(lg.compile(program)(**inputs), slow, rtol=1e-13)


WOUND = """f(x[B,T], a[B,T], h0[B]) -> h[B,T]{more}:
    for t:
        for b:  p[b,t] = h[b,t-1] if t > 0 else h0[b]
        for b:  q[b,t] -= a[b,t] * p[b,t]
        for b:  h[b,t] = x[b,t] - q[b,t]"""


@pytest.mark.parametrize("more", ["", ", p[B,T]", ", q[B,T]"])
def test_a_state_by_way_of_other_tensors_is_a_scan(more: str) -> None:
    program = lg.program(WOUND.format(more=more))
    text = scheduled(program)
    assert "for t < T scan:  h[b,t] = x[b,t] - -(a[b,t] * (h[b,t-1]" in text
    assert ("p[b,t] =" in text, "q[b,t] =" in text) == ("p" in more, "q" in more)
    rng = np.random.default_rng(1)
    x, a, h0 = rng.normal(size=(3, 37)), rng.uniform(0.2, 1, size=(3, 37)), rng.normal(size=3)
    for found, expected in zip(
        as_tuple(lg.compile(program)(x, a, h0)),
        as_tuple(lg.compile(program, backend="interpret")(x, a, h0)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    seed = rng.normal(size=(3, 37))
    if not more:
        check_vjp = lg.vjp(program, x, a, h0)[1](seed)
        slow = lg.compile(program.backward(recompute=True), backend="interpret")
        for found, expected in zip(check_vjp, slow(x, a, h0, seed), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("axes", ["[B,T,J]", "[T,B,J]"])
def test_what_a_state_starts_from_is_put_in(axes: str) -> None:
    at, other = axes.lower(), axes.lower().replace("b", "i").replace("j", "k")
    before = other.replace("t", "t-1")
    program = lg.program(
        f"f(x{axes}, a{axes}) -> s{axes}:\n"
        "    for t:\n"
        f"        for b, j:  s{at} -= 2 * x{at}\n"
        f"        for i, k:  s{other} += a{other} * s{before}   if t > 0"
    )
    text = scheduled(program)
    assert "-(2 * x" in text and "0.0" not in text  # one statement, which nothing has to precede
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 5, 18)), rng.uniform(0.2, 1, size=(3, 5, 18))
    expected = lg.compile(program, backend="interpret")(*inputs)
    np.testing.assert_allclose(lg.compile(program)(*inputs), expected, rtol=1e-11)


def test_a_state_that_is_read_in_another_turn_stays_in_its_block() -> None:
    text = WOUND.format(more="").replace(
        "x[b,t] - q[b,t]", "x[b,t] - q[b,t] + (p[b,t-1] if t > 0 else 0)"
    )
    program = lg.program(text)
    assert "scan" not in scheduled(program)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(3, 37)), rng.uniform(0.2, 1, size=(3, 37)), rng.normal(size=3)
    expected = lg.compile(program, backend="interpret")(*inputs)
    np.testing.assert_allclose(lg.compile(program)(*inputs), expected, rtol=1e-12)


FREE = st.sampled_from(
    ["x[b,t]", "a[b,t]", "0.5", "c[b]", "(x[b,t] - t)", "tanh(x[b,t])", "-a[b,t]"]
)
BOUNDED = st.sampled_from(["a[b,t]", "0.5", "c[b]", "-a[b,t]", "1 / (2 + t)", "(1 - a[b,t])"])
DATA = st.sampled_from(
    ["a[b,t] > 0.5", "x[b,t] < c[b]", "t % 5 != 2", "x[b,t] > 0 and a[b,t] > 0.3"]
)


@st.composite
def linear_values(draw: st.DrawFn, depth: int = 3) -> str:
    """An expression that is linear in `P`, the state before."""
    if not depth:
        return "P"
    inner = draw(linear_values(depth - 1))
    match draw(st.integers(0, 6)):
        case 0:
            return f"({inner} + {draw(FREE)})"
        case 1:
            return f"({draw(FREE)} - {inner})"
        case 2:
            return f"{draw(BOUNDED)} * {inner}"
        case 3:
            return f"{inner} / (1.5 + a[b,t])"
        case 4:
            return f"({inner} if {draw(DATA)} else {draw(FREE)})"
        case 5:
            return f"(-{inner})"
    return f"({draw(BOUNDED)} * {inner} + {draw(BOUNDED)} * P)"


@st.composite
def recurrences(draw: st.DrawFn) -> str:
    """One over the last axis, in either direction, whose first step is another or reads zeros."""
    down = draw(st.booleans())
    before, there, otherwise = (
        ("s[b,t+1]", draw(st.sampled_from(["t < T-1", "t + 1 < T", "t != T-1"])), "x[b,t]")
        if down
        else ("s[b,t-1]", draw(st.sampled_from(["t > 0", "1 <= t", "not t == 0"])), "c[b]")
    )
    value = draw(linear_values())
    head = f"f(x[B,T], a[B,T], c[B]) -> s[B,T]:\n    for t{' descending' if down else ''}:\n"
    sign = draw(st.sampled_from(["+=", "-=", "="]))
    if sign == "=" or draw(st.booleans()):
        return f"{head}        for b:  s[b,t] {sign} " + value.replace(
            "P", f"({before} if {there} else {otherwise})"
        )
    guard = draw(st.sampled_from([there, f"{there} and {draw(DATA)}"]))
    first = f"        for b:  s[b,t] += x[b,t]\n        for b:  s[b,t] {sign} "
    return head + first + value.replace("P", before) + f"   if {guard}"


@hypothesis.given(recurrences(), st.sampled_from(LENGTHS), st.integers(1, 2), st.integers(0, 99))
@hypothesis.settings(max_examples=15 * EFFORT, deadline=None)
def test_drawn_recurrences(text: str, length: int, threads: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(text)
        slow = lg.compile(program, backend="interpret")
    hypothesis.event("scan" if " scan:" in scheduled(program) else "steps")
    rng = np.random.default_rng(seed)
    shapes = {"x": (3, length), "a": (3, length), "c": (3,)}
    inputs = {i.name: rng.uniform(0.1, 0.9, shapes[i.name]) for i in program.inputs}
    with forced(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        fast = lg.compile(program)
        expected = slow(**inputs)
        scale = np.abs(expected).max(initial=1)
        np.testing.assert_allclose(fast(**inputs), expected, rtol=1e-9, atol=1e-12 * scale)
