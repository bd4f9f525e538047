"""A loss together with its gradients, as one program: the seed is 1, and no input any more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import asking_for
from loopgrad.analysis.types import element_type
from loopgrad.grad.joining import joined
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number, Program, Read
from loopgrad.ir.operations import ElementType

ONE = Number(1.0)


def loss_and_gradients(forward: Program, backward: Program) -> Program:
    """One program that computes the forward's results and the gradients of its backward, which is that of the
    first of them, the loss."""
    both = joined(forward, backward)
    seeds = {i.name for i in both.inputs} - {i.name for i in forward.inputs}
    assert len(seeds) <= 1, seeds  # anything else would be a tensor that the forward lacks
    facts = infer(both)
    elements = {t.name: t.element for t in facts.tensors.values()}

    def is_real(e: Expression) -> bool:
        return element_type(e, elements, facts.constants) is ElementType.FLOAT

    statements = tuple(
        walk.map_statement(statement, lambda e: _seeded(e, seeds, is_real))
        for statement in both.statements
    )
    arguments = tuple(a for a in both.arguments if a.name not in seeds)
    return asking_for(replace(both, arguments=arguments, statements=statements), infer(forward))


def _seeded(
    expression: Expression, seeds: Collection[str], is_real: Callable[[Expression], bool]
) -> Expression:
    """With factors of 1 left out, but those that alone make a product of integers one of reals."""
    match expression:
        case Read(tensor) if tensor in seeds:
            return ONE
        case Apply("*" | "/", (left, right)):
            one, other = _seeded(left, seeds, is_real), _seeded(right, seeds, is_real)
            if other is ONE and is_real(left):
                return one
            if one is ONE and expression.operation == "*" and is_real(right):
                return other
            if is_real(right) or expression.operation == "/":
                one = _without_one(one)
            return replace(expression, operands=(one, other))
    return walk.rebuild(expression, lambda e: _seeded(e, seeds, is_real))


def _without_one(e: Expression) -> Expression:
    """What is about to meet a real number, without a factor of 1 of its own."""
    match e:
        case Apply("*", (factor, one)) | Apply("*", (one, factor)) if one is ONE:
            return factor
    return e
