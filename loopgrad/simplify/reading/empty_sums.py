"""What is a number, still, where sums are empty: what may be taken out of them.

`sum[i](v[i] * u[i] / q)` is 0 where there is no i. Is q a sum over i too, `e / q` with the sum e is 0 / 0:
so q stays inside. `sqrt(q + eps)` may go out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Constant,
    Expression,
    Extent,
    Number,
    Range,
    Read,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import accumulates, indices_of, multiplicands, reads, subexpressions


def extent_of(r: Range) -> str:
    """The extent of a range over a whole axis, as text."""
    return "" if r.upper is None else show_expression(r.upper, True)


@dataclass
class EmptySums:
    """Of each computed tensor the extents that it is summed over, directly or through what it reads."""

    statements: Iterable[Statement]
    sums: dict[str, frozenset[str]] = field(init=False, default_factory=dict)
    divided: set[str] = field(init=False, default_factory=set)  # or a logarithm: infinite for 0

    def __post_init__(self) -> None:
        every = list(accumulates(self.statements))
        changed = True
        while changed:  # until what blocks read from their last turn is in it
            changed = False
            for blocks, statement in every:
                changed |= self._learn(blocks, statement)

    def _learn(self, blocks: tuple[Block, ...], statement: Accumulate) -> bool:
        tensor = statement.target.tensor
        kept = indices_of(statement.target)
        ranges = (*(r for b in blocks for r in b.ranges), *statement.ranges)
        own = frozenset(extent_of(r) for r in statement.ranges if r.index not in kept)
        read = {r.tensor for r in reads(statement.value)}
        sums = own.union(self.sums.get(tensor, ()), *(self.sums.get(t, ()) for t in read))
        loops = {extent_of(r) for r in ranges}
        divided = not self.divided.isdisjoint(read) or any(
            not isinstance(d, Number | Constant) and show_expression(d, True) not in loops
            for d in _divisors(statement.value)
        )
        new = sums != self.sums.get(tensor) or (divided and tensor not in self.divided)
        self.sums[tensor] = sums
        if divided:
            self.divided.add(tensor)
        return new

    def defined(self, expression: Expression, empty: Collection[str]) -> bool:
        """Is it a number where sums over any of these extents are 0 because they are empty?"""
        return not any(
            isinstance(n, Read) and n.tensor in self.divided and self._hangs(n, empty)
            for n in subexpressions(expression)
        ) and not any(self.vanishes(d, empty) for d in _divisors(expression))

    def vanishes(self, expression: Expression, empty: Collection[str]) -> bool:
        """May it be 0 for that reason, or for the extents' own?"""
        match expression:
            case Number() | Constant():
                return False
            case Extent(name):
                return name in empty
            case Read():
                return self._hangs(expression, empty)
            case Apply("+", operands):
                return all(self.vanishes(o, empty) for o in operands)
            case Apply("*", operands):
                return any(self.vanishes(o, empty) for o in operands)
            case Apply("/" | "sqrt" | "rsqrt" | "**" | "neg" | "abs", operands):
                return self.vanishes(operands[0], empty)
            case Apply("exp" | "sigmoid", _):
                return False
        return any(self._hangs(r, empty) for r in reads(expression))

    def _hangs(self, read: Read, empty: Collection[str]) -> bool:
        return not self.sums.get(read.tensor, frozenset()).isdisjoint(empty)


def _divisors(expression: Expression) -> Iterable[Expression]:
    """What is divided by, or taken a logarithm or a power of."""
    for node in subexpressions(expression):
        match node:
            case Apply("/", (_, below)):
                yield from multiplicands(below)
            case Apply("log" | "rsqrt", (operand,)):
                yield operand
            case Apply("**", (operand, Number(value))) if value >= 0:
                continue
            case Apply("**", (operand, _)):
                yield operand
