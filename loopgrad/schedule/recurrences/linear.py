"""Statements of a recurrence that are linear in what the step before has written.

    for t:
        for b:  h[b,t] = a[b,t] * h[b,t-1] + x[b,t]

Such steps can be put together before it is known what they start from (Blelloch, "Prefix sums and
their applications", 1990): two of them are one with the factor a2*a1 and the addend a2*x1 + x2. The
greatest and the least so far are of this kind too. Of whole programs `analysis/linear_recurrences.py`
finds more, rings of several states among them; this is about single lines, of which code is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.polynomial import subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Read,
    Reduction,
)
from loopgrad.ir.walk import ONE, ZERO
from loopgrad.schedule.sums.reciprocals import reciprocal

_EXTREMA = {Reduction.MAXIMUM: "max", Reduction.MINIMUM: "min"}


@dataclass(frozen=True, slots=True)
class Linear:
    """What a step makes of the element that the step before has written.

    operation: `+` for `factor * previous + addend`, where the factor None stands for 1 and the addend
        None for 0; `max` or `min` of `previous` and the addend.
    """

    previous: Read
    operation: str
    factor: Expression | None
    addend: Expression | None


def linear(
    statement: Accumulate, index: str, descending: bool = False, first: bool = False
) -> Linear | None:
    """The step over the index as it depends on the one before; None where it is no recurrence of this kind.

    Neither factor nor addend reads anything that other steps write, but the addend may hold the
    target's own element, to which the step adds. `first`: nothing has been written to that.

    >>> import loopgrad as lg
    >>> text = "f(a[T], x[T]) -> h[T+1]:\\n    for t < T:\\n        h[t+1] += a[t] * (h[t] - x[t])"
    >>> block, = lg.program(text).statements
    >>> step = linear(block.body[0], "t", first=True)
    >>> from loopgrad.ir.printer import show_expression
    >>> step.operation, show_expression(step.factor), show_expression(step.addend)
    ('+', 'a[t]', '-x[t] * a[t]')
    """
    previous = _previous(statement, index, descending)
    if previous is None:
        return None
    own = None if first else statement.target
    match statement.reduction:
        case Reduction.MAXIMUM | Reduction.MINIMUM:
            return _extremum(statement, previous, own)
        case Reduction.SET if _is_extremum(statement.value, previous):
            return _extremum(statement, previous, None)
    parts = _parts(statement.value, previous)
    if parts is None or parts[0] is None:
        return None
    factor, addend = _taken_in(statement, parts, own)
    return Linear(previous, "+", None if factor == ONE else factor, addend)


def _previous(statement: Accumulate, index: str, descending: bool) -> Read | None:
    """The element that the step before has written, if of its tensor the step reads that one alone."""
    target = statement.target
    found = {r for r in walk.statement_reads(statement) if r.tensor == target.tensor}
    holding = [s for s in target.subscripts if index in walk.indices_of(s)]
    gathers = any(True for s in target.subscripts for _ in walk.reads(s))
    if len(found) != 1 or len(holding) != 1 or gathers or not _moves(holding[0], index):
        return None
    (read,) = found
    before = walk.apply("+", Index(index), walk.number(1 if descending else -1))
    for one, other in zip(read.subscripts, target.subscripts, strict=True):
        moved = walk.substitute(other, {index: before})
        if subtract(polynomial(one), polynomial(moved)):
            return None
    return read


def _moves(subscript: Expression, index: str) -> bool:
    """Is it another one for each value of the index, which it is linear in?"""
    atom = Index(index)
    holding = [m for m in polynomial(subscript) if any(index in walk.indices_of(a) for a in m)]
    return holding == [(atom,)]


# ---------------------------------------------------------------------------- factor and addend

# None stands for 0.
_Part = Expression | None


def _parts(value: Expression, previous: Read) -> tuple[_Part, _Part] | None:
    """The value as `factor * previous + addend`."""
    if value == previous:
        return ONE, None
    if previous not in walk.reads(value):
        return None, value
    match value:
        case Apply("+" | "-" as operation, (left, right)):
            one, other = _parts(left, previous), _parts(right, previous)
            if one is None or other is None:
                return None
            if operation == "-":
                other = _negative(other[0]), _negative(other[1])
            return _sum(one[0], other[0]), _sum(one[1], other[1])
        case Apply("neg", (operand,)):
            found = _parts(operand, previous)
            return found and (_negative(found[0]), _negative(found[1]))
        case Apply("*", (left, right)):
            if previous in walk.reads(right):
                left, right = right, left
            found = None if previous in walk.reads(right) else _parts(left, previous)
            return found and (_product(found[0], right), _product(found[1], right))
        case Apply("/", (left, right)):
            found = None if previous in walk.reads(right) else _parts(left, previous)
            return found and (_quotient(found[0], right), _quotient(found[1], right))
        case Conditional(condition, then, otherwise):
            one, other = _parts(then, previous), _parts(otherwise, previous)
            if one is None or other is None or previous in walk.reads(condition):
                return None
            return _choice(condition, one[0], other[0]), _choice(condition, one[1], other[1])
    return None


def _taken_in(
    statement: Accumulate, parts: tuple[_Part, _Part], own: Expression | None
) -> tuple[_Part, _Part]:
    """What the statement makes of it. `own`: the target's element, None if nothing is there yet."""
    factor, addend = parts
    stays: _Part = own
    match statement.reduction:
        case Reduction.ADD:
            addend = _sum(own, addend)
        case Reduction.SUBTRACT:
            factor, addend = _negative(factor), _sum(own, _negative(addend))
        case Reduction.MULTIPLY:
            factor, addend = _product(factor, own or ONE), _product(addend, own or ONE)
            stays = own or ONE
    if statement.guard is None:
        return factor, addend
    return _choice(statement.guard, factor, None), _choice(statement.guard, addend, stays)


def _sum(one: _Part, other: _Part) -> _Part:
    if one is None or other is None:
        return one if other is None else other
    return walk.apply("+", one, other)


def _negative(part: _Part) -> _Part:
    return None if part is None else walk.apply("neg", part)


def _product(part: _Part, factor: Expression) -> _Part:
    if part is None or factor == ONE:
        return part
    return factor if part == ONE else walk.apply("*", part, factor)


def _quotient(part: _Part, divisor: Expression) -> _Part:
    if part is None:
        return None
    return reciprocal(divisor) if part == ONE else walk.apply("/", part, divisor)


def _choice(condition: Expression, then: _Part, otherwise: _Part) -> _Part:
    if then == otherwise:
        return then
    return Conditional(condition, then or ZERO, otherwise or ZERO)


# ------------------------------------------------------------------------------------ extrema


def _is_extremum(value: Expression, previous: Read) -> bool:
    match value:
        case Apply("max" | "min", operands):
            return previous in operands
    return False


def _extremum(statement: Accumulate, previous: Read, own: Expression | None) -> Linear | None:
    """The greater, or the less, of what was there before and of what does not hang on it."""
    operation, value = _EXTREMA.get(statement.reduction), statement.value
    found: list[Expression] = [] if own is None else [own]
    match value:
        case Apply("max" | "min" as inner, (left, right)) if previous in (left, right):
            if operation not in (None, inner):
                return None
            operation = inner
            found.append(right if left == previous else left)
        case _ if value != previous:
            return None
    if operation is None or statement.guard is not None or not found:
        return None
    addend = reduce(lambda a, b: walk.apply(operation, a, b), found)
    return None if previous in walk.reads(addend) else Linear(previous, operation, None, addend)
