"""Sums that are spread over their target: each product of one position goes to several places.

    x[b,i,2*n+p-1] += y[b,o,n] * k[o,i,p]   if 0 <= 2*n+p-1 < X

as the gradient of a convolution in what it reads. All positions and places in one product, and then
each where it belongs:

    t[b,i,p,n] += y[b,o,n] * k[o,i,p]
    x[b,i,2*n+p-1] += t[b,i,p,n]            if 0 <= 2*n+p-1 < X

And sums that are not wanted everywhere, as scores of which a mask is taken; and those of a product for each
value of the target's last index, where memory does not go along that everywhere:

    y[b,o,p] += w[p,o,i] * x[b,i,p]

is, for each p, a product in `t[p,b,o]`. So are those whose rows and columns come in turns in the target, as
in `w[j,i,e,d] += s[b,j,e] * u[b,i,d]`, where a call's columns behind the last row are few.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Conditional, Expression, Index, Number, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import is_there_anyway
from loopgrad.schedule.lines import Line
from loopgrad.schedule.sums.sharing import is_sparse
from loopgrad.schedule.sums.sides import factors

Breadth = Callable[[Line, str, Expression], tuple[int, bool, bool]]


def apart_by_places(
    line: Line, context: Context, breadth: Breadth
) -> tuple[Line, Line, tuple[str, ...]] | None:
    """The sum into a temporary, the line that takes it from there, and the indices of the positions.

    None for other lines.

    `breadth` compares the indices of a subscript: the largest range is that of the positions.
    """
    statement = line.statement
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or not line.reduced:
        return None
    places, guard = _spread(line), statement.guard
    if line.unproved or places is None:
        return None
    if line.bounding and (places or not _is_left_out_in_bands(line)):
        return None
    together = line.target.tensor in context.choices.together
    if not (
        guard
        or places
        or _is_in_steps(line)
        or _selects_last(line)
        or (together and _is_in_turns(line))
    ):
        return None
    if guard is not None and not _may_be_computed_anyway(line, context):
        return None
    positions = _positions(line, context, breadth)
    order = _order(line, positions)
    ends = _ends(line, context)
    if order is None or not {*order} <= {*ends}:
        return None
    name = context.temporary("spread" if places else "whole", tuple(ends[i] for i in order))
    return *_parted(line, Read(name, tuple(map(Index, order)))), positions


def apart_by_guard(line: Line, context: Context) -> tuple[Line, Line] | None:
    """The sum without its guard, which no index of the sum is in, into a temporary with the target's indices;
    and the line that takes what the guard lets through. None for other lines."""
    guard, places = line.statement.guard, [*line.written.bare]
    if guard is None or None in places or line.kept != {*places} or line.bounding:
        return None
    if not _may_be_computed_anyway(line, context):
        return None
    if any(read in line.unproved for read in (line.target, *walk.reads(guard))):
        return None
    ends = [line.bounds[i] for i in places if i is not None]
    if any(lower != Number(0) for lower, _ in ends):
        return None
    name = context.temporary("whole", tuple(upper for _, upper in ends))
    inner, taken = _parted(line, Read(name, line.target.subscripts))
    return replace(inner, unproved=line.unproved), taken


def _parted(line: Line, total: Read) -> tuple[Line, Line]:
    """The line's sum into the temporary, without its guard, and the line that takes it from there."""
    statement, guard = line.statement, line.statement.guard
    sums = replace(statement, target=total, reduction=Reduction.ADD, guard=None)
    own = tuple(r for r in statement.ranges if r.index in line.kept)
    takes = replace(statement, value=total, ranges=own)
    if line.first and guard is not None:  # what a sum leaves out is zero
        value = Conditional(guard, total, walk.number(0.0))
        takes = replace(takes, value=value, guard=None)
    return Line(sums, first=True), Line(takes, first=line.first)


def _spread(line: Line) -> bool | None:
    """Do the places overlap: has a subscript several indices? None where one is in two, or in a gather."""
    axes = line.written.axes
    if line.kept != frozenset().union(*axes) or sum(map(len, axes)) != len(line.kept):
        return None
    return any(len(axis) > 1 for axis in axes)


def _is_in_steps(line: Line) -> bool:
    """Is something written at `2*n`, or the like? Products write at each value of an index."""
    written = line.written
    return any(i and not bare for i, bare in zip(written.axes, written.bare, strict=True))


def _is_left_out_in_bands(line: Line) -> bool:
    """Does a guard leave some of a target out of which each row has columns of its own?"""
    bounded = any(line.bound_by[i] & line.reduced for i in line.kept)
    return line.statement.guard is not None and None not in line.written.bare and not bounded


def _ends(line: Line, context: Context) -> dict[str, Expression]:
    """What each index that begins at 0 stays below; the target's extent, where that hangs on others."""
    extents = context.tensors[line.target.tensor].extents
    whole = dict(zip(line.written.bare, extents, strict=True)) if line.bounding else {}
    return {
        index: whole.get(index, upper) if line.bound_by[index] else upper
        for index, (lower, upper) in line.bounds.items()
        if lower == Number(0) or index in whole
    }


def _selects_last(line: Line) -> bool:
    """Does the last index of the target select a matrix on each side, of which one lies across it?"""
    sides = [one for one in line.read if one.indices]
    if len(sides) < 2 or not line.written.along:
        return False
    (last,) = line.written.along
    across = any(last not in one.along for one in sides)
    return across and all(last in one.affine for one in sides)


def _is_in_turns(line: Line) -> bool:
    """Does a row stand before a column, and another row behind it, where columns are what is last?"""
    sides = [walk.indices_of(f) for f in factors(line.statement.value) if walk.indices_of(f)]
    kinds = ""
    last = next((i for i in reversed(line.written.bare) if i), None)
    if len(sides) != 2 or last is None:
        return False
    for index in filter(None, line.written.bare):
        if sum(index in side for side in sides) == 1:
            kinds += "n" if any({index, last} <= side for side in sides) else "m"
    return "m" in kinds.rstrip("n").rstrip("m").rstrip("n")


def _may_be_computed_anyway(line: Line, context: Context) -> bool:
    """May what the guard rules out be computed, and not used? It is not nearly all, as of `i == w[b]`."""
    guard = line.statement.guard
    assert guard is not None
    if walk.indices_of(guard) & line.reduced or is_sparse(guard, context.tensors):
        return False
    return is_there_anyway(line.statement.value, line, context.tensors)


def _positions(line: Line, context: Context, breadth: Breadth) -> tuple[str, ...]:
    """Of each axis of the target the index with the largest range: as large as the axis, if any is."""
    found = []
    extents = context.tensors[line.target.tensor].extents
    for place, extent in zip(line.target.subscripts, extents, strict=True):
        inside = [i for i in line.indices if i in walk.indices_of(place)]
        sizes = [((line.bounds[i][1] == extent, breadth(line, i, place)), i) for i in inside]
        found += [max(sizes, key=lambda pair: pair[0])[1]] if sizes else []
    return tuple(found)


def _order(line: Line, positions: Collection[str]) -> tuple[str, ...] | None:
    """The indices of the temporary: those that select a matrix, of the one side, of the other."""
    places = line.target.subscripts
    found: list[str] = []
    for place in places:
        inside = [i for i in line.indices if i in walk.indices_of(place)]
        found += sorted(inside, key=lambda i: i in positions)
    if not found:
        return None
    parts = list(factors(line.statement.value))
    having = [walk.indices_of(p) for p in parts if walk.indices_of(p)]
    every = frozenset.intersection(*having) if having else frozenset[str]()
    last = next((i for i in reversed(found) if i not in every), found[-1])
    right = frozenset().union(*(walk.indices_of(p) for p in parts if last in walk.indices_of(p)))
    left = frozenset().union(*(walk.indices_of(p) for p in parts if last not in walk.indices_of(p)))
    first = next((n for n, i in enumerate(found) if i not in right), len(found))
    selecting = [i for n, i in enumerate(found) if n < first or (i in left and i in right)]
    rest = [i for i in found if i not in selecting]
    return (*selecting, *(i for i in rest if i not in right), *(i for i in rest if i in right))
