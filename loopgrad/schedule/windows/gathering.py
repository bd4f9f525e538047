"""Sums that windows spread over an axis, taken at each of its places instead.

    for n, dx < 3:  x[n+dx-1] += g[n] * k[dx]   if 0 <= n+dx-1 < X

is, for each place i of x,

    for i, dx < 3:  x[i] += g[i-dx+1] * k[dx]   if 0 <= i-dx+1 < N

which writes each element once, from a register. Where windows lie side by side alone: of `2*n + dx`
half of the conditions would fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis.extents import polynomial, to_expression
from loopgrad.analysis.polynomial import subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.limits import holds
from loopgrad.schedule.lines import Line, covers, few_values
from loopgrad.schedule.windows.interleaving import interleaved

MOST_TURNS = 64  # of the indices of a window


def gathered(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with sums at each place in place of what is spread; `first` has to be known."""
    current: list[Line] = []
    for line in lines:
        line = at_places(line, context)
        start = _start_of(line, current, context)
        stores = start is not None and not line.reduced and _takes_all_others(line, context)
        parts = interleaved(line, context, stores)
        if start is not None and stores and parts != (line,):
            del current[start]
        current += parts
    return without_starts(current, context)


def _start_of(line: Line, earlier: Sequence[Line], context: Context) -> int | None:
    """Where among earlier lines the one is that just stores the identity; None if there is more."""
    tensor = line.written.tensor
    places = [i for i, each in enumerate(earlier) if _touches(each, tensor)]
    nothing = identity(line.statement.reduction, context.tensors[tensor].element)
    if len(places) == 1 and _only_starts(earlier[places[0]], tensor, nothing, context):
        return places[0]
    return None


def at_places(line: Line, context: Context) -> Line:
    """The line with sums at each place of its target; the line itself where it spreads nothing so."""
    if line.roles is not None or line.unproved or line.first or line.integral:
        return line
    if line.statement.reduction is Reduction.SET or line.stands_alone:
        return line
    positions = [
        (axis, index)
        for axis, inside in enumerate(line.written.axes)
        if len(inside) > 1 and (index := _position(line, axis)) is not None
    ]
    windows = [i for _, inside in enumerate(line.written.axes) if len(inside) > 1 for i in inside]
    few = {i for i in windows if i not in {index for _, index in positions}}
    wanted = sum(1 for inside in line.written.axes if len(inside) > 1)
    turns = 1
    for index in few:
        turns *= few_values(line, index)
    if not positions or len(positions) < wanted or not 0 < turns <= MOST_TURNS:
        return line
    for axis, index in positions:
        moved = _moved(line, axis, index, context)
        if moved is None:
            return line
        line = moved
    return line


def _position(line: Line, axis: int) -> str | None:
    """The one index of the axis that takes many values, or the most of all, one place after the other."""
    counts = {i: few_values(line, i) for i in line.written.axes[axis]}
    many = [i for i, count in counts.items() if not count]
    many = many or [i for i, count in counts.items() if count == max(counts.values())]
    if len(many) != 1 or many[0] in line.bounding:
        return None
    if sum(1 for inside in line.written.axes if many[0] in inside) > 1:
        return None
    return many[0] if many[0] in line.kept else None


def _moved(line: Line, axis: int, index: str, context: Context) -> Line | None:
    """The line with an index over the axis in place of the one that is moved along it."""
    statement = line.statement
    subscript = polynomial(statement.target.subscripts[axis])
    if subscript.get((Index(index),)) != 1:
        return None
    if sum(1 for monomial in subscript if any(index in walk.indices_of(a) for a in monomial)) > 1:
        return None
    tensor = line.written.tensor
    extent = context.tensors[tensor].extents[axis]
    own = context.name(f"{tensor}.{axis}")
    rest = subtract(subscript, {(Index(index),): 1})
    value = to_expression(subtract({(Index(own),): 1}, rest))
    at = {index: value}

    def change(expression: Expression) -> Expression:
        return _plain(walk.substitute(expression, at))

    lower, upper = line.bounds[index]
    inside = [*_each(">=", value, lower, "max"), *_each("<", value, upper, "min")]
    bounds = {i: b for i, b in line.bounds.items() if i != index}
    bounds[own] = (Number(0), extent)
    guard = statement.guard
    conditions = [] if guard is None else [_plain_condition(c, at) for c in walk.conjuncts(guard)]
    left = [c for c in (*inside, *conditions) if not holds(c, bounds)]
    ranges = tuple(
        Range(own, Number(0), extent) if r.index == index else r for r in statement.ranges
    )
    moved = walk.map_statement(replace(statement, ranges=ranges, guard=None), change)
    assert isinstance(moved, Accumulate)
    target = list(moved.target.subscripts)
    target[axis] = Index(own)
    moved = replace(
        moved,
        target=Read(tensor, tuple(target)),
        guard=walk.conjunction(list(dict.fromkeys(left))),
    )
    return replace(line, statement=moved)


def _each(operator: str, value: Expression, bound: Expression, several: str) -> list[Expression]:
    """`value >= max(a, b)` as two conditions."""
    match bound:
        case Apply(operation, (a, b)) if operation == several:
            return [*_each(operator, value, a, several), *_each(operator, value, b, several)]
    difference = polynomial(walk.apply("-", value, bound))
    return [walk.compare(operator, to_expression(difference), Number(0))]


def _plain(expression: Expression) -> Expression:
    """With subscripts that hold indices as sums."""
    match expression:
        case Read(tensor, subscripts, span):
            return Read(tensor, tuple(_sum(s) for s in subscripts), span)
    return walk.rebuild(expression, _plain)


def _sum(subscript: Expression) -> Expression:
    if isinstance(subscript, Index) or any(True for _ in walk.reads(subscript)):
        return walk.rebuild(subscript, _plain)
    return to_expression(polynomial(subscript))


def _plain_condition(condition: Expression, at: dict[str, Expression]) -> Expression:
    moved = _plain(walk.substitute(condition, at))
    match moved:
        case Compare((operator,), (left, right)) if not any(True for _ in walk.reads(moved)):
            difference = polynomial(walk.apply("-", left, right))
            return walk.compare(operator, to_expression(difference), Number(0))
    return moved


def _takes_all_others(line: Line, context: Context) -> bool:
    """Does it go over all of each axis in which it spreads nothing, with an index of its own?"""
    written = line.written
    plain = [
        (i, e)
        for i, e, inside in zip(
            written.bare, context.tensors[written.tensor].extents, written.axes, strict=True
        )
        if len(inside) < 2
    ]
    names = {index for index, _ in plain}
    return len(names) == len(plain) and all(
        index is not None and line.bounds[index] == (Number(0), extent) for index, extent in plain
    )


def without_starts(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, without those that store the identity just for a sum that writes all of it."""
    kept = list(lines)
    for line in lines:
        if line.first or not line.reduced or line.statement.reduction is Reduction.SET:
            continue
        tensor = line.written.tensor
        place = next(i for i, each in enumerate(kept) if each is line)
        start = _start_of(line, kept[:place], context)
        if start is not None and covers(line, context.tensors[tensor].extents):
            kept[place] = replace(line, first=True)
            del kept[start]
    return tuple(kept)


def _touches(line: Line, tensor: str) -> bool:
    return line.written.tensor == tensor or any(one.tensor == tensor for one in line.read)


def _only_starts(line: Line, tensor: str, nothing: Expression, context: Context) -> bool:
    statement = line.statement
    return (
        line.first
        and line.written.tensor == tensor
        and statement.reduction is Reduction.SET
        and statement.value == nothing
        and statement.guard is None
        and covers(line, context.tensors[tensor].extents)
    )
