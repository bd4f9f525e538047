"""Sums into rows that data pick: each thread has rows of its own.

    for n, d:  y[w[n],d] += x[n,d]

is, for the rows of y in blocks, one for each thread,

    for n where y.0.from <= w[n] < y.0.to, d:  y[w[n],d] += x[n,d]

So no two threads write in one row, nothing is copied, and each row is added up in the order of n, however
many threads there are. Threads that shared d instead would write to the same lines of memory all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Number, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import is_there_anyway
from loopgrad.schedule.lines import Line, affine_indices
from loopgrad.schedule.loops.nesting import Nesting
from loopgrad.schedule.threads.choosing import parallel_index
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Picks


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that are scheduled together. Where `rows` names an index, over the rows that threads own of what
    all of them write."""

    lines: tuple[Line, ...]
    rows: str | None = None


def owned_parts(lines: Sequence[Line], context: Context) -> list[Part]:
    """The lines in order; one part, which is all of them, where none picks its rows."""
    found: list[Part] = []
    for line in lines:
        tensor, last = line.written.tensor, found[-1] if found else Part(())
        owns = picks_rows(line, context)
        together = last.lines[-1].written.tensor == tensor if owns and last.rows else not last.rows
        if last.lines and together and owns == bool(last.rows):
            found[-1] = replace(last, lines=(*last.lines, line))
        else:
            found.append(Part((line,), context.name(f"{tensor}.0") if owns else None))
    return found


def picks_rows(line: Line, context: Context) -> bool:
    """Do data tell in which row of its target the line writes, several elements of it, and could threads
    share no more than the columns?"""
    statement, target = line.statement, line.target
    if line.roles is not None or line.stands_alone or line.first or not target.subscripts:
        return False
    if statement.reduction is Reduction.SET:
        return False
    place, *others = target.subscripts
    if affine_indices(place) or any(True for other in others for _ in walk.reads(other)):
        return False
    if not walk.indices_of(place) or not line.kept - walk.indices_of(place):
        return False
    if not _may_be_looked_at(place, line, context):
        return False
    shared = parallel_index([line], context)
    if shared is not None and shared == context.choices.parallel:
        return False
    if shared is not None and line.written.axis_of(shared) != len(others):
        return False
    return _loops(line, Picks(place, "", Number(0)), context) is not None


def _may_be_looked_at(place: Expression, line: Line, context: Context) -> bool:
    """Are the data of a place there for all values of the indices, or is it looked whether they are?

    Each thread looks at all places, whatever the guard says: `y[w[v[n]],d] += x[n,d]   if v[n] >= 0`.
    """
    reads = (read for read in walk.reads(place) if read not in line.unproved)
    return all(is_there_anyway(read, line, context.tensors) for read in reads)


def owned(part: Part, context: Context) -> tuple[Node, ...]:
    """The tree of a part whose rows threads own."""
    assert part.rows is not None
    count = context.tensors[part.lines[0].written.tensor].extents[0]
    nodes = []
    for line in part.lines:
        found = _loops(line, Picks(line.target.subscripts[0], part.rows, count), context)
        assert found is not None
        nodes.append(found)
    # Of no rows, too, somebody has to find that there is none.
    unproved = any(line.target in line.unproved for line in part.lines)
    upper = walk.apply("max", count, Number(1)) if unproved else count
    return (Blocks(part.rows, Number(0), upper, None, tuple(nodes), Mark.PARALLEL),)


def _loops(line: Line, picks: Picks, context: Context) -> Node | None:
    """The line's loops; None where several rows are picked at a time."""
    nodes = Nesting(context).nest((line,), ())
    return _picked(nodes[0], picks) if len(nodes) == 1 else None


def _picked(node: Node, picks: Picks) -> Node | None:
    """The loops, of which the innermost that the row hangs on picks."""
    match node:
        case Over(index, _, _, (inner,), mark):
            hangs = walk.indices_of(picks.row)
            if index not in hangs:
                found = _picked(inner, picks) if hangs & _indices(inner) else inner
                return (
                    None if found is None or mark is Mark.VECTOR else replace(node, body=(found,))
                )
            if mark is not Mark.SEQUENTIAL:
                return None
            if not hangs & _indices(inner):
                return replace(node, mark=Mark.PICKED, picks=picks)
            found = _picked(inner, picks)
            return None if found is None else replace(node, body=(found,))
    return None


def _indices(node: Node) -> frozenset[str]:
    """Of the loops in it."""
    if not isinstance(node, Over):
        return frozenset()
    return frozenset((node.index,)).union(*map(_indices, node.body))
