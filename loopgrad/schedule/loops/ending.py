"""Ranges that data end, `u < len[b]`, are looked at once, before all others.

Where each `len[b]` lies within the axes that u goes over, nothing that is read there is out of range: so no
read has to be checked, and sums are products, for each b of what it has (`products/contractions.py`). Where
one does not, the literal loops run, which say so, or do what guards and empty ranges leave of it. (Statements
whose ends may not be there themselves, as those of `u < len[w[b]]`, are literal: `fusing.py`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import is_there_always
from loopgrad.schedule.lines import Bounds, Line
from loopgrad.schedule.products.contractions import roles


@dataclass(frozen=True, slots=True)
class _Look:
    """A condition, the loops in which it has to hold, and whether there are any others around it."""

    condition: Expression
    ranges: tuple[Range, ...]
    guard: Expression | None


@dataclass
class Ends:
    """Lines with ranges that data end within what these go over; and what looks whether they do."""

    context: Context
    looked: dict[_Look, None] = field(default_factory=dict)

    def in_products(self, lines: Sequence[Line]) -> list[Line]:
        """The lines so, where one of them is a product by that; else as they are, looked at read by read."""
        before = dict(self.looked)
        changed = list(map(self.within, lines))
        pairs = zip(changed, lines, strict=True)
        if any(new is not old and _is_product(new) for new, old in pairs):
            return changed
        self.looked = before
        return list(lines)

    def within(self, line: Line) -> Line:
        """The line without the unproved reads that are in range if the ends of its ranges are."""
        if not line.unproved or line.stands_alone:
            return line
        extents = self._extents(line)
        ends = [r for r in line.statement.ranges if r.index in extents]
        if not ends or not all(self._is_known(r, line) for r in ends):
            return line
        whole = _with(line, {index: (Number(0), extent) for index, extent in extents.items()})
        guard = line.statement.guard
        data = {read.tensor for r in ends for read in _data(line.bounds[r.index])}
        if guard is not None and data & set(walk.tensors_in(guard)):
            return line  # which may say where they end
        tensors = self.context.tensors
        left = tuple(r for r in line.unproved if not is_there_always(r, whole, tensors))
        for r in ends:
            self._look(r, line, extents[r.index])
        clipped = {i: _clipped(line.bounds[i], extent) for i, extent in extents.items()}
        return replace(_with(line, clipped), unproved=left)

    def _extents(self, line: Line) -> dict[str, Expression]:
        """Of each index whose range data end the extent of the axes that it goes over by itself."""
        found: dict[str, Expression] = {}
        for index, bounds in line.bounds.items():
            if not any(_data(bounds)):
                continue
            sizes = {
                extent
                for read in line.unproved
                for subscript, extent in zip(
                    read.subscripts, self.context.tensors[read.tensor].extents, strict=True
                )
                if subscript == Index(index)
            }
            if len(sizes) == 1:
                found[index] = sizes.pop()
        return found

    def _is_known(self, r: Range, line: Line) -> bool:
        """Do inputs alone say where the range ends?"""
        tensors = self.context.tensors
        return all(tensors[read.tensor].role == "input" for read in _data(line.bounds[r.index]))

    def _look(self, r: Range, line: Line, extent: Expression) -> None:
        """Has it looked at whether the range goes beyond."""
        lower, upper = line.bounds[r.index]
        conditions = []
        if any(walk.reads(lower)):
            conditions.append(walk.compare("<=", Number(0), lower))
        if any(walk.reads(upper)):
            conditions.append(walk.compare("<=", upper, extent))
        for condition in conditions:
            self.looked[_Look(condition, *_around(condition, r, line))] = None

    @property
    def lines(self) -> tuple[Line, ...]:
        """Those that fail where a range goes beyond: they run before all others."""
        return tuple(line for what in self.looked for line in self._looking(what))

    def _looking(self, what: _Look) -> tuple[Line, Line]:
        beyond = Read(self.context.temporary("beyond", ()), ())
        within = self.context.temporary("within", (Number(1),))
        value = Conditional(what.condition, walk.number(0.0), walk.number(1.0))
        count = Accumulate(beyond, Reduction.ADD, value, what.ranges, what.guard)
        none = walk.compare("==", beyond, walk.number(0.0))
        place = Read(within, (Conditional(none, Number(0), Number(1)),))
        failing = Accumulate(place, Reduction.SET, beyond, ())
        return Line(count, first=True), Line(failing, (place,), first=True)


def _is_product(line: Line) -> bool:
    """Is it one, or with what a guard leaves taken from it?"""
    return roles(replace(line, statement=replace(line.statement, guard=None))) is not None


def _data(bounds: Iterable[Expression | None]) -> Iterator[Read]:
    return (read for bound in bounds if bound is not None for read in walk.reads(bound))


def _around(
    condition: Expression, end: Range, line: Line
) -> tuple[tuple[Range, ...], Expression | None]:
    """The loops around the range that the condition hangs on, and that those outside of it turn at all: where
    there are none, nothing need be where the condition looks."""
    outer = {r.index: r for r in line.statement.ranges[: line.indices.index(end.index)]}
    loops = {i for i in outer if line.bound_by[i] or any(_data(line.bounds[i]))}
    loops |= walk.indices_of(condition)
    while not loops >= (more := frozenset().union(*(line.bound_by[i] for i in loops))):
        loops |= more
    turns = (walk.compare("<", *line.bounds[i]) for i in outer if i not in loops)
    return tuple(r for i, r in outer.items() if i in loops), walk.conjunction(turns)


def _clipped(bounds: Bounds, extent: Expression) -> Bounds:
    """The bounds within the axis: what code sees to without a look at the data."""
    lower, upper = bounds
    if any(walk.reads(lower)):
        lower = walk.apply("max", lower, Number(0))
    if any(walk.reads(upper)):
        upper = walk.apply("min", upper, extent)
    return lower, upper


def _with(line: Line, bounds: dict[str, Bounds]) -> Line:
    ranges = tuple(
        replace(r, lower=bounds[r.index][0], upper=bounds[r.index][1]) if r.index in bounds else r
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))
