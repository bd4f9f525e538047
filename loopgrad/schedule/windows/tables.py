"""Places that are no steps from one element to the next, looked up in place of being computed for each row.

    for b, n:  y[b,n] = x[b, (n-3) % N]

divides for each element of each row, though which one it reads is the same in all rows:

    for n:     at[n]  = (n-3) % N
    for b, n:  y[b,n] = x[b, at[n]]

So are places in turns (`n // 3`), mirrored (`abs(n-3)`) and clamped ones (`min(max(n-3, 0), N-1)`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loopgrad.analysis.facts import TensorFacts
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
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, few_values

# Operations whose results are not evenly apart where an operand's are.
_UNEVEN = frozenset(("//", "%", "abs", "min", "max", "relu", "sign"))


def with_tables(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with tables of what their subscripts would compute in each row anew."""
    known: dict[tuple[Expression, Range], Read] = {}
    found: list[Line] = []
    for line in lines:
        at = {e: _table(e, line, known, found, context) for e in _worth_a_table(line)}
        found.append(_looked_up(line, at) if at else line)
    return tuple(found)


def _worth_a_table(line: Line) -> Iterator[Expression]:
    """Subscripts that one index alone picks, the same in all rows, along which memory lies in order."""
    if line.roles is not None or line.stands_alone or line.unproved or len(line.indices) < 2:
        return
    along = frozenset().union(*(one.along for one in (line.written, *line.read)))
    for read in dict.fromkeys((line.target, *line.reads())):
        for subscript in read.subscripts:
            indices = walk.indices_of(subscript) & {*line.indices}
            if len(indices) != 1 or not _is_uneven(subscript):
                continue
            (index,) = indices
            if index in along and _is_whole(line, index):
                yield subscript


def _is_whole(line: Line, index: str) -> bool:
    """Does it go over the same values in every row, of which there are many?"""
    lower, upper = line.bounds[index]
    hanging = walk.indices_of(upper) or any(True for _ in walk.reads(upper))
    return lower == Number(0) and not hanging and not few_values(line, index)


def _is_uneven(subscript: Expression) -> bool:
    """Is it computed from indices and sizes alone, and no even step from one value to the next?"""
    if any(True for _ in walk.reads(subscript)):
        return False
    return any(
        walk.indices_of(e)
        and (isinstance(e, Conditional) or (isinstance(e, Apply) and e.operation in _UNEVEN))
        for e in walk.subexpressions(subscript)
    )


def _table(
    place: Expression,
    line: Line,
    known: dict[tuple[Expression, Range], Read],
    lines: list[Line],
    context: Context,
) -> Read:
    """The element of a table that holds the place; of a new one, which is added to the lines."""
    (index,) = walk.indices_of(place) & {*line.indices}
    over = Range(index, *line.bounds[index])
    if (place, over) not in known:
        name = context.name("at")
        context.tensors[name] = TensorFacts(
            name, "temporary", (line.bounds[index][1],), ElementType.INT
        )
        own = Read(name, (Index(index),))
        setting = Accumulate(own, Reduction.SET, place, (over,))
        lines.append(Line(setting, first=True, integral=True))
        known[place, over] = own
    return known[place, over]


def _looked_up(line: Line, at: dict[Expression, Read]) -> Line:
    def place(subscript: Expression) -> Expression:
        return at.get(subscript) or change(subscript)

    def change(expression: Expression) -> Expression:
        match expression:
            case Read(tensor, subscripts, span):
                return Read(tensor, tuple(map(place, subscripts)), span)
        return walk.rebuild(expression, change)

    statement = line.statement
    target = replace(statement.target, subscripts=tuple(map(place, statement.target.subscripts)))
    guard = None if statement.guard is None else change(statement.guard)
    changed = replace(statement, target=target, value=change(statement.value), guard=guard)
    return replace(line, statement=changed)
