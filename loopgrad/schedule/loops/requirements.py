"""What sizes have to satisfy for subscripts to be in range that nobody could prove to be.

`hp[t,b,j']` with j' below J' and the axis of extent J needs `J' <= J`; under `if t > 0` the least t of
`h[t-1]` is 1. A call whose sizes break a requirement runs the literal loops, which find the subscript
to blame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from loopgrad.analysis.extents import largest, smallest
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Constant, Expression, Extent, Index, Number, Read
from loopgrad.schedule.lines import Bounds, Line, Tensors
from loopgrad.schedule.loops.narrowing import narrowed


def required(line: Line, tensors: Tensors) -> tuple[Line, tuple[Expression, ...]]:
    """The line with fewer unproved subscripts, and the conditions under which those are in range.

    Conditions are comparisons of integers in extents and constants. A line whose loops are empty is
    asked for more than it needs: it then runs literally, which is right too.
    """
    conditions: dict[Expression, None] = {}
    left = []
    guard = line.statement.guard
    always = set(walk.reads(guard)) if guard is not None else set()
    where_it_holds = narrowed(line).bounds
    for read in line.unproved:
        bounds = line.bounds if read in always else where_it_holds
        found = _conditions(read, bounds, tensors)
        if found is None:
            left.append(read)
        else:
            conditions.update(dict.fromkeys(found))
    return replace(line, unproved=tuple(left)), tuple(conditions)


def _conditions(
    read: Read, bounds: Mapping[str, Bounds], tensors: Tensors
) -> list[Expression] | None:
    found: list[Expression] = []
    for subscript, extent in zip(read.subscripts, tensors[read.tensor].extents, strict=True):
        limits = _limits(subscript, bounds)
        if limits is None:
            return None
        least, greatest = limits
        found += _unless_plain("<=", Number(0), least)
        found += _unless_plain("<", greatest, extent)
    return found


def _unless_plain(operator: str, left: Expression, right: Expression) -> Iterator[Expression]:
    """The condition; nothing where it holds at sight."""
    match left, right:
        case Number(0), Number(int(value)) if value >= 0:
            return
        case Apply("-", (upper, Number(1))), extent if upper == extent:
            return
    yield walk.compare(operator, left, right)


def _limits(
    expression: Expression, bounds: Mapping[str, Bounds]
) -> tuple[Expression, Expression] | None:
    """The least and the greatest value; None where it hangs on data, or is no plain formula."""
    match expression:
        case Number(int()) | Extent() | Constant():
            return expression, expression
        case Index(name) if name in bounds:
            lower, upper = (_limits(bound, bounds) for bound in bounds[name])
            if lower and upper:
                return lower[0], walk.apply("-", upper[1], Number(1))
        case Apply("+" | "-", _) if _hangs_on_others(expression, bounds):
            # Of `t - u` with `u <= t` the least is 0, though that of `t` is, and the greatest of `u` is not.
            ranges = [(name, *ends) for name, ends in bounds.items()]
            low, high = (f(expression, ranges, frozenset()) for f in (smallest, largest))
            if low and high:
                return low, high
        case Apply("+" | "-" as sign, (left, right)):
            one, other = _limits(left, bounds), _limits(right, bounds)
            if one and other:
                least, greatest = other if sign == "+" else reversed(other)
                return _apply(sign, one[0], least), _apply(sign, one[1], greatest)
        case Apply("*", (left, right)) if _is_natural(left) or _is_natural(right):
            factor, multiplied = (left, right) if _is_natural(left) else (right, left)
            inner = _limits(multiplied, bounds)
            if inner:
                low, high = (walk.apply("*", factor, limit) for limit in inner)
                return low, high
        case Apply("//", (dividend, divisor)) if _is_natural(divisor):
            inner = _limits(dividend, bounds)
            if inner:
                return _divided(inner[0], divisor), _divided(inner[1], divisor)
        case Apply("%", (_, divisor)) if _is_natural(divisor):
            return Number(0), walk.apply("-", divisor, Number(1))
        case Apply("max" | "min" as several, (left, right)):
            one, other = _limits(left, bounds), _limits(right, bounds)
            if one and other:
                low, high = (walk.apply(several, *pair) for pair in zip(one, other, strict=True))
                return low, high
        case Apply("abs", (operand,)):
            inner = _limits(operand, bounds)
            if inner:
                least, greatest = inner
                return Number(0), walk.apply("max", greatest, _apply("-", Number(0), least))
    return None


def _hangs_on_others(expression: Expression, bounds: Mapping[str, Bounds]) -> bool:
    """Is an index in it whose bounds hang on others?"""
    names = walk.indices_of(expression) & {*bounds}
    return any(walk.indices_of(bound) for name in names for bound in bounds[name])


def _is_natural(e: Expression) -> bool:
    """Is it evidently 0 or more? Of a divisor the loops see to it that it is not 0."""
    match e:
        case Extent():
            return True
        case Number(int(value)):
            return value >= 0
        case Apply("+" | "*" | "//" | "%" | "max" | "min", operands):
            return all(map(_is_natural, operands))
    return False


def _divided(dividend: Expression, divisor: Expression) -> Expression:
    return dividend if dividend == Number(0) else walk.apply("//", dividend, divisor)


def _apply(sign: str, left: Expression, right: Expression) -> Expression:
    match left, right:
        case Number(int(a)), Number(int(b)):
            return Number(a + b if sign == "+" else a - b)
    return walk.apply(sign, left, right)
