"""A schedule comes to what the program says: its trees, walked slowly, against the interpreter."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.kernel import BoundCall
from loopgrad.backends.llvm.calling.shaping import short_rows, sides
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.specializing import made_for
from tests.chains import LAYERS
from tests.effort import EFFORT
from tests.schedule import walking
from tests.strategies import CARRIED, Drawn, programs

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
usual = settings(max_examples=25 * EFFORT, deadline=None, suppress_health_check=SLOW)
fewer = settings(max_examples=8 * EFFORT, deadline=None, suppress_health_check=SLOW)


FORCED = st.sampled_from(
    (
        Choices(),
        Choices(),
        Choices(fuse=False),
        Choices(products=False),
        Choices(share=False),
        Choices(scan=False),
        Choices(turn=False),
        Choices(rows=2),
        Choices(rows=3),
        COPIED := Choices(copies=("all of them",)),
        FEW := Choices(few=("all of them",)),
        TOGETHER := Choices(together=("all of them",)),
    )
)


def check(
    program: lg.Program, inputs: dict[str, Any], threads: int, choices: Choices, short: bool = False
) -> None:
    """short: by the schedule for the lengths of short rows, and for the extents that are 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call = interpreted(program, inputs)
        except (IndexError, ValueError):
            return  # found while running: the literal loops say where
    facts, safety = infer(program), validate(program)
    choices = replace(choices, copies=facts.extents) if choices is COPIED else choices
    choices = replace(choices, few=facts.extents) if choices is FEW else choices
    choices = replace(choices, together=tuple(facts.tensors)) if choices is TOGETHER else choices
    rows = {n: call.extents[n] for n in short_rows(facts) if call.extents[n] > 0} if short else {}
    single = {n: 1 for n in sides(facts) if call.extents[n] == 1} if short else {}
    scheduled = made_for(facts, safety, single | rows, rows.keys(), choices)
    try:
        results = walking.run(scheduled, call, threads)
    except walking.Broken:
        return
    for name, got in results.items():
        np.testing.assert_allclose(
            got, call.arrays[name], rtol=1e-9, atol=1e-10, err_msg=f"{name}\n{program}"
        )


def interpreted(program: lg.Program, inputs: dict[str, Any]) -> BoundCall:
    kernel = lg.compile(program, backend="interpret")
    call = kernel.bind((), inputs, (None,) * len(program.results))
    kernel.runner.run(call)
    return call


def given_inputs(drawn: Drawn, program: lg.Program) -> dict[str, Any]:
    known, rng = drawn.inputs(), np.random.default_rng(drawn.seed)
    sizes: dict[str, Any] = dict(drawn.sizes)
    values = {}
    for i in program.inputs:
        if i.name in known:
            values[i.name] = known[i.name]
        else:
            values[i.name] = rng.normal(size=tuple(sizes[e.name] for e in i.extents))  # type: ignore
    return values


@given(programs(smallest=0, steps=5), st.integers(1, 3), FORCED, st.booleans())
@usual
def test_forward(drawn: Drawn, threads: int, choices: Choices, short: bool) -> None:
    program = parsed(drawn)
    check(program, given_inputs(drawn, program), threads, choices, short)


@given(programs(steps=4), st.integers(1, 3), FORCED, st.booleans())
@usual
def test_backward(drawn: Drawn, threads: int, choices: Choices, short: bool) -> None:
    program = parsed(drawn)
    try:
        backward = program.backward(recompute=True)
    except lg.ProgramError:
        return
    check(backward, given_inputs(drawn, backward), threads, choices, short)


@given(programs(steps=4, among=CARRIED), st.integers(1, 3), FORCED, st.booleans())
@usual
def test_blocks(drawn: Drawn, threads: int, choices: Choices, short: bool) -> None:
    program = parsed(drawn)
    check(program, given_inputs(drawn, program), threads, choices, short)
    try:
        backward = program.backward(recompute=True)
    except lg.ProgramError:
        return
    check(backward, given_inputs(drawn, backward), threads, choices, short)


@given(programs(steps=3, among=LAYERS), st.sampled_from((1, 2, 3, 5, 16)), FORCED, st.booleans())
@fewer
def test_chains(drawn: Drawn, threads: int, choices: Choices, short: bool) -> None:
    """Of layers: products of rows that are computed, gathered, normalised, and what stands behind them."""
    program = parsed(drawn)
    check(program, given_inputs(drawn, program), threads, choices, short)
    backward = program.backward(recompute=True)
    check(backward, given_inputs(drawn, backward), threads, choices, short)


def parsed(drawn: Drawn) -> lg.Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        return lg.program(drawn.text)


def test_a_walk_notices_what_was_never_written() -> None:
    program = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]")
    scheduled = optimized(infer(program), validate(program))
    call = interpreted(program, {"x": np.ones(3)})
    from dataclasses import replace

    with pytest.raises(walking.Undefined):
        walking.run(replace(scheduled, phases=()), call)


ADDED = """f(x[T,J]) -> c[T,J], h[T,J]:
    for t:
        for j:  c[t,j] += sigmoid(x[t,j])
        for j:  c[t,j] += tanh(x[t,j]) * c[t-1,j]   if t > 0
        for j:  h[t,j] = sigmoid(x[t,j]) * tanh(c[t,j])"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_gradient_that_another_time_has_added_to_is_not_stored_over(threads: int) -> None:
    program = lg.program(ADDED)
    inputs = {"x": np.random.default_rng(0).normal(size=(4, 3))}
    check(program, inputs, threads, Choices())
    backward = program.backward(recompute=True)
    seeds = {
        f"{r.name}.grad": np.random.default_rng(1).normal(size=(4, 3)) for r in program.results
    }
    check(backward, {**inputs, **seeds}, threads, Choices())


def test_what_starts_a_sum_within_lanes_takes_no_lanes_of_its_own() -> None:
    program = lg.program(
        "f(A[B,I,K], W[B,K,J]) -> C[J,I,B]:\n    for b, i, j, k:  C[j,i,b] += A[b,i,k] * W[b,k,j]"
    )
    rng = np.random.default_rng(0)
    inputs = {"A": rng.normal(size=(3, 2, 4)), "W": rng.normal(size=(3, 4, 5))}
    check(program, inputs, 1, Choices())


TRIANGLES = """f(x[B,D], μ[K,D], C[K,D,D], c[K,D,D], r[B,K,D], s[D,B,K], g[B,K,D], u[D,B,K])
        -> M[K,D], A[K,D,D], R[B,K,D]:
    for d descending:
        for b, k:         A[k,d,d] -= g[b,k,d] * (x[b,d] - μ[k,d] - s[d,b,k]) / C[k,d,d]**2
        for b, k:         M[k,d]   += g[b,k,d] * c[k,d,d] / C[k,d,d]**2
        for b, k, j < d:  A[k,d,j] += u[d,b,k] * r[b,k,j]
        for b, k, j < d:  R[b,k,j] += u[d,b,k] * c[k,d,j]"""


@pytest.mark.parametrize("choices", [Choices(), Choices(rows=2)])
def test_a_product_that_goes_row_by_row_after_all_has_all_its_loops(choices: Choices) -> None:
    program = lg.program(TRIANGLES)
    rng = np.random.default_rng(0)
    B, K, D = 5, 2, 4
    shapes = {"x": (B, D), "μ": (K, D), "C": (K, D, D), "c": (K, D, D), "r": (B, K, D)}
    shapes |= {"s": (D, B, K), "g": (B, K, D), "u": (D, B, K)}
    inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    check(program, inputs, 1, choices)
    for got, wanted in zip(
        lg.compile(program)(**inputs),
        lg.compile(program, backend="interpret")(**inputs),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


UNWRITTEN = {
    "largest": """f(e[T,S], A[S,S]) -> z, a[T,S]:
    for j:  a[0,j] = tanh(m[0,j])   if T > 0
    for 1 <= t < T:
        for j, i < S:  m[t,j] max= a[t-1,i] + A[i,j]
        for j:         a[t,j] = m[t,j] + e[t,j]
    for j:  z += a[T-1,j]   if T > 0""",
    "sum": """f(e[T,S], A[S,S]) -> z, a[T,S]:
    for j:  a[0,j] = exp(m[0,j])   if T > 0
    for 1 <= t < T:
        for j, i < S:  m[t,j] += a[t-1,i] * A[i,j]
        for j:         a[t,j] = m[t,j] + e[t,j]
    for j:  z += a[T-1,j]   if T > 0""",
    "product, in two blocks": """f(e[T,S], A[S,S]) -> z[S], a[T,S]:
    for t:
        for j:  a[t,j] = e[t,j] + (a[t-1,j] if t > 0 else 0) * m[0,j]
    for 1 <= t < T:
        for j, i < S:  m[t,j] *= 1 + a[t-1,i] * A[i,j]
        for j:         z[j] += m[t,j]""",
    "largest in the same loops": """f(e[T,S], A[S,S]) -> z[S], a[T,S]:
    for t, j:           a[t,j] = e[t,j] + tanh(m[0,j])
    for 1 <= t < T, j:  m[t,j] max= e[t,j]
    for t, j:           z[j] += tanh(m[t,j]) * A[0,j]""",
    "sum in the same loops": """f(e[T,S], A[S,S]) -> a[T,S], m[T,S]:
    for t, j:           a[t,j] = e[t,j] + tanh(m[0,j]) * A[0,j]
    for 1 <= t < T, j:  m[t,j] += e[t,j]""",
    "guarded": """f(e[T,S], A[S,S]) -> a[T,S], m[T,S]:
    for t, j:  a[t,j] = e[t,j] + tanh(m[0,j]) * A[0,j]
    for t, j:  m[t,j] += e[t,j] + a[t,j]   if t > 0""",
    "guarded, over rows": """f(e[T,S], A[S,S]) -> a[T,S], m[T]:
    for t, j:  a[t,j] = e[t,j] + tanh(m[0]) * A[0,j]
    for t, j:  m[t] += e[t,j]   if t > 0""",
    "in one block": """f(e[T,S], A[S,S]) -> a[T,S], z[S]:
    for t:
        for j:  a[t,j] = e[t,j] + tanh(m[0,j]) * A[0,j]
        for j:  m[t,j] min= e[t,j] + a[t-1,j]   if t > 0
        for j:  z[j] += tanh(m[t,j])""",
}


@pytest.mark.parametrize("name", UNWRITTEN)
@pytest.mark.parametrize("T", [1, 3])
def test_elements_that_nothing_writes_have_their_value_before_the_first_writer(
    name: str, T: int
) -> None:
    program, rng = lg.program(UNWRITTEN[name]), np.random.default_rng(0)
    check(program, {"e": rng.normal(size=(T, 3)), "A": rng.normal(size=(3, 3))}, 1, Choices())
