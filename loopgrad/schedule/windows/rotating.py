"""Neighbours around a ring, `u[(x+1) % X]`, without a division for each: `u[x+1] if x < X - 1 else u[x+1-X]`.

So lanes read what lies side by side, and the ends of the row are looked at there alone. What is added around
a ring, `g[(x+1) % X] += v[x]`, is taken at each place: `g[x] += v[(x-1) % X]`. A ring of a known number of
places is left as it is: its loop is written out where they are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from loopgrad.analysis.extents import difference, plus
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule import Nest, Phase, Sequence
from loopgrad.schedule.recurrences.unwinding import Place


@dataclass(frozen=True, slots=True)
class Unrolled:
    """The phase; those of its reads that are in range since others were; what extents have to be."""

    phase: Phase
    in_range: frozenset[Place] = frozenset()
    requires: tuple[Expression, ...] = ()


def without_rotations(phase: Phase, in_range: set[Place]) -> Unrolled:
    """The phase with what it reads around rings, and adds to them, so."""
    match phase:
        case Nest():
            return _of_nest(phase, in_range)
        case Sequence(body=body):
            parts = [without_rotations(each, in_range) for each in body]
            return Unrolled(
                replace(phase, body=tuple(part.phase for part in parts)),
                frozenset().union(*(part.in_range for part in parts)),
                tuple(condition for part in parts for condition in part.requires),
            )
    return Unrolled(phase)


def _of_nest(nest: Nest, in_range: set[Place]) -> Unrolled:
    rings = {
        r.index: r.upper
        for r in nest.statement.ranges
        if r.lower == Number(0) and r.upper is not None and not isinstance(r.upper, Number)
    }
    every = (nest.statement.target, *walk.statement_reads(nest.statement))
    if not any(_ring(s, rings) for one in every for s in one.subscripts):
        return Unrolled(nest)
    if any(one.subscripts and (nest.number, one) not in in_range for one in every):
        return Unrolled(nest)
    found = _Rotations(rings)
    statement = found.of_statement(nest.statement)
    if statement is None:
        return Unrolled(nest)
    reads = (statement.target, *walk.statement_reads(statement))
    known = frozenset((nest.number, one) for one in reads)
    conditions = tuple(
        walk.compare(">=", extent, Number(most)) for extent, most in found.most.items() if most > 1
    )
    return Unrolled(replace(nest, statement=statement), known, conditions)


def _ring(subscript: Expression, rings: Mapping[str, Expression]) -> tuple[str, int] | None:
    """Of `(x + 1) % X`, x being all that is below X: x and 1; `(x + X - 1) % X` is x and -1."""
    match subscript:
        case Apply("%", (inside, around)):
            for index in walk.indices_of(inside):
                if rings.get(index) == around and not any(walk.reads(inside)):
                    for turns in (Number(0), around):
                        away = difference(inside, walk.apply("+", Index(index), turns))
                        if away is not None:
                            return index, away
    return None


class _Rotations:
    """Of one statement. `most`: for each ring's extent by how many places something is away in it."""

    def __init__(self, rings: Mapping[str, Expression]):
        self.rings = rings
        self.most: dict[Expression, int] = {}

    def of_statement(self, statement: Accumulate) -> Accumulate | None:
        """The statement; None where a target is more than places around rings that each index has one of."""
        moved: dict[str, int] = {}
        places: list[Expression] = []
        for subscript in statement.target.subscripts:
            ring = _ring(subscript, self.rings)
            if ring is None:
                places.append(subscript)
                continue
            index, away = ring
            if index in moved:
                return None
            moved[index] = away
            places.append(Index(index))
        plain = [s for s in places if walk.indices_of(s) & moved.keys()]
        if len(plain) > len(moved) or (moved and statement.reduction is Reduction.SET):
            return None
        if any(walk.indices_of(b) & moved.keys() for b in walk.bounds(statement.ranges)):
            return None
        parts: list[Expression | None] = []
        for part in (statement.value, statement.guard):
            turned = None if part is None else self._taken_at(part, moved)
            if part is not None and turned is None:
                return None
            parts.append(None if turned is None else self._cut(turned))
        value, guard = parts
        assert value is not None
        target = replace(statement.target, subscripts=tuple(places))
        return replace(statement, target=target, value=value, guard=guard)

    def _taken_at(self, e: Expression, moved: Mapping[str, int]) -> Expression | None:
        """With each index that is moved so many places back; None where it is more than a place."""
        if not moved or not walk.indices_of(e) & moved.keys():
            return e
        if not isinstance(e, Read):
            if isinstance(e, Index):
                return None
            parts = [self._taken_at(part, moved) for part in walk.children(e)]
            if None in parts:
                return None
            left = iter(parts)
            return walk.rebuild(e, lambda _: next(left))  # type: ignore[arg-type,return-value]
        places = []
        for subscript in e.subscripts:
            ring = _ring(subscript, self.rings)
            if isinstance(subscript, Index):
                ring = subscript.name, 0
            if ring is None or ring[0] not in moved:
                if walk.indices_of(subscript) & moved.keys():
                    return None
                places.append(subscript)
                continue
            index, away = ring
            beside = plus(Index(index), away - moved[index])
            places.append(walk.apply("%", beside, self.rings[index]))
        return replace(e, subscripts=tuple(places))

    def _cut(self, e: Expression) -> Expression:
        """With the ends of rings apart."""
        if not isinstance(e, Read):
            return walk.rebuild(e, self._cut)
        for axis, subscript in enumerate(e.subscripts):
            ring = _ring(subscript, self.rings)
            if ring is not None:
                index, away = ring
                return self._at_end(e, axis, Index(index), away)
        return e

    def _at_end(self, read: Read, axis: int, index: Index, away: int) -> Expression:
        extent = self.rings[index.name]
        self.most[extent] = max(abs(away), self.most.get(extent, 0))
        beside = plus(index, away)

        def at(place: Expression) -> Expression:
            subscripts = (*read.subscripts[:axis], place, *read.subscripts[axis + 1 :])
            return self._cut(replace(read, subscripts=subscripts))

        if away == 0:
            return at(index)
        if away > 0:
            inside = walk.compare("<", index, plus(extent, -away))
            return Conditional(inside, at(beside), at(walk.apply("-", beside, extent)))
        inside = walk.compare(">=", index, Number(-away))
        return Conditional(inside, at(beside), at(walk.apply("+", beside, extent)))
