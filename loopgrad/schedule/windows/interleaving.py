"""Sums that windows spread in steps, taken at each place instead: one sum for each place of a step.

    for n, p < 3:  x[2*n+p-1] += g[n,p]   if 0 <= 2*n+p-1 < X

writes even places once and odd ones twice:

    for q:  x[2*q]   += g[q,1]
    for q:  x[2*q+1] += g[q,2] + (g[q+1,0] if q + 1 < N else 0)   if 2*q + 1 < X

So each element is written once, and not read again where it has just been written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant, constant_value, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import holds
from loopgrad.schedule.lines import Bounds, Line, few_values

MOST_TAPS = 32  # terms of all sums
MOST_STEP = 4  # from one window to the next


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of the target: `step * position + rest`, the rest made of the windows' indices.

    `index` is the new one, which takes `count` values.
    """

    number: int
    position: str
    step: int
    rest: Polynomial
    extent: Expression
    index: str
    count: Expression


def interleaved(line: Line, context: Context, stores: bool) -> tuple[Line, ...]:
    """The line as one for each place within a step; the line alone where it spreads nothing so.

    stores: whether it is all that its target holds, so that each element is stored.
    """
    statement = line.statement
    if line.roles is not None or line.unproved or line.first or line.integral or line.stands_alone:
        return (line,)
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
        return (line,)
    windows = _windows(line)
    taps = prod([few_values(line, i) for i in windows])
    if not windows or not 0 < taps <= MOST_TAPS or _is_used_elsewhere(line, windows):
        return (line,)
    names = set(context.taken)
    axes = _axes(line, windows, context)
    extents = context.tensors[line.written.tensor].extents
    found = None if axes is None else _lines(line, axes, windows, extents, stores)
    if found is None:
        context.taken.intersection_update(names)
        return (line,)
    return tuple(found)


def _windows(line: Line) -> list[str]:
    """The indices of few values that stand beside another in an axis of the target."""
    inside = [i for axis in line.written.axes if len(axis) > 1 for i in axis]
    return [i for i in line.indices if i in inside and few_values(line, i)]


def _is_used_elsewhere(line: Line, windows: Sequence[str]) -> bool:
    """Is one of them in an axis of the target without a position, or do bounds of others than positions hang
    on it?
    """
    spread = {i for axis in line.written.axes if len(axis) > 1 for i in axis}
    alone = {i for axis in line.written.axes if len(axis) == 1 for i in axis}
    hanging = [line.bound_by[i] for i in line.indices if i not in spread or i in windows]
    return any(w in alone or any(w in bounds for bounds in hanging) for w in windows)


def _axes(line: Line, windows: Sequence[str], context: Context) -> list[_Axis] | None:
    found: list[_Axis] = []
    tensor = line.written.tensor
    if line.kept != frozenset().union(*line.written.axes):
        return None
    for number, inside in enumerate(line.written.axes):
        if len(inside) < 2:
            continue
        positions = [i for i in inside if i not in windows]
        if len(positions) != 1 or positions[0] in line.bounding:
            return None
        (position,) = positions
        if sum(position in axis for axis in line.written.axes) > 1:
            return None
        subscript = polynomial(line.target.subscripts[number])
        step = subscript.get((Index(position),), 0)
        rest = subtract(subscript, {(Index(position),): step})
        if not 0 < step <= MOST_STEP or any(
            position in walk.indices_of(a) for m in rest for a in m
        ):
            return None
        extent = context.tensors[tensor].extents[number]
        index = context.name(f"{tensor}.{number}")
        found.append(_Axis(number, position, step, rest, extent, index, _count(extent, step)))
    return found if any(axis.step > 1 for axis in found) else None


def _count(extent: Expression, step: int) -> Expression:
    """How many steps there are in an axis, the last perhaps not whole."""
    size = polynomial(extent)
    if all(c % step == 0 for c in size.values()):
        return to_expression({m: c // step for m, c in size.items()})
    whole = walk.apply("//", to_expression(add(size, constant(step - 1))), Number(step))
    return to_expression(polynomial(whole))


def _lines(
    line: Line,
    axes: Sequence[_Axis],
    windows: Sequence[str],
    extents: Sequence[Expression],
    stores: bool,
) -> list[Line] | None:
    own = {axis.position: axis for axis in axes}
    bounds: dict[str, Bounds] = {i: b for i, b in line.bounds.items() if i not in own}
    bounds |= {axis.index: (Number(0), axis.count) for axis in axes}
    bounds = {i: b for i, b in bounds.items() if i not in windows}
    found = []
    for places in product(*(range(axis.step) for axis in axes)):
        target, inside = _target(line, axes, places, bounds, extents)
        terms = list(_terms(line, axes, places, windows, bounds, inside))
        if any(term is None for term in terms):
            return None
        if terms or stores:
            known = [term for term in terms if term is not None]
            ranges = tuple(Range(i, *b) for i, b in _in_order(line, axes, bounds))
            found.append(_line(line, target, inside, known, ranges, stores))
    return found


def _terms(
    line: Line,
    axes: Sequence[_Axis],
    places: Sequence[int],
    windows: Sequence[str],
    bounds: Mapping[str, Bounds],
    known: Sequence[Expression],
) -> Iterator[Expression | None]:
    """What is added at the places, where the conditions are `known` to hold; None where that is not known."""
    statement = line.statement
    for values in product(*(_values(line, window) for window in windows)):
        at: dict[str, Expression] = {
            w: walk.number(v) for w, v in zip(windows, values, strict=True)
        }
        conditions: list[Expression] = []
        for axis, place in zip(axes, places, strict=True):
            rest = constant_value(polynomial(walk.substitute(to_expression(axis.rest), at)))
            if rest is None:
                yield None
                return
            if (place - rest) % axis.step:
                break
            moved: Polynomial = {(Index(axis.index),): 1}
            value = to_expression(add(moved, constant((place - rest) // axis.step)))
            lower, upper = (walk.substitute(b, at) for b in line.bounds[axis.position])
            conditions += [*_each(">=", value, lower, "max"), *_each("<", value, upper, "min")]
            at[axis.position] = value
        else:
            guard = statement.guard
            if guard is not None:
                conditions += [_condition(walk.substitute(c, at)) for c in walk.conjuncts(guard)]
            wanted = (c for c in conditions if c not in known and not holds(c, bounds))
            inside = walk.conjunction(wanted)
            term = _plain(walk.substitute(statement.value, at))
            yield term if inside is None else Conditional(inside, term, Number(0.0))


def _values(line: Line, window: str) -> range:
    match line.bounds[window]:
        case Number(int(low)), Number(int(high)):
            return range(low, high)
    return range(0)


def _each(operator: str, value: Expression, bound: Expression, several: str) -> list[Expression]:
    """`value >= max(a, b)` as two conditions."""
    match bound:
        case Apply(operation, (a, b)) if operation == several:
            return [*_each(operator, value, a, several), *_each(operator, value, b, several)]
    difference = polynomial(walk.apply("-", value, bound))
    common = gcd(*difference.values()) or 1
    plain = to_expression({m: c // common for m, c in difference.items()})
    return [walk.compare(operator, plain, Number(0))]


def _condition(condition: Expression) -> Expression:
    """In the same form as those of `_each`."""
    match condition:
        case Compare(("<" | ">=" as operator,), (left, right)):
            if not any(True for _ in walk.reads(condition)):
                return _each(operator, left, right, "")[0]
        case Compare(("<=",), (left, right)):
            return _condition(walk.compare(">=", right, left))
        case Compare((">",), (left, right)):
            return _condition(walk.compare("<", right, left))
    return _plain(condition)


def _plain(expression: Expression) -> Expression:
    """With subscripts as sums, and sums of numbers as one."""
    match expression:
        case Read(tensor, subscripts, span):
            return Read(tensor, tuple(map(_sum, subscripts)), span)
    found = walk.rebuild(expression, _plain)
    match found:
        case Apply("+" | "-" | "*", (Number(int()), Number(int()))):
            return to_expression(polynomial(found))
    return found


def _sum(subscript: Expression) -> Expression:
    if any(True for _ in walk.reads(subscript)):
        return walk.rebuild(subscript, _plain)
    return to_expression(polynomial(subscript))


def _target(
    line: Line,
    axes: Sequence[_Axis],
    places: Sequence[int],
    bounds: Mapping[str, Bounds],
    extents: Sequence[Expression],
) -> tuple[Read, list[Expression]]:
    """The target at the places, and the conditions under which it is there: in other axes too, as the guard
    goes to the terms.
    """
    subscripts = list(line.target.subscripts)
    conditions: list[Expression] = []
    for axis, place in zip(axes, places, strict=True):
        moved: Polynomial = {(Index(axis.index),): axis.step}
        subscripts[axis.number] = to_expression(add(moved, constant(place)))
        conditions += _each("<", subscripts[axis.number], axis.extent, "")
    spread = {axis.number for axis in axes}
    for number, extent in enumerate(extents):
        if number not in spread:
            conditions += _each(">=", subscripts[number], Number(0), "")
            conditions += _each("<", subscripts[number], extent, "")
    needed = [c for c in conditions if not holds(c, bounds)]
    return replace(line.target, subscripts=tuple(subscripts)), needed


def _line(
    line: Line,
    target: Read,
    conditions: Sequence[Expression],
    terms: Sequence[Expression],
    ranges: tuple[Range, ...],
    stores: bool,
) -> Line:
    reduction = line.statement.reduction
    value = terms[0] if terms else walk.number(0.0)
    for term in terms[1:]:
        value = walk.apply("+", value, term)
    if stores:
        value = walk.apply("neg", value) if reduction is Reduction.SUBTRACT else value
        reduction = Reduction.SET
    changed = replace(
        line.statement,
        target=target,
        reduction=reduction,
        value=value,
        ranges=ranges,
        guard=walk.conjunction(conditions),
    )
    return replace(line, statement=changed)


def _in_order(
    line: Line, axes: Sequence[_Axis], bounds: Mapping[str, Bounds]
) -> Iterator[tuple[str, Bounds]]:
    names = {axis.position: axis.index for axis in axes}
    for index in line.indices:
        name = names.get(index, index)
        if name in bounds:
            yield name, bounds[name]
