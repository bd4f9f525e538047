"""Temporaries as products want them: what tells matrices apart stands before the matrices' own indices.

    for b, t, u, h, d:  s[b,t,u,h] += q[b,t,h,d] * k[b,u,h,d]

is a matrix product for each b and h, whose elements, where nobody else sees s, may lie side by side: as
`s[b,h,t,u]`. Then so may those of all other temporaries that have h behind t or u, so that what is computed
of one of them for another still goes along both.

    for b, i, j, p < 3:  a[b,i,j,p] = x[b,i,j+p]**2

goes along x, where `a` lies as `a[b,i,p,j]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Range, Read
from loopgrad.schedule.lines import SMALL, Line, Tensors, few_values
from loopgrad.schedule.products.contractions import roles
from loopgrad.schedule.sums.sides import factors

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layouts:
    """In which order tensors have their axes, by number; and which indices go before which others."""

    orders: Mapping[str, Order]
    before: tuple[tuple[frozenset[str], frozenset[str]], ...]


def layouts(lines: Sequence[Line], movable: Collection[str], tensors: Tensors) -> Layouts:
    """How those of the tensors are to lie that may be moved."""
    named = _named(lines, movable, tensors)
    orders: dict[str, Order] = {}
    before: dict[tuple[frozenset[str], frozenset[str]], None] = {}
    for line in lines:
        if line.target.tensor in named and line.reduced:
            batch, inside = _batch_behind(line)
            if batch:
                before[batch, inside] = None
        few, lanes = _few_behind(line, lines, named)
        if few:
            before[few, lanes] = None
    for batch, inside in before:
        for tensor, names in named.items():
            if tensor not in orders and not inside.isdisjoint(names):
                orders[tensor] = _with_before(names, batch, inside)
    moved = {t: order for t, order in orders.items() if order != tuple(range(len(order)))}
    return Layouts(moved, tuple(before))


def laid_out(line: Line, layouts: Layouts) -> Line:
    """The line, with the axes of tensors, and its own loops, in their order: what is computed once for others
    lies as these loops do.
    """

    def moved(expression: Expression) -> Expression:
        match walk.rebuild(expression, moved):
            case Read(tensor, subscripts) as read if tensor in layouts.orders:
                places = tuple(subscripts[axis] for axis in layouts.orders[tensor])
                return replace(read, subscripts=places)
            case other:
                return other

    if layouts.orders.keys().isdisjoint({line.target.tensor, *(r.tensor for r in line.reads())}):
        return line
    statement = walk.map_statement(line.statement, moved)
    target = moved(line.target)
    assert isinstance(statement, Accumulate) and isinstance(target, Read)
    ranges = _ranges(line, layouts)
    unproved = tuple(read for read in map(moved, line.unproved) if isinstance(read, Read))
    return replace(
        line, statement=replace(statement, target=target, ranges=ranges), unproved=unproved
    )


def _ranges(line: Line, layouts: Layouts) -> tuple[Range, ...]:
    ranges = list(line.statement.ranges)
    for batch, inside in layouts.before:
        order = _with_before([r.index for r in ranges], batch, inside)
        changed = [ranges[place] for place in order]
        known: set[str] = set()
        for r in changed:
            if not line.bound_by.get(r.index, frozenset()) <= known:
                break
            known.add(r.index)
        else:
            ranges = changed
    return tuple(ranges)


def _named(
    lines: Iterable[Line], movable: Collection[str], tensors: Tensors
) -> dict[str, tuple[str, ...]]:
    """For each tensor that may be moved the indices over its axes, one each, wherever it is written."""
    found: dict[str, tuple[str, ...]] = {}
    others = {read.tensor for line in lines for read in line.unproved}
    for line in lines:
        tensor, bare = line.target.tensor, line.written.bare
        names = tuple(name for name in bare if name is not None)
        plain = len(names) == len(bare) == len({*names})
        if tensor in movable and (not plain or found.setdefault(tensor, names) != names):
            others.add(tensor)
    return {t: names for t, names in found.items() if t not in others and len(names) > 1}


def _batch_behind(line: Line) -> tuple[frozenset[str], frozenset[str]]:
    """Of a line that is a contraction if its target lies otherwise: the indices that tell its matrices apart
    and stand behind these, and the matrices' own.
    """
    none = frozenset[str](), frozenset[str]()
    sides = [s for s in map(walk.indices_of, factors(line.statement.value)) if s & line.reduced]
    names = [name for name in line.written.bare if name is not None]
    if len(sides) < 2 or roles(line) is not None:
        return none
    both = frozenset.intersection(*sides)
    inside = frozenset(names) - both
    order = _with_before(names, both, inside)
    places = tuple(line.target.subscripts[axis] for axis in order)
    target = replace(line.target, subscripts=places)
    if roles(replace(line, statement=replace(line.statement, target=target))) is None:
        return none
    first = min(names.index(i) for i in inside)
    return frozenset(i for i in names[first:] if i in both), inside


def _few_behind(
    line: Line, lines: Iterable[Line], named: Collection[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Of the target's axes those behind the last long one that take few values; and that one, if all that is
    not to be moved lies along it, wherever the target is written or read.
    """
    none = frozenset[str](), frozenset[str]()
    names = [name for name in line.written.bare if name is not None]
    long = [name for name in names if not 0 < few_values(line, name) <= SMALL]
    if line.target.tensor not in named or not long or names[-1] == long[-1]:
        return none
    lanes = long[-1]
    using = [
        x for x in lines if line.target.tensor in (x.target.tensor, *(r.tensor for r in x.reads()))
    ]
    beside = [
        one
        for x in using
        for one in (x.written, *x.read)
        if lanes in one.indices and one.tensor not in named
    ]
    if not beside or not all(lanes in one.along or lanes in one.near for one in beside):
        return none
    return frozenset(names[names.index(lanes) :]) - {lanes}, frozenset({lanes})


def _with_before(names: Sequence[str], batch: Collection[str], inside: Collection[str]) -> Order:
    """The axes, those of the batch before the first that goes inside."""
    first = min((axis for axis, name in enumerate(names) if name in inside), default=len(names))
    late = [axis for axis in range(first, len(names)) if names[axis] in batch]
    rest = [axis for axis in range(first, len(names)) if axis not in late]
    return (*range(first), *late, *rest)
