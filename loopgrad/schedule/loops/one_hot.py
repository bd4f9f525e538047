"""One element of a row that is added to behind the row: done while the row is written.

    for b, j:  T[b,j]    = d                hot[b] = f[b]
    for b:     T[b,f[b]] += e         ->    for b, j:  T[b,j] = d + (e if j == hot[b] else -0.0)

So each element is written once, and nothing is read back that may have left the caches. Whether f[b]
is in range is checked where `hot` is computed, once for each row, of which there may be none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
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
from loopgrad.schedule.lines import Line, covers

_ADDING = (Reduction.ADD, Reduction.SUBTRACT)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The places of a line that writes rows and of one that adds an element to each, and which."""

    dense: int
    single: int
    index: str  # that goes along a row
    place: Expression


def with_one_hot(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with elements added where their rows are written; `first` has to be known."""
    current = list(lines)
    while context.choices.share:
        pair = next((p for i in range(len(current)) if (p := _pair(current, i, context))), None)
        if pair is None:
            break
        made = _together(current[pair.dense], current[pair.single], pair, context)
        rest = [line for i, line in enumerate(current) if i not in (pair.dense, pair.single)]
        current = [*rest[: pair.single - 1], *made, *rest[pair.single - 1 :]]
    return tuple(current)


def _pair(lines: Sequence[Line], place: int, context: Context) -> _Pair | None:
    """The line that writes the rows to which the line at the place adds, if they may be one."""
    single = lines[place]
    tensor = single.written.tensor
    earlier = [i for i in range(place) if lines[i].written.tensor == tensor]
    if not earlier or not _adds_one(single):
        return None
    at = earlier[-1]
    dense = lines[at]
    if not dense.first or dense.reduced or not covers(dense, context.tensors[tensor].extents):
        return None
    between = lines[at + 1 : place]
    own = {one.tensor for one in dense.read}
    if any(
        line.written.tensor in own or tensor in {one.tensor for one in line.read}
        for line in between
    ):
        return None
    if not dense.target.subscripts:
        return None
    *rows, along = dense.written.bare
    *others, last = single.target.subscripts
    alike = tuple(others) == dense.target.subscripts[:-1] and {*single.indices} == {*rows}
    if along is None or not alike or along in walk.indices_of(last):
        return None
    if any(single.bounds[i] != dense.bounds[i] for i in single.indices):
        return None
    return _Pair(at, place, along, last)


def _adds_one(line: Line) -> bool:
    statement = line.statement
    plain = statement.reduction in _ADDING and not line.integral and statement.guard is None
    # Reads that may be out of range stay where they are reached once for each row.
    return plain and not line.first and {*line.unproved} <= {line.target}


def _together(dense: Line, single: Line, pair: _Pair, context: Context) -> list[Line]:
    made: list[Line] = []
    place = pair.place
    if single.unproved or any(True for _ in walk.reads(place)):
        made.append(_checked(single, place, context))
        place = made[0].target
    same = single.statement.reduction is dense.statement.reduction or (
        single.statement.reduction is Reduction.ADD and dense.statement.reduction is Reduction.SET
    )
    nothing = walk.apply("neg", Number(0.0)) if same else Number(0.0)
    hit = walk.compare("==", Index(pair.index), place)
    part = Conditional(hit, single.statement.value, nothing)
    value = walk.apply("+" if same else "-", dense.statement.value, part)
    statement = replace(dense.statement, value=value)
    return [*made, replace(dense, statement=statement)]


def _checked(single: Line, place: Expression, context: Context) -> Line:
    """The place of the element in each row, as a line that fails where it is not in the row."""
    extents = context.tensors[single.written.tensor].extents[:-1]
    rows = tuple(s for s in single.target.subscripts[:-1] if isinstance(s, Index))
    name = context.name("hot")
    context.tensors[name] = TensorFacts(name, "temporary", extents, ElementType.INT)
    ranges = tuple(Range(row.name, *single.bounds[row.name]) for row in rows)
    statement = Accumulate(Read(name, rows), Reduction.SET, place, ranges)
    return Line(statement, single.unproved, first=True, integral=True)
