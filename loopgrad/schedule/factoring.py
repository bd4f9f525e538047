"""Factors leave sums over indices that they do not hold: `Σ_b 2 s[j] (x[b,j] - μ[j])` is
`2 s[j] Σ_b (x[b,j] - μ[j])`, which need not wait for s, so that both sums share one pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.contractions import roles
from loopgrad.schedule.lines import Line


def factored(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with computed factors out of the sums that they need not be in."""
    written = {line.written.tensor for line in lines}
    return tuple(part for line in lines for part in _parts(line, written, context))


def _parts(line: Line, written: Collection[str], context: Context) -> Iterator[Line]:
    """The line, or the sum without the factors and what makes the line of it."""
    statement = line.statement
    free, bound = _factors_of(line)
    waits = any(read.tensor in written for factor in free for read in walk.reads(factor))
    axes = _axes(line, context)
    if not waits or not bound or axes is None or statement.guard is not None:
        yield line
        return
    kept = tuple(i for i in line.indices if i in axes)
    name = context.temporary("sum", tuple(axes[i] for i in kept))
    total = Read(name, tuple(map(Index, kept)))
    inner = Accumulate(total, Reduction.ADD, _product(bound), statement.ranges)
    yield Line(inner, first=True)
    # Of nothing the sum is 0, whatever the factors are.
    whole = _product([*free, total])
    value = Conditional(_is_some(line), whole, Number(0.0))
    ranges = tuple(r for r in statement.ranges if r.index in line.kept)
    yield replace(line, statement=replace(statement, value=value, ranges=ranges))


def _factors_of(line: Line) -> tuple[list[Expression], list[Expression]]:
    """Those without a reduced index, and the others; none where the line is no plain sum."""
    statement = line.statement
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    plain = sums and line.reduced and not line.unproved and not line.bounding
    if not plain or roles(line) is not None:
        return [], []
    factors = list(_factors(statement.value))
    bound = [f for f in factors if walk.indices_of(f) & line.reduced]
    return [f for f in factors if not walk.indices_of(f) & line.reduced], bound


def _factors(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Apply("*", (left, right)):
            yield from _factors(left)
            yield from _factors(right)
        case _:
            yield expression


def _axes(line: Line, context: Context) -> dict[str, Expression] | None:
    """The extents of the line's kept indices, which are alone in its target's subscripts."""
    extents = context.tensors[line.written.tensor].extents
    if None in line.written.bare or len(set(line.written.bare)) < len(extents):
        return None
    return {i: e for i, e in zip(line.written.bare, extents, strict=True) if i is not None}


def _is_some(line: Line) -> Expression:
    """Has the sum any terms?"""
    bounds = (line.bounds[index] for index in line.indices if index in line.reduced)
    found = walk.conjunction(walk.compare("<", lower, upper) for lower, upper in bounds)
    assert found is not None
    return found


def _product(factors: Sequence[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), factors)
