"""Chains of layers, compiled: results, `vjp` and `value_and_grad` against the literal loops, with many threads.

Sizes lie around registers, tiles and blocks of rows, and are 1; rows are gathered, scattered, sorted by data.
All arrays lie between pages that may not be touched, and small work is shared by threads too. The same code
runs with each number of threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopgrad as lg
from tests.backends import guarded
from tests.backends.test_forced_schedules import (
    SLOW,
    forced,
    gradient,
    is_near,
    literal,
    of_type,
)
from tests.chains import LAYERS, with_loss
from tests.derivatives import as_tuple
from tests.effort import EFFORT
from tests.strategies import Drawn, programs

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")

SIZES = (1, 2, 3, 8, 9, 15, 16, 17, 33, 47, 48, 49, 64, 95, 96, 97, 145, 192, 193)
MOST = 1_000_000  # turns of a loop
THREADS = (1, 2, 3, 5, 16)
TOLERANCE = {np.float64: 1e-9, np.float32: 2e-3}

Arrays = dict[str, Any]


@given(
    programs(among=LAYERS, steps=3),
    st.tuples(*[st.sampled_from(SIZES)] * 3),
    st.sampled_from(THREADS),
    st.sampled_from((np.float64, np.float64, np.float32)),
    st.booleans(),
    st.sampled_from(("results", "gradients", "loss")),
)
@settings(max_examples=4 * EFFORT, deadline=None, suppress_health_check=SLOW)
def test_chains_of_layers(
    drawn: Drawn, sizes: tuple[int, ...], threads: int, dtype: Any, end: bool, what: str
) -> None:
    drawn = replace(drawn, sizes=dict(zip("BJK", limited(sizes), strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(drawn.text)
        loss = lg.program(with_loss(drawn)).returning("loss")
    values = drawn.inputs()
    given = {i.name: guarded.copy(of_type(values[i.name], dtype), end) for i in program.inputs}
    match what:
        case "results":
            check_results(program, given, threads, dtype, end)
        case "gradients":
            check_gradients(program, given, threads, dtype, drawn.seed)
        case "loss":
            check_loss(loss, given, threads, dtype)


def limited(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """With the largest halved until literal loops over pairs of rows take no longer than they may."""
    while max(sizes) * prod(sizes) > MOST:
        sizes = tuple((s + 1) // 2 if s == max(sizes) else s for s in sizes)
    return sizes


def check_results(program: lg.Program, inputs: Arrays, threads: int, dtype: Any, end: bool) -> None:
    """Of one kernel, with each number of threads."""
    wanted = conditioned(program, inputs)
    if wanted is None:
        return
    kinds = [dtype if w.dtype.kind == "f" else w.dtype for w in wanted]
    results = [guarded.empty(w.shape, k, end) for w, k in zip(wanted, kinds, strict=True)]
    with forced(threads):
        kernel = lg.compile(program)
        kernel.runner._scratch = guarded.Scratch(end)  # type: ignore[attr-defined]
        for number in dict.fromkeys((threads, *THREADS)):
            lg.set_num_threads(number)
            kernel(**inputs, out=tuple(results))
            compare(results, wanted, dtype, f"{number} threads\n{program}")


def check_gradients(
    program: lg.Program, inputs: Arrays, threads: int, dtype: Any, seed: int
) -> None:
    backward, everything = gradient(program, inputs, seed)
    wanted = conditioned(backward, everything)
    if wanted is None:
        return
    with forced(threads):
        results, pullback = lg.vjp(program, *inputs.values())
        seeds = [everything.get(f"{r.name}.grad") for r in program.results]
        zeros = map(np.zeros_like, as_tuple(results))
        found = pullback(*(z if s is None else s for s, z in zip(seeds, zeros, strict=True)))
    compare(of_inputs(program, found, backward), wanted, dtype, str(program))


def check_loss(program: lg.Program, inputs: Arrays, threads: int, dtype: Any) -> None:
    given = {i.name: inputs[i.name] for i in program.inputs}
    backward = program.backward(recompute=True)
    wanted = conditioned(backward, {**given, "loss.grad": np.asarray(1.0)})
    if wanted is None or not wanted:
        return
    names = [r.name.removesuffix(".grad") for r in backward.results]
    with forced(threads):
        value, found = lg.value_and_grad(program, wrt=names)(*given.values())
    compare([value, *found], [*literal(program, given), *wanted], dtype, str(program))


def of_inputs(program: lg.Program, found: Sequence[Any], backward: lg.Program) -> list[Any]:
    """Of the gradients of all inputs, those that the backward computes, in its order."""
    known = dict(zip((f"{i.name}.grad" for i in program.inputs), found, strict=True))
    return [known[r.name] for r in backward.results]


def conditioned(program: lg.Program, inputs: Arrays) -> tuple[Any, ...] | None:
    """What the literal loops come to in float64; None where rounding decides that."""
    rng = np.random.default_rng(0)
    exact = {i.name: of_type(np.asarray(inputs[i.name]), np.float64) for i in program.inputs}
    near = {
        n: a * (1 + 1e-13 * rng.choice([-1, 1], a.shape)) if a.dtype.kind == "f" else a
        for n, a in exact.items()
    }
    wanted = literal(program, exact)
    return wanted if all(map(is_near, literal(program, near), wanted)) else None


def compare(found: Sequence[Any], wanted: Sequence[Any], dtype: Any, message: str) -> None:
    """By the largest number among all of them: what cancels is as exact as what it is made of."""
    finite = [np.isfinite(w) for w in wanted]
    largest = max((np.abs(w[f]).max(initial=1) for w, f in zip(wanted, finite, strict=True)))
    for got, w, f in zip(found, wanted, finite, strict=True):
        assert np.shape(got) == np.shape(w)
        error = np.abs(np.asarray(got, np.float64)[f] - w[f]).max(initial=0)
        assert error <= TOLERANCE[dtype] * largest, f"{error} of {largest}\n{message}"
