"""Simplified equals literal, on programs drawn at random (tests/strategies.py)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings

import loopgrad as lg
from tests.derivatives import as_tuple
from tests.effort import EFFORT
from tests.strategies import BLOCKS, Drawn, programs

usual = settings(max_examples=7 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))


def run(program: lg.Program, values: dict[str, Any], sizes: dict[str, int]) -> tuple[Any, ...]:
    """The program's results; it takes what it needs of the values, and of the sizes."""
    given = {i.name: values[i.name] for i in program.inputs}
    return as_tuple(program(**given, **{s.name: sizes[s.name] for s in program.sizes}))


@given(programs(steps=3))
@usual
def test_simplified_is_literal(drawn: Drawn) -> None:
    check(drawn)


@given(programs(steps=2, among=BLOCKS))
@settings(usual, max_examples=3 * EFFORT)
def test_simplified_is_literal_with_blocks(drawn: Drawn) -> None:
    check(drawn)


def check(drawn: Drawn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(drawn.text)
    inputs = drawn.inputs()
    values: dict[str, Any] = {i.name: inputs[i.name] for i in program.inputs}
    wanted = run(program, values, drawn.sizes)
    for got, want in zip(run(program.simplify(), values, drawn.sizes), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)

    literal = program.backward()
    simplified = literal.simplify()
    rng = np.random.default_rng(drawn.seed)
    for result, value in zip(program.results, wanted, strict=True):
        values[f"{result.name}.grad"] = rng.normal(size=np.shape(value))
    read = {i.name for p in (literal, simplified) for i in p.inputs} - values.keys()
    if read:
        forward = program.returning(*sorted(read))
        values.update(zip(sorted(read), run(forward, values, drawn.sizes), strict=True))
    with np.errstate(all="ignore"):
        for got, want in zip(
            run(simplified, values, drawn.sizes), run(literal, values, drawn.sizes), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7, err_msg=str(simplified))
