"""`sigmoid(-x)` for `1 - sigmoid(x)`: the same, with all of its digits where x is large, and no dearer."""

from __future__ import annotations

from loopgrad.ir.nodes import Apply, Expression, Number
from loopgrad.ir.walk import apply, rebuild


def with_complements(expression: Expression) -> Expression:
    """The expression with each such difference as a function."""
    match rebuild(expression, with_complements):
        case Apply("-", (Number(1), Apply("sigmoid", (inside,)))):
            return apply("sigmoid", negated(inside))
        case Apply("-", (Apply("sigmoid", (inside,)), Number(1))):
            return apply("neg", apply("sigmoid", negated(inside)))
        case new:
            return new


def negated(expression: Expression) -> Expression:
    match expression:
        case Apply("neg", (inside,)):
            return inside
        case Apply("-", (left, right)):
            return apply("-", right, left)
    return apply("neg", expression)
