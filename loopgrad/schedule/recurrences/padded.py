"""Windows over what a turn has at hand: in a block, too, a guard of them becomes zeros around a copy.

    for t:
        z[t,b,o,n] += k[o,i,p] * h[t-1,b,i,n+p-1]   if t > 0 and 0 <= n+p-1 < N

is a product within the turn, of a copy that the turn makes:

        h.padded[t,b,i,m] = h[t-1,b,i,m-1]   if t > 0 and 0 <= m-1 < N, else 0
        z[t,b,o,n] += k[o,i,p] * h.padded[t,b,i,n+p]   if t > 0

The other side is the same in all turns: it is looked at, whether it is finite, before the block.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Number, Read, Reduction
from loopgrad.schedule.limits import conditions, is_there
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.contractions import roles
from loopgrad.schedule.products.padding import Axis, Padding
from loopgrad.schedule.sums.sides import factors, multiplied


def without_borders(
    lines: Sequence[Line], order: tuple[str, ...], padding: Padding
) -> tuple[tuple[Line, ...], list[Line]]:
    """What has to run before a block, and its core's lines, with loops over `order`: those that are products
    but for a guard of windows without it, behind the copies that they need."""
    windows = _Windows(order, frozenset(line.written.tensor for line in lines), padding)
    inside = [part for line in lines for part in windows.padded(line)]
    return tuple(windows.before), inside


@dataclass
class _Windows:
    """written: tensors that the core writes. before: what has to run before the block."""

    order: tuple[str, ...]
    written: frozenset[str]
    padding: Padding
    before: list[Line] = field(default_factory=list)

    def padded(self, line: Line) -> tuple[Line, ...]:
        """The line; or the copy that it needs, where no earlier line has made it, and the line without what
        its guard says of windows."""
        statement = line.statement
        sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
        if statement.guard is None or not sums or not line.reduced or line.unproved:
            return (line,)
        turns, inner = _parted(statement.guard, self.order)
        formulas = None if inner is None else conditions(inner)
        if inner is None or not formulas or not self._is_product(line):
            return (line,)
        tensors = self.padding.context.tensors
        if not is_there(line.target, inner, tensors[line.target.tensor].extents, line.bounds):
            return (line,)
        parts = list(factors(statement.value))
        for read in parts:
            if isinstance(read, Read) and read.tensor in self.written:
                axes = self.padding.axes_of(read, line, formulas)
                others = multiplied([part for part in parts if part is not read])
                if axes and self._is_copied(read, axes, line) and self._stays(others):
                    return self._with_copy(line, read, axes, others, turns)
        return (line,)

    def _is_product(self, line: Line) -> bool:
        found = roles(replace(line, statement=replace(line.statement, guard=None)))
        return (
            found is not None
            and not {*self.order} & {*found.n, *found.k}
            and not {*found.m} <= {*self.order}
        )

    def _is_copied(self, read: Read, axes: Mapping[int, Axis], line: Line) -> bool:
        """Has a turn one place on each axis of which its index tells, and is all of the others needed?"""
        order = {*self.order}
        turning = [i for i, s in enumerate(read.subscripts) if walk.indices_of(s) & order]
        if any(i in axes or walk.indices_of(read.subscripts[i]) - order for i in turning):
            return False
        if not turning or any(line.bounds[i][0] != Number(0) for i in self.order):
            return False
        if any(walk.indices_of(bound) for i in self.order for bound in line.bounds[i]):
            return False
        return self.padding.is_copied_whole(read, {*axes, *turning}, line)

    def _stays(self, side: Expression) -> bool:
        """Is it the same in all turns?"""
        return walk.indices_of(side).isdisjoint(self.order) and not any(
            read.tensor in self.written for read in walk.reads(side)
        )

    def _with_copy(
        self,
        line: Line,
        read: Read,
        axes: Mapping[int, Axis],
        others: Expression,
        turns: Expression | None,
    ) -> tuple[Line, ...]:
        looked = self.padding.looked_at(others, line)
        if looked is None:
            return (line,)
        self.before += looked
        around = tuple(r for r in line.statement.ranges if r.index in self.order)
        copied, copying = self.padding.copy(read, axes, around, turns)
        whole = replace(line.statement, value=multiplied([copied, others]), guard=turns)
        return *copying, replace(line, statement=whole)


def _parted(
    guard: Expression, order: Collection[str]
) -> tuple[Expression | None, Expression | None]:
    """What a guard says of the block's indices alone, without data; and the rest."""
    alone: list[Expression] = []
    rest: list[Expression] = []
    for condition in walk.conjuncts(guard):
        plain = walk.indices_of(condition) <= {*order} and not any(
            True for _ in walk.reads(condition)
        )
        (alone if plain else rest).append(condition)
    return walk.conjunction(alone), walk.conjunction(rest)
