"""What vector code can do: the statements that a schedule may put into a tree."""

from __future__ import annotations

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.types import element_type
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Constant,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType


class Support:
    """Judges the statements of one program."""

    def __init__(self, facts: Facts, safety: Safety):
        self.safety = safety
        self.elements = {name: tensor.element for name, tensor in facts.tensors.items()}
        self.constants = facts.constants

    def reason_against(self, statement: Accumulate) -> str | None:
        """Why the statement has to stay a nest as it is written; None where it need not."""
        target = statement.target.tensor
        if self.elements[target] is not ElementType.FLOAT and not _is_choice(statement):
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

    def _unknown(self, expression: Expression) -> str | None:
        for node in walk.subexpressions(expression):
            if isinstance(node, Apply) and not self._is_known(node):
                return f"`{node.operation}` of integers is computed with checks"
        return None

    def _is_known(self, node: Apply) -> bool:
        """Integers must not overflow, nor be divided by zero, where nobody checks."""
        if self._type(node) is not ElementType.INT:
            return True
        match node:
            case Apply("min" | "max"):
                return True
            case Apply("//" | "%", (dividend, divisor)):
                return self._is_positive(divisor) and not _holds_data(dividend)
            case Apply("+" | "-" | "*" | "neg"):
                return not _holds_data(node)
        return False

    def _is_positive(self, divisor: Expression) -> bool:
        match divisor:
            case Number(int(value)):
                return value > 0
            case Constant(name):
                return name in self.safety.positive  # else another variant runs
        return False

    def _type(self, expression: Expression) -> ElementType:
        return element_type(expression, self.elements, self.constants)


def _is_choice(statement: Accumulate) -> bool:
    """Does it choose among indices, and compute nothing that may overflow?"""
    chooses = statement.reduction in (Reduction.MINIMUM, Reduction.MAXIMUM, Reduction.SET)
    return chooses and isinstance(statement.value, Index | Number | Read)


def _holds_data(expression: Expression) -> bool:
    """Are its numbers anyone's, not those of extents and loops, which are small?"""
    return any(isinstance(n, Read | Conditional) for n in walk.subexpressions(expression))
