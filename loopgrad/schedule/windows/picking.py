"""Places of a window that data pick: no loop is needed to find them.

    for dx < 3:  x[2*n+dx] += g[n]   if dx == w[n]      ->      x[2*n+w[n]] += g[n]   if 0 <= w[n] < 3

So each window writes where it has something to write, and nowhere else. An index that stands alone in
its axis keeps its loop, which goes over memory in order, in lanes, unless it would do so again and again:

    for n, i:  x[i] += g[n]   if i == w[n]              ->      x[w[n]] += g[n]   if 0 <= w[n] < X

A sum over an index of which data pick one value is no sum:

    for b, j:  L[b] -= s[b,j]   if j == w[b]            ->      L[b] -= s[b,w[b]]   if 0 <= w[b] < J
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Line, few_values

# Of windows with so few places, sums at each place (`interleaving.py`) are quicker: they run in lanes.
MOST_PLACES = 32


def with_picked(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with values that data give in place of indices that a guard says are equal to them."""
    places = (_without_sums_of_one(line, context) for line in lines)
    return tuple(part for line in places for part in _without_picked(line, lines, context))


@dataclass(frozen=True, slots=True)
class _Pick:
    """The condition that an index of a line has a value that data give."""

    condition: Expression
    index: str
    place: Read
    below: Expression  # where the place is less than that, there is one
    least: Expression | None  # and where it is no less than that, if not None


def _without_picked(line: Line, lines: Sequence[Line], context: Context) -> Iterator[Line]:
    picks = list(_picked(line, lines, context))
    if not picks or 0 < prod(few_values(line, pick.index) for pick in picks) <= MOST_PLACES:
        yield line
        return
    if line.first:  # which it is no more, at places that may be none, or several times one
        yield _start(line, context)
        line = replace(line, first=False)
    line = _without_known(line, picks, lines)
    while (pick := next(_picked(line, lines, context), None)) is not None:
        line = _at_place(line, pick)
    yield line


def _start(line: Line, context: Context) -> Line:
    """What the line's target starts from, all of it."""
    statement = line.statement
    value = identity(statement.reduction, context.tensors[line.written.tensor].element)
    ranges = tuple(r for r in statement.ranges if r.index in line.kept)
    start = replace(statement, reduction=Reduction.SET, value=value, ranges=ranges, guard=None)
    return replace(line, statement=start, unproved=())


def _picked(line: Line, lines: Sequence[Line], context: Context) -> Iterator[_Pick]:
    statement = line.statement
    if statement.reduction is Reduction.SET or statement.guard is None:
        return
    for condition in walk.conjuncts(statement.guard):
        match condition:
            case Compare(("==",), (Index(index), Read() as place)):
                pass
            case Compare(("==",), (Read() as place, Index(index))):
                pass
            case _:
                continue
        integer = context.tensors[place.tensor].element is ElementType.INT
        if index in walk.indices_of(place) or not integer:
            continue
        if _is_of_window(line, index):
            lower, upper = line.bounds[index]
            least = None if _is_at_least(place, lower, lines) else lower
            yield _Pick(condition, index, place, upper, least)
        elif _is_gone_over_again(line, index) and _has_its_own_search(line, index, place, lines):
            axis = line.written.axis_of(index)
            assert axis is not None
            extent = context.tensors[line.written.tensor].extents[axis]
            yield _Pick(condition, index, place, extent, None)
        elif _is_gone_over_again(line, index):
            yield _Pick(condition, index, place, *reversed(line.bounds[index]))


def _without_sums_of_one(line: Line, context: Context) -> Line:
    """The line without loops over indices that are summed over, and of which a condition leaves one value."""
    while (pick := next(_picked_of_sum(line, context), None)) is not None:
        line = _at_place(line, pick)
    statement = line.statement
    if line.first and statement.guard is not None and not line.reduced:
        start = identity(statement.reduction, context.tensors[line.written.tensor].element)
        value = Conditional(statement.guard, statement.value, start)
        line = replace(line, statement=replace(statement, value=value, guard=None))
    return line


def _picked_of_sum(line: Line, context: Context) -> Iterator[_Pick]:
    if line.roles is not None or line.stands_alone or line.statement.reduction is Reduction.SET:
        return
    for condition in walk.conjuncts(line.statement.guard):
        match condition:
            case Compare(("==",), (Index(index), Read() as place)):
                pass
            case Compare(("==",), (Read() as place, Index(index))):
                pass
            case _:
                continue
        lower, upper = line.bounds.get(index, (None, None))
        free = index in line.reduced and index not in line.bounding and not few_values(line, index)
        integer = context.tensors[place.tensor].element is ElementType.INT
        if free and integer and index not in walk.indices_of(place) and lower and upper:
            yield _Pick(condition, index, place, upper, lower)


def _is_of_window(line: Line, index: str) -> bool:
    """Does it stand beside others in an axis of the target, and bound no other index?"""
    beside = any(index in axis and len(axis) > 1 for axis in line.written.axes)
    lower, upper = line.bounds.get(index, (None, None))
    return (
        beside
        and index not in line.bounding
        and lower is not None
        and upper is not None
        and not (walk.indices_of(lower) or walk.indices_of(upper))
        and index in line.kept
    )


def _is_gone_over_again(line: Line, index: str) -> bool:
    """Does it stand alone in an axis of the target, and another loop go over the same elements?"""
    alone = line.written.axis_of(index) is not None and index not in line.bounding
    return alone and bool(line.reduced) and not few_values(line, index)


def _has_its_own_search(line: Line, index: str, place: Read, lines: Sequence[Line]) -> bool:
    """Is the place the least of just these values of the index, and large where there is none?"""
    found = _search(index, place, lines)
    if found is None or found.statement.reduction is not Reduction.MINIMUM:
        return False
    return found.bounds[index] == line.bounds[index]


def _at_place(line: Line, pick: _Pick) -> Line:
    statement, index, place = line.statement, pick.index, pick.place
    assert statement.guard is not None
    inside = [walk.compare("<", place, pick.below)]
    if pick.least is not None:
        inside.append(walk.compare(">=", place, pick.least))
    parts = list(walk.conjuncts(statement.guard))
    first = parts.index(pick.condition)
    # What stands before may be why there is such a place to look at.
    before = [part for part in parts[:first] if index not in walk.indices_of(part)]
    rest = [part for part in parts if part not in before and part != pick.condition]
    at = {index: place}

    def change(expression: Expression) -> Expression:
        return walk.substitute(expression, at)

    guard = walk.conjunction([*before, *inside, *rest])
    ranges = tuple(r for r in statement.ranges if r.index != index)
    changed = walk.map_statement(replace(statement, ranges=ranges, guard=guard), change)
    assert isinstance(changed, Accumulate)
    unproved = tuple(r for r in map(change, line.unproved) if isinstance(r, Read))
    return replace(line, statement=changed, unproved=unproved)


def _without_known(line: Line, picks: Sequence[_Pick], lines: Sequence[Line]) -> Line:
    """The line without conditions under which alone the values were found."""
    statement = line.statement
    assert statement.guard is not None
    conditions = list(walk.conjuncts(statement.guard))
    for pick in picks:
        searching = _search(pick.index, pick.place, lines)
        if searching is None or searching.statement.guard is None:
            continue
        known = list(walk.conjuncts(searching.statement.guard))
        pinned = {p.index for p in picks if p.condition in known} | {pick.index}
        own = searching.reduced - pinned  # of each of them another value may have held
        held = [c for c in known if walk.indices_of(c).isdisjoint(own)]
        kept = {p.condition for p in picks}
        conditions = [c for c in conditions if c not in held or c in kept]
    return replace(line, statement=replace(statement, guard=walk.conjunction(conditions)))


def _search(index: str, place: Read, lines: Sequence[Line]) -> Line | None:
    """The line that alone has found the value, as the least or greatest of the index, at the same place."""
    writers = [line for line in lines if line.written.tensor == place.tensor]
    if len(writers) != 1 or not writers[0].first:
        return None
    (line,) = writers
    statement = line.statement
    extreme = statement.reduction in (Reduction.MINIMUM, Reduction.MAXIMUM)
    same = line.target.subscripts == place.subscripts and statement.value == Index(index)
    return line if extreme and same else None


def _is_at_least(place: Read, lower: Expression, lines: Sequence[Line]) -> bool:
    """Is the tensor the least of indices that start from there? Where it has none it is large."""
    if lower != Number(0):
        return False
    writers = [line.statement for line in lines if line.written.tensor == place.tensor]
    return all(
        writer.reduction is Reduction.MINIMUM
        and isinstance(writer.value, Index)
        and any(r.index == writer.value.name and r.lower == lower for r in writer.ranges)
        for writer in writers
    ) and bool(writers)
