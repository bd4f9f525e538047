"""What windows read is computed once for each place, and not for each window that it is in.

    y[b,o,n] += w[o,i,p] * relu(x[b,i,n+p])

computes each of x as often as there are p, on the way into the product. As a tensor of its own

    x.mapped[b,i,s] = relu(x[b,i,s])
    y[b,o,n] += w[o,i,p] * x.mapped[b,i,n+p]

it is what any other convolution reads. So is what windows read around a ring, `x[b,i,(n+p-1) % X]`, unrolled:

    x.mapped[b,i,s] = x[b,i,(s-1) % X]

and what they add to around one is laid out likewise, and then added to its places:

    x.grad.mapped[b,i,n+p] += w[o,i,p] * y.grad[b,o,n]
    x.grad[b,i,(s-1) % X]  += x.grad.mapped[b,i,s]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from loopgrad.analysis.extents import polynomial, to_expression
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
from loopgrad.schedule.limits import limits
from loopgrad.schedule.lines import Line, affine_indices
from loopgrad.schedule.products.padding import as_extent
from loopgrad.schedule.sums.sides import factors, multiplied


@dataclass
class Mapped:
    """Makes such tensors. One serves all lines that read the same: `known`."""

    context: Context
    known: dict[tuple[Expression, tuple[Range, ...]], str] = field(default_factory=dict)

    def by_places(self, line: Line) -> tuple[tuple[Line, ...], Line] | None:
        """The lines that compute what windows read, and the line that reads that; None for other lines."""
        statement = line.statement
        if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or not line.reduced:
            return None
        if line.unproved or line.integral:
            return None
        before: list[Line] = []
        parts: list[Expression] = []
        for factor in factors(statement.value):
            plain = isinstance(factor, Read) and not any(map(_is_ring, factor.subscripts))
            made = None if plain else self._of(factor, line)
            if made is not None:
                factor, computing = made
                before += computing
            parts.append(factor)
        if all(part is old for part, old in zip(parts, factors(statement.value), strict=True)):
            return None
        return tuple(before), replace(line, statement=replace(statement, value=multiplied(parts)))

    def around_ring(self, line: Line) -> tuple[Line, Line, Line] | None:
        """Zeros, the line that adds to what is laid out, and the one that takes it from there to its places
        around a ring; None for other lines."""
        statement = line.statement
        if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or not line.reduced:
            return None
        if line.unproved or line.integral or statement.guard is not None or line.bounding:
            return None
        if not any(map(_is_ring, line.target.subscripts)):
            return None
        ends = zip(
            line.target.subscripts, self.context.tensors[line.target.tensor].extents, strict=True
        )
        places: list[_Place] = []
        for subscript, extent in ends:
            if not (_is_ring(subscript) or isinstance(subscript, Index)):
                return None
            name = self.context.name(subscript.name if isinstance(subscript, Index) else "s")
            place = _place(subscript, extent, name, line)
            if place is None:
                return None
            places.append(place)
        used = [i for place in places for i in walk.indices_of(place.read)]
        if len(used) != len({*used}):
            return None
        extents = tuple(place.extent for place in places)
        name = self.context.temporary(f"{line.target.tensor}.mapped", extents)
        over = tuple(Range(place.index, Number(0), place.extent) for place in places)
        at = Read(name, tuple(Index(place.index) for place in places))
        zeros = Accumulate(at, Reduction.SET, Number(0.0), over)
        laid_out = Read(name, tuple(place.read for place in places))
        adds = replace(statement, target=laid_out, reduction=Reduction.ADD)
        target = replace(line.target, subscripts=tuple(place.inside for place in places))
        takes = replace(statement, target=target, value=at, ranges=over)
        return Line(zeros, first=True), Line(adds), Line(takes, first=line.first)

    def forget(self, lines: Iterable[Line]) -> None:
        """Lines that nobody runs."""
        names = {line.target.tensor for line in lines}
        self.known = {key: name for key, name in self.known.items() if name not in names}
        for name in names:
            del self.context.tensors[name]

    def _of(self, factor: Expression, line: Line) -> tuple[Read, tuple[Line, ...]] | None:
        if any(isinstance(e, Conditional) for e in walk.subexpressions(factor)):
            return None  # where it fails there may be no such place
        found = dict(_places(factor, self.context))
        used = [i for place in found for i in affine_indices(place)]
        if not found or len(used) != len({*used}):
            return None
        places: dict[Expression, _Place] = {}
        for n, (subscript, extent) in enumerate(found.items()):
            place = None if extent is None else _place(subscript, extent, f"s{n}", line)
            if place is None:
                return None
            places[subscript] = place

        def moved(e: Expression) -> Expression:
            return places[e].inside if e in places else walk.rebuild(e, moved)

        value = moved(factor)
        inside = walk.indices_of(value)
        if not inside.isdisjoint(used) or not self.context.is_floating(value):
            return None
        ranges = [Range(i, *line.bounds[i]) for i in line.indices if i in inside]
        if any(
            r.lower != Number(0) or not all(map(walk.is_fixed, walk.bounds([r]))) for r in ranges
        ):
            return None
        ranges += [Range(place.index, Number(0), place.extent) for place in places.values()]
        if line.statement.guard is not None and not self._is_there(value, ranges):
            return None
        return self._tensor(value, tuple(ranges), {p.index: p.read for p in places.values()})

    def _is_there(self, value: Expression, ranges: Iterable[Range]) -> bool:
        """Is all of it in range, for all values of the indices? The line's guard may have seen to that."""
        ends = {r.index: r.upper for r in ranges}
        return all(
            isinstance(subscript, Index) and ends[subscript.name] == extent
            for read in walk.reads(value)
            for subscript, extent in zip(
                read.subscripts, self.context.tensors[read.tensor].extents, strict=True
            )
        )

    def _tensor(
        self, value: Expression, ranges: tuple[Range, ...], back: dict[str, Expression]
    ) -> tuple[Read, tuple[Line, ...]]:
        read = tuple(back.get(r.index, Index(r.index)) for r in ranges)
        if (value, ranges) in self.known:
            return Read(self.known[value, ranges], read), ()
        own = {r.index: self.context.name(r.index) for r in ranges if r.index in back}
        indices: dict[str, Expression] = {i: Index(name) for i, name in own.items()}
        tensor = next(iter(walk.reads(value))).tensor
        extents = tuple(r.upper for r in ranges if r.upper is not None)
        name = self.context.temporary(f"{tensor}.mapped", extents)
        target = Read(name, tuple(indices.get(r.index, Index(r.index)) for r in ranges))
        over = tuple(replace(r, index=own.get(r.index, r.index)) for r in ranges)
        computes = Accumulate(target, Reduction.SET, walk.substitute(value, indices), over)
        computing = Line(computes, first=True)
        self.known[value, ranges] = name
        return Read(name, read), (computing,)


@dataclass(frozen=True, slots=True)
class _Place:
    """A subscript of several indices: the index of a tensor over its values, `extent` of them; what the
    subscript is at one, and where that is in the tensor."""

    index: str
    extent: Expression
    inside: Expression
    read: Expression


def _place(subscript: Expression, extent: Expression, index: str, line: Line) -> _Place | None:
    match subscript:
        case Apply("%", (along, around)) if _is_ring(subscript):
            value = polynomial(along)
            ends = limits(value, line.bounds)
            if ends is None:
                return None
            least, greatest = ends
            count = as_extent(add(subtract(greatest, least), constant(1)))
            turned = walk.apply("%", to_expression(add({(Index(index),): 1}, least)), around)
            read = to_expression(subtract(value, least))
            return _Place(index, count, turned, read)
    return _Place(index, extent, Index(index), subscript)


def _is_ring(subscript: Expression) -> bool:
    match subscript:
        case Apply("%", (along, around)):
            return len(affine_indices(along)) > 1 and walk.is_fixed(around)
    return False


def _places(factor: Expression, context: Context) -> Iterator[tuple[Expression, Expression | None]]:
    """The subscripts of several indices, each with the extent of its axis; None where there are two."""
    found: dict[Expression, Expression | None] = {}
    for read in walk.reads(factor):
        extents = context.tensors[read.tensor].extents
        for subscript, extent in zip(read.subscripts, extents, strict=True):
            if len(affine_indices(subscript)) > 1:
                known = found.setdefault(subscript, extent)
                found[subscript] = extent if known == extent else None
    yield from found.items()
