"""Contractions over windows, as convolutions are, with their guards, steps and gradients."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
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
from loopgrad.schedule.loops.narrowing import narrower, solved


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
        found = solved(condition, own, others)
        if found is None:
            return line, frozenset()
        index, operator, bound = found
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
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
        return None
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
        found = solved(condition, line.reduced, windows)
        if found is None:
            return None
        index, operator, bound = found
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


def _indices_of_range(r: Range) -> frozenset[str]:
    return frozenset().union(*(walk.indices_of(b) for b in (r.lower, r.upper) if b is not None))
