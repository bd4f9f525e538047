"""Reciprocals: a division by what changes less often than the dividend becomes a multiplication,
`x[b,j] * (1 / Z[b])`.

The reciprocal of a divisor next to nothing is infinite where a quotient need not be. So one that a schedule
makes differs from one that is written: code for it gives up there, and the literal loops divide.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule.lines import Line


class _Taken(Number):
    """The dividend of a reciprocal that a schedule makes; prints as the 1 that it is, and equals no other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


TAKEN = _Taken(1)


def reciprocal(divisor: Expression, large: Collection[str] = ()) -> Expression:
    """What to multiply by, in place of dividing by the divisor. large: tensors, see `_large`."""
    return walk.apply("/", Number(1) if _is_far(divisor, large) else TAKEN, divisor)


def _is_far(e: Expression, large: Collection[str]) -> bool:
    """Is it 0, or so far from it that its reciprocal is finite?"""
    match e:
        case Read(tensor):
            return tensor in large
        case Apply("**", (Read(tensor), Number())):
            return tensor in large
        case Apply("*", (one, other)):
            pairs = ((one, other), (other, one))
            return any(_is_whole(a) and _is_far(b, large) for a, b in pairs)
        case Apply("sqrt"):
            return True  # of the least number 1e-23, or 1e-162
    return _is_whole(e)


def _is_whole(e: Expression) -> bool:
    """Is it made of whole numbers, or of their roots?"""
    match e:
        case Number(value):
            return isinstance(value, int)
        case Apply("+" | "-" | "*" | "neg" | "sqrt" | "max" | "min", operands):
            return all(map(_is_whole, operands))
    return isinstance(e, Extent | Index)


def _large(lines: Sequence[Line], written_once: Container[str]) -> frozenset[str]:
    """Tensors whose elements are 1 or more, or 0, or no number: sums of `exp(u - m)` where m is the largest
    u, or 0 where that is infinite.
    """
    statements = (line.statement for line in lines if line.written.tensor in written_once)
    # Beside them there may be the start from an identity.
    alone = {s.target.tensor: s for s in statements if any(True for _ in walk.reads(s.value))}
    return frozenset(name for name, total in alone.items() if _holds_one(total, alone))


def _holds_one(total: Accumulate, alone: Mapping[str, Accumulate]) -> bool:
    match total:
        case Accumulate(_, Reduction.ADD, Apply("exp", (Apply("-", (value, Read() as most)),))):
            best = alone.get(most.tensor)
        case _:
            return False
    match best:
        case Accumulate(target, Reduction.SET, Conditional(_, Read() as whole, Number(0))):
            if target != most:
                return False
            best, most = alone.get(whole.tensor), whole
    if best is None or best.target != most or best.reduction is not Reduction.MAXIMUM:
        return False
    alike = best.value == value and best.ranges == total.ranges and best.guard == total.guard
    kept = (frozenset().union(*map(walk.indices_of, s.target.subscripts)) for s in (total, best))
    return alike and next(kept) <= next(kept)


def with_reciprocals(lines: Sequence[Line], written_once: Container[str]) -> tuple[Line, ...]:
    """The lines with `a / c` as `a * (1 / c)` where c has fewer indices than a, or than the product
    `a / c * d` that it stands in.

    written_once: tensors that one statement of the program writes.
    Not where a quotient is compared by `==`: an expression must give the same bits wherever it stands.
    """
    if any(_compares_quotients(line.statement) for line in lines):
        return tuple(lines)
    large = _large(lines, written_once)
    return tuple(_with_reciprocals(line, large) for line in lines)


def _compares_quotients(statement: Accumulate) -> bool:
    return any(
        isinstance(node, Compare)
        and not {"==", "!="}.isdisjoint(node.operators)
        and any(isinstance(n, Apply) and n.operation == "/" for n in walk.subexpressions(node))
        for expression in walk.statement_expressions(statement)
        for node in walk.subexpressions(expression)
    )


def _with_reciprocals(line: Line, large: Collection[str]) -> Line:
    statement = line.statement
    value = _by_reciprocals(statement.value, frozenset(), large)
    return (
        line
        if value is statement.value
        else replace(line, statement=replace(statement, value=value))
    )


def _by_reciprocals(
    expression: Expression, beside: frozenset[str], large: Collection[str]
) -> Expression:
    """`beside`: the indices of what the expression is multiplied with."""
    match expression:
        case Read():
            return expression
        case Apply("*", (left, right)):
            on_left, on_right = walk.indices_of(left), walk.indices_of(right)
            found = (
                _by_reciprocals(left, beside | on_right, large),
                _by_reciprocals(right, beside | on_left, large),
            )
            return expression if found == (left, right) else walk.apply("*", *found)
        case Apply("/", (dividend, divisor)):
            around = beside | walk.indices_of(dividend)
            found = (
                _by_reciprocals(dividend, beside, large),
                _by_reciprocals(divisor, frozenset(), large),
            )
            if dividend not in (Number(1), TAKEN) and walk.indices_of(divisor) < around:
                return walk.apply("*", found[0], reciprocal(found[1], large))
            return expression if found == (dividend, divisor) else walk.apply("/", *found)
    return walk.rebuild(expression, lambda inner: _by_reciprocals(inner, frozenset(), large))
