"""Guards that keep a read in range become zeros around what is read.

    y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X

is a contraction over all n and p where x has a zero on either side: a copy, small beside the products.
Zero times what is no finite number is not zero: so `k` is looked at, and where it is not finite the
literal loops run. Conditions that hold at all sizes are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import conditions, is_natural, is_there, limits
from loopgrad.schedule.lines import Bounds, Line, stays_within
from loopgrad.schedule.sums.sides import factors, multiplied
from loopgrad.schedule.tree import Border

_ONE = constant(1)


@dataclass(frozen=True, slots=True)
class _Axis:
    """A subscript, from `least` on and below `end`; and which sides of its axis are guarded."""

    subscript: Polynomial
    least: Polynomial
    end: Polynomial
    low: bool
    high: bool

    @property
    def key(self) -> object:
        return tuple(self.least.items()), tuple(self.end.items()), self.low, self.high


@dataclass
class Padding:
    """Takes guards from lines. What it has copied, or looked at, serves all of them.

    names: of indices over whole axes, in place of those whose ends hang on others.
    """

    context: Context
    copies: dict[object, str] = field(default_factory=dict)
    inside: dict[str, Mapping[int, Bounds]] = field(default_factory=dict)  # of copies: where x is
    finite: set[object] = field(default_factory=set)
    names: dict[tuple[str, Expression], str] = field(default_factory=dict)

    def without_guard(self, line: Line) -> tuple[tuple[Line, ...], Line] | None:
        """What has to run before, and the line without its guard; None where that is not possible."""
        statement = line.statement
        sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
        if statement.guard is None or not sums or not line.reduced or line.unproved:
            return None
        formulas = conditions(statement.guard)
        extents = self.context.tensors[line.target.tensor].extents
        if formulas is None:
            return None
        if not is_there(line.target, statement.guard, extents, line.bounds):
            return None  # a product adds 0 to what the guard leaves out
        parts = list(factors(statement.value))
        for read in parts:
            if not isinstance(read, Read):
                continue
            axes = self._axes(read, line, formulas)
            if axes is not None:
                others = [part for part in parts if part is not read]
                return self._padded(line, read, axes, others)
        return None

    def _axes(
        self, read: Read, line: Line, formulas: Sequence[Polynomial]
    ) -> dict[int, _Axis] | None:
        """The axes that the conditions speak of, none of anything else; without those that hold."""
        found: dict[int, _Axis] = {}
        rest = list(formulas)
        for axis, (subscript, extent) in enumerate(
            zip(read.subscripts, self.context.tensors[read.tensor].extents, strict=True)
        ):
            value, end = polynomial(subscript), polynomial(extent)
            low, high = value, subtract(subtract(end, value), _ONE)
            guarded = low in rest, high in rest
            if not any(guarded):
                continue
            rest = [c for c in rest if c not in (low, high)]
            ends = limits(value, line.bounds)
            if ends is None:
                return None
            least, greatest = ends
            below = guarded[0] and not is_natural(least)
            above = guarded[1] and not is_natural(subtract(subtract(end, greatest), _ONE))
            if below or above:
                last = greatest if above else subtract(end, _ONE)
                first = least if below else {}
                found[axis] = _Axis(value, first, add(last, _ONE), below, above)
        return None if rest else found

    def _padded(
        self, line: Line, read: Read, axes: Mapping[int, _Axis], others: Sequence[Expression]
    ) -> tuple[tuple[Line, ...], Line] | None:
        whole = replace(line.statement, guard=None)
        if not axes:
            return (), replace(line, statement=whole)
        if not self._is_copied_whole(read, axes, line):
            return None
        before: list[Line] = []
        if others:
            looked = self.looked_at(multiplied(others), line)
            if looked is None:
                return None
            before += looked
        name, copying = self._copy(read, axes)
        before += copying
        subscripts = tuple(
            to_expression(subtract(axes[i].subscript, axes[i].least)) if i in axes else s
            for i, s in enumerate(read.subscripts)
        )
        value = multiplied([Read(name, subscripts), *others])
        return tuple(before), replace(line, statement=replace(whole, value=value))

    def borders(self, side: Expression) -> tuple[Border, ...]:
        """Where a side is zero, as its factors are copies that have zeros around them."""
        return tuple(
            Border(factor.subscripts[axis], *bounds)
            for factor in factors(side)
            if isinstance(factor, Read)
            for axis, bounds in self.inside.get(factor.tensor, {}).items()
        )

    def _is_copied_whole(self, read: Read, axes: Mapping[int, _Axis], line: Line) -> bool:
        """Is all that is copied needed? No gathers, and no single row of a matrix."""
        extents = self.context.tensors[read.tensor].extents
        for i, (subscript, extent) in enumerate(zip(read.subscripts, extents, strict=True)):
            if subscript == Number(0) and extent == Number(1):
                continue
            if any(True for _ in walk.reads(subscript)) or not walk.indices_of(subscript):
                return False
            if i in axes:
                continue
            if isinstance(subscript, Index) and line.bounds[subscript.name] != (Number(0), extent):
                return False
        return True

    def _copy(self, read: Read, axes: Mapping[int, _Axis]) -> tuple[str, list[Line]]:
        key = read.tensor, tuple((i, axes[i].key) for i in sorted(axes))
        if key in self.copies:
            return self.copies[key], []
        old = self.context.tensors[read.tensor].extents
        starts = {i: to_expression(subtract({}, axis.least)) for i, axis in axes.items()}
        extents = tuple(
            _extent(subtract(axes[i].end, axes[i].least)) if i in axes else e
            for i, e in enumerate(old)
        )
        name = self.context.temporary(f"{read.tensor}.padded", extents)
        self.copies[key] = name
        self.inside[name] = {
            i: (start, to_expression(add(polynomial(start), polynomial(old[i]))))
            for i, start in starts.items()
        }
        indices: list[str] = []
        for i, subscript in enumerate(read.subscripts):
            bare = i not in axes and isinstance(subscript, Index)
            assert not bare or isinstance(subscript, Index)
            indices.append(
                subscript.name
                if isinstance(subscript, Index) and bare
                else self.context.name(f"{name}.{i}")
            )
        places, conditions = [], []
        for i, index in enumerate(indices):
            place: Expression = Index(index)
            if i in axes:
                place = to_expression(add(polynomial(place), axes[i].least))
                if axes[i].low:
                    conditions.append(walk.compare(">=", place, Number(0)))
                if axes[i].high:
                    conditions.append(walk.compare("<", place, old[i]))
            places.append(place)
        inside = walk.conjunction(conditions)
        assert inside is not None
        value = Conditional(inside, Read(read.tensor, tuple(places)), walk.number(0.0))
        ranges = tuple(Range(i, Number(0), e) for i, e in zip(indices, extents, strict=True))
        target = Read(name, tuple(map(Index, indices)))
        return name, [Line(Accumulate(target, Reduction.SET, value, ranges), first=True)]

    def looked_at(self, factor: Expression, line: Line) -> list[Line] | None:
        """Lines that fail where the factor is not finite somewhere; None where that is not known.

        0 times what is not finite is no number, and no number is not equal to itself.
        """
        factor, line = self._over_whole_axes(factor, line)
        if not stays_within(factor, line, self.context.tensors):
            return None
        indices = [i for i in line.indices if i in walk.indices_of(factor)]
        key = factor, tuple((i, line.bounds[i]) for i in indices)
        if key in self.finite:
            return []
        self.finite.add(key)
        sums = self.context.temporary("zeros", ())
        seen = self.context.temporary("finite", (Number(1),))
        total = Read(sums, ())
        ranges = tuple(Range(i, *line.bounds[i]) for i in indices)
        value = walk.apply("*", factor, walk.number(0.0))
        adding = Line(Accumulate(total, Reduction.ADD, value, ranges), first=True)
        same = walk.compare("==", total, total)
        place = Read(seen, (Conditional(same, Number(0), Number(1)),))
        checking = Line(Accumulate(place, Reduction.SET, total, ()), (place,), first=True)
        return [adding, checking]

    def _over_whole_axes(self, factor: Expression, line: Line) -> tuple[Expression, Line]:
        """With indices over whole axes, for all rows, in place of those whose ends hang on the row."""
        ranges = {r.index: r for r in line.statement.ranges}
        tensors, names = self.context.tensors, dict[str, Expression]()
        for read in walk.reads(factor):
            for subscript, extent in zip(
                read.subscripts, tensors[read.tensor].extents, strict=True
            ):
                if isinstance(subscript, Index) and line.bound_by[subscript.name]:
                    name = self._name_of(subscript.name, extent)
                    names[subscript.name] = Index(name)
                    ranges[subscript.name] = Range(name, Number(0), extent)
        statement = replace(line.statement, ranges=tuple(ranges.values()))
        return walk.substitute(factor, names), replace(line, statement=statement)

    def _name_of(self, index: str, extent: Expression) -> str:
        key = index, extent
        if key not in self.names:
            self.names[key] = self.context.name(index)
        return self.names[key]


def _extent(value: Polynomial) -> Expression:
    """Of an axis; 0 where there would be less than none."""
    expression = to_expression(value)
    if all(c >= 0 for c in value.values()) and not any(
        isinstance(atom, Apply) for monomial in value for atom in monomial
    ):
        return expression
    return walk.apply("max", expression, Number(0))
