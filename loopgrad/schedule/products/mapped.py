"""What windows read is computed once for each place, and not for each window that it is in.

    y[b,o,n] += w[o,i,p] * relu(x[b,i,n+p])

computes each of x as often as there are p, on the way into the product. As a tensor of its own

    x.mapped[b,i,s] = relu(x[b,i,s])
    y[b,o,n] += w[o,i,p] * x.mapped[b,i,n+p]

it is what any other convolution reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from loopgrad.schedule.lines import Line, affine_indices
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
            made = None if isinstance(factor, Read) else self._of(factor, line)
            if made is not None:
                factor, computing = made
                before += computing
            parts.append(factor)
        if all(part is old for part, old in zip(parts, factors(statement.value), strict=True)):
            return None
        return tuple(before), replace(line, statement=replace(statement, value=multiplied(parts)))

    def forget(self, lines: Iterable[Line]) -> None:
        """Lines that nobody runs."""
        names = {line.target.tensor for line in lines}
        self.known = {key: name for key, name in self.known.items() if name not in names}
        for name in names:
            del self.context.tensors[name]

    def _of(self, factor: Expression, line: Line) -> tuple[Read, tuple[Line, ...]] | None:
        if any(isinstance(e, Conditional) for e in walk.subexpressions(factor)):
            return None  # where it fails there may be no such place
        places = dict(_places(factor, self.context))
        used = [i for place in places for i in affine_indices(place)]
        if not places or None in places.values() or len(used) != len({*used}):
            return None
        names = {place: f"s{n}" for n, place in enumerate(places)}

        def moved(e: Expression) -> Expression:
            return Index(names[e]) if e in names else walk.rebuild(e, moved)

        value = moved(factor)
        inside = walk.indices_of(value)
        if not inside.isdisjoint(used) or not self.context.is_floating(value):
            return None
        ranges = [Range(i, *line.bounds[i]) for i in line.indices if i in inside]
        if any(
            r.lower != Number(0) or not all(map(walk.is_fixed, walk.bounds([r]))) for r in ranges
        ):
            return None
        ranges += [Range(names[p], Number(0), extent) for p, extent in places.items()]
        if line.statement.guard is not None and not self._is_there(value, ranges):
            return None
        return self._tensor(value, tuple(ranges), names)

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
        self, value: Expression, ranges: tuple[Range, ...], names: dict[Expression, str]
    ) -> tuple[Read, tuple[Line, ...]]:
        back = {name: place for place, name in names.items()}
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
