"""Keeps a derivative within what can be read back: each derivation multiplies what it is given."""

from __future__ import annotations

from typing import NoReturn

from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.grad.activity import Leaf
from loopgrad.grad.products import Product
from loopgrad.ir.limits import DEEPEST_EXPRESSION, MOST_NODES, SPLIT, count_nodes, depth
from loopgrad.ir.nodes import Expression
from loopgrad.ir.printer import show_statement

LONGEST_CONTEXT = 300  # characters of a statement in an error


class Growth:
    """Counts what a derived program holds so far.

    It is asked before an expression is made, as one that shares its parts is far larger written out.
    """

    def __init__(self, program: str):
        self.program = program
        self.nodes = 0

    def admit(self, product: Product, leaf: Leaf) -> None:
        """Refuses the value of one more update, made from `leaf`, where it would be too much."""
        self.nodes += count_nodes(*(factor.base for factor in product.factors))
        if self.nodes > MOST_NODES:
            _refuse(
                f"the derivative of `{self.program}` has more than {MOST_NODES:,} names, numbers "
                "and operations",
                leaf,
            )

    def check_depth(self, value: Expression, leaf: Leaf) -> None:
        if depth(value) > DEEPEST_EXPRESSION:
            _refuse(
                f"the derivative of this statement has more than {DEEPEST_EXPRESSION} operations "
                "inside each other",
                leaf,
            )


def _refuse(found: str, leaf: Leaf) -> NoReturn:
    statement = show_statement(leaf.statement)
    if len(statement) > LONGEST_CONTEXT:
        statement = f"{statement[:LONGEST_CONTEXT]}..."
    raise ProgramError(Diagnostic(found, leaf.statement.span, SPLIT, context=statement))
