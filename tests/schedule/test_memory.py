"""A call takes its inputs, its results, and what `loopgrad explain` states beside them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends import recycling
from loopgrad.backends.formulas import evaluate
from loopgrad.commands.explain import accounted
from loopgrad.peers.ours import joined
from loopgrad.peers.problem import draw
from tests.derivatives import as_tuple
from tests.effort import FULL, by_name
from tests.lib.test_library import ROWS

PYTHON = 160_000  # bytes: the objects of a first call


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = lg.get_num_threads()
    lg.set_num_threads(count)
    yield
    lg.set_num_threads(before)


@contextmanager
def peak() -> Iterator[list[int]]:
    """How many bytes more than before are in use within it, at most: NumPy's and our own blocks."""
    taken, take, give = [0, 0], recycling.take, recycling.give

    def counting(size: int) -> recycling.Block:
        block = take(size)
        taken[0] += size
        taken[1] = max(taken[1], taken[0])
        return block

    recycling.take = counting  # type: ignore[assignment]
    gc.collect()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    found: list[int] = []
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1] - start + taken[1])
    finally:
        tracemalloc.stop()
        recycling.take, recycling.give = take, give


def stated(program: lg.Program, inputs: dict[str, Any], dtype: str) -> tuple[int, int]:
    """The bytes that are stated for a call, and those that the call asks for."""
    kernel = lg.compile(program)
    given = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in inputs.items()}
    call = kernel.bind((), given, (None,) * len(program.results))
    runner: Any = kernel.runner
    sizes = {**call.constants, **call.extents}
    found = accounted(program, "", dtype, sizes)
    own = found.memory.at(lambda e: evaluate(e, sizes), lg.get_num_threads())
    return own, runner.prepared(call).scratch


@pytest.mark.parametrize("name", by_name(sorted(ROWS), 30))
def test_the_library(name: str) -> None:
    program, case = lg.lib[name.partition(":")[0]], ROWS[name]
    rng = np.random.default_rng(3)
    inputs = {**case.inputs(program, 5), **case.constants}
    inputs = {n: np.asarray(a) for n, a in inputs.items()}
    with threads(2):
        own, asked = stated(program, inputs, "float32")
        assert own == asked
        try:
            backward = program.backward(recompute=True, batch=False)
        except lg.ProgramError:
            return
        results = as_tuple(program(**inputs))
        for result, value in zip(program.results, results, strict=True):
            inputs[f"{result.name}.grad"] = rng.normal(size=value.shape)
        names = [one.name for one in (*backward.inputs, *backward.sizes, *backward.constants)]
        own, asked = stated(backward, {n: inputs[n] for n in names if n in inputs}, "float64")
        assert own == asked


LARGE = {
    "softmax": {"B": 300, "J": 700},
    "layer_norm": {"B": 300, "J": 700},
    "batchnorm": {"B": 700, "J": 300},
    "affine": {"B": 300, "I": 400, "J": 500},
    "causal_attention": {"B": 2, "H": 2, "T": 700, "D": 40, "E": 30},
    "ugrnn": {"T": 40, "B": 30, "J": 64, "K": 50},
    "conv2d": {"B": 4, "C": 20, "O": 30, "X": 30, "Y": 40, "DX": 3, "DY": 2},
    "max_pool2d": {"B": 8, "C": 20, "X": 60, "Y": 40},
    "embedding": {"B": 50, "T": 40, "V": 900, "K": 300},
}


@pytest.mark.parametrize("name", LARGE if FULL else ["softmax", "affine", "batchnorm"])
def test_what_is_taken(name: str) -> None:
    """By forward and backward in one program, at its first call."""
    forward = lg.lib[name]
    given = draw(forward, LARGE[name], seed=4)
    program = joined(forward.unfold(), given.backward().simplify())
    inputs = {**given.inputs, **{f"{n}.grad": a for n, a in given.seeds.items()}}
    kernel = lg.compile(program)
    arguments = {i.name: inputs[i.name] for i in program.inputs} | dict(given.keywords)
    arguments |= {size.name: given.extents[size.name] for size in program.sizes}
    kernel(**arguments)  # compiles
    with threads(2):
        call = kernel.bind((), arguments, (None,) * len(program.results))
        sizes = {**call.constants, **call.extents}
        found = accounted(program, "", "float32", sizes)
        own = found.memory.at(lambda e: evaluate(e, sizes), 2)
        again = lg.compile(replace(program))
        again.runner._compiled = kernel.runner._compiled  # type: ignore[attr-defined]
        del call
        with peak() as taken:
            results = again(**arguments)
    expected = own + sum(a.nbytes for a in as_tuple(results))
    assert expected <= taken[0] + 1
    assert taken[0] <= expected + PYTHON
