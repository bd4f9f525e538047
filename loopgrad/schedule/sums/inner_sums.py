"""Sums within sums: what one index of a sum holds is summed first, where that makes it a product.

    c[t] += y[t,e] * v[u,e] * p[t,u]        over u and e

is a loop over t, u and e in which every element counts once. With `i[t,u] = y[t,e] * v[u,e]` summed
over e, a matrix product, and `c[t] += i[t,u] * p[t,u]`, the rest is a loop less; and another line
that has the same inner sum shares it. `A[i,j] * B[j,k] * C[k,l]` is two products likewise.

    g[i] += C[i,j] * (x[n,j] - m[j])        over n and j

has n in one factor alone: its sum, `s[j]`, is no product, but is formed once, and not for each i again.

Which index goes first is a matter of sizes: `U[o,r] * V[r,i] * x[b,i]` over r and i is U (V x), or (U V) x.
Where a call tells about how large they are (`choices.sizes`), it is that which leaves least to do; else
that of the innermost loop. What another line has to have in any case is there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Conditional,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import is_there_anyway
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.contractions import roles
from loopgrad.schedule.sums.sharing import extents_of
from loopgrad.schedule.sums.sides import factors, multiplied

# Over how many indices the order of sums is looked for.
MOST_SUMS = 5

# How many times less there has to be to do for a product to be taken apart.
FEWER = 4


@dataclass(frozen=True)
class InnerSums:
    """`requires`: what has to hold of extents for the lines to be the same."""

    lines: tuple[Line, ...]
    requires: tuple[Expression, ...]


def with_inner_sums(lines: Sequence[Line], context: Context) -> InnerSums:
    """The lines, with sums over one of their indices in lines of their own."""
    return _Parting(context).parted(lines)


@dataclass(frozen=True)
class _Inner:
    """A sum that may go first: its index, the factors that it is in, the others, and its name among lines.

    work: of the sum; rest: the least of what is left then.
    """

    index: str
    taken: tuple[Expression, ...]
    left: tuple[Expression, ...]
    key: Hashable
    work: int
    rest: int


class _Parting:
    def __init__(self, context: Context):
        self.context = context
        self.known: dict[Hashable, Read] = {}
        self.needed: set[Hashable] = set()  # by lines that have no other order
        self.requires: dict[Expression, None] = {}

    def parted(self, lines: Sequence[Line]) -> InnerSums:
        for line in lines:
            match list(self._inner_sums(line)):
                case [only]:
                    self.needed.add(only.key)
        found = tuple(part for line in lines for part in self._parts(line))
        return InnerSums(found, tuple(self.requires))

    def _parts(self, line: Line) -> Iterator[Line]:
        """The line; or its inner sums, innermost first, and what is left of it."""
        while (inner := self._best(line)) is not None:
            total = self.known.get(inner.key)
            if total is None:
                anonymous = _sum(line, inner.index, inner.taken)
                total = self.known[inner.key] = self._temporary(line, anonymous)
                yield Line(replace(anonymous, target=total), first=True)
            # Of nothing the sum is 0, whatever the factors are.
            self.requires[walk.compare("<", *line.bounds[inner.index])] = None
            value = multiplied([*inner.left, total])
            rest = tuple(r for r in line.statement.ranges if r.index != inner.index)
            line = _unguarded(
                replace(line, statement=replace(line.statement, value=value, ranges=rest))
            )
        yield line

    def _temporary(self, line: Line, anonymous: Accumulate) -> Read:
        indices = [i.name for i in anonymous.target.subscripts if isinstance(i, Index)]
        extents = extents_of(anonymous.value, line, self.context.tensors)
        assert extents is not None
        name = self.context.temporary("inner", tuple(extents[i] for i in indices))
        if any(line.bound_by[i] for i in indices):
            self.context.whole.add(name)
        return Read(name, anonymous.target.subscripts)

    def _best(self, line: Line) -> _Inner | None:
        """The sum that best goes first: of those that cost least, that of the innermost loop."""

        def work(inner: _Inner) -> int:
            is_there = inner.key in self.known or inner.key in self.needed
            return inner.rest + (0 if is_there else inner.work)

        return min(self._inner_sums(line), key=work, default=None)

    def _inner_sums(self, line: Line) -> Iterator[_Inner]:
        """Those that may go first, that of the innermost loop before others."""
        statement = line.statement
        sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
        if not sums or not line.reduced or line.unproved or line.integral:
            return
        # A product as it is, or with what the guard leaves taken from it.
        whole = roles(replace(line, statement=replace(statement, guard=None))) is not None
        if whole and len(line.reduced) < 2:
            return
        guarding = frozenset() if statement.guard is None else walk.indices_of(statement.guard)
        guarding |= line.written.indices  # `y[w[n],d] += ...`: n tells where
        parts = list(factors(statement.value))
        for index in reversed(line.indices):
            if index not in line.reduced - line.bounding - guarding:
                continue
            if not all(map(walk.is_fixed, line.bounds[index])):
                continue
            taken = tuple(f for f in parts if index in walk.indices_of(f))
            left = tuple(f for f in parts if index not in walk.indices_of(f))
            if self._is_worth_it(line, index, taken, left):
                ranges = _sum(line, index, taken).ranges
                key = index, frozenset(ranges), frozenset(Counter(taken).items())
                work = self._work(line, _needed(line, index, taken))
                rest = self._rest(line, index, taken, left)
                if whole and FEWER * (work + rest) > self._work(line, line.indices):
                    continue
                yield _Inner(index, taken, left, key, work, rest)

    def _rest(
        self, line: Line, index: str, taken: Sequence[Expression], left: Sequence[Expression]
    ) -> int:
        """The least work behind an inner sum: all of it in one loop, or further sums first."""
        kept = frozenset({*line.indices} - line.reduced)

        def least(sides: tuple[frozenset[str], ...], summed: frozenset[str]) -> int:
            found = self._work(line, summed.union(kept, *sides))
            for first in sorted(summed) if 1 < len(summed) <= MOST_SUMS else ():
                inside = frozenset().union(*(side for side in sides if first in side))
                others = tuple(side for side in sides if first not in side)
                work = self._work(line, inside)
                if work < found:
                    found = min(found, work + least((*others, inside - {first}), summed - {first}))
            return found

        inner = _needed(line, index, taken) - {index}
        return least((inner, *map(walk.indices_of, left)), line.reduced - {index})

    def _work(self, line: Line, indices: Iterable[str]) -> int:
        """How many values the indices take together, about."""
        sizes = dict(self.context.choices.sizes)

        def length(index: str) -> int:
            _, upper = line.bounds[index]
            known = sizes.get(upper.name) if isinstance(upper, Extent) else None
            return known or line.lengths[index]

        return prod(map(length, indices))

    def _is_worth_it(
        self, line: Line, index: str, taken: Sequence[Expression], left: Sequence[Expression]
    ) -> bool:
        """Is the inner sum a product of matrices, no larger than what is there in any case? Or no larger than
        what it reads, where others of the line's loops are around it for nothing?
        """
        beside = frozenset().union(*map(walk.indices_of, left))
        needed = _needed(line, index, taken)
        kept = needed - {index}
        fewer = needed < set(line.indices)
        if not (beside or fewer) or not taken or not kept <= set(line.indices):
            return False
        value = multiplied(taken)
        if extents_of(value, line, self.context.tensors) is None:
            return False
        if not is_there_anyway(value, line, self.context.tensors):
            return False  # it is formed where the guard fails, too
        if fewer and any(kept <= walk.indices_of(read) for read in walk.reads(value)):
            return True
        tensors = [f for f in (*left, line.target) if any(walk.reads(f))]
        if not fewer and not any(kept <= walk.indices_of(f) for f in tensors):
            return False
        return len(taken) > 1 and roles(Line(_sum(line, index, taken), first=True)) is not None


def _sum(line: Line, index: str, taken: Sequence[Expression]) -> Accumulate:
    """The product of these factors, summed over the index, without a name."""
    ranges = tuple(r for r in line.statement.ranges if r.index in _needed(line, index, taken))
    target = Read("", tuple(Index(r.index) for r in ranges if r.index != index))
    return Accumulate(target, Reduction.ADD, multiplied(taken), ranges)


def _unguarded(line: Line) -> Line:
    """What was a sum, and is none any more, writes all of its target as the sum did."""
    statement = line.statement
    if statement.guard is None or line.reduced or not line.first:
        return line
    value = Conditional(statement.guard, statement.value, Number(0.0))
    return replace(line, statement=replace(statement, value=value, guard=None))


def _needed(line: Line, index: str, taken: Sequence[Expression]) -> frozenset[str]:
    """The indices of the inner sum, those included that its ranges hang on."""
    return frozenset({index}).union(*map(walk.indices_of, taken))
