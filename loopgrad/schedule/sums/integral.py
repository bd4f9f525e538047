"""What is computed in integers stays as it stands: it is exact, and checked for overflow.

    y[i,j] += a[i,k] * b[k,j]           of integers a and b

is no product of two sides: `a * b` is refused where int64 does not hold it, and a difference of such
products may be small where each of them, as a real number, has lost the digits that are left of it.
Passes take sums and products apart, but no functions: so such an expression becomes the argument of one.

    y[j] += x[j]   if j < 2.5

says nothing that a bound of j could say, which is an integer; and `0.1 * (j + p) <= 0.3` is not what a sum of
multiples of j and p would be, by a rounding. So what reals are compared with is kept likewise.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Number, Read
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Nest, Phase, Sequence
from loopgrad.schedule.context import Context

EXACT = 24  # bits of an integer that each floating type holds
ITSELF = "stop_gradient"  # of an integer that integer, in all code; a schedule knows no gradients


def kept_whole(phase: Phase, context: Context) -> Phase:
    """The phase, with what is computed in integers in one piece."""
    match phase:
        case Nest(_, statement):
            value, guard = statement.value, statement.guard
            if context.tensors[statement.target.tensor].element is ElementType.FLOAT:
                value = _kept(value, context)
            value = _compared(value, context)
            guard = None if guard is None else _compared(guard, context)
            return replace(phase, statement=replace(statement, value=value, guard=guard))
        case Sequence(_, _, body):
            return replace(phase, body=tuple(kept_whole(inner, context) for inner in body))
    return phase


def _compared(e: Expression, context: Context) -> Expression:
    """With what is computed of indices in one piece, where reals are compared."""

    def changed(e: Expression) -> Expression:
        match walk.rebuild(e, changed):
            case Compare(operators, operands, span) if any(map(context.is_floating, operands)):
                return Compare(operators, tuple(map(_of_indices, operands)), span)
            case other:
                return other

    return changed(e)


def _of_indices(e: Expression) -> Expression:
    alone = walk.indices_of(e) and not any(True for _ in walk.reads(e))
    return walk.apply(ITSELF, e) if alone else e


def _kept(e: Expression, context: Context) -> Expression:
    match e:
        case Apply("+" | "-" | "*" | "neg"):
            if context.is_floating(e):
                return walk.rebuild(e, lambda inner: _kept(inner, context))
            return e if _bits(e, context) <= EXACT else walk.apply(ITSELF, e)
        case Apply("/", (dividend, divisor)):
            return walk.apply("/", _kept(dividend, context), divisor)
        case Conditional(condition, then, otherwise):
            return Conditional(condition, _kept(then, context), _kept(otherwise, context))
    return e


def _bits(e: Expression, context: Context) -> float:
    """How many an integer has, at most."""
    match e:
        case Number(int(value)):
            return value.bit_length()
        case Compare():
            return 1
        case Read(tensor) if context.tensors[tensor].element is ElementType.BOOL:
            return 1
        case Apply("*", operands):
            return sum(_bits(o, context) for o in operands)
        case Apply("+" | "-" | "neg", operands):
            return max(_bits(o, context) for o in operands) + 1
    return inf


def as_written(e: Expression) -> Expression:
    """The expression as a reader knows it."""
    match e:
        case Apply(operation, (operand,)) if operation == ITSELF:
            return as_written(operand)
    return walk.rebuild(e, as_written)
