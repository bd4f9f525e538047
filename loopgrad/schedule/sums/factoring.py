"""Factors leave sums over indices that they do not hold: `Σ_b 2 s[j] (x[b,j] - μ[j])` is
`2 s[j] Σ_b (x[b,j] - μ[j])`, which need not wait for s, so that both sums share one pass.

Terms leave maxima likewise, to the bit, since rounding keeps the order: `max_j (s[b,j] - c[b])` is
`max_j s[b,j] - c[b]`; and what another line reduces already is not reduced again.

Of an infinite factor or term it is not asked whether the literal loops come to NaN (docs/compiler.md):
a row that divides by 0 would make the loops of all rows literal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

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
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.contractions import roles
from loopgrad.schedule.sums.sides import multiplied


def factored(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with computed factors out of the sums that they need not be in."""
    written = {line.written.tensor for line in lines}
    known: dict[Accumulate, Read] = {}
    writers = Counter(line.written.tensor for line in lines)
    found: list[Line] = []
    for line in lines:
        for part in _parts(line, written, known, context):
            plain = part.reduced and part.first and part.statement.guard is None
            if plain and None not in part.written.bare and writers[part.written.tensor] <= 1:
                known.setdefault(_anonymous(part.statement), part.target)
            found.append(part)
    return tuple(found)


def _anonymous(statement: Accumulate) -> Accumulate:
    """The reduction, whatever its target is called; it has the kept indices as they come."""
    ranges = sorted(statement.ranges, key=lambda r: r.index)
    kept = sorted(s.name for s in statement.target.subscripts if isinstance(s, Index))
    target = Read("", tuple(map(Index, kept)))
    return Accumulate(target, statement.reduction, statement.value, tuple(ranges))


def _temporary(wanted: str, line: Line, axes: Mapping[str, Expression], context: Context) -> Read:
    kept = tuple(i for i in line.indices if i in axes)
    name = context.temporary(wanted, tuple(axes[i] for i in kept))
    return Read(name, tuple(map(Index, kept)))


def _parts(
    line: Line, written: Collection[str], known: Mapping[Accumulate, Read], context: Context
) -> Iterator[Line]:
    """The line, or the reduction without what leaves it and what makes the line of it.

    known: reductions that lines before have made, and where.
    """
    if line.statement.reduction in (Reduction.MAXIMUM, Reduction.MINIMUM):
        yield from _without_term(line, known, context)
        return
    statement = line.statement
    free, bound = factors_of(line)
    waits = any(read.tensor in written for factor in free for read in walk.reads(factor))
    axes = _axes(line, context)
    if not waits or not bound or axes is None or statement.guard is not None:
        yield line
        return
    inner = Accumulate(line.target, Reduction.ADD, multiplied(bound), statement.ranges)
    total = known.get(_anonymous(inner))
    if total is None:
        total = _temporary("sum", line, axes, context)
        yield Line(replace(inner, target=total), first=True)
    # Of nothing the sum is 0, whatever the factors are.
    whole = multiplied([*free, total])
    value = Conditional(is_some(line), whole, Number(0.0))
    ranges = tuple(r for r in statement.ranges if r.index in line.kept)
    yield replace(line, statement=replace(statement, value=value, ranges=ranges))


def _without_term(line: Line, known: Mapping[Accumulate, Read], context: Context) -> Iterator[Line]:
    statement, axes = line.statement, _axes(line, context)
    parts = _term_of(line)
    if parts is None or axes is None:
        yield line
        return
    value, sign, term = parts
    inner = replace(statement, value=value)
    best = known.get(_anonymous(inner))
    if best is None:
        best = _temporary("best", line, axes, context)
        yield Line(replace(inner, target=best), first=True)
    whole = walk.apply(sign, best, term)
    start = identity(statement.reduction, ElementType.FLOAT)
    ranges = tuple(r for r in statement.ranges if r.index in line.kept)
    value = Conditional(is_some(line), whole, start)
    yield replace(line, statement=replace(statement, value=value, ranges=ranges))


def _term_of(line: Line) -> tuple[Expression, str, Expression] | None:
    """`a - c` and `a + c` as a, the sign and c, where c has none of the reduced indices."""
    statement = line.statement
    plain = line.reduced and not line.unproved and not line.bounding and not line.integral
    if not plain or statement.guard is not None:
        return None
    match statement.value:
        case Apply("+" | "-" as sign, (value, term)):
            bound, free = (walk.indices_of(e) & line.reduced for e in (value, term))
            if bound and not free and line.reduced <= walk.indices_of(value):
                return value, sign, term
    return None


def factors_of(line: Line) -> tuple[list[Expression], list[Expression]]:
    """Those without a reduced index, and the others; none where the line is no plain sum."""
    statement = line.statement
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    plain = sums and line.reduced and not line.unproved and not line.bounding
    if not plain or roles(line) is not None:
        return [], []
    all_of_them = list(factors(statement.value))
    bound = [f for f in all_of_them if walk.indices_of(f) & line.reduced]
    return [f for f in all_of_them if not walk.indices_of(f) & line.reduced], bound


def factors(expression: Expression) -> Iterator[Expression]:
    """What the expression is the product of."""
    match expression:
        case Apply("*", (left, right)):
            yield from factors(left)
            yield from factors(right)
        case _:
            yield expression


def _axes(line: Line, context: Context) -> dict[str, Expression] | None:
    """The extents of the line's kept indices: each is alone in a subscript; others are numbers."""
    extents = context.tensors[line.written.tensor].extents
    axes: dict[str, Expression] = {}
    for subscript, extent in zip(line.target.subscripts, extents, strict=True):
        match subscript:
            case Number():
                continue
            case Index(name) if name not in axes:
                axes[name] = extent
            case _:
                return None
    return axes


def is_some(line: Line) -> Expression:
    """Has the sum any terms?"""
    bounds = (line.bounds[index] for index in line.indices if index in line.reduced)
    found = walk.conjunction(walk.compare("<", lower, upper) for lower, upper in bounds)
    assert found is not None
    return found
