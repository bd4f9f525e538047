"""Ranges that keep a window inside of what it goes over become guards, as which all else knows them.

    for b, o, i < X, max(1-i, 0) <= p < min(3, X+1-i):  y[b,o,i] += w[o,p] * x[b,i+p-1]

is, for `p < 3`, a sum `if 1 - i <= p and p < X + 1 - i`: a convolution. What reads no `i + p` is none, and
stays: `max(t-16, 0) <= u < min(t+17, T)` is a band, and most of `u < T` is outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Range
from loopgrad.schedule.lines import Line, affine_indices, limits


def widened(line: Line) -> Line:
    """The line with conditions in place of what such bounds say of two indices."""
    statement = line.statement
    together = {
        affine_indices(subscript)
        for read in (line.target, *line.reads())
        for subscript in read.subscripts
    }
    ranges: list[Range] = []
    conditions: list[Expression] = []
    for r in statement.ranges:
        wider, found = r, list(_conditions(r))
        pairs = [walk.indices_of(c) for c in found]
        if found and all(any(pair <= indices for indices in together) for pair in pairs):
            conditions += found
            wider = replace(r, lower=_fixed(r.lower, "max"), upper=_fixed(r.upper, "min"))
        ranges.append(wider)
    if not conditions:
        return line
    guard = walk.conjunction([*conditions, statement.guard])
    return replace(line, statement=replace(statement, ranges=tuple(ranges), guard=guard))


def _conditions(r: Range) -> Iterator[Expression]:
    """What the bounds say beside those that are fixed; nothing where there are no fixed ones."""
    if _fixed(r.lower, "max") is None or _fixed(r.upper, "min") is None:
        return
    assert r.lower is not None and r.upper is not None
    for bound in limits(r.lower, "max"):
        if not walk.is_fixed(bound):
            yield walk.compare("<=", bound, Index(r.index))
    for bound in limits(r.upper, "min"):
        if not walk.is_fixed(bound):
            yield walk.compare("<", Index(r.index), bound)


def _fixed(bound: Expression | None, operation: str) -> Expression | None:
    fixed = [] if bound is None else [b for b in limits(bound, operation) if walk.is_fixed(b)]
    return walk.apply(operation, *fixed) if len(fixed) > 1 else fixed[0] if fixed else None
