"""Are two statements the same but for the order of factors and terms?"""

from __future__ import annotations

from loopgrad.ir.nodes import Apply, Expression, Read, Statement
from loopgrad.ir.walk import map_statement, rebuild


def settled(statement: Statement) -> Statement:
    """The same for statements that differ in the order of factors and terms alone."""
    return map_statement(statement, _ordered)


def alike(one: Expression, other: Expression) -> bool:
    """Are two expressions the same but for the order of factors and terms?"""
    return one == other or _ordered(one) == _ordered(other)


def _ordered(expression: Expression) -> Expression:
    match expression:
        case Apply("*" | "/"):
            over, under = _factors(expression)
            parts = [*sorted(map(repr, over)), "/", *sorted(map(repr, under))]
            return Read("*".join(parts))
        case Apply("+", (left, right)):
            return Apply("+", tuple(sorted((_ordered(left), _ordered(right)), key=repr)))
    return rebuild(expression, _ordered)


def _factors(expression: Expression) -> tuple[list[Expression], list[Expression]]:
    """The factors of a product, and those that it is divided by."""
    match expression:
        case Apply("*", (left, right)):
            (a, b), (c, d) = _factors(left), _factors(right)
            return [*a, *c], [*b, *d]
        case Apply("/", (left, right)):
            (a, b), (c, d) = _factors(left), _factors(right)
            return [*a, *d], [*b, *c]
    return [_ordered(expression)], []
