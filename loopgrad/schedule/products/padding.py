"""Guards that keep a read in range become zeros around what is read.

    y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X

is a contraction over all n and p where x has a zero on either side: a copy, small beside the products.
Zero times what is no finite number is not zero: so `k` is looked at, and where it is not finite the
literal loops run. Conditions that hold at all sizes are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
from loopgrad.schedule.limits import conditions, fitting, is_natural, is_there, limits
from loopgrad.schedule.lines import Bounds, Line, stays_within
from loopgrad.schedule.sums.sides import factors, multiplied
from loopgrad.schedule.tree import Border

_ONE = constant(1)


@dataclass(frozen=True, slots=True)
class Axis:
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
            axes = self.axes_of(read, line, formulas)
            if axes is not None:
                others = [part for part in parts if part is not read]
                return self._padded(line, read, axes, others)
        return None

    def axes_of(
        self, read: Read, line: Line, formulas: Sequence[Polynomial]
    ) -> dict[int, Axis] | None:
        """The axes that the conditions speak of, none of anything else; without those that hold."""
        found: dict[int, Axis] = {}
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
                found[axis] = Axis(value, first, add(last, _ONE), below, above)
        return None if rest else found

    def _padded(
        self, line: Line, read: Read, axes: Mapping[int, Axis], others: Sequence[Expression]
    ) -> tuple[tuple[Line, ...], Line] | None:
        whole = replace(line.statement, guard=None)
        if not axes:
            return (), replace(line, statement=whole)
        if not self.is_copied_whole(read, axes, line):
            return None
        before: list[Line] = []
        if others:
            looked = self.looked_at(multiplied(others), line)
            if looked is None:
                return None
            before += looked
        copied, copying = self.copy(read, axes)
        before += copying
        value = multiplied([copied, *others])
        return tuple(before), replace(line, statement=replace(whole, value=value))

    def borders(self, side: Expression) -> tuple[Border, ...]:
        """Where a side is zero, as its factors are copies that have zeros around them."""
        return tuple(
            Border(factor.subscripts[axis], *bounds)
            for factor in factors(side)
            if isinstance(factor, Read)
            for axis, bounds in self.inside.get(factor.tensor, {}).items()
        )

    def is_copied_whole(self, read: Read, axes: Collection[int], line: Line) -> bool:
        """Is all that is copied needed, of axes beside these? No gathers, and no single row of a matrix."""
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

    def copy(
        self,
        read: Read,
        axes: Mapping[int, Axis],
        around: Sequence[Range] = (),
        turns: Expression | None = None,
    ) -> tuple[Read, tuple[Line, ...]]:
        """What stands for the read, and the line that makes the copy; none where there is one already.

        around: of loops around, whose every turn copies what it reads, where `turns` holds: a place of each
        axis that they subscript, all of the others.
        """
        turning = {r.index for r in around}
        fixed = {i: s for i, s in enumerate(read.subscripts) if walk.indices_of(s) & turning}
        kept = [i for i in range(len(read.subscripts)) if i not in fixed]
        own = tuple(Index(r.index) for r in around)
        places = tuple(
            to_expression(subtract(axes[i].subscript, axes[i].least))
            if i in axes
            else read.subscripts[i]
            for i in kept
        )
        key = read.tensor, tuple((i, axes[i].key) for i in sorted(axes)), (*fixed.items(),), turns
        if key in self.copies:
            return Read(self.copies[key], (*own, *places)), ()
        old = self.context.tensors[read.tensor].extents
        inner = tuple(
            as_extent(subtract(axes[i].end, axes[i].least)) if i in axes else old[i] for i in kept
        )
        outer = tuple(r.upper for r in around if r.upper is not None)
        name = self.context.temporary(f"{read.tensor}.padded", (*outer, *inner))
        self.copies[key] = name
        self.inside[name] = {
            axis: _inside(axes[i], old[i])
            for axis, i in enumerate(kept, start=len(own))
            if i in axes
        }
        indices = {i: self._index_over(read, i, name, axes) for i in kept}
        inside = walk.conjunction([turns, *_within(indices, axes, old)])
        source = tuple(
            fixed[i] if i in fixed else _place(indices[i], axes.get(i)) for i in range(len(old))
        )
        assert inside is not None
        value = Conditional(inside, Read(read.tensor, source), walk.number(0.0))
        ranges = (Range(indices[i], Number(0), e) for i, e in zip(kept, inner, strict=True))
        target = Read(name, (*own, *(Index(indices[i]) for i in kept)))
        copying = Accumulate(target, Reduction.SET, value, (*around, *ranges))
        return Read(name, (*own, *places)), (Line(copying, first=True),)

    def _index_over(self, read: Read, axis: int, name: str, axes: Mapping[int, Axis]) -> str:
        """The read's own index, where that goes over all of the axis."""
        match read.subscripts[axis]:
            case Index(index) if axis not in axes:
                return index
        return self.context.name(f"{name}.{axis}")

    def looked_at(self, factor: Expression, line: Line) -> list[Line] | None:
        """Lines that fail where the factor is not finite somewhere; None where that is not known.

        0 times what is not finite is no number, and no number is not equal to itself.
        """
        factor, line = self._over_whole_axes(factor, line)
        if not stays_within(factor, line, self.context.tensors):
            needed = fitting(factor, line, self.context.tensors)
            if needed is None:
                return None
            self.context.requires.update(dict.fromkeys(needed))
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


def _inside(axis: Axis, extent: Expression) -> Bounds:
    """Where in a copy that has zeros on either side what is copied begins, and ends."""
    start = to_expression(subtract({}, axis.least))
    return start, to_expression(add(polynomial(start), polynomial(extent)))


def _place(index: str, axis: Axis | None) -> Expression:
    """Where what stands at the index in the copy comes from."""
    return Index(index) if axis is None else to_expression(add({(Index(index),): 1}, axis.least))


def _within(
    indices: Mapping[int, str], axes: Mapping[int, Axis], extents: Sequence[Expression]
) -> Iterator[Expression]:
    """The conditions under which it comes from within."""
    for i, index in indices.items():
        if i in axes and axes[i].low:
            yield walk.compare(">=", _place(index, axes[i]), Number(0))
        if i in axes and axes[i].high:
            yield walk.compare("<", _place(index, axes[i]), extents[i])


def as_extent(value: Polynomial) -> Expression:
    """Of an axis; 0 where there would be less than none."""
    expression = to_expression(value)
    if all(c >= 0 for c in value.values()) and not any(
        isinstance(atom, Apply) for monomial in value for atom in monomial
    ):
        return expression
    return walk.apply("max", expression, Number(0))
