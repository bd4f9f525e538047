"""Two programs on the same random inputs in float64: a second line behind the certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Extent, Input, Program
from loopgrad.ir.walk import computed_tensors

if TYPE_CHECKING:
    from loopgrad.backends.kernel import Kernel

TRIALS = 2
TOLERANCE = 1e-8


def agree(before: Program, after: Program, forward: Program | None) -> bool:
    """Do both give the same results, for random inputs of random sizes?"""
    from loopgrad.pipeline import compile

    rng = np.random.default_rng(20)
    one, other = compile(before, "interpret"), compile(after, "interpret")
    source: Kernel | None = None
    needed: list[str] = []
    if forward is not None:
        made = set(computed_tensors(infer(forward).program))
        wanted = {i.name for p in (before, after) for i in p.inputs}
        needed = sorted(made & wanted)
        if needed:
            source = compile(forward.returning(*needed), "interpret")
    programs = [before, after, *([forward] if forward is not None else [])]
    for trial in range(TRIALS):
        sizes = _sizes(programs, rng)
        try:
            values = _values(programs, forward, source, needed, sizes, rng, trial)
            expected = _run(one, before, values, sizes)
        except (ValueError, IndexError, ZeroDivisionError):
            continue  # not a call that the program takes: the certificate knows better ones
        try:
            found = _run(other, after, values, sizes)
        except (ValueError, IndexError, ZeroDivisionError):
            return False
        if not _same(expected, found):
            return False
    return True


def _values(
    programs: list[Program],
    forward: Program | None,
    source: Kernel | None,
    needed: list[str],
    sizes: dict[str, int],
    rng: np.random.Generator,
    trial: int,
) -> dict[str, Any]:
    """All inputs; the forward-computed tensors among them as the forward computes them."""
    values: dict[str, Any] = {}
    if forward is not None:
        values = {i.name: _array(i, sizes, rng, trial) for i in forward.inputs}
        if source is not None:
            given = [values[i.name] for i in forward.inputs]
            made = source(*given, **{s.name: sizes[s.name] for s in forward.sizes})
            results = made if isinstance(made, tuple) else (made,)
            values.update(zip(needed, results, strict=True))
    for i in (*programs[0].inputs, *programs[1].inputs):
        if i.name not in values:
            values[i.name] = _array(i, sizes, rng, trial)
    return values


def _sizes(programs: list[Program], rng: np.random.Generator) -> dict[str, int]:
    names: dict[str, None] = {}
    for program in programs:
        for i in program.inputs:
            names.update((e.name, None) for e in i.extents if isinstance(e, Extent))
        names.update((s.name, None) for s in program.sizes)
    from loopgrad.analysis.infer import Unification

    facts = infer(programs[-1])
    unified = Unification(facts.extents, facts.equalities)
    chosen: dict[str, int] = {}
    for name in names:
        head = unified.apply(Extent(name))
        key = head.name if isinstance(head, Extent) else name
        chosen.setdefault(key, int(rng.integers(2, 5)))
        chosen[name] = chosen[key]
    return chosen


def _array(i: Input, sizes: dict[str, int], rng: np.random.Generator, trial: int) -> Any:
    shape = tuple(_extent(e, sizes) for e in i.extents)
    if i.kind in ("int", "bool"):
        return rng.integers(0, 2, shape).astype(np.int64 if i.kind == "int" else bool)
    values = rng.normal(size=shape)
    return np.abs(values) * 0.3 + 0.05 if trial % 2 else values


def _extent(extent: Any, sizes: dict[str, int]) -> int:
    from loopgrad.backends.formulas import evaluate

    return int(evaluate(extent, sizes))


def _run(kernel: Any, program: Program, values: dict[str, Any], sizes: dict[str, int]) -> Any:
    results = kernel(
        *[values[i.name] for i in program.inputs], **{s.name: sizes[s.name] for s in program.sizes}
    )
    return results if isinstance(results, tuple) else (results,)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    for left, right in zip(one, other, strict=True):
        left, right = np.asarray(left), np.asarray(right)
        if left.shape != right.shape:
            return False
        known = np.isfinite(left)
        scale = max(1.0, float(np.max(np.abs(left[known]), initial=0.0)))
        if not np.all(np.abs(left[known] - right[known]) <= TOLERANCE * scale):
            return False
    return True
