"""Guards that say no more than which values an index takes become its range."""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Compare, Expression, Index, Number, Range
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
        case _:
            return "", None
    r = ranges.get(name)
    if r is None or r.lower is None or r.upper is None or not _is_fixed(bound):
        return "", None
    return name, narrower(r, operator, bound)


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


def _is_fixed(bound: Expression) -> bool:
    """Is it the same for all iterations, and always there?"""
    return not walk.indices_of(bound) and not any(True for _ in walk.reads(bound))


def _greatest(one: Expression, other: Expression) -> Expression:
    match one, other:
        case Number(int(a)), Number(int(b)):
            return Number(max(a, b))
    return walk.apply("max", one, other)


def _least(one: Expression, other: Expression) -> Expression:
    if one == other:
        return one
    match one, other:
        case Number(int(a)), Number(int(b)):
            return Number(min(a, b))
    return walk.apply("min", one, other)
