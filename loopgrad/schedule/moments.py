"""Means and variances down columns, in one pass over memory.

`μ[j] += x[b,j] / B` and `v[j] += (x[b,j] - μ[j])**2 * c` are two passes over x, three or four where
the mean is taken away in two parts, so that nothing is lost. One is enough: around a centre near
the data, the first rows' mean, each block of rows has a mean and a sum of squares, computed twice
over while it is in a cache, and blocks combine exactly (Chan, Golub, LeVeque: Updating formulae and
a pairwise algorithm for computing sample variances, 1979). `moments[0,j]` is the centre, `[1,j]` the
mean less the centre, `[2,j]` the sum of squares about the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Index, Number, Range, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line

CENTRE, OFFSET, SQUARES = map(Number, range(3))


@dataclass(frozen=True, slots=True)
class Chain:
    """Lines of a mean and a variance: numbers among the lines.

    `mean` adds up value / count. Where the mean is taken away in two parts, `shift` is a map of it,
    and `rest` the mean of value - shift. `variance` adds up the squares of value - shift - rest.
    """

    value: Expression
    mean: int
    shift: int | None
    rest: int | None
    variance: int
    factor: Expression  # of the variance


def with_moments(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines with chains of column means and variances made one line of moments, and maps."""
    current = list(lines)
    while True:
        chain = next(
            (c for i in range(len(current)) if (c := _chain(current, i, context)) is not None), None
        )
        if chain is None:
            return tuple(current)
        current = _replaced(current, chain, context)


# -------------------------------------------------------------------------------------- finding


def _chain(lines: Sequence[Line], place: int, context: Context) -> Chain | None:
    """The chain that begins with the mean at the place."""
    mean = lines[place]
    value = _averaged(mean)
    if value is None or not _is_column(mean, value):
        return None
    name = mean.written.tensor
    later = range(place + 1, len(lines))
    for i in later:
        if _deviation(lines[i], value, (mean.target,)) is not None:
            return Chain(value, place, None, None, i, _factor(lines[i]))
    for i in later:
        shift = lines[i]
        if not _is_map_of(shift, name):
            continue
        for j in later:
            if _averaged(lines[j]) != walk.apply("-", value, shift.target):
                continue
            for k in later:
                if _deviation(lines[k], value, (shift.target, lines[j].target)) is not None:
                    return Chain(value, place, i, j, k, _factor(lines[k]))
    return None


def _averaged(line: Line) -> Expression | None:
    """u, where the line adds up u / N over the N values of its reduced index, as all it does."""
    statement = line.statement
    if not line.first or statement.reduction is not Reduction.ADD or statement.guard is not None:
        return None
    if len(line.reduced) != 1 or line.unproved:
        return None
    (index,) = line.reduced
    lower, upper = line.bounds[index]
    match statement.value:
        case Apply("/", (value, count)) if lower == Number(0) and count == upper:
            return value
    return None


def _is_column(line: Line, value: Expression) -> bool:
    """Are the elements of one row next to each other, and is there nothing else around?"""
    (index,) = line.reduced
    if len(line.kept) != 1 or line.bounding or not isinstance(value, Read):
        return False
    (column,) = line.kept
    return line.written.bare == (column,) and line.read[0].bare == (index, column)


def _is_map_of(line: Line, tensor: str) -> bool:
    statement = line.statement
    sets = statement.reduction is Reduction.SET or line.first
    plain = sets and not line.reduced and statement.guard is None
    return plain and {one.tensor for one in line.read} == {tensor}


def _deviation(line: Line, value: Expression, parts: Sequence[Expression]) -> Expression | None:
    """The squared deviation that the line adds up, if it is that of the value from the parts."""
    if not line.first or line.statement.reduction is not Reduction.ADD or line.statement.guard:
        return None
    for part in parts:
        value = walk.apply("-", value, part)
    square = walk.apply("**", value, Number(2))
    found, _ = _split(line.statement.value)
    return square if found == square else None


def _factor(line: Line) -> Expression:
    return _split(line.statement.value)[1]


def _split(value: Expression) -> tuple[Expression, Expression]:
    """A square, and what it is multiplied by."""
    match value:
        case Apply("/", (square, divisor)):
            return square, walk.apply("/", Number(1.0), divisor)
        case Apply("*", (square, factor)) | Apply("*", (factor, square)) if not walk.indices_of(
            factor
        ):
            return square, factor
    return value, Number(1.0)


# ------------------------------------------------------------------------------------ replacing


def _replaced(lines: Sequence[Line], chain: Chain, context: Context) -> list[Line]:
    mean = lines[chain.mean]
    (column,) = mean.kept
    extents = (Number(3), *context.tensors[mean.written.tensor].extents)
    name = context.temporary("moments", extents)
    bounds = Range(column, *mean.bounds[column])

    def moment(which: Expression) -> Read:
        return Read(name, (which, Index(column)))

    def mapped(line: Line, value: Expression) -> Line:
        statement = Accumulate(line.target, Reduction.SET, value, (bounds,))
        return Line(statement, first=True)

    statement = replace(mean.statement, target=moment(CENTRE), value=chain.value)
    whole = walk.apply("+", moment(CENTRE), moment(OFFSET))
    squares = walk.apply("*", moment(SQUARES), chain.factor)
    made = {
        chain.mean: [Line(statement, first=True, moments=True), mapped(mean, whole)],
        chain.variance: [mapped(lines[chain.variance], squares)],
    }
    if chain.shift is not None and chain.rest is not None:
        near = walk.apply("-", moment(CENTRE), lines[chain.shift].target)
        made[chain.rest] = [mapped(lines[chain.rest], walk.apply("+", near, moment(OFFSET)))]
    return [new for i, line in enumerate(lines) for new in made.get(i, [line])]
