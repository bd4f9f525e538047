"""Every program of `lg.lib`: its values against a formula of NumPy or SciPy, its gradients against differences,
both against PyTorch where it is installed. A row of `tests/lib/tables` for each."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.peers.problem import Problem, draw
from tests.derivatives import as_tuple, check_backward, check_recompute, differentiable_inputs
from tests.effort import FULL, by_name
from tests.grad.checking import check
from tests.lib import tables
from tests.lib.cases import EXTENTS, Case, named_extents


def rows() -> dict[str, Case]:
    """All tables as one; a program may have several rows: `conv2d` and `conv2d: padded`."""
    found: dict[str, Case] = {}
    for table in pkgutil.iter_modules(tables.__path__, f"{tables.__name__}."):
        cases: dict[str, Case] = importlib.import_module(table.name).CASES
        assert not found.keys() & cases.keys()
        found |= cases
    return found


ROWS = rows()
NAMES = sorted(lg.lib)

# Their gradients are not those of their values: test_straight_through.py.
STRAIGHT_THROUGH = {"gumbel_softmax_hard", "quantize", "vector_quantize"}


def of(row: str, seed: int) -> tuple[lg.Program, dict[str, Any], dict[str, Any]]:
    """The program of a row, inputs, constants."""
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    return program, case.inputs(program, seed), dict(case.constants)


def problem(name: str) -> Problem:
    """The first row of a program, as what contenders are given; without one, what is drawn."""
    if name in STRAIGHT_THROUGH:
        return draw(lg.lib[name], EXTENTS, dtype="float64")
    row = next(row for row in ROWS if row.partition(":")[0] == name)
    program, inputs, constants = of(row, seed=8)
    return draw(program, EXTENTS | ROWS[row].extents | constants, inputs, dtype="float64")


def test_every_program_has_a_row() -> None:
    assert {row.partition(":")[0] for row in ROWS} == set(NAMES) - STRAIGHT_THROUGH


def check_values(program: lg.Program, case: Case, inputs: Any) -> None:
    wanted = case.reference(case.values(program, inputs))
    for backend in ("llvm", "interpret"):
        got = lg.compile(program, backend=backend)(**inputs, **case.constants)
        assert isinstance(got, tuple) == isinstance(wanted, tuple)
        for g, w in zip(as_tuple(got), as_tuple(wanted), strict=True):
            assert np.shape(g) == np.shape(w)
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", ROWS)
def test_values(row: str) -> None:
    program, inputs, _ = of(row, seed=0)
    check_values(program, ROWS[row], inputs)


@pytest.mark.parametrize("row", by_name(list(ROWS), 3))
def test_gradients(row: str) -> None:
    """Of the literal loops, both modes."""
    program, inputs, constants = of(row, seed=1)
    check(program, inputs, order=1, **constants)


@pytest.mark.parametrize("row", by_name(list(ROWS), 9))
def test_compiled_gradients(row: str) -> None:
    program, inputs, constants = of(row, seed=1)
    check_backward(program, inputs, constants, seed=2)


# Differentiated twice, programs of many statements take a minute; a CRF is among those of tests/programs.
SHORT = [row for row in ROWS if str(lg.lib[row.partition(":")[0]].unfold()).count("\n") < 12]


@pytest.mark.parametrize("row", [row for row in by_name(SHORT, 36) if FULL or "crf" not in row])
def test_second_gradients(row: str) -> None:
    program, inputs, constants = of(row, seed=3)
    check_recompute(program, inputs, constants, seed=4)


@pytest.mark.parametrize("row", [row for row, case in ROWS.items() if case.torch])
def test_as_in_pytorch(row: str) -> None:
    torch = pytest.importorskip("torch")
    program, inputs, constants = of(row, seed=5)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    smooth = [n for n in differentiable_inputs(program) if n not in ROWS[row].fixed]
    for name in smooth:
        tensors[name].requires_grad_(True)
    reference = ROWS[row].torch
    assert reference is not None
    theirs = as_tuple(reference(torch.nn.functional, ROWS[row].values(program, tensors)))
    ours, pullback = lg.vjp(program, **inputs, **constants, batch=False)
    rng = np.random.default_rng(6)
    seeds = [rng.normal(size=np.shape(value)) for value in as_tuple(ours)]
    for a, b in zip(as_tuple(ours), theirs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-11)
    wanted = torch.autograd.grad(
        theirs, [tensors[n] for n in smooth], [torch.tensor(s) for s in seeds], allow_unused=True
    )
    gradients = dict(zip([i.name for i in program.inputs], pullback(*seeds), strict=True))
    for name, gradient in zip(smooth, wanted, strict=True):
        found = np.zeros_like(inputs[name]) if gradient is None else gradient.numpy()
        np.testing.assert_allclose(gradients[name], found, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", by_name(list(ROWS), 12))
def test_extents_of_zero_and_one(row: str) -> None:
    """Compiled and interpreted, values and gradients: the same arrays, or the same mistake."""
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    names = named_extents(program)
    small = [dict.fromkeys(names, 1)]
    small += [dict.fromkeys(names, 2) | {name: 0} for name in names]
    for extents in small:
        known = extents | {k: v for k, v in case.constants.items() if k not in extents}
        inputs = case.inputs(program, 7, known)
        if any(i.kind == "int" for i in program.inputs):
            inputs = {n: np.zeros_like(v) if v.dtype.kind == "i" else v for n, v in inputs.items()}
        compiled, interpreted = (
            outcome(lg.compile(program, backend), inputs, case.constants)
            for backend in ("llvm", "interpret")
        )
        assert len(compiled) == len(interpreted)
        for a, b in zip(compiled, interpreted, strict=True):
            if isinstance(b, type):
                assert a is b
            else:
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=str(extents))
        if not isinstance(compiled[0], type):
            _, pullback = lg.vjp(program, **inputs, **case.constants)
            gradients = pullback(*(np.ones_like(r) for r in compiled))
            for i, gradient in zip(program.inputs, gradients, strict=True):
                assert gradient is None or gradient.shape == np.shape(inputs[i.name])


def outcome(kernel: Any, inputs: Any, constants: Any) -> tuple[Any, ...]:
    try:
        return as_tuple(kernel(**inputs, **constants))
    except (ValueError, IndexError) as error:
        return (type(error),)


@pytest.mark.parametrize("name", by_name(NAMES, 4))
def test_the_backward_reads_back(name: str) -> None:
    backward = lg.lib[name].backward()
    assert lg.program(str(backward)) == backward


def test_every_program_says_what_it_is() -> None:
    for file in sorted(Path(lg.__file__).with_name("lib").glob("*.loops")):
        assert file.read_text(encoding="utf-8").startswith("# ")
