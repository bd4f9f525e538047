"""What a turn of a loop hands to the next one in a register: elements that it writes and that one reads.

    for t:  for j vector:  h[t,j] = a[t,j] * (h[t-1,j] if t > 0 else 0) + x[t,j]

waits at each turn for what the turn before has stored, which takes a processor longer than the arithmetic.
Where a row is no longer than a register, time runs inside of it instead, and h[t-1,j] is where it was
computed:

    for j in lanes:  for t:  h[t,j] = a[t,j] * (handed if t > 0 else 0) + x[t,j]

Not where there are several rows, or longer ones: a processor computes on one while it waits for another, and
goes through memory once, not row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from loopgrad.analysis.extents import polynomial
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Index, Number, Read, Reduction
from loopgrad.schedule.tree import Mark, Over, Step

FARTHEST = 4  # turns that an element is handed on


@dataclass(frozen=True, slots=True)
class Handed:
    """An element of the turn at hand, and what it is when the turn ends, as the next one's; the axis of
    the turns. `written`: whether the turn may change what it hands on."""

    now: Read
    then: Read
    axis: int
    written: bool


def handed(loop: Over, is_there: Callable[[Read, int], bool]) -> tuple[Handed, ...]:
    """What the turns of the loop hand on, if its body is steps alone.

    is_there: tells of an element that only the subscript of that axis may be out of range.
    """
    steps = [node for node in loop.body if isinstance(node, Step)]
    if loop.mark is not Mark.SEQUENTIAL or len(steps) < len(loop.body):
        return ()
    found: list[Handed] = []
    for tensor in dict.fromkeys(step.statement.target.tensor for step in steps):
        row = _row(tensor, loop.index, steps)
        if row is not None and all(is_there(read, row.axis) for read in row.reads.values()):
            found += row.handed(-1 if loop.descending else 1)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Row:
    """A tensor whose elements in a loop differ by turns alone: by how many, the element."""

    axis: int
    reads: dict[int, Read]  # and those that are written
    written: frozenset[int]
    asked: frozenset[int]  # what is there counts

    def handed(self, step: int) -> Iterator[Handed]:
        wanted: set[int] = set()
        for turn in self.asked:
            way = [turn + step * n for n in range(FARTHEST + 1)]
            last = next((n for n, at in enumerate(way) if n and at in self.written), 0)
            wanted.update(way[:last])
        for turn in sorted(wanted):
            then = turn + step
            yield Handed(self._at(turn), self._at(then), self.axis, then in self.written)

    def _at(self, turn: int) -> Read:
        if turn in self.reads:
            return self.reads[turn]
        near, read = next(iter(self.reads.items()))
        subscript = walk.without_neutral(
            walk.apply("+", read.subscripts[self.axis], walk.number(turn - near))
        )
        return Read(read.tensor, _replaced(read.subscripts, self.axis, subscript))


def _replaced(items: tuple, place: int, item: object) -> tuple:  # type: ignore[type-arg]
    return (*items[:place], item, *items[place + 1 :])


def _row(tensor: str, turn: str, steps: Collection[Step]) -> _Row | None:
    """None where its elements differ by anything else."""
    reads: dict[int, Read] = {}
    written, asked, keys = set(), set(), set()
    for step in steps:
        statement = step.statement
        for read in walk.statement_reads(statement):
            if read.tensor == tensor:
                place = _place(read, turn)
                if place is None or read in step.unproved:
                    return None
                keys.add(place[:2])
                reads.setdefault(place[2], read)
                asked.add(place[2])
        target = statement.target
        if target.tensor == tensor:
            place = _place(target, turn)
            if place is None or target in step.unproved:
                return None
            keys.add(place[:2])
            reads[place[2]] = target
            written.add(place[2])
            if statement.reduction is not Reduction.SET and not step.first:
                asked.add(place[2])
    if len(keys) != 1:
        return None
    ((axis, _),) = keys
    return _Row(axis, reads, frozenset(written), frozenset(asked))


def _place(read: Read, turn: str) -> tuple[int, tuple[object, ...], int] | None:
    """The axis of the turns, the other subscripts, and how many turns from the one at hand."""
    axes = [i for i, s in enumerate(read.subscripts) if turn in walk.indices_of(s)]
    if len(axes) != 1 or any(True for s in read.subscripts for _ in walk.reads(s)):
        return None
    (axis,) = axes
    away = polynomial(Apply("-", (read.subscripts[axis], Index(turn))))
    if set(away) - {()}:
        return None
    distance = away.get((), 0)
    others = _replaced(read.subscripts, axis, None)
    return (axis, others, int(distance)) if distance == int(distance) else None


# ------------------------------------------------------------------------------- time inside of rows


@dataclass(frozen=True, slots=True)
class Inside:
    """The same loops with the turns innermost: over rows, over the lanes of one, over turns."""

    rows: tuple[Over, ...]
    lanes: Over


def inside(loop: Over) -> Inside | None:
    """None where the turns do not go innermost."""
    rows: list[Over] = []
    node, outer = loop, {loop.index}
    while len(node.body) == 1 and isinstance(node.body[0], Over):
        node = node.body[0]
        bounds = walk.indices_of(node.lower) | walk.indices_of(node.upper)
        if node.descending or node.linear is not None or bounds & outer:
            return None
        outer.add(node.index)
        rows.append(node)
    if loop.mark is not Mark.SEQUENTIAL or not rows or not _are_lanes(rows[-1]):
        return None
    if any(row.mark is not Mark.SEQUENTIAL for row in rows[:-1]):
        return None
    *around, lanes = rows
    turns = replace(loop, body=lanes.body)
    own = {row.index for row in rows}
    steps = [node for node in lanes.body if isinstance(node, Step)]
    if not all(_is_own(step, loop.index, own) for step in steps):
        return None
    written = {step.statement.target.tensor for step in steps}
    if any(_row(tensor, loop.index, steps) is None for tensor in written):
        return None
    return Inside(tuple(around), replace(lanes, body=(turns,), mark=Mark.VECTOR))


def _are_lanes(loop: Over) -> bool:
    if loop.mark is Mark.VECTOR:
        return True
    ends = (loop.lower, loop.upper)
    return loop.mark is Mark.SEQUENTIAL and all(isinstance(end, Number) for end in ends)


def _is_own(step: Step, turn: str, rows: Collection[str]) -> bool:
    """Does each row have its own element at each turn? So rows have nothing to do with each other."""
    plain = {s.name for s in step.statement.target.subscripts if isinstance(s, Index)}
    indices = frozenset().union(*map(walk.indices_of, step.statement.target.subscripts))
    return set(rows) <= plain and turn in indices and not step.unproved
