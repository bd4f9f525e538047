"""Means and variances down columns, in one pass over memory.

`μ[j] += x[b,j] / B` and `v[j] += (x[b,j] - μ[j])**2 * c` are two passes over x, three or four where
the mean is taken away in two parts, so that nothing is lost. One is enough: around a centre near
the data, the first rows' mean, each group of rows has a mean and a sum of squares, computed twice
over while it is in registers, and groups combine exactly (Chan, Golub, LeVeque: Updating formulae and
a pairwise algorithm for computing sample variances, 1979). `moments[0,j]` is the centre, `[1,j]` the
mean less the centre, `[2,j]` the sum of squares about the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line
from loopgrad.schedule.sums.reciprocals import reciprocal
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Step, block_from, block_to

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
    if value is None or not _is_column(mean, value) or not _is_all(mean, lines):
        return None
    name = mean.written.tensor
    later = range(place + 1, len(lines))
    alike = [i for i in later if _runs_alike(lines[i], mean)]
    for i in alike:
        if _deviation(lines[i], value, (mean.target,)) is not None:
            return Chain(value, place, None, None, i, _factor(lines[i]))
    for i in later:
        shift = lines[i]
        if not _is_map_of(shift, name):
            continue
        for j in alike:
            if _averaged(lines[j]) != walk.apply("-", value, shift.target):
                continue
            if not _is_all(lines[j], lines):
                continue
            for k in alike:
                if _deviation(lines[k], value, (shift.target, lines[j].target)) is not None:
                    return Chain(value, place, i, j, k, _factor(lines[k]))
    return None


def _is_all(line: Line, lines: Sequence[Line]) -> bool:
    """Is it all that its tensor holds? A mean to which something is added is none."""
    return sum(other.written.tensor == line.written.tensor for other in lines) == 1


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


def _runs_alike(line: Line, mean: Line) -> bool:
    """Does it add up over all rows of each column, as the mean does?"""
    bounds, named = line.bounds, line.written.bare == mean.written.bare
    return named and line.reduced == mean.reduced and bounds == mean.bounds and not line.unproved


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
    found, factor = _split(line.statement.value)
    of_column = walk.indices_of(factor) <= line.kept
    return square if found == square and of_column else None


def _factor(line: Line) -> Expression:
    return _split(line.statement.value)[1]


def _split(value: Expression) -> tuple[Expression, Expression]:
    """A square, and what it is multiplied by."""
    match value:
        case Apply("/", (square, divisor)):
            return square, reciprocal(divisor)
        case Apply("*", (Apply("**", _) as square, factor)):
            return square, factor
        case Apply("*", (factor, Apply("**", _) as square)):
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
    # Of no rows the sum is 0, whatever the factor is.
    some = walk.compare("<", *mean.bounds[next(iter(mean.reduced))])
    squares = Conditional(some, walk.apply("*", moment(SQUARES), chain.factor), ZERO)
    made = {
        chain.mean: [Line(statement, first=True, moments=True), mapped(mean, whole)],
        chain.variance: [mapped(lines[chain.variance], squares)],
    }
    if chain.shift is not None and chain.rest is not None:
        near = walk.apply("-", moment(CENTRE), lines[chain.shift].target)
        made[chain.rest] = [mapped(lines[chain.rest], walk.apply("+", near, moment(OFFSET)))]
    return [new for i, line in enumerate(lines) for new in made.get(i, [line])]


# ---------------------------------------------------------------------------------------- trees

# Rows are shared out in at most as many parts as this, of LEAST rows where there are as many, whatever
# the number of threads: the result is the same for all. Each part goes by groups of some rows, which
# registers hold.
PARTS, LEAST, GROUP = 32, 64, 8


def moments_of(line: Line, context: Context) -> Iterator[tuple[Node, ...]]:
    """The trees of a line of moments: its centre; moments of each part of the rows; all together.

    Steps here set elements again: what runs is no program of the notation.
    """
    (row,), (column,) = line.reduced, line.kept
    yield from _Moments(line, row, column, context).trees()


class _Moments:
    def __init__(self, line: Line, row: str, column: str, context: Context):
        self.row, self.column, self.target = row, column, line.target
        self.value = line.statement.value
        self.rows = line.bounds[row][1]
        self.columns = line.bounds[column][1]
        self.part = context.name("part")
        most = walk.apply("//", walk.apply("+", self.rows, Number(LEAST - 1)), Number(LEAST))
        self.parts = walk.apply("min", Number(PARTS), walk.apply("max", Number(1), most))
        (_, extent) = context.tensors[line.written.tensor].extents

        def temporary(name: str, *extents: Expression) -> Read:
            indices = [Index(self.part)] * (len(extents) - 1) + [Index(column)]
            return Read(context.temporary(name, extents), tuple(indices))

        self.centre = temporary("centre", extent)
        self.means = temporary("means", Number(PARTS), extent)
        self.squares = temporary("squares", Number(PARTS), extent)
        # In registers: of a group's rows, of one row behind the groups, of all parts.
        self.away = [temporary("away", extent) for _ in range(1, GROUP)]
        names = ("mean", "square", "moved")
        self.of_group = [temporary(name, extent) for name in ("sum", *names)]
        self.of_row = [temporary(name, extent) for name in ("away", "moved")]
        self.of_all = [temporary(name, extent) for name in names]

    def trees(self) -> Iterator[tuple[Node, ...]]:
        yield (self._over_columns(self._near()),)
        yield (Over(self.part, Number(0), self.parts, self._of_part(), Mark.PARALLEL),)
        yield (self._together(),)

    def _near(self) -> tuple[Node, ...]:
        """The centre: the mean of the first rows."""
        some = walk.apply("min", Number(GROUP), self.rows)
        share = walk.apply("/", self.value, some)
        step = Step(Accumulate(self.centre, Reduction.ADD, share), first=True)
        return (Over(self.row, Number(0), some, (step,)),)

    def _of_part(self) -> tuple[Node, ...]:
        begin, end = self._begin(0), self._begin(1)
        groups = walk.apply("//", _minus(end, begin), Number(GROUP))
        middle = walk.apply("+", begin, walk.apply("*", Number(GROUP), groups))
        return (
            self._over_columns((_set(self.means, ZERO), _set(self.squares, ZERO))),
            Blocks(self.row, begin, middle, GROUP, (self._over_columns(self._of_group()),)),
            Over(self.row, middle, end, (self._over_columns(self._of_row()),)),
        )

    def _of_group(self) -> tuple[Step, ...]:
        """The mean and squares of some rows, about the first of them; then the part's with them.

        As that is a row itself, no more than GROUP times the squares about the mean cancel.
        """
        start, count = block_from(self.row), Number(GROUP)
        total, mean, squares, moved = self.of_group
        first, *others = (
            walk.substitute(
                self.value, {self.row: walk.apply("+", start, Number(k)) if k else start}
            )
            for k in range(GROUP)
        )
        whole = _in_pairs([walk.apply("**", away, Number(2)) for away in self.away])
        share = walk.apply("*", total, Number(1 / GROUP))
        about = _minus(squares, walk.apply("*", total, share))
        finite = walk.compare("<", squares, Number(math.inf))
        before = _minus(start, self._begin(0))
        after = walk.apply("+", before, count)
        part = (self.means, self.squares)
        return (
            *(_set(away, _minus(row, first)) for away, row in zip(self.away, others, strict=True)),
            _set(total, _in_pairs(self.away)),
            _set(squares, whole),
            _set(squares, Conditional(finite, about, squares)),
            _set(
                mean,
                walk.apply(
                    "+", _minus(first, self.centre), walk.apply("*", total, Number(1 / GROUP))
                ),
            ),
            *_combined(part, (mean, squares), moved, before, count, after),
        )

    def _of_row(self) -> tuple[Step, ...]:
        """The part's mean and squares with one more row."""
        away, moved = self.of_row
        before, count = _minus(Index(self.row), self._begin(0)), Number(1)
        after = walk.apply("+", before, count)
        part = (self.means, self.squares)
        return (
            _set(away, _minus(self.value, self.centre)),
            *_combined(part, (away, None), moved, before, count, after),
        )

    def _together(self) -> Node:
        """All parts, in their order."""
        begin, end = self._begin(0), self._begin(1)
        mean, squares, moved = self.of_all
        steps = _combined(
            (mean, squares), (self.means, self.squares), moved, begin, _minus(end, begin), end
        )
        some = walk.compare("<", begin, end)
        guarded = tuple(replace(s, statement=replace(s.statement, guard=some)) for s in steps)
        body = (
            _set(mean, ZERO),
            _set(squares, ZERO),
            Over(self.part, Number(0), self.parts, guarded),
            _set(self._moment(CENTRE), self.centre),
            _set(self._moment(OFFSET), mean),
            replace(_set(self._moment(SQUARES), squares), unproved=(self._finite(mean, squares),)),
        )
        start, stop = block_from(self.column), block_to(self.column)
        inner = Over(self.column, start, stop, body, Mark.VECTOR)
        return Blocks(self.column, Number(0), self.columns, None, (inner,), Mark.PARALLEL)

    def _finite(self, mean: Read, squares: Read) -> Read:
        """An access that is out of range where a value or a square is too large, or no number: the literal
        loops divide by the number of rows before they add, and know what infinities of one sign add up to.
        """
        largest = walk.apply("max", walk.apply("abs", mean), squares)
        finite = walk.compare("<", largest, Number(math.inf))
        which = Conditional(finite, Number(0), Number(3))
        return Read(self.target.tensor, (which, Index(self.column)))

    def _begin(self, parts: int) -> Expression:
        """The first row of the part that is so many parts on."""
        number: Expression = Index(self.part)
        number = walk.apply("+", number, Number(parts)) if parts else number
        return walk.apply("//", walk.apply("*", self.rows, number), self.parts)

    def _moment(self, which: Number) -> Read:
        return Read(self.target.tensor, (which, Index(self.column)))

    def _over_columns(self, body: tuple[Node, ...]) -> Over:
        return Over(self.column, Number(0), self.columns, body, Mark.VECTOR)


ZERO = Number(0.0)


def _combined(
    known: tuple[Read, Read],
    new: tuple[Read, Read | None],
    moved: Read,
    before: Expression,
    count: Expression,
    after: Expression,
) -> tuple[Step, ...]:
    """The mean and squares of `before` values with those of `count` more, which makes `after`.

    Of one more there are no squares.
    """
    (mean, squares), (new_mean, new_squares) = known, new
    share = walk.apply("*", moved, walk.apply("/", count, after))
    gained: Expression = walk.apply("*", walk.apply("*", moved, before), share)
    if new_squares is not None:
        gained = walk.apply("+", new_squares, gained)
    return (
        _set(moved, _minus(new_mean, mean)),
        _set(squares, walk.apply("+", squares, gained)),
        _set(mean, walk.apply("+", mean, share)),
    )


def _in_pairs(terms: Sequence[Expression]) -> Expression:
    """Their sum, by pairs of pairs: the sums of one level can be taken at the same time."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return walk.apply("+", _in_pairs(terms[:middle]), _in_pairs(terms[middle:]))


def _set(target: Read, value: Expression) -> Step:
    return Step(Accumulate(target, Reduction.SET, value))


def _minus(one: Expression, other: Expression) -> Expression:
    return walk.apply("-", one, other)
