"""Guards that say no more than which values an index takes become its range."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from loopgrad.analysis.extents import difference, polynomial, to_expression
from loopgrad.analysis.polynomial import negate, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Expression, Extent, Index, Number, Range
from loopgrad.schedule.lines import Line

MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


def narrowed(line: Line) -> Line:
    """The line with conditions such as `t > 0` in its ranges. A range may become empty."""
    statement = line.statement
    if statement.guard is None:
        return line
    ranges = {r.index: r for r in statement.ranges}
    left: list[Expression] = []
    for condition in walk.conjuncts(statement.guard):
        index, narrower = _narrower(condition, ranges)
        if narrower is None:
            left.append(condition)
        else:
            ranges[index] = narrower
    guard = walk.conjunction(left)
    return replace(line, statement=replace(statement, ranges=tuple(ranges.values()), guard=guard))


def _narrower(condition: Expression, ranges: dict[str, Range]) -> tuple[str, Range | None]:
    """The range that holds where the condition does; None where it is no condition of that kind."""
    match condition:
        case Compare((operator,), (Index(name), bound)) if operator in MIRRORED:
            pass
        case Compare((operator,), (bound, Index(name))) if operator in MIRRORED:
            operator = MIRRORED[operator]
        case _ if _is_whole(condition):
            found = solved(condition, ranges, frozenset())
            return _within(ranges, *found) if found else ("", None)
        case _:
            return "", None
    return _within(ranges, name, operator, bound)


def _within(
    ranges: dict[str, Range], name: str, operator: str, bound: Expression
) -> tuple[str, Range | None]:
    r = ranges.get(name)
    if r is None or r.lower is None or r.upper is None or not walk.is_fixed(bound):
        return "", None
    return name, narrower(r, operator, bound)


def _is_whole(e: Expression) -> bool:
    """Is it made of whole numbers alone, and of one index?"""
    parts = list(walk.subexpressions(e))
    return len(walk.indices_of(e)) == 1 and all(
        isinstance(part, Index | Extent)
        or (isinstance(part, Number) and isinstance(part.value, int))
        or (isinstance(part, Apply) and part.operation in ("+", "-", "*", "neg", "//"))
        or isinstance(part, Compare)
        for part in parts
    )


def narrower(r: Range, operator: str, bound: Expression) -> Range:
    """The range, of those of its values for which `index operator bound` holds."""
    assert r.lower is not None and r.upper is not None
    lower, upper = r.lower, r.upper
    match operator:
        case "<":
            upper = _least(upper, bound)
        case "<=":
            upper = _least(upper, walk.plus_one(bound))
        case ">":
            lower = _greatest(lower, walk.plus_one(bound))
        case ">=":
            lower = _greatest(lower, bound)
        case "==":
            lower, upper = _greatest(lower, bound), _least(upper, walk.plus_one(bound))
    return replace(r, lower=lower, upper=upper)


def _greatest(one: Expression, other: Expression) -> Expression:
    apart = difference(one, other)
    if apart is None:
        return walk.apply("max", one, other)
    return one if apart >= 0 else other


def _least(one: Expression, other: Expression) -> Expression:
    apart = difference(one, other)
    if apart is None:
        return walk.apply("min", one, other)
    return one if apart <= 0 else other


def solved(
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
    apart = subtract(polynomial(left), polynomial(right))
    wanted = [m for m in apart if any(isinstance(a, Index) and a.name in indices for a in m)]
    if len(wanted) != 1 or len(wanted[0]) != 1:
        return None
    ((index,),) = wanted
    assert isinstance(index, Index)
    count = apart.pop(wanted[0])
    positive = count > 0
    bound = to_expression(negate(apart) if positive else apart)
    if any(True for _ in walk.reads(bound)) or not walk.indices_of(bound) <= others:
        return None
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
