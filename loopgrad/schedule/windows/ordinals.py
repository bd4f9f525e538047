"""The winner of a window of few places as one number, a real: which of the places, in loop order.

    for n, dx < 3, dy < 3:  w.dx[n] min= dx   if C
    for n, dx < 3, dy < 3:  w.dy[n] min= dy   if C and dx == w.dx[n]
    for n, dx < 3, dy < 3:  x[2*n+dx,dy] += g[n]   if dx == w.dx[n] and dy == w.dy[n]

is one search and one comparison,

    for n, dx < 3, dy < 3:  w[n] min= 3*dx + dy   if C
    for n, dx < 3, dy < 3:  x[2*n+dx,dy] += g[n]   if 3*dx + dy == w[n]

and lanes of reals are as wide as those of the values that are compared, where an integer takes two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Expression,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, few_values
from loopgrad.schedule.windows.picking import MOST_PLACES


@dataclass(frozen=True, slots=True)
class Search:
    """Lines that find, one after the other, the first value of each index that others compare with.

    `lows`, `counts`: where the values of each begin, and how many there are.
    """

    lines: tuple[Line, ...]
    indices: tuple[str, ...]
    lows: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(line.written.tensor for line in self.lines)

    def ordinal(self, values: Sequence[Expression]) -> Expression:
        """Which of the places, in loop order, that is where the indices have these values."""
        total: Polynomial = {}
        for value, low, count in zip(values, self.lows, self.counts, strict=True):
            total = add({m: c * count for m, c in total.items()}, polynomial(value))
            total = add(total, constant(-low))
        return to_expression(total)


def with_ordinals(
    lines: Sequence[Line], context: Context, kept: Collection[str]
) -> tuple[Line, ...]:
    """The lines, with one number for each winner. `kept`: tensors that others see."""

    def numbered(current: tuple[Line, ...], search: Search) -> tuple[Line, ...]:
        if prod(search.counts) > MOST_PLACES:
            return current
        return _numbered(current, search, context)

    return for_each_search(lines, kept, numbered)


def for_each_search(
    lines: Sequence[Line],
    kept: Collection[str],
    change: Callable[[tuple[Line, ...], Search], tuple[Line, ...]],
) -> tuple[Line, ...]:
    """The lines with a change for each search that is in them.

    What one change makes of the lines of another search, as where that reads what the first has found, are
    other lines: so each is looked for among those that are there when its turn comes.
    """
    current = tuple(lines)
    for tensors in [search.tensors for search in searches(lines, kept)]:
        found = [search for search in searches(current, kept) if search.tensors == tensors]
        if found:
            current = change(current, found[0])
    return current


def searches(lines: Sequence[Line], kept: Collection[str]) -> list[Search]:
    """All that search for one winner, among values of indices that are known."""
    found: list[Search] = []
    writers = Counter(line.written.tensor for line in lines)
    for line in lines:
        if line.written.tensor in kept or writers[line.written.tensor] > 1 or not _finds(line):
            continue
        index = line.statement.value
        assert isinstance(index, Index)
        earlier = [s for s in found if _continues(line, s)]
        if earlier:
            found = [s for s in found if s is not earlier[0]]
        before = earlier[0] if earlier else Search((), (), (), ())
        low = line.bounds[index.name][0]
        assert isinstance(low, Number) and isinstance(low.value, int)
        more = Search(
            (*before.lines, line),
            (*before.indices, index.name),
            (*before.lows, low.value),
            (*before.counts, few_values(line, index.name)),
        )
        found.append(more)
    return found


def _finds(line: Line) -> bool:
    """Is it `w[n] min= dx   if C`, all there is of w, for an index of few values?"""
    match line.statement:
        case Accumulate(_, Reduction.MINIMUM, Index(index)):
            return line.first and index in line.reduced and few_values(line, index) > 0
    return False


def _continues(line: Line, search: Search) -> bool:
    """Does it search on among the places that the earlier search has left?"""
    last = search.lines[-1]
    if line.target.subscripts != last.target.subscripts:
        return False
    if line.statement.ranges != last.statement.ranges or line.unproved:
        return False
    won = walk.compare("==", Index(search.indices[-1]), last.target)
    known = {*walk.conjuncts(last.statement.guard)}
    return {*walk.conjuncts(line.statement.guard)} == known | {won}


def _numbered(lines: tuple[Line, ...], search: Search, context: Context) -> tuple[Line, ...]:
    """The lines with the number; as they are, where something else is done with what the search finds."""
    first = search.lines[0]
    tensors = search.tensors
    names = set(context.taken)
    whose = tensors[0].rpartition(".")[0] or tensors[0]
    name = context.temporary(f"{whose}.winner", context.tensors[tensors[0]].extents)
    found: list[Line] = []
    for line in lines:
        if line is first:
            value = search.ordinal([Index(i) for i in search.indices])
            target = Read(name, line.target.subscripts)
            statement = replace(line.statement, target=target, value=value)
            unproved = _named(line.unproved, search, name)
            found.append(replace(line, statement=statement, unproved=unproved, integral=False))
        elif not any(line is other for other in search.lines):
            found.append(_compared(line, search, name))
    if any(one.tensor in tensors for line in found for one in line.read):
        context.taken.intersection_update(names)
        del context.tensors[name]
        return lines
    return tuple(found)


def _compared(line: Line, search: Search, name: str) -> Line:
    if not any(one.tensor in search.tensors for one in line.read):
        return line

    def change(expression: Expression) -> Expression:
        match expression:
            case Apply("and") | Compare():
                return _in_place(walk.rebuild(expression, change), line, search, name)
        return walk.rebuild(expression, change)

    changed = walk.map_statement(line.statement, change)
    assert isinstance(changed, Accumulate)
    return replace(line, statement=changed, unproved=_named(line.unproved, search, name))


def _named(unproved: Sequence[Read], search: Search, name: str) -> tuple[Read, ...]:
    """Reads of the number in place of those of what the search finds."""
    return tuple(
        dict.fromkeys(
            replace(read, tensor=name) if read.tensor in search.tensors else read
            for read in unproved
        )
    )


def _in_place(condition: Expression, line: Line, search: Search, name: str) -> Expression:
    """One comparison, where the parts of the condition compare all that the search finds at a place."""
    parts = list(walk.conjuncts(condition))
    by_tensor: dict[str, tuple[Expression, Index, Read]] = {}
    for part in parts:
        match part:
            case Compare(("==",), (Index() as index, Read() as found)):
                by_tensor[found.tensor] = part, index, found
            case Compare(("==",), (Read() as found, Index() as index)):
                by_tensor[found.tensor] = part, index, found
    if not {*search.tensors} <= {*by_tensor}:
        return condition
    own = [by_tensor[tensor] for tensor in search.tensors]
    values = [index for _, index, _ in own]
    place = own[0][2].subscripts
    first = search.lines[0]
    same = all(
        line.bounds.get(value.name) == first.bounds[index]
        for value, index in zip(values, search.indices, strict=True)
    )
    if not same or any(found.subscripts != place for _, _, found in own):
        return condition
    equal = walk.compare("==", search.ordinal(values), Read(name, place))
    known = [part for part, _, _ in own]
    left = [equal if part == known[0] else part for part in parts if part not in known[1:]]
    return walk.conjunction(left) or equal
