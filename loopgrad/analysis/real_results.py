"""Results that stay real numbers where a rewriting leaves integers alone: `1.0 * w[n]`, not `w[n]`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Conditional,
    Expression,
    Number,
    Program,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import apply


def with_real_results(program: Program, original: Facts) -> Program:
    """The program, each result of which is real where the original's is."""
    tensors = infer(program).tensors
    lost = {
        r.name
        for r in program.results
        if tensors[r.name].element is not ElementType.FLOAT
        and original.tensors[r.name].element is ElementType.FLOAT
    }
    if not lost:
        return program
    return replace(program, statements=tuple(_made_real(s, lost) for s in program.statements))


def _made_real(statement: Statement, names: Set[str]) -> Statement:
    match statement:
        case Block():
            return replace(statement, body=tuple(_made_real(s, names) for s in statement.body))
        case Accumulate() if statement.target.tensor in names:
            return replace(statement, value=as_real(statement.value))
    return statement


def as_real(e: Expression) -> Expression:
    """An integer as a real number, and so that its sums and products are of real numbers too."""
    match e:
        case Number(value):
            return Number(float(value))
        case Apply("+" | "-", (left, right)):
            return apply(e.operation, as_real(left), as_real(right))
        case Apply("*", (left, right)):
            return apply("*", as_real(left), as_real(right) if isinstance(right, Apply) else right)
        case Apply("**", (base, exponent)):
            return apply("**", as_real(base), exponent)
        case Apply("neg", (operand,)):
            return apply("neg", as_real(operand))
        case Conditional(_, then, otherwise):
            return replace(e, then=as_real(then), otherwise=as_real(otherwise))
    return apply("*", Number(1.0), e)
