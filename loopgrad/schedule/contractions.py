"""Sums of products over two sides: matrix products, whatever their indices are called.

`C[..] += X * Y` has four kinds of indices: those of a batch are in C, X and Y; `m` in C and X; `n`
in C and Y; `k` in X and Y alone, and summed. `n` is the side that holds C's last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Expression, Index, Number, Range, Reduction
from loopgrad.schedule.lines import Line, Roles, affine_indices, is_shifted
from loopgrad.schedule.narrowing import MIRRORED, narrower
from loopgrad.schedule.tree import Dimension, Pack, Product

_NEGATED = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}


def contraction(line: Line) -> Line:
    """The line with the roles of its indices, if it is a contraction; else the line itself.

    Of `x[i+p] += e   if 0 <= i + p < X` the guard becomes the range of i, for each p.
    """
    whole = _without_guard(line)
    found = roles(whole)
    return line if found is None else replace(whole, roles=found)


def _without_guard(line: Line) -> Line:
    statement, over = line.statement, _indices_of_axes(line)
    if statement.guard is None or over is None:
        return line
    ranges = {r.index: r for r in statement.ranges}
    selecting = line.kept - {*over}
    for condition in walk.conjuncts(statement.guard):
        solved = _solved(condition, {i for i in over if i} - {*line.reduced}, selecting)
        if solved is None:
            return line
        index, operator, bound = solved
        ranges[index] = narrower(ranges[index], operator, bound)
    if any(r.index in selecting and _indices_of_range(r) for r in ranges.values()):
        return line
    return replace(line, statement=replace(statement, ranges=tuple(ranges.values()), guard=None))


def _solved(
    condition: Expression, indices: Container[str], others: frozenset[str]
) -> tuple[str, str, Expression] | None:
    """`i + p - 1 >= 0` as `i >= 1 - p`, for the one of the indices in it; p may be of the others."""
    match condition:
        case Compare((operator,), (left, right)) if operator in MIRRORED:
            pass
        case _:
            return None
    terms = [*_signed(left, 1), *_signed(right, -1)]
    wanted = [(sign, t) for sign, t in terms if isinstance(t, Index) and t.name in indices]
    rest = [(sign, t) for sign, t in terms if (sign, t) not in wanted]
    if len(wanted) != 1 or any(True for _, t in rest for _ in walk.reads(t)):
        return None
    if not frozenset().union(*(walk.indices_of(t) for _, t in rest)) <= others:
        return None
    ((sign, index),) = wanted
    bound: Expression = Number(0)
    for own, term in rest:
        bound = walk.apply("-" if own == sign else "+", bound, term)
    assert isinstance(index, Index)
    return index.name, operator if sign > 0 else MIRRORED[operator], bound


def _signed(expression: Expression, sign: int) -> Iterator[tuple[int, Expression]]:
    """The terms of a sum, each with 1 or -1."""
    match expression:
        case Apply("+" | "-" as operation, (left, right)):
            yield from _signed(left, sign)
            yield from _signed(right, sign if operation == "+" else -sign)
        case Apply("neg", (operand,)):
            yield from _signed(operand, -sign)
        case _:
            yield sign, expression


def _indices_of_range(r: Range) -> frozenset[str]:
    return frozenset().union(*(walk.indices_of(b) for b in (r.lower, r.upper) if b is not None))


def roles(line: Line) -> Roles | None:
    """The roles of a line's indices; None where it is no contraction of two sides."""
    statement = line.statement
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or statement.guard:
        return None
    over = _indices_of_axes(line)
    last = over[-1] if over else None
    if over is None or last is None or line.unproved or not line.reduced:
        return None
    selecting = line.kept - {*over}
    if not _are_plain_bounds(line, selecting):
        return None
    factors = list(_factors(statement.value))
    right = [f for f in factors if last in walk.indices_of(f)]
    left = [f for f in factors if last not in walk.indices_of(f) and walk.indices_of(f)]
    if not _are_sides(left, right):
        return None
    right += [f for f in factors if not walk.indices_of(f)]
    return _assigned(line, left, right, over)


def _are_plain_bounds(line: Line, selecting: frozenset[str]) -> bool:
    """Does at most one bound hang on an index: an upper one, as in `u <= t`?

    Others may hang on the selecting indices, which are loops around.
    """
    hanging = [(i, outer) for i, outer in line.bound_by.items() if outer - selecting]
    if not hanging:
        return True
    (inner, outer), *more = hanging
    lower, upper = line.bounds[inner]
    if more or len(outer) > 1 or walk.indices_of(lower):
        return False
    return is_shifted(upper, next(iter(outer)))


def _indices_of_axes(line: Line) -> tuple[str | None, ...] | None:
    """For each axis of the target the index that goes over it, one element after the other.

    Of several, as in `x[i+p]`, the one with the larger range; the others select what is written by
    a whole product each. None where there is no such index, or an index is in two axes.
    """
    found: list[str | None] = []
    seen: set[str] = set()
    for subscript in line.target.subscripts:
        indices = affine_indices(subscript)
        if seen & walk.indices_of(subscript) or indices != walk.indices_of(subscript):
            return None
        seen |= indices
        index = max(sorted(indices), key=lambda i: _breadth(line, i), default=None)
        if index is not None and not is_shifted(subscript, index):
            return None
        found.append(index)
    return tuple(found)


def _breadth(line: Line, index: str) -> int:
    """A guess at which of two ranges is larger: `X-P+1` is than `P`, and that than 3."""
    lower, upper = line.bounds[index]
    return sum(1 for bound in (lower, upper) for _ in walk.subexpressions(bound)) + (
        not isinstance(upper, Number)
    )


def _assigned(
    line: Line,
    left: Sequence[Expression],
    right: Sequence[Expression],
    over: Sequence[str | None],
) -> Roles | None:
    on_left = frozenset().union(*map(walk.indices_of, left))
    on_right = frozenset().union(*map(walk.indices_of, right))
    both = on_left & on_right
    if not line.reduced <= both:
        return None

    def some(wanted: Collection[str]) -> tuple[str, ...]:
        return tuple(i for i in line.indices if i in wanted)

    m = tuple(i for i in over if i and i not in on_right)  # in the target's order, as n
    if not m:
        return None
    # What stands before m in the target, on the right alone, selects a matrix, as a batch does.
    behind = max(over.index(i) for i in m)
    n = tuple(i for i in over[behind + 1 :] if i and i not in on_left)
    if not n:
        return None
    k, batch = some(line.reduced), some(line.kept - {*m, *n})
    if line.bounding & {*over} & {*batch, *n}:
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
    """Does each side hold a tensor? What else it holds is computed before, once for all products."""
    return all(any(any(walk.reads(f)) for f in side) for side in (left, right))


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
    return tuple(part for line in lines for part in apart(line, contraction))


def apart(line: Line, with_roles: Callable[[Line], Line]) -> Iterable[Line]:
    """The terms of a sum as lines, where one is a contraction: `x += a*b + c*d`. All with their roles."""
    statement = line.statement
    terms = walk.summands(statement.value)
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    if len(terms) == 1 or not sums or not line.reduced:
        return [with_roles(line)]
    parts: list[Line] = []
    for taken_away, term in terms:
        how = _NEGATED[statement.reduction] if taken_away else statement.reduction
        part = replace(statement, value=term, reduction=how)
        first = line.first and not parts
        parts.append(with_roles(replace(line, statement=part, first=first)))
    return parts if any(part.roles is not None for part in parts) else [with_roles(line)]


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
        statement.guard,
    )


def pack(line: Line, found: Roles, name: str) -> Pack:
    return Pack(name, found.right, _dimensions(line, found.n), _dimensions(line, found.k))


def _dimensions(line: Line, indices: Sequence[str]) -> tuple[Dimension, ...]:
    return tuple(Dimension(index, *line.bounds[index]) for index in indices)
