"""What is evident of guards and subscripts, as formulas in extents: least and greatest values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from loopgrad.analysis.extents import (
    Polynomial,
    largest,
    polynomial,
    smallest,
    to_expression,
)
from loopgrad.analysis.polynomial import add, constant, constant_value, scale, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Index, Number, Read
from loopgrad.schedule.lines import Bounds, Line, Tensors

_ONE = constant(1)


def conditions(guard: Expression) -> list[Polynomial] | None:
    """Formulas that have to be 0 or more: `n + p < X` as X - n - p - 1."""
    found: list[Polynomial] = []
    for condition in walk.conjuncts(guard):
        match condition:
            case Compare(("<" | "<=" as operator,), (low, high)):
                pass
            case Compare((">" | ">=" as operator,), (high, low)):
                pass
            case _:
                return None
        if any(True for side in (low, high) for _ in walk.reads(side)):
            return None
        found.append(subtract(polynomial(high), polynomial(low)))
        if operator in ("<", ">"):
            found[-1] = subtract(found[-1], _ONE)
    return found


def limits(value: Polynomial, bounds: Mapping[str, Bounds]) -> tuple[Polynomial, Polynomial] | None:
    """The least and the greatest value of a sum of multiples of indices."""
    if any(_hangs(bounds, name) for monomial in value for name in _names(monomial)):
        ranges = [(name, *ends) for name, ends in bounds.items()]
        ends = [f(to_expression(value), ranges, frozenset()) for f in (smallest, largest)]
        first, end = (None if e is None else polynomial(e) for e in ends)
        return None if first is None or end is None else (first, end)
    least: Polynomial = {}
    greatest: Polynomial = {}
    for monomial, coefficient in value.items():
        match monomial:
            case (Index(name),) if name in bounds:
                lower, upper = map(polynomial, bounds[name])
                last = subtract(upper, _ONE)
                low, high = (lower, last) if coefficient > 0 else (last, lower)
            case _ if any(map(walk.indices_of, monomial)):
                return None
            case _:
                low = high = {monomial: 1}
        least, greatest = add(least, low, coefficient), add(greatest, high, coefficient)
    return least, greatest


def _names(monomial: Iterable[Expression]) -> Iterator[str]:
    return (name for atom in monomial for name in walk.indices_of(atom))


def _hangs(bounds: Mapping[str, Bounds], name: str) -> bool:
    """Do the bounds of the index hang on others?"""
    return any(map(walk.indices_of, bounds.get(name, ())))


def holds(condition: Expression, bounds: Mapping[str, Bounds]) -> bool:
    """Is it evident that it holds, whatever the indices are?"""
    formulas = conditions(condition)
    if formulas is None:
        return False
    found = (limits(formula, bounds) for formula in formulas)
    return all(ends is not None and is_natural(ends[0]) for ends in found)


def is_there(
    read: Read, guard: Expression, extents: Sequence[Expression], bounds: Mapping[str, Bounds]
) -> bool:
    """Is what is in range under the guard so without it: evidently, or as the guard says nothing of it?

    `seen[u] > 0` says nothing of u, nor of where `k[u]` is: but `u <= t` does, and `w[u] > 0` of `y[w[u]]`.
    """
    spoken = [_subjects(condition) for condition in walk.conjuncts(guard)]

    def is_spoken_of(subscript: Expression) -> bool:
        names = _hangs_on(walk.indices_of(subscript), bounds)
        formulas = (subscript, *(end for name in names & {*bounds} for end in bounds[name]))
        subjects = names.union(*map(walk.tensors_in, formulas))
        return not names or any(not about or about & subjects for about in spoken)

    return all(
        not is_spoken_of(subscript) or _is_within(subscript, extent, bounds)
        for subscript, extent in zip(read.subscripts, extents, strict=True)
    )


def fitting(expression: Expression, line: Line, tensors: Tensors) -> tuple[Expression, ...] | None:
    """What sizes have to satisfy for all that the expression reads to be in range wherever its indices go,
    each over an axis for itself: `C <= C'` of `k[c,c']` with c' below C. None where a guard, or a condition
    within, may be what keeps it there.
    """
    guard, found = line.statement.guard, dict[Expression, None]()
    if any(isinstance(e, Conditional) for e in walk.subexpressions(expression)):
        return None
    for read in walk.reads(expression):
        extents = tensors[read.tensor].extents
        if guard is not None and not is_there(read, guard, extents, line.bounds):
            return None
        for subscript, extent in zip(read.subscripts, extents, strict=True):
            match subscript:
                case Index(name) if not walk.indices_of(line.bounds[name][1]):
                    lower, upper = line.bounds[name]
                case _:
                    return None
            if not (isinstance(lower, Number) and lower.value >= 0) or any(walk.reads(upper)):
                return None
            if upper != extent:
                found[walk.compare("<=", upper, extent)] = None
    return tuple(found)


def is_there_always(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """Is all that the expression reads in range evidently, whatever conditions it stands under?"""
    return all(
        _is_within(subscript, extent, line.bounds)
        for read in walk.reads(expression)
        for subscript, extent in zip(read.subscripts, tensors[read.tensor].extents, strict=True)
    )


def _is_within(subscript: Expression, extent: Expression, bounds: Mapping[str, Bounds]) -> bool:
    return holds(Compare(("<=", "<"), (Number(0), subscript, extent)), bounds)


def is_there_anyway(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """Is all that the expression reads in range where the line's guard fails, too?

    Conditions within the line's value, under which it may stand as well, have to stay around it.
    """
    guard = line.statement.guard
    return guard is None or all(
        is_there(read, guard, tensors[read.tensor].extents, line.bounds)
        for read in walk.reads(expression)
    )


def _subjects(condition: Expression) -> frozenset[str]:
    """The indices that it compares, and the tensors of which it does elements."""
    match condition:
        case Index(name) | Read(name, _):
            return frozenset((name,))
    return frozenset().union(*map(_subjects, walk.children(condition)))


def _hangs_on(names: frozenset[str], bounds: Mapping[str, Bounds]) -> frozenset[str]:
    """The indices, and those that their bounds hang on."""
    ends = (end for name in names if name in bounds for end in bounds[name])
    found = names.union(*map(walk.indices_of, ends))
    return found if found == names else _hangs_on(found, bounds)


def is_natural(value: Polynomial) -> bool:
    """Is it 0 or more, evidently? Of c*(e//c) no more is known than that it is e, or less by c-1 at most."""
    least, factor = value, 1  # what the value is at least, times the factor
    while (found := next(filter(None, map(_divided, least)), None)) is not None:
        monomial, dividend, divisor = found
        coefficient = least[monomial]  # and that of what is divided, once all is times the divisor
        least = scale(subtract(least, {monomial: coefficient}), divisor)
        low = dividend if coefficient < 0 else subtract(dividend, constant(divisor - 1))
        least, factor = add(least, low, coefficient), factor * divisor
    known = constant_value(least)
    return known is not None and known > -factor


def _divided(
    monomial: tuple[Expression, ...],
) -> tuple[tuple[Expression, ...], Polynomial, int] | None:
    """Of a quotient by a number: itself, what is divided, and by what."""
    match monomial:
        case (Apply("//", (dividend, Number(int(divisor)))),) if divisor > 0:
            return monomial, polynomial(dividend), divisor
    return None
