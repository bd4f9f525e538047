"""Rows in the order of the matrices that data pick for them, and what is gathered in it; see `grouping.py`.

place = ranks of e[t];  t[place[t]] = t;  group[r] = e[t[r]]
first[group[r]] min= r;  end[group[r]] max= r + 1
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Range, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line
from loopgrad.schedule.sums.sides import multiplied
from loopgrad.schedule.tree import ZERO


@dataclass(frozen=True, slots=True)
class Picked:
    """A read, or a target, in an axis of which data tell the place.

    rows: the indices that tell which, in the line's order. whole: those of the other axes, over all of each.
    count: of the places. unproved: whether there may be none.
    """

    read: Read
    axis: int
    rows: tuple[str, ...]
    whole: tuple[str, ...]
    count: Expression
    unproved: bool

    @property
    def key(self) -> Expression:
        return self.read.subscripts[self.axis]

    def at(self, place: Expression) -> Read:
        """The same at another place."""
        subscripts = list(self.read.subscripts)
        subscripts[self.axis] = place
        return replace(self.read, subscripts=tuple(subscripts))

    @property
    def first(self) -> Read:
        """The first element of what is picked."""
        found = (s if i == self.axis else ZERO for i, s in enumerate(self.read.subscripts))
        return replace(self.read, subscripts=tuple(found))


@dataclass(frozen=True, slots=True)
class Order:
    """Tensors by what they say of rows in the order of their groups.

    place: where a row is; `indices`: the values of its indices, by these; `group`, and of a group the `first`
    row and the `end` behind its last. `ranges`: of the rows' indices. `number`: of rows. `row`: an index.
    """

    place: Read
    indices: Mapping[str, str]
    group: str
    first: str
    end: str
    ranges: tuple[Range, ...]
    number: Expression
    row: str

    def at(self, e: Expression, row: str) -> Expression:
        """The expression for a row in this order."""
        known = {index: Read(name, (Index(row),)) for index, name in self.indices.items()}
        return walk.substitute(e, known)

    def ends(self, group: str) -> tuple[Read, Read]:
        """Of the group that the index names."""
        return Read(self.first, (Index(group),)), Read(self.end, (Index(group),))

    def over(self, row: str) -> Range:
        return Range(row, ZERO, self.number)


class Ordering:
    """Orders, and sides of products in them: what several lines need is made once."""

    def __init__(self, context: Context):
        self.context = context
        self.orders: dict[Hashable, Order] = {}
        self.sides: dict[Hashable, Read] = {}

    def ordered(self, line: Line, picked: Picked) -> Generator[Line, None, Order]:
        """The order of the line's rows; the lines that find it, where it is a new one."""
        ranges = tuple(r for r in line.statement.ranges if r.index in picked.rows)
        wanted = picked.key, ranges, picked.count
        order = self.orders.get(wanted)
        if order is None:
            order = self.orders[wanted] = self._new(picked, ranges)
            yield from _finding(order, picked, self.context.name("v"))
        return order

    def _new(self, picked: Picked, ranges: tuple[Range, ...]) -> Order:
        whose = next(iter(walk.reads(picked.key))).tensor
        extents = tuple(r.upper for r in ranges if r.upper is not None)
        number = reduce(lambda a, b: walk.apply("*", a, b), extents)
        place = self._integers(f"{whose}.place", extents)
        return Order(
            Read(place, tuple(Index(r.index) for r in ranges)),
            {r.index: self._integers(f"{whose}.{r.index}", (number,)) for r in ranges},
            self._integers(f"{whose}.group", (number,)),
            self._integers(f"{whose}.first", (picked.count,)),
            self._integers(f"{whose}.end", (picked.count,)),
            ranges,
            number,
            self.context.name(f"{whose}.row"),
        )

    def _integers(self, wanted: str, extents: tuple[Expression, ...]) -> str:
        name = self.context.name(wanted)
        self.context.tensors[name] = TensorFacts(name, "temporary", extents, ElementType.INT)
        return name

    def side(
        self,
        line: Line,
        parts: Sequence[Expression],
        order: Order,
        indices: Sequence[str],
        row: str,
    ) -> Generator[Line, None, Read]:
        """The side of a product, with an index for the row before these: the parts, of all rows in order."""
        whole = multiplied(parts)
        value = order.at(whole, order.row)
        wanted = value, tuple(indices)
        side = self.sides.get(wanted)
        if side is None:
            own = tuple(Range(i, *line.bounds[i]) for i in indices)
            extents = (order.number, *(line.bounds[i][1] for i in indices))
            name = self.context.temporary(f"{next(iter(walk.reads(whole))).tensor}.rows", extents)
            side = self.sides[wanted] = Read(name, tuple(map(Index, (order.row, *indices))))
            ranges = (order.over(order.row), *own)
            yield Line(Accumulate(side, Reduction.SET, value, ranges), first=True)
        return replace(side, subscripts=(Index(row), *side.subscripts[1:]))


def _finding(order: Order, picked: Picked, group: str) -> Iterator[Line]:
    checked = (picked.first,) if picked.unproved else ()
    ranks = _setting(order.place, picked.key, order.ranges)
    yield replace(ranks, ranks=picked.count, unproved=checked)
    for index, name in order.indices.items():
        # No element twice, and all of them: but that is not to be seen from the subscript.
        inverse = _setting(Read(name, (order.place,)), Index(index), order.ranges)
        yield replace(inverse, first=False)
    row, rows = Index(order.row), (order.over(order.row),)
    of_row = Read(order.group, (row,))
    yield _setting(of_row, order.at(picked.key, order.row), rows)
    first, end = order.ends(group)
    behind = walk.plus_one(row)
    for target, start, how, value in (
        (first, order.number, Reduction.MINIMUM, row),
        (end, ZERO, Reduction.MAXIMUM, behind),
    ):
        yield _setting(target, start, (Range(group, ZERO, picked.count),))
        statement = Accumulate(Read(target.tensor, (of_row,)), how, value, rows)
        yield Line(statement, integral=True)


def _setting(target: Read, value: Expression, ranges: tuple[Range, ...]) -> Line:
    return Line(Accumulate(target, Reduction.SET, value, ranges), first=True, integral=True)
