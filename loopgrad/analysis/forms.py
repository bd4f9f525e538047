"""Rules that can be read off a program: what may be written, with which operation, of which type.

The parser checks most of these in a text, with better words; traced and derived programs come here.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.places import line_of
from loopgrad.analysis.types import element_type
from loopgrad.diagnostics import Diagnostic, Span
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import all_statements, bounds, children

SAME = {Reduction.SUBTRACT: Reduction.ADD}  # one operation, for the rule of one per tensor


def malformed(facts: Facts) -> list[Diagnostic]:
    """Every place where a rule of form is broken."""
    return [*_Forms(facts).check()]


class _Forms:
    def __init__(self, facts: Facts):
        self.facts = facts
        self.tensors = {name: t.element for name, t in facts.tensors.items()}
        self.inputs = {i.name for i in facts.program.inputs}
        self.operations: dict[str, tuple[Reduction, Accumulate]] = {}

    def check(self) -> Iterator[Diagnostic]:
        for statement in all_statements(self.facts.program.statements):
            for bound in bounds(statement.ranges):
                yield from self._integer(bound, "a bound of a loop", statement)
                yield from self._expression(bound, statement)
            if isinstance(statement, Accumulate):
                yield from self._accumulate(statement)

    def _accumulate(self, statement: Accumulate) -> Iterator[Diagnostic]:
        target = statement.target
        if target.tensor in self.inputs:
            yield self._mistake(
                f"`{target.tensor}` is an input, and inputs are never written",
                target.span,
                statement,
                f"write to a tensor of another name, as in `{target.tensor}2`",
            )
        yield from self._operation(statement)
        if statement.guard is not None:
            yield from self._condition(statement.guard, statement)
            yield from self._expression(statement.guard, statement)
        yield from self._expression(target, statement)
        yield from self._expression(statement.value, statement)

    def _operation(self, statement: Accumulate) -> Iterator[Diagnostic]:
        operation, name = statement.reduction, statement.target.tensor
        if operation is Reduction.SET:
            return
        first, where = self.operations.setdefault(name, (operation, statement))
        if SAME.get(first, first) is not SAME.get(operation, operation):
            note = f"`{first.value}` here"
            span = where.target.span
            yield self._mistake(
                f"`{name}` is updated by `{operation.value}` and by `{first.value}`: "
                "a tensor has one operation beside `=`",
                statement.target.span,
                statement,
                f"give one of the two a tensor of its own, as in `{name}2`",
                ((span, note if span else f"{note}: `{line_of(where)}`"),),
            )

    def _expression(self, expression: Expression, statement: Statement) -> Iterator[Diagnostic]:
        match expression:
            case Index() | Number():
                return
            case Read(_, subscripts):
                for subscript in subscripts:
                    if not isinstance(subscript, Index):
                        yield from self._integer(subscript, "a subscript", statement)
            case Conditional(condition):
                yield from self._condition(condition, statement)
            case Apply("and" | "or" | "not", operands):
                for operand in operands:
                    yield from self._condition(operand, statement)
            case Apply("//" | "%" as operation, operands):
                for operand in operands:
                    yield from self._integer(operand, f"an operand of `{operation}`", statement)
                if operands[1] == Number(0):
                    yield self._mistake(
                        f"`{operation}` by zero, whatever the input",
                        operands[1].span,
                        statement,
                        "divide by a number that is not 0",
                    )
        for child in children(expression):
            yield from self._expression(child, statement)

    def _condition(self, condition: Expression, statement: Statement) -> Iterator[Diagnostic]:
        if isinstance(condition, Compare) or not self._is_floating(condition):
            return
        shown = show_expression(condition)
        yield self._mistake(
            f"the condition `{shown}` is a floating value",
            condition.span,
            statement,
            f"compare it, as in `{shown} != 0`",
        )

    def _integer(
        self, expression: Expression, what: str, statement: Statement
    ) -> Iterator[Diagnostic]:
        if self._is_floating(expression):
            shown = show_expression(expression)
            yield self._mistake(
                f"{what} is an integer, and `{shown}` is a floating value",
                expression.span,
                statement,
                _rounded(expression),
            )

    def _is_floating(self, expression: Expression) -> bool:
        kind = element_type(expression, self.tensors, self.facts.constants)
        return kind is ElementType.FLOAT

    def _mistake(
        self,
        found: str,
        span: Span | None,
        statement: Statement,
        help: str,
        notes: tuple[tuple[Span | None, str], ...] = (),
    ) -> Diagnostic:
        span = span or statement.span
        return Diagnostic(found, span, help, notes, None if span else line_of(statement))


def _rounded(expression: Expression) -> str:
    match expression:
        case Number(float(value)) if value.is_integer():
            return f"write `{int(value)}`"
        case Apply("/"):
            return "`//` divides integers; `/` gives a real number"
    return f"round it, as in `floor({show_expression(expression)})`"
