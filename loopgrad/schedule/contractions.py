"""Sums of products over two sides: matrix products, whatever their indices are called.

`C[..] += X * Y` has four kinds of indices: those of a batch are in C, X and Y; `m` in C and X; `n`
in C and Y; `k` in X and Y alone, and summed. `n` is the side that holds C's last axis.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number, Read, Reduction
from loopgrad.schedule.lines import Line, Roles, is_shifted
from loopgrad.schedule.tree import Dimension, Pack, Product

_NEGATED = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}


def roles(line: Line) -> Roles | None:
    """The roles of a line's indices; None where it is no contraction of two sides."""
    statement = line.statement
    last = line.written.bare[-1] if line.written.bare else None
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or statement.guard:
        return None
    if line.unproved or last is None or not line.reduced or not _are_plain_bounds(line):
        return None
    if any(line.written.axis_of(i) is None for i in line.kept):
        return None
    factors = list(_factors(statement.value))
    right = [f for f in factors if last in walk.indices_of(f)]
    left = [f for f in factors if last not in walk.indices_of(f) and walk.indices_of(f)]
    if not _are_sides(left, right):
        return None
    right += [f for f in factors if not walk.indices_of(f)]
    return _assigned(line, left, right)


def _are_plain_bounds(line: Line) -> bool:
    """Does at most one bound hang on an index: an upper one, as in `u <= t`?"""
    hanging = [(i, outer) for i, outer in line.bound_by.items() if outer]
    if not hanging:
        return True
    (inner, outer), *more = hanging
    lower, upper = line.bounds[inner]
    if more or len(outer) > 1 or walk.indices_of(lower):
        return False
    return is_shifted(upper, next(iter(outer)))


def _assigned(line: Line, left: Sequence[Expression], right: Sequence[Expression]) -> Roles | None:
    on_left = frozenset().union(*map(walk.indices_of, left))
    on_right = frozenset().union(*map(walk.indices_of, right))
    both = on_left & on_right
    if not line.reduced <= both:
        return None

    def some(wanted: Collection[str]) -> tuple[str, ...]:
        return tuple(i for i in line.indices if i in wanted)

    m = some(line.kept - on_right)
    if not m:
        return None
    # What stands before m in the target, on the right alone, selects a matrix, as a batch does.
    behind = max(line.written.bare.index(i) for i in m)
    n = some({i for i in line.kept - on_left if line.written.bare.index(i) > behind})
    if not n:
        return None
    k, batch = some(line.reduced), some(line.kept - {*m, *n})
    if line.bounding & {*batch, *n}:
        return None
    if _are_few(line, n, 8) or _are_few(line, k, 8) or _are_few(line, m, 4):
        return None
    return Roles(_product(left), _product(right), batch, m, n, k)


def _are_few(line: Line, indices: Sequence[str], limit: int) -> bool:
    """Are they fewer values than the limit, whatever the sizes of a call?"""
    count = 1
    for index in indices:
        match line.bounds[index]:
            case Number(int(low)), Number(int(high)):
                count *= max(high - low, 0)
            case _:
                return False
    return count < limit


def _are_sides(left: Sequence[Expression], right: Sequence[Expression]) -> bool:
    """Does each side hold a tensor, and nothing that is dear or is not always computed?"""
    return all(side and all(isinstance(f, Read) for f in side) for side in (left, right))


def _factors(expression: Expression) -> Iterable[Expression]:
    """What is multiplied; a division is a factor `1 / c`."""
    match expression:
        case Apply("*", (left, right)):
            yield from _factors(left)
            yield from _factors(right)
        case Apply("/", (dividend, divisor)) if dividend != Number(1):
            yield from _factors(dividend)
            yield walk.apply("/", Number(1), divisor)
        case _:
            yield expression


def _product(factors: Sequence[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), factors)


def with_roles(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines, with the roles of those that are contractions; sums of several are taken apart."""
    apart = (part for line in lines for part in _terms(line))
    return tuple(replace(line, roles=roles(line)) for line in apart)


def _terms(line: Line) -> Iterable[Line]:
    """The terms of a sum as lines, where one is a contraction: `x += a*b + c*d`."""
    statement = line.statement
    terms = walk.summands(statement.value)
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    if len(terms) == 1 or not sums or not line.reduced:
        return [line]
    parts: list[Line] = []
    for taken_away, term in terms:
        how = _NEGATED[statement.reduction] if taken_away else statement.reduction
        part = replace(statement, value=term, reduction=how)
        parts.append(replace(line, statement=part, first=line.first and not parts))
    return parts if any(roles(part) is not None for part in parts) else [line]


# --------------------------------------------------------------------------------------- nodes


def product(line: Line, found: Roles, packed: str | None = None) -> Product:
    """The line as a node; its bounds are the line's."""
    statement = line.statement
    return Product(
        line.target,
        found.left,
        found.right,
        _dimensions(line, found.m),
        _dimensions(line, found.n),
        _dimensions(line, found.k),
        line.first,
        statement.reduction is Reduction.SUBTRACT,
        packed,
    )


def pack(line: Line, found: Roles, name: str) -> Pack:
    return Pack(name, found.right, _dimensions(line, found.n), _dimensions(line, found.k))


def _dimensions(line: Line, indices: Sequence[str]) -> tuple[Dimension, ...]:
    return tuple(Dimension(index, *line.bounds[index]) for index in indices)
