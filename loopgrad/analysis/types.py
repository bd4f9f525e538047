"""The element type of an expression: bool, int or float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduce,
)
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT
_RANK = {BOOL: 0, INT: 1, FLOAT: 2}


def join(*types: ElementType) -> ElementType:
    """The least type that holds values of all: bool < int < float."""
    return max(types, key=_RANK.__getitem__)


def element_type(
    expression: Expression,
    tensors: Mapping[str, ElementType],
    constants: Mapping[str, ElementType],
    known: dict[Expression, ElementType] | None = None,
) -> ElementType:
    """What the expression's value is. A tensor that is not in `tensors` counts as bool, the least.

    So a fixpoint may start from nothing known of the computed tensors.
    known: answers for the same tensors and constants, to which this one is added with those of its parts.
    """
    found = None if known is None else known.get(expression)
    if found is None:
        found = _element_type(expression, tensors, constants, known)
        if known is not None:
            known[expression] = found
    return found


def _element_type(
    expression: Expression,
    tensors: Mapping[str, ElementType],
    constants: Mapping[str, ElementType],
    known: dict[Expression, ElementType] | None,
) -> ElementType:
    match expression:
        case Number(value):
            return INT if isinstance(value, int) else FLOAT
        case Index() | Extent():
            return INT
        case Constant(name):
            return constants.get(name, FLOAT)
        case Read(name):
            return tensors.get(name, BOOL)
        case Compare():
            return BOOL
        case Conditional(_, then, otherwise):
            return join(
                element_type(then, tensors, constants, known),
                element_type(otherwise, tensors, constants, known),
            )
        case Apply(operation, operands):
            match OPERATIONS[operation].typing:
                case Typing.FLOAT:
                    return FLOAT
                case Typing.INT | Typing.INTEGERS:
                    return INT
                case Typing.BOOL:
                    return BOOL
                case Typing.PROMOTE:
                    if operation == "**" and _is_negative(operands[1]):
                        return FLOAT
                    return join(
                        INT, *[element_type(o, tensors, constants, known) for o in operands]
                    )
                case unknown:
                    assert_never(unknown)
        case Reduce(name, _, body):
            real = name in ("mean", "logsumexp", "softmax")
            return FLOAT if real else join(INT, element_type(body, tensors, constants, known))
    assert_never(expression)


def _is_negative(exponent: Expression) -> bool:
    match exponent:
        case Apply("neg", (Number(),)):
            return True
    return False
