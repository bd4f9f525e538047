"""Rings: the tensors of a block whose elements hang on each other's of other turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from loopgrad.analysis.extents import difference
from loopgrad.ir.nodes import Accumulate, Block, Expression, Index, Range, Read
from loopgrad.ir.walk import accumulates, bounds, reads, statement_reads, subexpressions


def rings(block: Block) -> Iterator[tuple[str, ...]]:
    """The sets of tensors that hang on each other, and on elements of another turn."""
    sources: dict[str, set[str]] = {}
    for statement, around in statements_of(block):
        found = sources.setdefault(statement.target.tensor, set())
        found.update(r.tensor for r in statement_reads(statement))
        found.update(r.tensor for e in bounds(around) for r in reads(e))
    reached = {name: _reached(name, sources) for name in sources}
    done: set[str] = set()
    for name in sources:
        if name in done or name not in reached[name]:
            continue
        ring = tuple(n for n in sources if n in reached[name] and name in reached[n])
        done.update(ring)
        if _is_carried(block, ring):
            yield ring


def statements_of(block: Block) -> Iterator[tuple[Accumulate, tuple[Range, ...]]]:
    """The statements of the block, with the ranges of the blocks inside it that they stand in."""
    for around, statement in accumulates(block.body):
        yield statement, tuple(r for b in around for r in b.ranges)


def _reached(name: str, sources: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    stack = [name]
    while stack:
        new = sources.get(stack.pop(), set()) & sources.keys() - found
        found |= new
        stack.extend(new)
    return found


def _is_carried(block: Block, ring: Sequence[str]) -> bool:
    """Whether something within the ring is read, or added to, in another turn than its own, or may be."""
    places = places_of(block)
    for statement, _ in statements_of(block):
        if statement.target.tensor in ring:
            used = (statement.target, *statement_reads(statement))
            if any(r.tensor in ring and distance(r, places, block) != 0 for r in used):
                return True
    return False


def places_of(block: Block) -> dict[str, tuple[int, int]]:
    """For tensors that are always written at the block's index plus a number, at one axis: the axis, and the
    number in the first statement. It says at which turn an element counts as written: `h[t-1] += ...` may
    add to what `h[t] += ...` of another turn adds to."""
    index = Index(block.ranges[0].index)
    found: dict[str, tuple[int, int]] = {}
    moving: set[str] = set()
    for statement, _ in statements_of(block):
        target = statement.target
        axes = [a for a, s in enumerate(target.subscripts) if mentions(s, index.name)]
        number = difference(target.subscripts[axes[0]], index) if len(axes) == 1 else None
        if number is None or found.setdefault(target.tensor, (axes[0], number))[0] != axes[0]:
            moving.add(target.tensor)
    return {n: place for n, place in found.items() if n not in moving}


def mentions(expression: Expression, index: str) -> bool:
    return any(isinstance(n, Index) and n.name == index for n in subexpressions(expression))


def distance(read: Read, places: Mapping[str, tuple[int, int]], block: Block) -> int | None:
    """How many turns before this one the element was written; None where that is no number."""
    r = block.ranges[0]
    if len(block.ranges) > 1 or read.tensor not in places:
        return None
    axis, written = places[read.tensor]
    at = difference(read.subscripts[axis], Index(r.index))
    if at is None:
        return None
    return at - written if r.descending else written - at
