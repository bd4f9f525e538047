"""Differences from 1, and logs of what is near it: `exp(u) - 1` as `expm1(u)`, `log(1 + u)` as `log1p(u)`.

What is near 1 holds few digits of how far from 1 it is; the two functions take and return the distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from loopgrad.ir.nodes import Apply, Expression, Number, Program
from loopgrad.ir.walk import (
    all_statements,
    apply,
    map_statement,
    rebuild,
    statement_expressions,
    subexpressions,
)


def has_differences(program: Program) -> bool:
    """Whether `with_differences` would change anything."""
    return any(of_distance(node) is not None for node in _nodes(program))


def with_differences(program: Program) -> Program:
    """The program with each such expression as a function of the distance from 1."""

    def change(node: Expression) -> Expression:
        node = rebuild(node, change)
        found = of_distance(node)
        return node if found is None else found

    return replace(program, statements=tuple(map_statement(s, change) for s in program.statements))


def _nodes(program: Program) -> Iterator[Expression]:
    for statement in all_statements(program.statements):
        for expression in statement_expressions(statement):
            yield from subexpressions(expression)


def of_distance(node: Expression) -> Expression | None:
    """The expression as a function of a distance from 1; None where it is none that is known."""
    match node:
        case Apply("-", (Apply("exp", (u,)), Number(1))):
            return apply("expm1", u)
        case Apply("-", (Number(1), Apply("exp", (u,)))):
            return apply("neg", apply("expm1", u))
        case Apply("+", (Apply("neg", (Number(1),)), Apply("exp", (u,)))):
            return apply("expm1", u)
        case Apply("log", (Apply("+", (Number(1), u)),)) | Apply(
            "log", (Apply("+", (u, Number(1))),)
        ):
            return apply("log1p", u)
        case Apply("log", (Apply("-", (Number(1), u)),)):
            return apply("log1p", apply("neg", u))
    return None
