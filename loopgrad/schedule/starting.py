"""Finds the nests that write all of their target first; and the tensors that no statement writes whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Expression, Index, Number
from loopgrad.ir.walk import accumulates
from loopgrad.schedule import Nest, Phase, tensors_of


def mark_starting(
    phases: Iterable[Phase], extents: dict[str, tuple[Expression, ...]]
) -> Iterator[Phase]:
    """The phases, with `starts` set where it is true. `extents` are those of every tensor."""
    touched: set[str] = set()
    for phase in phases:
        match phase:
            case Nest(_, statement) if statement.target.tensor not in touched:
                covers = _covers(phase, extents[statement.target.tensor])
                yield replace(phase, starts=covers)
            case _:
                yield phase
        touched |= tensors_of(phase)


def _covers(nest: Nest, extents: Sequence[Expression]) -> bool:
    """Does it run once, unguarded, for each element? `for b, j:  T[j,b] += ...`, T being [J,B]."""
    target, loops = nest.statement.target, {loop.index: loop for loop in nest.loops}
    subscripts = [s.name for s in target.subscripts if isinstance(s, Index)]
    if nest.statement.guard is not None or len(subscripts) < len(extents):
        return False
    if len(nest.loops) != len(loops) or sorted(subscripts) != sorted(loops):
        return False
    return all(
        loops[index].lower == Number(0) and loops[index].upper == extent
        for index, extent in zip(subscripts, extents, strict=True)
    )


def partly_written(facts: Facts) -> frozenset[str]:
    """The computed tensors that no statement writes whole, whatever its guard: some elements may keep what
    they start from, and so be read before any statement writes others."""
    written: set[str] = set()
    whole: set[str] = set()
    for blocks, statement in accumulates(facts.program.statements):
        name, subscripts = statement.target.tensor, statement.target.subscripts
        written.add(name)
        ranges = (*(r for block in blocks for r in block.ranges), *statement.ranges)
        uppers = {r.index: r.upper for r in ranges if r.lower == Number(0)}
        places = [s.name for s in subscripts if isinstance(s, Index)]
        plain = len(subscripts) == len(places) == len({*places})
        extents = facts.tensors[name].extents
        if plain and statement.guard is None and [uppers.get(i) for i in places] == [*extents]:
            whole.add(name)
    return frozenset(written - whole)
