"""Small faults put into a program: what somebody gets wrong who writes a backward by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Index,
    Number,
    Program,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import ONE, children, rebuild

OPPOSITE = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}


def mutations(program: Program) -> Iterator[tuple[str, Program]]:
    """What was done, and the program with it done in one place."""
    for what, statements in _of_body(program.statements):
        yield what, replace(program, statements=statements)


def _of_body(body: tuple[Statement, ...]) -> Iterator[tuple[str, tuple[Statement, ...]]]:
    for at, statement in enumerate(body):
        before, after = body[:at], body[at + 1 :]
        if before or after:
            yield "statement dropped", (*before, *after)
        match statement:
            case Block(_, inner):
                for what, changed in _of_body(inner):
                    yield what, (*before, replace(statement, body=changed), *after)
            case Accumulate(_, reduction, value, _, guard):
                if reduction in OPPOSITE:
                    flipped = replace(statement, reduction=OPPOSITE[reduction])
                    yield "sign flipped", (*before, flipped, *after)
                if guard is not None:
                    yield "guard dropped", (*before, replace(statement, guard=None), *after)
                for what, changed in _of_expression(value):
                    yield what, (*before, replace(statement, value=changed), *after)


def _of_expression(expression: Expression) -> Iterator[tuple[str, Expression]]:
    yield from _here(expression)
    if isinstance(expression, Read):
        return
    for at, child in enumerate(children(expression)):
        for what, changed in _of_expression(child):
            count = iter(range(len(children(expression))))
            yield what, rebuild(expression, lambda e: changed if next(count) == at else e)  # noqa: B023


def _here(expression: Expression) -> Iterator[tuple[str, Expression]]:
    match expression:
        case Apply("+" | "-", (left, right)):
            yield "term dropped", left
            yield "term dropped", right
        case Apply("-", (left, right), _):
            yield "sign flipped", Apply("+", (left, right))
        case Apply("*", (left, right)):
            yield "factor lost", left
            yield "factor lost", right
        case Apply("/", (left, _)):
            yield "divisor lost", left
        case Apply("**", (base, Number(int(n)))):
            yield "power off by one", Apply("**", (base, Number(n + 1)))
        case Apply("exp" | "log" | "tanh" | "sigmoid" | "sqrt", (operand,)):
            yield "function forgotten", operand
        case Apply("neg", (operand,)):
            yield "sign flipped", operand
        case Number(value) if value and value != float("inf"):
            yield "number off by one", Number(value + 1)
        case Read(tensor, (*rest, first, second)) if first != second:
            yield "subscripts swapped", Read(tensor, (*rest, second, first))
        case Index():
            yield "index off by one", Apply("+", (expression, ONE))
