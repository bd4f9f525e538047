"""The factors of a product in the order that multiplies least often.

`w[e,j,i] * p[b,e] * g[b,j]` multiplies twice for all of b, e, j and i, `p[b,e] * g[b,j] * w[e,j,i]` once.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir.nodes import Accumulate, Apply, Block, Expression, Read, Statement
from loopgrad.ir.walk import indices_of, multiplicands, rebuild


def best_order(statement: Statement) -> Statement:
    """The statement with the products in its values so, in blocks all the way down."""
    if isinstance(statement, Block):
        return replace(statement, body=tuple(map(best_order, statement.body)))
    if isinstance(statement, Accumulate):
        return replace(statement, value=associated(statement.value))
    return statement


def associated(expression: Expression) -> Expression:
    """The expression with its products in that order; in their own where another is no better."""
    if isinstance(expression, Read):
        return expression
    if not isinstance(expression, Apply) or expression.operation != "*":
        return rebuild(expression, associated)
    left = [associated(factor) for factor in multiplicands(expression)]
    product = left.pop(min(range(len(left)), key=lambda k: len(indices_of(left[k]))))
    while left:
        together = [indices_of(product) | indices_of(factor) for factor in left]
        product = Apply(
            "*", (product, left.pop(min(range(len(left)), key=lambda k: len(together[k]))))
        )
    return product
