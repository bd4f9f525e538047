"""A loss together with its gradients, as one program: the seed is 1, and no input any more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from loopgrad.analysis.infer import infer
from loopgrad.analysis.types import element_type
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number, Program, Read
from loopgrad.ir.operations import ElementType

ONE = Number(1.0)


def loss_and_gradients(forward: Program, backward: Program) -> Program:
    """One program that computes the forward's results and the gradients of its backward.

    The forward has to be unfolded; the backward is that of its first result, the loss.
    """
    computed = set(walk.computed_tensors(forward))
    seeds = {i.name for i in backward.inputs} - {i.name for i in forward.inputs} - computed
    assert len(seeds) <= 1, seeds  # anything else would be a tensor that the forward lacks
    facts = infer(backward)
    elements = {t.name: t.element for t in facts.tensors.values()}

    def is_real(e: Expression) -> bool:
        return element_type(e, elements, facts.constants) is ElementType.FLOAT

    second = tuple(
        walk.map_statement(statement, lambda e: _seeded(e, seeds, is_real))
        for statement in backward.statements
    )
    results = (*forward.results, *backward.results)
    returned = {r.name for r in results}
    declared = {one.name: one for one in (*forward.locals, *backward.locals)}
    return replace(
        forward,
        name=backward.name,
        statements=(*forward.statements, *second),
        results=results,
        locals=tuple(one for name, one in declared.items() if name not in returned),
        batch=None,
        primal=None,
    )


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
