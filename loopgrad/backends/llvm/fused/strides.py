"""How far a subscript moves from one value of an index to the next."""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Index, Number


def coefficient(
    subscript: Expression, index: str, varies: Callable[[Expression], bool]
) -> int | Expression | None:
    """The factor of the index in a subscript that is linear in it; None where it is not.

    `varies` tells whether anything in an expression hangs on the index.

    >>> from loopgrad.ir.nodes import Constant
    >>> j, stride = Index("j"), Constant("stride")
    >>> moved = Apply("-", (Apply("*", (Number(2), j)), Number(1)))
    >>> coefficient(moved, "j", lambda e: "j" in walk.indices_of(e))
    2
    """
    if not varies(subscript):
        return 0
    match subscript:
        case Index(name):
            return 1 if name == index else None
        case Apply("neg", (operand,)):
            inner = coefficient(operand, index, varies)
            return None if inner is None else _product(inner, -1)
        case Apply("+" | "-" as operation, (left, right)):
            first, second = coefficient(left, index, varies), coefficient(right, index, varies)
            if first is None or second is None:
                return None
            return _sum(first, second if operation == "+" else _product(second, -1))
        case Apply("*", (left, right)):
            if varies(left):
                left, right = right, left
            if varies(left):
                return None
            inner = coefficient(right, index, varies)
            return None if inner is None else _product(inner, left)
    return None


def _sum(a: int | Expression, b: int | Expression) -> int | Expression:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return walk.apply("+", _expression(a), _expression(b))


def _product(a: int | Expression, b: int | Expression) -> int | Expression:
    a, b = _folded(a), _folded(b)
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if a == 1 or b == 1:
        return b if a == 1 else a
    return walk.apply("*", _expression(a), _expression(b))


def _folded(value: int | Expression) -> int | Expression:
    match value:
        case Number(int(number)):
            return number
        case Apply("neg", (Number(int(number)),)):
            return -number
    return value


def _expression(value: int | Expression) -> Expression:
    return walk.number(value) if isinstance(value, int) else value
