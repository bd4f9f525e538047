"""Compiled code writes nowhere but where its arrays and its buffers are, and needs nothing from beside them."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.backends.llvm.writing import scratch
from tests.backends import canaries
from tests.backends.test_forced_schedules import (
    CHOICES,
    CONTRACTIONS,
    SIZES,
    SLOW,
    SOME,
    forced,
    gradient,
    literal,
)
from tests.constructs import WIDE
from tests.derivatives import as_tuple
from tests.effort import EFFORT, FULL, by_name, sample
from tests.lib.cases import EXTENTS
from tests.lib.test_library import ROWS
from tests.strategies import Drawn, programs

FAULTS = (IndexError, ZeroDivisionError, ValueError)  # of data that does not suit the sizes


def outcome(program: lg.Program, inputs: Any, words: str) -> Any:
    """What a fresh program comes to, in each type; a class for an error."""
    try:
        kernel = lg.compile(replace(program), schedule=words)
    except ValueError:  # an index that no loop has
        kernel = lg.compile(replace(program))
    results: list[Any] = []
    for dtype in (np.float64, np.float32):
        given = {n: of_type(a, dtype) for n, a in inputs.items()}
        try:
            results += as_tuple(kernel(**given))
        except FAULTS as error:
            results.append(type(error))
    return results


def of_type(value: Any, dtype: Any) -> Any:
    is_real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if is_real else value


def check(program: lg.Program, inputs: Any, words: str = "", threads: int = 1) -> int:
    """The same with canaries and without; how many bytes of them lay in scratch memory."""
    with forced(threads), np.errstate(all="ignore"):
        wanted = outcome(program, inputs, words)
        with canaries.watched() as seen:
            found = outcome(program, inputs, words)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        if isinstance(w, type):
            assert f is w
        else:
            np.testing.assert_array_equal(f, w, err_msg=str(program))
    return sum(seen)


@pytest.mark.parametrize("name", sample(sorted(CONTRACTIONS), 4))
def test_contractions(name: str) -> None:
    program = lg.program(CONTRACTIONS[name])
    for number, sizes in enumerate(SOME if FULL else SOME[:1]):
        rng = np.random.default_rng(number)
        inputs = {
            i.name: rng.normal(size=[sizes[str(getattr(e, "name", e))] for e in i.extents])
            for i in program.inputs
        }
        assert check(program, inputs, threads=2) > 4 * canaries.GAP
        assert check(*gradient(program, inputs, number), threads=2) > 4 * canaries.GAP


@given(programs(among=WIDE), st.permutations(SIZES), st.sampled_from(CHOICES), st.integers(1, 3))
@settings(max_examples=2 * EFFORT, deadline=None, suppress_health_check=SLOW)
def test_random_programs(drawn: Drawn, sizes: list[int], words: str, threads: int) -> None:
    drawn = replace(drawn, sizes=dict(zip("BJK", sizes, strict=False)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(drawn.text)
        inputs = drawn.inputs()
        inputs = {i.name: inputs[i.name] for i in program.inputs}
        check(program, inputs, words, threads)
        try:
            check(*gradient(program, inputs, drawn.seed), words, threads)
        except FAULTS:
            return


def drawn_inputs(row: str, seed: int) -> dict[str, Any] | None:
    """Inputs and constants of a row of the library, at other sizes each time; None where they do not suit."""
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    if not seed:
        return {**case.inputs(program, 0), **case.constants}
    rng = random.Random(f"{row} {seed}")
    drawn = {name: rng.choice(SIZES[:11]) for name in EXTENTS}
    drawn |= {name.rstrip("'"): drawn[name] for name in drawn if name.endswith("'")}
    try:
        inputs = case.inputs(program, seed, drawn | case.constants)
    except (KeyError, ValueError, IndexError):
        return None
    return {**inputs, **case.constants}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", by_name(list(ROWS), 160))
def test_library(row: str) -> None:
    program = lg.lib[row.partition(":")[0]]
    for seed in range(4 if FULL else 2):
        inputs = drawn_inputs(row, seed)
        if inputs is None:
            continue
        arrays = {n: np.asarray(a) for n, a in inputs.items()}
        check(program, inputs, threads=1 + seed % 2)
        try:
            results = literal(program, inputs)
            backward = program.backward(batch=False, recompute=True)
        except (*FAULTS, lg.ProgramError):
            continue
        rng = np.random.default_rng(seed)
        for result, value in zip(program.results, results, strict=True):
            arrays[f"{result.name}.grad"] = rng.normal(size=np.shape(value))
        names = [one.name for one in (*backward.inputs, *backward.sizes, *backward.constants)]
        given = {**arrays, **inputs}
        check(backward, {n: given[n] for n in names if n in given}, threads=2 - seed % 2)


@pytest.mark.parametrize("real", ["double", "float"])
def test_who_writes_beside_a_buffer_is_caught(real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = lg.program(CONTRACTIONS["softmax between"])
    rng = np.random.default_rng(0)
    inputs = {i.name: rng.normal(size=(33, 33)) for i in program.inputs}
    given = {
        n: of_type(a, {"double": np.float64, "float": np.float32}[real]) for n, a in inputs.items()
    }
    with canaries.watched():
        replace(program)(**given)
        monkeypatch.setitem(scratch.BYTES, real, scratch.BYTES[real] // 2)
        with pytest.raises(canaries.Trespass, match=r"between .* and .*, bytes"):
            replace(program)(**given)


def test_who_changes_an_input_or_what_is_beside_a_result_is_caught() -> None:
    fenced = canaries.Fenced("y", np.ones(3))
    fenced.check()
    fenced.below[-1] = 0
    with pytest.raises(canaries.Trespass, match="below `y`, bytes"):
        fenced.check()
