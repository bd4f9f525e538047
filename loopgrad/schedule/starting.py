"""Finds the nests that are the first to write their target, and write all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from loopgrad.ir.nodes import Expression, Index, Number
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
