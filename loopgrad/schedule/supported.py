"""What vector code can do: the statements that a schedule may put into a tree."""

from __future__ import annotations

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.types import element_type
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType

# Of an integer, as multiplications.
GREATEST_EXPONENT = 8


class Support:
    """Judges the statements of one program."""

    def __init__(self, facts: Facts, safety: Safety):
        self.safety = safety
        self.elements = {name: tensor.element for name, tensor in facts.tensors.items()}
        self.constants = facts.constants

    def reason_against(self, statement: Accumulate) -> str | None:
        """Why the statement has to stay a nest as it is written; None where it need not."""
        target = statement.target.tensor
        whole = self.elements[target] is not ElementType.FLOAT
        if whole and not (_is_choice(statement) or self._rounds(statement)):
            return f"`{target}` adds up integers"
        if target in self.safety.tracked:
            return f"whether `{target}` is complete when it is read is watched"
        for read in walk.statement_reads(statement):
            if read.tensor in self.safety.tracked:
                return f"whether `{read.tensor}` is complete when it is read is watched"
        for expression in walk.statement_expressions(statement):
            found = self._unknown(expression)
            if found is not None:
                return found
        return None

    def _rounds(self, statement: Accumulate) -> bool:
        """Does it store reals, rounded down? Code gives up where one is no number, or too large."""
        match statement:
            case Accumulate(reduction=Reduction.SET, value=Apply("floor", (real,))):
                return self._type(real) is ElementType.FLOAT
        return False

    def _unknown(self, expression: Expression) -> str | None:
        for node in walk.subexpressions(expression):
            if isinstance(node, Apply) and not self._is_known(node):
                return f"`{node.operation}` of integers is computed with checks"
        return None

    def _is_known(self, node: Apply) -> bool:
        """Code gives up where integers grow too large; powers it has for small exponents alone."""
        if node.operation != "**" or self._type(node) is not ElementType.INT:
            return True
        exponent = node.operands[1]
        return isinstance(exponent, Number) and 0 <= exponent.value <= GREATEST_EXPONENT

    def _type(self, expression: Expression) -> ElementType:
        return element_type(expression, self.elements, self.constants)


def _is_choice(statement: Accumulate) -> bool:
    """Does it choose among indices, and compute nothing that may overflow?"""
    chooses = statement.reduction in (Reduction.MINIMUM, Reduction.MAXIMUM, Reduction.SET)
    return chooses and isinstance(statement.value, Index | Number | Read)
