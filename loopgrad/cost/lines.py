"""A program as its statements, each in all of its loops: what order blocks give them is in what they read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from loopgrad.analysis.facts import Facts
from loopgrad.cost.cases import is_static
from loopgrad.ir.nodes import Accumulate, Block, Expression, Index, Range, Read
from loopgrad.ir.walk import accumulates, indices_of, statement_expressions, subexpressions


@dataclass(frozen=True)
class Line:
    """A statement with the ranges of the blocks around it first.

    `bounded`: what reads of tensors bound a range; the range is then as long as the sizes allow it to be.
    `unbounded`: an index for which they say nothing.
    """

    statement: Accumulate
    ranges: tuple[Range, ...]
    blocks: tuple[Block, ...]
    bounded: tuple[Read, ...] = ()
    unbounded: str | None = None

    @property
    def target(self) -> Read:
        return self.statement.target

    @property
    def block_indices(self) -> tuple[Range, ...]:
        return tuple(r for block in self.blocks for r in block.ranges)


def lines_of(facts: Facts) -> list[Line]:
    """The statements of the program, in order."""
    return [
        _line(facts, statement, blocks)
        for blocks, statement in accumulates(facts.program.statements)
    ]


def _line(facts: Facts, statement: Accumulate, blocks: tuple[Block, ...]) -> Line:
    ranges: list[Range] = []
    bounded: list[Read] = []
    unbounded = None
    for r in (*(r for b in blocks for r in b.ranges), *statement.ranges):
        assert r.lower is not None and r.upper is not None
        lower, upper = r.lower, r.upper
        for bound in (lower, upper):
            bounded += [n for n in subexpressions(bound) if isinstance(n, Read)]
        if not is_static(lower):
            lower = _nothing()
        if not is_static(upper):
            longest = longest_of(facts, statement, r.index)
            if longest is None:
                unbounded = r.index
            else:
                upper = longest
        ranges.append(replace(r, lower=lower, upper=upper))
    return Line(statement, tuple(ranges), blocks, tuple(bounded), unbounded)


def _nothing() -> Expression:
    from loopgrad.ir.walk import ZERO

    return ZERO


def longest_of(facts: Facts, statement: Accumulate, index: str) -> Expression | None:
    """The extent of an axis that the index subscripts: it cannot run beyond."""
    places = [statement.target]
    for expression in statement_expressions(statement):
        places += [n for n in subexpressions(expression) if isinstance(n, Read)]
    for place in places:
        extents = facts.tensors[place.tensor].extents
        for subscript, extent in zip(place.subscripts, extents, strict=True):
            if subscript == Index(index) and is_static(extent) and not indices_of(extent):
                return extent
    return None
