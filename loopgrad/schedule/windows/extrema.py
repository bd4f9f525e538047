"""What a search for winners has to know of the extremum: which of both it is, and that it is one.

A backward is given y, and asks where `x[n+d] == y[n]`. Anything may be given, so where more depends on y
being the maximum, or the minimum, it is looked at; where it is neither, the literal loops run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
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
from loopgrad.schedule.lines import Line
from loopgrad.schedule.windows.ordinals import Search
from loopgrad.schedule.windows.separating import in_sums

NONE, ONE, MINUS_ONE = Number(0.0), Number(1.0), Number(-1.0)

SEEN = 8  # positions of windows along the first axis at which it is seen what the extremum is


@dataclass(frozen=True, slots=True)
class Extremum:
    """That a value in the window is the extremum: `condition`, a comparison of the two."""

    value: Expression
    extremum: Read
    condition: Expression


def extremum_of(line: Line, context: Context) -> Extremum | None:
    """What the line of a search compares; None where it is something else."""
    found = [
        Extremum(one, other, condition)
        for condition in walk.conjuncts(line.statement.guard)
        if isinstance(condition, Compare) and condition.operators == ("==",)
        for one, other in (condition.operands, condition.operands[::-1])
        if isinstance(other, Read) and other.subscripts == line.target.subscripts
    ]
    return found[0] if len(found) == 1 and context.is_floating(found[0].value) else None


def sense(
    search: Search, position: str, found: Extremum, context: Context
) -> tuple[list[Line], Expression]:
    """1, where values in the middle of some windows are below the extremum; -1, where above."""
    first = search.lines[0]
    middles = zip(search.indices, search.lows, search.counts, strict=True)
    at: dict[str, Expression] = {i: Number(low + count // 2) for i, low, count in middles}
    count = first.bounds[position][1]
    several = walk.apply("*", Index(position), count)
    at[position] = walk.apply("//", several, Number(SEEN))

    def some(e: Expression) -> Expression:
        return in_sums(walk.substitute(e, at))

    value, extremum = some(found.value), some(found.extremum)
    below, above = (walk.compare(o, value, extremum) for o in "<>")
    vote = Conditional(below, ONE, Conditional(above, MINUS_ONE, NONE))
    votes = Read(context.temporary("votes", ()), ())
    turn = Read(context.temporary("turn", ()), ())
    few = Range(position, Number(0), walk.apply("min", count, Number(SEEN)))
    ranges = tuple(few if r.index == position else r for r in ranges_of_windows(search))
    guard = without(first.statement.guard, [found.condition])
    inside = None if guard is None else some(guard)
    voting = Accumulate(votes, Reduction.ADD, vote, ranges, inside)
    sign = Conditional(walk.compare(">=", votes, NONE), ONE, MINUS_ONE)
    setting = Accumulate(turn, Reduction.SET, sign, ())
    return [Line(voting, first=True), Line(setting, first=True)], turn


def checked(counting: Sequence[Line], count: Expression, context: Context) -> list[Line]:
    """The lines, which count what is wrong with an extremum, and one that fails if something is."""
    seen = context.temporary("right", (Number(1),))
    right = Read(seen, (Conditional(walk.compare("==", count, NONE), Number(0), Number(1)),))
    looking = Accumulate(right, Reduction.SET, count, ())
    return [*counting, Line(looking, (right,), first=True)]


def is_number(e: Expression) -> Expression:
    """Of what is no number there is no winner."""
    return walk.compare("==", e, e)


def ranges_of_windows(search: Search) -> tuple[Range, ...]:
    """Those that tell windows apart."""
    ranges = search.lines[0].statement.ranges
    return tuple(r for r in ranges if r.index not in search.indices)


def without(guard: Expression | None, conditions: Collection[Expression]) -> Expression | None:
    return walk.conjunction([part for part in walk.conjuncts(guard) if part not in conditions])


def spread_conditions(line: Line, search: Search) -> list[Expression] | None:
    """What the line asks beside that a place has won, and is one of those searched.

    None where it does not ask that, or where it does something else with what was found.
    """
    if line.statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or line.first:
        return None
    pairs = zip(search.indices, search.lines, strict=True)
    won = [walk.compare("==", Index(index), each.target) for index, each in pairs]
    parts = list(walk.conjuncts(line.statement.guard))
    if not all(each in parts for each in won):
        return None
    known = set(walk.conjuncts(search.lines[0].statement.guard))
    rest = [part for part in parts if part not in won and part not in known]
    seen = [*rest, line.statement.value, *line.target.subscripts]
    if any(tensor in search.tensors for e in seen for tensor in walk.tensors_in(e)):
        return None
    return rest
