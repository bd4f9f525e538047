"""Are two statements the same but for the order of factors and terms?"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir.nodes import Apply, Expression, Program, Read, Statement
from loopgrad.ir.walk import ONE, apply, map_statement, rebuild


def settled(statement: Statement) -> Statement:
    """The same for statements that differ in the order of factors and terms alone."""
    return map_statement(statement, _ordered)


def in_order(program: Program) -> Program:
    """The program with the factors of each product, and the two sides of each sum, in one order."""
    return replace(program, statements=tuple(map_statement(s, _sorted) for s in program.statements))


def _sorted(expression: Expression) -> Expression:
    match expression:
        case Apply("*" | "/"):
            over, under = _parts(expression)
            product: Expression = ONE
            for factor in sorted(map(_sorted, over), key=repr):
                product = apply("*", product, factor)
            for factor in sorted(map(_sorted, under), key=repr):
                product = apply("/", product, factor)
            return product
        case Apply("+", (left, right)):
            return Apply("+", tuple(sorted((_sorted(left), _sorted(right)), key=repr)))
    return rebuild(expression, _sorted)


def _parts(expression: Expression) -> tuple[list[Expression], list[Expression]]:
    match expression:
        case Apply("*", (left, right)):
            (a, b), (c, d) = _parts(left), _parts(right)
            return [*a, *c], [*b, *d]
        case Apply("/", (left, right)):
            (a, b), (c, d) = _parts(left), _parts(right)
            return [*a, *d], [*b, *c]
    return [expression], []


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
    over, under = _parts(expression)
    return [_ordered(e) for e in over], [_ordered(e) for e in under]
