"""The programs that costs are tested on, sizes for them, and runs that give the graph its integers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.fitting import ANY, Fitting, covered
from loopgrad.analysis.infer import infer
from loopgrad.backends.formulas import evaluate
from loopgrad.cost.costs import sizes_of
from loopgrad.ir.nodes import Program
from loopgrad.ir.walk import computed_tensors
from loopgrad.problems.worked import PROGRAMS

CORPUS = Path(__file__).parents[1] / "programs" / "corpus.loops"

SIZES: tuple[dict[str, int], ...] = (
    {"B": 2, "J": 4, "T": 3, "K": 1, "X": 9, "Y": 8, "DX": 3, "DY": 2, "N": 4, "C": 2},
    {"B": 3, "J": 1, "T": 5, "K": 3, "X": 7, "Y": 9, "DX": 2, "DY": 3, "N": 3, "D": 5},
    {"B": 1, "J": 5, "T": 1, "K": 2, "X": 8, "Y": 7, "DX": 1, "DY": 1, "N": 1, "M": 2},
)


def all_programs() -> dict[str, Program]:
    """Those of the library, of the problems and of the corpus."""
    found: dict[str, Program] = {}
    for place, module in (
        ("lib", lg.lib),
        ("problems", lg.load(PROGRAMS)),
        ("corpus", lg.load(CORPUS)),
    ):
        for name in dir(module):
            program = getattr(module, name)
            if isinstance(program, Program):
                found[f"{place}.{name}"] = program
    return found


def sized(facts: Facts, base: Mapping[str, int]) -> dict[str, Any]:
    """Sizes of all extents: those given, 3 for others."""
    names = [e for e in facts.extents if e not in facts.defined]
    given = {e: base.get(e, base.get(e.rstrip("'"), 3)) for e in names}
    return sizes_of(facts, given)


def each(program: Program) -> Iterator[Program]:
    yield program
    yield program.backward()


def values(facts: Facts, sizes: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> Any:
    """The values of all tensors in a run of random inputs, of integers that fit."""
    given, rng = dict(inputs or {}), np.random.default_rng(0)
    fitting = Fitting(facts)
    for i in facts.program.inputs:
        shape = tuple(evaluate(e, sizes) for e in i.extents)
        if i.name in given:
            continue
        if i.kind == "int":
            low, high = (fitting.interval(i.name, sizes, covered(given)) or ANY).ends()
            given[i.name] = rng.integers(low, high + 1, size=shape)
        else:
            given[i.name] = rng.random(shape) < 0.5 if i.kind == "bool" else rng.normal(size=shape)
    names = computed_tensors(facts.program)
    sizes_given = {s.name: sizes[s.name] for s in facts.program.sizes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = lg.compile(facts.program.returning(*names), backend="interpret")
        results = kernel(**given, **sizes_given)
    results = results if isinstance(results, tuple) else (results,)
    return {
        k: np.asarray(v) for k, v in {**given, **dict(zip(names, results, strict=True))}.items()
    }


def facts_of(program: Program) -> Facts:
    return infer(program)
