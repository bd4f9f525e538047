"""Sums of what another line sums on the way: they read its sums.

    a.grad[b,h] += y.grad[b,o] * V[o,h]   if a[b,h] + c[h] > 0
    c.grad[h]   += y.grad[b,o] * V[o,h]   if a[b,h] + c[h] > 0

are the same terms, of which the second adds up those of all b: `c.grad[h] += a.grad[b,h]`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from loopgrad.ir.nodes import Reduction
from loopgrad.schedule.lines import Line

SIGNS = {Reduction.ADD: 1, Reduction.SUBTRACT: -1}


def of_partial_sums(lines: Sequence[Line], written_once: Collection[str]) -> tuple[Line, ...]:
    """The lines, of which some read the sums of others, and stand behind those.

    written_once: the tensors that one statement writes.
    """
    found = list(lines)
    for line in lines:
        partial = next((one for one in found if _is_on_the_way(one, line, written_once)), None)
        if partial is None:
            continue
        at, behind = found.index(line), found.index(partial)
        tensors = {line.written.tensor}
        if any(_touches(one, tensors) for one in found[at + 1 : behind + 1]):
            continue
        found.pop(at)
        found.insert(found.index(partial) + 1 if behind > at else at, _reading(line, partial))
    return tuple(found)


def _is_on_the_way(partial: Line, line: Line, written_once: Collection[str]) -> bool:
    """Is the line the sum of what `partial` makes its target?"""
    one, other = partial.statement, line.statement
    return (
        partial is not line
        and partial.written.tensor in written_once
        and {one.reduction, other.reduction} <= SIGNS.keys()
        and one.value == other.value
        and one.guard == other.guard
        and partial.bounds == line.bounds
        and None not in partial.written.bare
        and line.written.indices <= partial.kept < frozenset(line.indices)
        and len(line.kept) < len(partial.kept)
        and partial.bounding.isdisjoint(partial.reduced)
        and not (partial.integral or line.integral)
        and line.written.tensor not in {one.tensor for one in partial.read}
    )


def _touches(line: Line, tensors: Collection[str]) -> bool:
    return any(one.tensor in tensors for one in (line.written, *line.read))


def _reading(line: Line, partial: Line) -> Line:
    statement = line.statement
    sign = SIGNS[statement.reduction] * SIGNS[partial.statement.reduction]
    reading = replace(
        statement,
        value=partial.target,
        guard=None,
        reduction=Reduction.ADD if sign > 0 else Reduction.SUBTRACT,
        ranges=tuple(r for r in statement.ranges if r.index in partial.kept),
    )
    unproved = tuple(read for read in line.unproved if read == line.target)
    return replace(line, statement=reading, unproved=unproved)
