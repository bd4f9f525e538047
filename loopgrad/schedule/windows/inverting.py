"""Sums whose places are turned, mirrored or taken several at a time, at each of their places.

    for b, n:  x[b, (n-3) % N] += g[b,n]         is    for b, i:       x[b,i] += g[b, (i+3) % N]
    for b, n:  x[b, N-1-n]     += g[b,n]         is    for b, i:       x[b,i] += g[b, N-1-i]
    for b, n < 3*N:  x[b, n//3] += g[b,n]        is    for b, i, p < 3:  x[b,i] += g[b, 3*i+p]
    for n, p < 8, c:  x[8*n+p, c] += g[n,p,c]    is    for i, c:       x[i,c] += g[i//8, i%8, c]

which writes each element once and in order, and needs no zeros before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant, negate, scale, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Number,
    Range,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import holds
from loopgrad.schedule.lines import Line, few_values

MOST_TOGETHER = 16  # elements that one place gets

_Way = Callable[[Line, int, str, Context], Line | None]


def inverted(line: Line, context: Context) -> Line:
    """The line with loops over its target's own places; as it is where it has none such."""
    if line.unproved or line.integral or line.statement.reduction is Reduction.SET:
        return line
    if line.statement.guard is not None and any(True for _ in walk.reads(line.statement.guard)):
        return line  # data pick the places, as those of a window's winner
    for axis, subscript in enumerate(line.target.subscripts):
        if isinstance(subscript, Index) or any(True for _ in walk.reads(subscript)):
            continue
        index = _alone(line, axis)
        if index is None:
            line = _side_by_side(line, axis, context) or line
            continue
        for way in (_several, _turned, _mirrored):
            found = way(line, axis, index, context)
            if found is not None:
                line = found
                break
    return line


def _alone(line: Line, axis: int) -> str | None:
    """The one index of the axis, which stands in no other and bounds none, of many values from 0."""
    inside = walk.indices_of(line.target.subscripts[axis]) & {*line.indices}
    if len(inside) != 1:
        return None
    (index,) = inside
    lower, upper = line.bounds[index]
    others = (s for i, s in enumerate(line.target.subscripts) if i != axis)
    if any(index in walk.indices_of(s) for s in others) or index in line.bounding:
        return None
    return (
        index
        if lower == Number(0) and walk.is_fixed(upper) and not few_values(line, index)
        else None
    )


def _several(line: Line, axis: int, index: str, context: Context) -> Line | None:
    """Of `n // 3` the places, and the three that come together."""
    match line.target.subscripts[axis]:
        case Apply("//", (Index(), Number(int(step)) as divisor)) if 1 < step <= MOST_TOGETHER:
            pass
        case _:
            return None
    upper = polynomial(line.bounds[index][1])
    whole = all(c % step == 0 for c in upper.values())
    more = upper if whole else add(upper, constant(step - 1))
    count: Expression = walk.apply("//", to_expression(more), divisor)
    if whole:
        count = to_expression({m: c // step for m, c in upper.items()})
    own, part = (context.name(f"{line.target.tensor}.{axis}"), context.name(f"{index}.part"))
    several: Polynomial = {(Index(own),): step}
    place = to_expression(add(several, {(Index(part),): 1}))
    known: dict[Expression, Expression] = {
        walk.apply("//", Index(index), divisor): Index(own),
        walk.apply("%", Index(index), divisor): Index(part),
        Index(index): place,
    }
    ranges = (Range(own, Number(0), count), Range(part, Number(0), divisor))
    inside = [] if whole else [walk.compare("<", place, line.bounds[index][1])]
    return _moved(line, index, ranges, known, inside)


def _side_by_side(line: Line, axis: int, context: Context) -> Line | None:
    """Of `8*n + p`, for all p < 8, where nothing is summed, in an axis that lanes do not run along."""
    own = walk.indices_of(line.target.subscripts[axis]) & {*line.indices}
    if line.reduced or len(own) != 2 or axis + 1 == len(line.target.subscripts):
        return None
    few = [i for i in own if few_values(line, i)]
    if len(few) != 1:
        return None
    (part,), (index,) = few, own - {*few}
    step = few_values(line, part)
    wanted: Polynomial = {(Index(index),): step, (Index(part),): 1}
    lower, upper = line.bounds[index]
    fits = polynomial(line.target.subscripts[axis]) == wanted and lower == Number(0)
    fits = fits and walk.is_fixed(upper)
    others = [s for i, s in enumerate(line.target.subscripts) if i != axis]
    elsewhere = frozenset().union(*map(walk.indices_of, others)) | line.bounding
    if not fits or own & elsewhere or line.bounds[part][0] != Number(0):
        return None
    name = context.name(f"{line.target.tensor}.{axis}")
    divisor = Number(step)
    known: dict[Expression, Expression] = {
        line.target.subscripts[axis]: Index(name),
        Index(index): walk.apply("//", Index(name), divisor),
        Index(part): walk.apply("%", Index(name), divisor),
    }
    extent = context.tensors[line.target.tensor].extents[axis]
    end = to_expression(scale(polynomial(upper), step))
    inside = [] if end == extent else [walk.compare("<", Index(name), end)]
    ranges = tuple(r for r in line.statement.ranges if r.index != part)
    fewer = replace(line, statement=replace(line.statement, ranges=ranges))
    return _moved(fewer, index, (Range(name, Number(0), extent),), known, inside)


def _turned(line: Line, axis: int, index: str, context: Context) -> Line | None:
    """Of `(n + c) % N`, for all n < N, and of `(c - n) % N`."""
    extent = context.tensors[line.target.tensor].extents[axis]
    match line.target.subscripts[axis]:
        case Apply("%", (operand, divisor)) if divisor == extent == line.bounds[index][1]:
            rest = _rest(operand, index)
        case _:
            return None
    if rest is None:
        return None
    own = context.name(f"{line.target.tensor}.{axis}")
    place = walk.apply("%", to_expression(_solved(own, *rest)), divisor)
    known: dict[Expression, Expression] = {
        line.target.subscripts[axis]: Index(own),
        Index(index): place,
    }
    return _moved(line, index, (Range(own, Number(0), extent),), known, [])


def _mirrored(line: Line, axis: int, index: str, context: Context) -> Line | None:
    """Of `c - n`."""
    rest = _rest(line.target.subscripts[axis], index)
    if rest is None or rest[0] > 0:
        return None
    extent = context.tensors[line.target.tensor].extents[axis]
    own = context.name(f"{line.target.tensor}.{axis}")
    place = to_expression(_solved(own, *rest))
    ranges = (Range(own, Number(0), extent),)
    inside = [
        walk.compare(">=", place, Number(0)),
        walk.compare("<", place, line.bounds[index][1]),
    ]
    known: dict[Expression, Expression] = {
        line.target.subscripts[axis]: Index(own),
        Index(index): place,
    }
    return _moved(line, index, ranges, known, inside)


def _rest(place: Expression, index: str) -> tuple[int, Polynomial] | None:
    """Of `c + n` or `c - n` the sign of n, and c."""
    total = polynomial(place)
    sign = total.get((Index(index),), 0)
    rest = subtract(total, {(Index(index),): sign})
    if sign not in (1, -1) or any(index in walk.indices_of(a) for m in rest for a in m):
        return None
    return sign, rest


def _solved(own: str, sign: int, rest: Polynomial) -> Polynomial:
    """The n of which `c + n`, or `c - n`, is the place."""
    away = subtract({(Index(own),): 1}, rest)
    return away if sign > 0 else negate(away)


def _moved(
    line: Line,
    index: str,
    own: tuple[Range, ...],
    known: dict[Expression, Expression],
    inside: Sequence[Expression],
) -> Line:
    """The line over other indices in place of one, with what is known of it as expressions in them."""

    def change(expression: Expression) -> Expression:
        return known.get(expression) or walk.rebuild(expression, change)

    ranges = tuple(
        r for each in line.statement.ranges for r in (own if each.index == index else (each,))
    )
    changed = walk.map_statement(replace(line.statement, ranges=ranges), change)
    assert isinstance(changed, Accumulate)
    bounds = {r.index: (r.lower or Number(0), r.upper or Number(0)) for r in ranges}
    left = [condition for condition in inside if not holds(condition, bounds)]
    guard = walk.conjunction([*left, *walk.conjuncts(changed.guard)])
    return replace(line, statement=replace(changed, guard=guard))
