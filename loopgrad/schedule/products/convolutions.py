"""Contractions over windows, as convolutions are, with their guards, steps and gradients."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import replace

from loopgrad.analysis.extents import polynomial, to_expression
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Constant,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line
from loopgrad.schedule.loops.narrowing import MIRRORED, narrower


def with_units(line: Line, units: Collection[str]) -> tuple[Line, frozenset[str]]:
    """The line with `s*i` and `i//s` as `i`, for constants s that are 1; and which it had."""
    used: set[str] = set()

    def changed(expression: Expression) -> Expression:
        match walk.rebuild(expression, changed):
            case Apply("*", (Constant(name), operand)) if name in units:
                used.add(name)
                return operand
            case Apply("*" | "//", (operand, Constant(name))) if name in units:
                used.add(name)
                return operand
            case other:
                return other

    statement = line.statement
    guard = None if statement.guard is None else changed(statement.guard)
    target = changed(statement.target)
    assert isinstance(target, Read)
    simpler = replace(statement, target=target, value=changed(statement.value), guard=guard)
    return replace(line, statement=simpler), frozenset(used)


def _renamed(line: Line, indices: Collection[str], context: Context) -> Line:
    """The line with names of its own for indices whose ranges are no longer those of other lines."""
    names = {index: Index(context.name(index)) for index in sorted(indices)}

    def changed(expression: Expression) -> Expression:
        return walk.substitute(expression, names)

    ranges = tuple(
        replace(walk.rebuild_range(r, changed), index=names[r.index].name)
        if r.index in names
        else walk.rebuild_range(r, changed)
        for r in line.statement.ranges
    )
    statement = walk.map_statement(replace(line.statement, ranges=()), changed)
    assert isinstance(statement, Accumulate)
    return replace(line, statement=replace(statement, ranges=ranges))


def without_guard(
    line: Line, over: Sequence[str | None], context: Context
) -> tuple[Line, frozenset[str]]:
    """The line with its guard in the ranges of the indices `over` its target's axes.

    They then hang on others: those that select what is written, and indices of the sum, which are
    given beside. Products are added up by loops over these, so the line must not write first.
    """
    statement = line.statement
    if statement.guard is None:
        return line, frozenset()
    guarding = walk.indices_of(statement.guard) & line.reduced
    if guarding and line.first:
        return line, frozenset()
    ranges = {r.index: r for r in statement.ranges}
    own = {i for i in over if i} - line.reduced
    others = (line.kept - own) | guarding
    for condition in walk.conjuncts(statement.guard):
        solved = _solved(condition, own, others)
        if solved is None:
            return line, frozenset()
        index, operator, bound = solved
        ranges[index] = narrower(ranges[index], operator, bound)
    if any(r.index in others and _indices_of_range(r) for r in ranges.values()):
        return line, frozenset()
    whole = replace(statement, ranges=tuple(ranges.values()), guard=None)
    narrowed = {r.index for r in statement.ranges if ranges[r.index] != r}
    return _renamed(replace(line, statement=whole), narrowed, context), guarding


def apart_by_windows(line: Line, context: Context) -> tuple[frozenset[str], Line, Line] | None:
    """`w[o,i,p] += y[o,n] * x[i,n+p]   if 0 <= n+p < X` as a sum for each p, and what is done with it.

        t[p,o,i] += y[o,n] * x[i,n+p]       for the n that p lets, no guard
        w[o,i,p] += t[p,o,i]

    With the indices that come first in t. None where the guard couples others.
    """
    statement, written = line.statement, line.written
    guard, extents = statement.guard, context.tensors[written.tensor].extents
    if guard is None or None in written.bare or len(set(written.bare)) < len(extents):
        return None
    if any(
        line.bounds[i] != (Number(0), e) for i, e in zip(written.bare, extents, strict=True) if i
    ):
        return None
    windows = walk.indices_of(guard) & line.kept
    rest = [i for i in written.bare if i not in windows]
    if not windows or len(rest) < 2 or line.bounding:
        return None
    ranges = {r.index: r for r in statement.ranges}
    for condition in walk.conjuncts(guard):
        solved = _solved(condition, line.reduced, windows)
        if solved is None:
            return None
        index, operator, bound = solved
        ranges[index] = narrower(ranges[index], operator, bound)
        coupled = windows & walk.indices_of(condition)
        if any(_length(line, window) > _length(line, index) for window in coupled):
            return None
    order = [i for i in (*(i for i in written.bare if i in windows), *rest) if i]
    sizes = dict(zip(written.bare, extents, strict=True))
    name = context.temporary("window", tuple(sizes[i] for i in order))
    total = Read(name, tuple(map(Index, order)))
    value = replace(
        statement,
        target=total,
        reduction=Reduction.ADD,
        ranges=tuple(ranges.values()),
        guard=None,
    )
    narrowed = {r.index for r in statement.ranges if ranges[r.index] != r}
    inner = _renamed(Line(value, first=True), narrowed, context)
    own = tuple(r for r in statement.ranges if r.index in line.kept)
    outer = replace(statement, value=total, ranges=own, guard=None)
    return windows, inner, Line(outer, first=line.first)


def _length(line: Line, index: str) -> int:
    """A guess, for comparisons: by how much there is to write of the range."""
    return sum(1 for bound in line.bounds[index] for _ in walk.subexpressions(bound))


def _solved(
    condition: Expression, indices: Container[str], others: frozenset[str]
) -> tuple[str, str, Expression] | None:
    """`i + p - 1 >= 0` as `i >= 1 - p`, for the one of the indices in it; p may be of the others.

    And `2*i + p - 1 >= 0` as `i >= (2 - p) // 2`.
    """
    match condition:
        case Compare((operator,), (left, right)) if operator in MIRRORED:
            pass
        case _:
            return None
    terms = [*_signed(left, 1), *_signed(right, -1)]
    wanted = [(count, t) for count, t in terms if isinstance(t, Index) and t.name in indices]
    rest = [(count, t) for count, t in terms if (count, t) not in wanted]
    if len(wanted) != 1 or any(True for _, t in rest for _ in walk.reads(t)):
        return None
    if not frozenset().union(*(walk.indices_of(t) for _, t in rest)) <= others:
        return None
    ((count, index),) = wanted
    assert isinstance(index, Index)
    positive = count > 0
    bound: Expression = Number(0)
    for own, term in rest:
        size = term if abs(own) == 1 else walk.apply("*", Number(abs(own)), term)
        bound = walk.apply("-" if (own > 0) == positive else "+", bound, size)
    operator = operator if positive else MIRRORED[operator]
    if abs(count) > 1:
        divided = _divided(operator, bound, abs(count))
        if divided is None:
            return None
        operator, bound = divided
    return index.name, operator, to_expression(polynomial(bound))


def _divided(operator: str, bound: Expression, divisor: int) -> tuple[str, Expression] | None:
    """What `divisor * i  operator  bound` says of i."""
    match operator:
        case "<" | ">=":  # below, or not below, the least multiple that is not less
            bound = walk.apply("+", bound, Number(divisor - 1))
        case "==":
            return None
    return operator, walk.apply("//", bound, Number(divisor))


def _signed(expression: Expression, count: int) -> Iterator[tuple[int, Expression]]:
    """The terms of a sum, each with how often it is added."""
    match expression:
        case Apply("+" | "-" as operation, (left, right)):
            yield from _signed(left, count)
            yield from _signed(right, count if operation == "+" else -count)
        case Apply("neg", (operand,)):
            yield from _signed(operand, -count)
        case Apply("*", (Number(int(factor)), operand)) if factor:
            yield from _signed(operand, count * factor)
        case _:
            yield count, expression


def _indices_of_range(r: Range) -> frozenset[str]:
    return frozenset().union(*(walk.indices_of(b) for b in (r.lower, r.upper) if b is not None))
