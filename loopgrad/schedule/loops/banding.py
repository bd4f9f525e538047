"""What a guard says of how two indices lie to each other becomes the range of the later one.

A mask that is written as a condition, `if u <= t`, then costs no more than one that is written as a range:
sums of products over what it leaves are products of blocks (`blocking.py`), and what it rules out is not
gone through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.extents import Polynomial, difference, polynomial, to_expression
from loopgrad.analysis.polynomial import add, negate
from loopgrad.ir import walk
from loopgrad.ir.nodes import Compare, Expression, Index, Number, Range
from loopgrad.schedule.lines import Line
from loopgrad.schedule.loops.narrowing import MIRRORED
from loopgrad.schedule.products.contractions import roles


def in_bands(lines: Sequence[Line]) -> list[Line]:
    """The lines, all of them with such ranges where one of them is a product by that; else as they are.

    All, as what one writes within a range is kept in blocks where others read it within the same one alone.
    """
    changed = list(map(_in_band, lines))
    pairs = zip(changed, lines, strict=True)
    found = any(new is not old and _is_product(new) for new, old in pairs)
    return changed if found else list(lines)


def _is_product(line: Line) -> bool:
    """Is it one, or with what data leave taken from it?"""
    left = line.statement.guard
    if all(any(walk.reads(condition)) for condition in walk.conjuncts(left)):
        line = replace(line, statement=replace(line.statement, guard=None))
    return roles(line) is not None


def _in_band(line: Line) -> Line:
    guard = line.statement.guard
    if guard is None or line.stands_alone:
        return line
    left: list[Expression] = []
    for condition in walk.conjuncts(guard):
        limit = _limit(condition, line)
        if limit is None:
            left.append(condition)
        else:
            line = _within(line, limit)
    if len(left) == len([*walk.conjuncts(guard)]):
        return line
    return replace(line, statement=replace(line.statement, guard=walk.conjunction(left)))


@dataclass(frozen=True, slots=True)
class _Limit:
    """`index operator bound`, where the bound is as much more as the other index is."""

    index: str
    operator: str
    bound: Expression
    other: str


def _limit(condition: Expression, line: Line) -> _Limit | None:
    match condition:
        case Compare((operator,), (one, two)) if operator in MIRRORED and operator != "==":
            apart = add(polynomial(one), polynomial(two), -1)
        case _:
            return None
    if any(True for _ in walk.reads(condition)):
        return None
    indices = {i: apart.get((Index(i),), 0) for i in walk.indices_of(condition)}
    if sorted(indices.values()) != [-1, 1] or not _are_apart(line, {*indices}):
        return None
    other, index = sorted(indices, key=line.indices.index)
    rest: Polynomial = {m: c for m, c in apart.items() if m != (Index(index),)}
    if any(walk.indices_of(atom) - {other} for monomial in rest for atom in monomial):
        return None
    if any(len(m) > 1 and Index(other) in m for m in rest):
        return None
    if indices[index] > 0:
        return _Limit(index, operator, to_expression(negate(rest)), other)
    return _Limit(index, MIRRORED[operator], to_expression(rest), other)


def _are_apart(line: Line, indices: set[str]) -> bool:
    """Have both ranges of their own, and no subscript in common, as in `x[n-p]`, which is a window?"""
    if len(indices) != 2 or not indices <= {*line.bounds}:
        return False
    other, index = sorted(indices, key=line.indices.index)
    free = not line.bound_by[other] and line.bound_by[index] <= {other}
    alone = index not in line.bounding and line.bounding <= {other}
    reads = (line.target, *walk.statement_reads(line.statement))
    return (
        free
        and alone
        and not any(indices <= walk.indices_of(s) for read in reads for s in read.subscripts)
    )


def _within(line: Line, limit: _Limit) -> Line:
    ranges = {r.index: r for r in line.statement.ranges}
    own, other = ranges[limit.index], ranges[limit.other]
    ranges[limit.index] = _narrower(own, limit, other)
    return replace(line, statement=replace(line.statement, ranges=tuple(ranges.values())))


def _narrower(own: Range, limit: _Limit, other: Range) -> Range:
    """The range with the limit; without the bound that it had where the limit is never beyond that."""
    assert own.lower is not None and own.upper is not None and other.upper is not None
    last = walk.apply("-", other.upper, Number(1))
    if limit.operator in ("<", "<="):
        ends = limit.bound if limit.operator == "<" else walk.plus_one(limit.bound)
        most = difference(walk.substitute(ends, {limit.other: last}), own.upper)
        within = most is not None and most <= 0
        return replace(own, upper=ends if within else walk.apply("min", own.upper, ends))
    begins = limit.bound if limit.operator == ">=" else walk.plus_one(limit.bound)
    least = difference(walk.substitute(begins, {limit.other: other.lower or Number(0)}), own.lower)
    within = least is not None and least >= 0
    return replace(own, lower=begins if within else walk.apply("max", begins, own.lower))
