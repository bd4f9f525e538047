"""What must hold of every program, tried on programs drawn at random (tests/strategies.py)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

import loopgrad as lg
from tests.derivatives import NotSmooth, as_tuple, check_backward, check_recompute
from tests.effort import EFFORT
from tests.strategies import Drawn, programs

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
usual = settings(max_examples=18 * EFFORT, deadline=None, suppress_health_check=SLOW)
fewer = settings(max_examples=8 * EFFORT, deadline=None, suppress_health_check=SLOW)


def parse(drawn: Drawn) -> tuple[lg.Program, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(drawn.text)
    inputs = drawn.inputs()
    return program, {i.name: inputs[i.name] for i in program.inputs}


def read_back(program: lg.Program) -> lg.Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        return lg.program(str(program))


@given(programs(steps=5))
@usual
def test_text_reads_back(drawn: Drawn) -> None:
    program, _ = parse(drawn)
    for p in (program, program.unfold()):
        assert read_back(p) == p


@given(programs(smallest=0))
@usual
def test_llvm_is_the_interpreter(drawn: Drawn) -> None:
    program, inputs = parse(drawn)
    try:
        wanted = as_tuple(lg.compile(program, backend="interpret")(**inputs))
    except IndexError as error:
        # An extent of 0 has no element 0: then the compiled program must say the same.
        with np.testing.assert_raises(IndexError):
            program(**inputs)
        assert 0 in drawn.sizes.values(), error
        return
    for optimize in (True, False):
        got = as_tuple(lg.compile(program, optimize=optimize)(**inputs))
        for w, g in zip(wanted, got, strict=True):
            assert g.dtype == w.dtype and g.shape == w.shape
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-10, err_msg=drawn.text)


@given(programs(steps=3))
@usual
def test_backward(drawn: Drawn) -> None:
    program, inputs = parse(drawn)
    try:
        check_backward(program, inputs, {}, drawn.seed, rtol=1e-5, atol=1e-5)
    except NotSmooth:
        reject()


@given(programs(steps=2))
@fewer
def test_second_derivatives(drawn: Drawn) -> None:
    program, inputs = parse(drawn)
    try:
        check_recompute(program, inputs, {}, drawn.seed, rtol=1e-4, atol=1e-4)
    except NotSmooth:
        reject()


@given(programs(steps=3))
@fewer
def test_derived_programs_read_back_and_are_proved(drawn: Drawn) -> None:
    from loopgrad.analysis.validity import validate

    program, _ = parse(drawn)
    assert not validate(program).tracked
    for derived in (program.backward(), program.backward(recompute=True), program.forward_mode()):
        assert read_back(derived) == derived
        assert not validate(derived).tracked, str(derived)


@given(programs(steps=3), st.integers(1, 3))
@fewer
def test_batched_is_a_loop_over_examples(drawn: Drawn, count: int) -> None:
    program, inputs = parse(drawn)
    batched = program.batched("N")
    rng = np.random.default_rng(drawn.seed)
    stacked, examples = {}, [dict(inputs) for _ in range(count)]
    for i in program.inputs:
        if i.kind == "param":
            stacked[i.name] = inputs[i.name]
            continue
        values = [np.asarray(inputs[i.name]) for _ in range(count)]
        if i.kind == "input":
            values = [v + rng.normal(size=v.shape) for v in values]
        for example, value in zip(examples, values, strict=True):
            example[i.name] = value
        stacked[i.name] = np.stack(values)
    got = as_tuple(batched(**stacked))
    wanted = [as_tuple(program(**example)) for example in examples]
    ranks = {r.name: len(r.extents) for r in program.results}
    for n, result in enumerate(batched.results):
        for e in range(count):
            mine = got[n][e] if len(result.extents) > ranks[result.name] else got[n]
            np.testing.assert_allclose(mine, wanted[e][n], rtol=1e-9, atol=1e-10)


@given(programs())
@fewer
def test_python_is_the_interpreter(drawn: Drawn) -> None:
    program, inputs = parse(drawn)
    namespace: dict[str, Any] = {}
    exec(program.to("python"), namespace)
    wanted = as_tuple(lg.compile(program, backend="interpret")(**inputs))
    with np.errstate(all="ignore"):
        got = as_tuple(namespace["drawn"](*inputs.values()))
    for w, g in zip(wanted, got, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-12, err_msg=drawn.text)
