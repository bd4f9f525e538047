"""Products whose rows data pick, or spread: rows are fetched before, or brought to their places behind.

    h[m,e] += W[e,d] * (x[nb[m],d] - x[m,d])

reads another row for each m. Fetched once, they are a matrix:

    x.rows[m,d] = x[nb[m],d] - x[m,d]
    product:  h[m,e] += W[e,d] * x.rows[m,d]

and what a product adds to rows that data pick is a matrix first:

    product:  x.grad.rows[m,d] = h.grad[m,e] * W[e,d]
    x.grad[nb[m],d] += x.grad.rows[m,d]

A row that does not exist is found when it is fetched, or brought there. What a guard on rows leaves out, as
`if k < n[m]`, is neither: 0 is in its place. Where the other loops of the sum do not run at all nothing
would have been read: there the lines run as they are written (`requires`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

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
from loopgrad.schedule.lines import Line, Roles
from loopgrad.schedule.sums.sides import factors, multiplied

Find = Callable[[Line], Roles | None]
Make = Callable[[Line, Sequence[Line]], tuple[Line, ...]]


class PickedRows:
    """Takes lines apart.

    roles: of a contraction. products: a line all of whose reads are in range as lines with a product, behind
    others that it needs; none where there is none. requires: what has to hold of extents for lines to be the
    same.
    """

    def __init__(self, context: Context, roles: Find, products: Make):
        self.context, self.roles, self.products = context, roles, products
        self.requires: dict[Expression, None] = {}

    def by_rows(self, line: Line) -> tuple[Line, ...]:
        """The line as a product with what it needs before and behind it; none where it is none."""
        statement = line.statement
        if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or not line.unproved:
            return ()
        if line.integral or line.stands_alone or line.bounding:
            return ()
        if not all(map(_is_whole, line.bounds.values())):
            return ()
        if not self.context.is_floating(statement.value):
            return ()
        if any(read in line.unproved for read in _reads(statement.guard)):
            return ()
        return self._spread(line) if line.target in line.unproved else self._fetched(line)

    def _spread(self, line: Line) -> tuple[Line, ...]:
        """A product of which data say where its rows belong."""
        statement = line.statement
        inside = [i for s in line.target.subscripts for i in _in_order(s)]
        order = tuple(dict.fromkeys(inside))
        guard = statement.guard
        if guard is not None and not walk.indices_of(guard) <= {*order}:
            return ()
        total = self._temporary(line.target.tensor, order, line)
        sums = replace(statement, target=total, reduction=Reduction.ADD)
        inner = Line(sums, tuple(r for r in line.unproved if r != line.target))
        own = tuple(r for r in statement.ranges if r.index in order)
        starts: tuple[Line, ...] = ()
        if guard is None:
            inner = replace(inner, first=True)
        else:
            starts = (Line(Accumulate(total, Reduction.SET, Number(0.0), own), first=True),)
        product = self._fetched(inner) if inner.unproved else self._made(inner, ())
        if not product:
            del self.context.tensors[total.tensor]
            return ()
        self._require(line, order)
        takes = replace(statement, value=total, ranges=own)
        return *starts, *product, replace(line, statement=takes, unproved=(line.target,))

    def _fetched(self, line: Line) -> tuple[Line, ...]:
        """A product of sides of which data pick the rows."""
        statement = line.statement
        plain = replace(line, statement=replace(statement, guard=None), unproved=())
        if self.roles(plain) is None:
            return ()
        before: list[Line] = []
        parts: list[Expression] = []
        for factor in factors(statement.value):
            own = tuple(read for read in walk.reads(factor) if read in line.unproved)
            if own:
                before.append(self._fetching(factor, own, line))
                factor = before[-1].target
            parts.append(factor)
        value = multiplied(parts)
        whole = replace(line, statement=replace(statement, value=value), unproved=())
        found = self._made(whole, before)
        if not found:
            self._forget(before)
            return ()
        for fetching in before:
            self._require(line, fetching.indices)
        return *before, *found

    def _made(self, line: Line, before: Sequence[Line]) -> tuple[Line, ...]:
        found = self.products(line, before)
        return found if any(part.roles is not None for part in found) else ()

    def _fetching(self, factor: Expression, own: tuple[Read, ...], line: Line) -> Line:
        """The line that fetches a factor, as far as what of the guard is on its rows alone lets it."""
        inside = walk.indices_of(factor)
        asked = [c for c in walk.conjuncts(line.statement.guard) if walk.indices_of(c) <= inside]
        guard = walk.conjunction(asked)
        order = tuple(i for i in line.indices if i in inside)
        rows = self._temporary(own[0].tensor, order, line)
        ranges = tuple(Range(i, *line.bounds[i]) for i in order)
        value = factor if guard is None else Conditional(guard, factor, Number(0.0))
        return Line(Accumulate(rows, Reduction.SET, value, ranges), own, first=True)

    def _forget(self, lines: Iterable[Line]) -> None:
        for line in lines:
            del self.context.tensors[line.target.tensor]

    def _temporary(self, tensor: str, order: Iterable[str], line: Line) -> Read:
        extents = tuple(line.bounds[i][1] for i in order)
        name = self.context.temporary(f"{tensor}.rows", extents)
        return Read(name, tuple(map(Index, order)))

    def _require(self, line: Line, indices: Iterable[str]) -> None:
        """That the loops over others run."""
        others = [line.bounds[i] for i in line.indices if i not in {*indices}]
        self.requires.update(dict.fromkeys(walk.compare("<", *bounds) for bounds in others))


def _reads(guard: Expression | None) -> Iterable[Read]:
    return () if guard is None else walk.reads(guard)


def _is_whole(bounds: tuple[Expression, Expression]) -> bool:
    lower, upper = bounds
    return lower == Number(0) and not any(True for _ in walk.reads(upper))


def _in_order(subscript: Expression) -> Iterable[str]:
    return (e.name for e in walk.subexpressions(subscript) if isinstance(e, Index))
