"""Do two expressions take the same operations, so that they give the same bits?

Decided by the exact rules of `rules.py` alone: operands of one sum or product change places, signs move,
a factor 1 goes, indices are renamed, and what a statement stores is what it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduce,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import indices_of, rebuild, substitute

DEEPEST = 30  # tensors put into one another
ONCE = (Reduction.SET, Reduction.ADD)  # 0 + e is e


@dataclass(frozen=True)
class Stored:
    """`tensor[indices] = value`, by one statement for each element."""

    indices: tuple[str, ...]
    value: Expression


def stored(statements: Iterable[Statement]) -> dict[str, Stored]:
    """The tensors of which each element is one expression, stored by one statement over all of them."""
    found: dict[str, Stored] = {}
    others: set[str] = set()
    for statement in statements:
        if not isinstance(statement, Accumulate):
            continue
        name = statement.target.tensor
        if name in found:
            others.add(name)
        indices = tuple(s.name for s in statement.target.subscripts if isinstance(s, Index))
        plain = len(set(indices)) == len(statement.target.subscripts) == len(statement.ranges)
        if not plain or statement.guard is not None or statement.reduction not in ONCE:
            others.add(name)
        found[name] = Stored(indices, statement.value)
    return {name: known for name, known in found.items() if name not in others}


def same_bits(one: Expression, other: Expression, known: Mapping[str, Stored]) -> bool:
    """Whether both take the same operations on the same operands; False says nothing."""
    return _text(_canonical(put_in(one, known), 0)) == _text(_canonical(put_in(other, known), 0))


def put_in(expression: Expression, known: Mapping[str, Stored], depth: int = 0) -> Expression:
    """With each read of what is stored replaced by what was stored there."""

    def change(node: Expression) -> Expression:
        if isinstance(node, Read) and node.tensor in known and depth < DEEPEST:
            own = known[node.tensor]
            inside = put_in(own.value, known, depth + 1)
            if not _captures(inside, node):
                return substitute(inside, dict(zip(own.indices, node.subscripts, strict=True)))
        return rebuild(node, change)

    return change(expression)


def _captures(value: Expression, read: Read) -> bool:
    """Does the value bind an index that a subscript of the read has?"""
    bound = {r.index for r in _ranges(value)}
    return any(indices_of(s) & bound for s in read.subscripts)


def _ranges(expression: Expression) -> list[Range]:
    found: list[Range] = []

    def visit(node: Expression) -> Expression:
        if isinstance(node, Reduce):
            found.extend(node.ranges)
        return rebuild(node, visit)

    visit(expression)
    return found


def _text(signed: tuple[bool, Expression]) -> tuple[bool, str]:
    return signed[0], show_expression(signed[1])


def _canonical(expression: Expression, depth: int) -> tuple[bool, Expression]:
    """Whether it is negated, and the rest in one order."""
    match expression:
        case Apply("neg", (operand,)):
            minus, rest = _canonical(operand, depth)
            return not minus, rest
        case Apply("-", (left, right)):
            return _canonical(Apply("+", (left, Apply("neg", (right,)))), depth)
        case Apply("+", (left, right)):
            return _sum(_canonical(left, depth), _canonical(right, depth))
        case Apply("*", (left, right)):
            one, other = _canonical(left, depth), _canonical(right, depth)
            minus = one[0] != other[0]
            if Number(1) in (one[1], other[1]):
                return minus, other[1] if one[1] == Number(1) else one[1]
            return minus, Apply("*", _ordered(one[1], other[1]))
        case Apply("/", (left, right)):
            one, other = _canonical(left, depth), _canonical(right, depth)
            minus = one[0] != other[0]
            return minus, one[1] if other[1] == Number(1) else Apply("/", (one[1], other[1]))
        case Reduce("sum", ranges, body):
            names = {r.index: Index(f"·{depth}.{n}") for n, r in enumerate(ranges)}
            minus, inside = _canonical(substitute(body, names), depth + 1)
            renamed = tuple(Range(names[r.index].name, r.lower, r.upper) for r in ranges)
            return minus, Reduce("sum", renamed, inside)
    return False, rebuild(expression, lambda e: _plain(_canonical(e, depth)))


def _plain(signed: tuple[bool, Expression]) -> Expression:
    minus, rest = signed
    return Apply("neg", (rest,)) if minus else rest


def _sum(one: tuple[bool, Expression], other: tuple[bool, Expression]) -> tuple[bool, Expression]:
    """Signs are moved out where both have one; of two orders the one of the lesser text.

    `c + sum[i](e)` is not turned round: its loops start from c.
    """
    pair = [one, other]
    if not any(_accumulates(e) for _, e in pair):
        pair.sort(key=lambda t: show_expression(t[1]))
    first, second = pair
    if not first[0]:
        return False, Apply("+", (first[1], _plain(second)))
    return True, Apply("+", (first[1], _plain((not second[0], second[1]))))


def _accumulates(expression: Expression) -> bool:
    match expression:
        case Apply("+" | "-" | "neg", operands):
            return any(map(_accumulates, operands))
    return isinstance(expression, Reduce)


def _ordered(one: Expression, other: Expression) -> tuple[Expression, Expression]:
    first, second = sorted((one, other), key=show_expression)
    return first, second
