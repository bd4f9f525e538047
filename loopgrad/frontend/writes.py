"""Who else writes a tensor: may an equation's `=` become `+=` or `max=`?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loopgrad.frontend.regions import covers_whole_axes, disjoint, writes_once
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Call,
    Expression,
    Extent,
    Index,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import ZERO


@dataclass(frozen=True, eq=False)
class Write:
    """A target with the loops around it, outermost first, and the blocks among them."""

    target: Read
    ranges: tuple[Range, ...]
    blocks: tuple[Block, ...]
    statement: Accumulate | Call
    place: int


class Writes:
    """All targets of a program, by tensor, in program order."""

    def __init__(self, program: Program):
        self.of: dict[str, list[Write]] = {}
        self._count = 0
        self._collect(program.statements, ())

    def _collect(self, body: Iterable[Statement], blocks: tuple[Block, ...]) -> None:
        for statement in body:
            match statement:
                case Block():
                    self._collect(statement.body, (*blocks, statement))
                case Accumulate(target):
                    self._note(target, statement, blocks)
                case Call(targets):
                    for target in targets:
                        self._note(target, statement, blocks)

    def _note(self, target: Read, statement: Accumulate | Call, blocks: tuple[Block, ...]) -> None:
        self._count += 1
        ranges = (*(r for b in blocks for r in b.ranges), *statement.ranges)
        if isinstance(statement, Call):
            target, axes = _over_whole_axes(target)
            ranges += axes
        write = Write(target, ranges, blocks, statement, self._count)
        self.of.setdefault(target.tensor, []).append(write)

    def own(self, statement: Accumulate | Call, tensor: str) -> Write:
        return next(w for w in self.of[tensor] if w.statement is statement)

    def is_alone(self, statement: Accumulate | Call, tensor: str | None = None) -> bool:
        """Is each element that the statement sets written by it once, and set by nothing else?

        Then `=` may become `+=`. Later `+=` and `-=` may add to what it sets.
        """
        if tensor is None:
            assert isinstance(statement, Accumulate)
            tensor = statement.target.tensor
        own = self.own(statement, tensor)
        if not writes_once(own.target, own.ranges):
            return False
        if isinstance(statement, Call) and not own.target.subscripts:
            return len(self.of[tensor]) == 1
        return all(other is own or _harmless(own, other) for other in self.of[tensor])

    def sets_whole_axes(self, call: Call, tensor: str) -> bool:
        """Is the call its tensor's only writer, and does it set every element?"""
        own = self.own(call, tensor)
        at = own.target.subscripts
        bare = all(isinstance(s, Index) for s in at) and len(set(at)) == len(at)
        loops = {r.index: r for r in own.ranges}
        return (
            len(self.of[tensor]) == 1
            and bare
            and all(
                loops[s.name].upper is None or s.name.startswith("?")
                for s in at
                if isinstance(s, Index)
            )
        )

    def is_whole(self, statement: Accumulate, extents: Sequence[Expression] | None) -> bool:
        """Is the statement its tensor's only one, unguarded, and does it set every element?"""
        own = self.own(statement, statement.target.tensor)
        return (
            len(self.of[statement.target.tensor]) == 1
            and statement.guard is None
            and covers_whole_axes(own.target, own.ranges, extents)
        )


def _harmless(own: Write, other: Write) -> bool:
    if disjoint(own.target, own.ranges, other.target, other.ranges):
        return True
    adds = isinstance(other.statement, Accumulate) and other.statement.reduction in (
        Reduction.ADD,
        Reduction.SUBTRACT,
    )
    if not adds or other.place < own.place:
        return False
    shared = own.blocks[:1] == other.blocks[:1] and own.blocks[:1] != ()
    same_elements = (own.target, own.blocks) == (other.target, other.blocks)
    return not shared or same_elements


def _over_whole_axes(target: Read) -> tuple[Read, tuple[Range, ...]]:
    """A call's target with an index for each axis that it passes whole."""
    axes: list[Range] = []
    subscripts: list[Expression] = []
    for axis, subscript in enumerate(target.subscripts):
        if isinstance(subscript, Extent):
            axes.append(Range(f"? {axis}", ZERO, subscript))
            subscript = Index(f"? {axis}")
        subscripts.append(subscript)
    return Read(target.tensor, tuple(subscripts), target.span), tuple(axes)
