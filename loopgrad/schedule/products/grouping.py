"""Sums with matrices that data pick: rows are put in the order of their matrices, and each has a product.

    for t, o, i:  y[t,o] += x[t,i] * W[e[t],i,o]

reads a matrix for each row t. With the rows of one matrix behind each other, from `first` to `end`, it is a
product for each matrix:

    for r, i:                              x.rows[r,i] = x[t[r],i]
    for v < V, first[v] <= r < end[v]:     product:  W.part[r,o] = x.rows[r,i] * W[v,i,o]
    for t, o:                              y[t,o] += W.part[place[t],o]

and so is what rows add to matrices that data pick, `W.grad[e[t],i,o] += x[t,i] * g[t,o]`:

    for v < V, first[v] <= r < end[v]:     product:  W.grad[v,i,o] += x.rows[r,i] * g.rows[r,o]

Rows of one matrix keep their order, so that a sum has its terms in the same order for any number of threads.
A row whose matrix does not exist is found when it is ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Number, Range, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import USUAL, Line, Roles, Runs, few_values
from loopgrad.schedule.products.ordering import Order, Ordering, Picked
from loopgrad.schedule.products.spreading import apart_by_guard
from loopgrad.schedule.sums.sides import factors, multiplied
from loopgrad.schedule.tree import ZERO

Find = Callable[[Line], Roles | None]
Indices = Sequence[str]

# Elements of a matrix up to which it is in a register, or two, or near: rows then go to it as they come.
SMALL = 64

ROW = " "  # an index that stands for that of the rows, and a tensor for any


@dataclass(frozen=True, slots=True)
class _Multiplied:
    """A product of rows with matrices that data pick: what is multiplied with these, and the indices of the
    left side and of the target behind that of the row."""

    left: tuple[Expression, ...]
    on_left: tuple[str, ...]
    kept: tuple[str, ...]
    k: tuple[str, ...]
    roles: Roles


@dataclass(frozen=True, slots=True)
class _Added:
    """A product that is added to matrices that data pick: both sides, their indices behind that of the row,
    and those that are summed over besides."""

    left: tuple[Expression, ...]
    right: tuple[Expression, ...]
    on_left: tuple[str, ...]
    on_right: tuple[str, ...]
    summed: tuple[str, ...]
    roles: Roles


class Grouping:
    """Takes lines apart.

    lines: all there are. roles: of a contraction. requires: what has to hold of extents then.
    """

    def __init__(self, context: Context, lines: Sequence[Line], roles: Find):
        self.context, self.lines, self.roles = context, lines, roles
        self.ordering = Ordering(context)
        self.requires: dict[Expression, None] = {}

    def by_group(self, line: Line) -> tuple[Line, ...]:
        """The line as a product for each group of its rows, behind what that needs; none where it is none."""
        if not self._is_plain(line):
            return ()
        if line.statement.guard is not None:
            return self._guarded(line)
        parts = list(factors(line.statement.value))
        picked = self._picked(line.target, line)
        if picked is not None:
            adding = self._adding(line, picked, parts)
            return () if adding is None else tuple(self._added(line, picked, adding))
        for i, part in enumerate(parts):
            picked = self._picked(part, line)
            if picked is not None:
                others = [*parts[:i], *parts[i + 1 :]]
                multiplying = self._multiplying(line, picked, others)
                if multiplying is not None:
                    return tuple(self._multiplied(line, picked, others, multiplying))
        return ()

    def _guarded(self, line: Line) -> tuple[Line, ...]:
        """The same of the sum without a guard on what is kept of it, and what the guard lets through.

        Not of one on rows alone, `if seen[t]`: those left out may well pick what is not there.
        """
        found = apart_by_guard(line, self.context) if not self._may_protect(line) else None
        if found is None:
            return ()
        inner, taken = found
        parts = self.by_group(inner)
        if not parts:
            del self.context.tensors[inner.target.tensor]
            return ()
        return (*parts, taken)

    def _may_protect(self, line: Line) -> bool:
        picking = [
            walk.indices_of(subscript)
            for read in line.unproved
            for subscript in read.subscripts
            if any(True for _ in walk.reads(subscript))
        ]
        guards = map(walk.indices_of, walk.conjuncts(line.statement.guard))
        return any(guard <= rows for guard in guards for rows in picking)

    def _is_plain(self, line: Line) -> bool:
        statement = line.statement
        if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
            return False
        if line.roles or line.integral or line.stands_alone or line.bounding:
            return False
        known = (
            lower == ZERO and not any(True for _ in walk.reads(upper))
            for lower, upper in line.bounds.values()
        )
        return all(known) and self.context.is_floating(statement.value)

    def _picked(self, e: Expression, line: Line) -> Picked | None:
        """What is picked, if it is a matrix, or more, and nothing else may be out of range."""
        if not isinstance(e, Read) or not {*line.unproved} <= {e}:
            return None
        axes = [i for i, s in enumerate(e.subscripts) if any(True for _ in walk.reads(s))]
        if len(axes) != 1:
            return None
        (axis,) = axes
        telling = walk.indices_of(e.subscripts[axis])
        whole: list[str] = []
        extents = self.context.tensors[e.tensor].extents
        for i, (subscript, extent) in enumerate(zip(e.subscripts, extents, strict=True)):
            if i != axis:
                if not isinstance(subscript, Index) or line.bounds[subscript.name][1] != extent:
                    return None
                whole.append(subscript.name)
        if not telling or len({*whole} - telling) < max(len(whole), 2):
            return None
        if 0 < prod(few_values(line, i) for i in whole) <= SMALL:
            return None
        rows = _some(line, telling)
        return Picked(e, axis, rows, tuple(whole), extents[axis], bool(line.unproved))

    def _roles_of(self, line: Line, target: Indices, left: Indices, right: Indices) -> Roles | None:
        """Of a product of tensors with these indices, of which ROW is that of the rows."""
        value = walk.apply("*", *(Read(ROW, tuple(map(Index, side))) for side in (left, right)))
        others = _some(line, {*target, *left, *right})
        ranges = (Range(ROW, ZERO, Number(USUAL)), *_ranges(line, others))
        whole = Read(ROW, tuple(map(Index, target)))
        return self.roles(Line(Accumulate(whole, Reduction.ADD, value, ranges), first=True))

    # ------------------------------------------------------------------------ rows with matrices

    def _multiplying(
        self, line: Line, picked: Picked, parts: Sequence[Expression]
    ) -> _Multiplied | None:
        """The sum over all that can be summed of the matrices; or over one of their indices."""
        summed = tuple(i for i in picked.whole if i in line.reduced)
        for k in (summed, *((i,) for i in summed if len(summed) > 1)):
            left = tuple(f for f in parts if not walk.indices_of(f).isdisjoint(k))
            columns = [i for i in picked.whole if i not in k]
            if not left or not columns:
                continue
            inside = frozenset().union(*map(walk.indices_of, left))
            others = _some(line, inside - {*picked.rows, *k, *columns})
            if not {*others} <= line.kept:
                continue  # what is made of all of them may be much more than there is
            batch = [i for i in columns if i in inside]
            n = sorted((i for i in columns if i not in inside), key=lambda i: _axis(line, i))
            kept, on_left = (*batch, *others, *n), (*batch, *others, *k)
            found = self._roles_of(line, (ROW, *kept), (ROW, *on_left), (*columns, *k))
            if found is not None:
                return _Multiplied(left, on_left, kept, k, found)
        return None

    def _multiplied(
        self, line: Line, picked: Picked, parts: Sequence[Expression], found: _Multiplied
    ) -> Iterator[Line]:
        order = yield from self.ordering.ordered(line, picked)
        row, group = self.context.name(f"{order.row}.m"), self.context.name("v")
        left = yield from self.ordering.side(line, found.left, order, found.on_left, row)
        extents = (order.number, *(line.bounds[i][1] for i in found.kept))
        part = self.context.temporary(f"{picked.read.tensor}.part", extents)
        target = Read(part, tuple(map(Index, (row, *found.kept))))
        right = picked.at(Read(order.group, (Index(row),)))
        ranges = (order.over(row), *_ranges(line, (*found.kept, *found.k)))
        runs = Runs(group, picked.count, *order.ends(group), picked.at(Index(group)))
        roles = replace(
            found.roles, left=left, right=right, m=_named(found.roles.m, row), runs=runs
        )
        value = walk.apply("*", left, right)
        yield Line(Accumulate(target, Reduction.ADD, value, ranges), first=True, roles=roles)
        yield self._taken(line, parts, found, target, order)

    def _taken(
        self,
        line: Line,
        parts: Sequence[Expression],
        found: _Multiplied,
        target: Read,
        order: Order,
    ) -> Line:
        """The line with what was multiplied, from where its row is."""
        rest = [f for f in parts if f not in found.left]
        if rest:  # of nothing the sum is 0, whatever the factors are
            self.requires.update((walk.compare("<", *line.bounds[i]), None) for i in found.k)
        taken = replace(target, subscripts=(order.place, *target.subscripts[1:]))
        ranges = tuple(r for r in line.statement.ranges if r.index not in found.k)
        statement = replace(line.statement, value=multiplied([*rest, taken]), ranges=ranges)
        return replace(line, statement=statement, unproved=())

    # ------------------------------------------------------------------------- into matrices

    def _adding(self, line: Line, picked: Picked, parts: Sequence[Expression]) -> _Added | None:
        last = picked.whole[-1]
        if line.target.subscripts[-1] != Index(last):
            return None
        left = tuple(f for f in parts if last not in walk.indices_of(f))
        right = tuple(f for f in parts if last in walk.indices_of(f))
        on_left, on_right = (
            frozenset().union(*map(walk.indices_of, side)) for side in (left, right)
        )
        summed = _some(line, line.reduced - {*picked.rows})
        if not left or not right or not {*summed} <= on_left & on_right:
            return None
        m, n = (_some(line, side.intersection(picked.whole)) for side in (on_left, on_right))
        one, other = (*summed, *m), (*summed, *n)
        found = self._roles_of(line, picked.whole, (ROW, *one), (ROW, *other))
        return None if found is None else _Added(left, right, one, other, summed, found)

    def _added(self, line: Line, picked: Picked, found: _Added) -> Iterator[Line]:
        order = yield from self.ordering.ordered(line, picked)
        row, group = self.context.name(f"{order.row}.k"), self._group_of(picked)
        left = yield from self.ordering.side(line, found.left, order, found.on_left, row)
        right = yield from self.ordering.side(line, found.right, order, found.on_right, row)
        first, end = order.ends(group)
        own = Range(row, walk.apply("max", first, ZERO), walk.apply("min", end, order.number))
        statement = replace(
            line.statement,
            target=picked.at(Index(group)),
            value=walk.apply("*", left, right),
            ranges=(
                Range(group, ZERO, picked.count),
                *_ranges(line, picked.whole),
                own,
                *_ranges(line, found.summed),
            ),
        )
        roles = replace(
            found.roles,
            left=left,
            right=right,
            batch=(group, *found.roles.batch),
            k=_named(found.roles.k, row),
        )
        yield replace(line, statement=statement, unproved=(), roles=roles)

    def _group_of(self, picked: Picked) -> str:
        """An index over the matrices: that of the line that they start from, if there is one."""
        for line in self.lines:
            if line.written.tensor == picked.read.tensor:
                index = line.written.bare[picked.axis]
                if index is not None and line.bounds[index] == (ZERO, picked.count):
                    return index
        return self.context.name("v")


def _named(indices: Indices, row: str) -> tuple[str, ...]:
    return tuple(row if i == ROW else i for i in indices)


def _some(line: Line, wanted: Collection[str]) -> tuple[str, ...]:
    return tuple(i for i in line.indices if i in wanted)


def _ranges(line: Line, indices: Indices) -> tuple[Range, ...]:
    return tuple(Range(i, *line.bounds[i]) for i in indices)


def _axis(line: Line, index: str) -> int:
    """The axis of the line's target that it goes over; before all where it is summed."""
    return next((i for i, inside in enumerate(line.written.axes) if index in inside), -1)
