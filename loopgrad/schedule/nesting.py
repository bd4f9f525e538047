"""Lines -> trees of loops: lines that may share a loop do, the others stand between."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from loopgrad.ir.nodes import Accumulate, Apply, Expression, Number, Reduction
from loopgrad.schedule.choosing import loop_order, vector_index
from loopgrad.schedule.lines import Line
from loopgrad.schedule.staging import stage
from loopgrad.schedule.tree import Mark, Node, Over, Step

# What an accumulation starts from.
IDENTITY: dict[Reduction, Expression] = {
    Reduction.ADD: Number(0.0),
    Reduction.SUBTRACT: Number(0.0),
    Reduction.MULTIPLY: Number(1.0),
    Reduction.MAXIMUM: Apply("neg", (Number(float("inf")),)),
    Reduction.MINIMUM: Number(float("inf")),
    Reduction.SET: Number(0.0),
}


class Nesting:
    """Builds the trees of one phase.

    copied: tensors of which each thread has a copy, which starts at the identity.
    """

    def __init__(self, copied: frozenset[str] = frozenset()):
        self.copied = copied

    def nest(self, lines: Sequence[Line], around: tuple[str, ...]) -> tuple[Node, ...]:
        """The lines under loops over their indices that are not `around`."""
        return self._loops(lines, loop_order(lines, around), around, False)

    def _loops(
        self, lines: Sequence[Line], order: Sequence[str], around: tuple[str, ...], lanes: bool
    ) -> tuple[Node, ...]:
        """`lanes`: whether a loop around runs over lanes already."""
        if not order:
            return tuple(self._step(line, around) for line in lines)
        index, *rest = order
        fast = {id(x) for x in lines if vector_index([x], around) == index}

        def alike(one: Line, other: Line) -> bool:
            return lanes or (id(one) in fast) == (id(other) in fast)

        positions = stage(lines, index, lambda x: index in x.indices, alike)
        nodes: list[Node] = []
        for position in sorted(set(positions)):
            here = [x for x, p in zip(lines, positions, strict=True) if p == position]
            if position % 2:
                nodes += self._loops(here, rest, around, lanes)
                continue
            for one in _apart(here, fast) if not lanes else (here,):
                nodes += self._loop(one, index, rest, around, lanes)
        return tuple(nodes)

    def _loop(
        self,
        lines: Sequence[Line],
        index: str,
        rest: Sequence[str],
        around: tuple[str, ...],
        lanes: bool,
    ) -> Iterator[Node]:
        """One loop over the index, behind what its reductions start from."""
        for line in lines:
            if self._needs_start(line, index, around, rest):
                yield from self._start(line, around)
        lower, upper = lines[0].bounds[index]
        vector = not lanes and vector_index(lines, around) == index
        body = self._loops(lines, rest, (*around, index), lanes or vector)
        yield Over(index, lower, upper, body, Mark.VECTOR if vector else Mark.SEQUENTIAL)

    def _needs_start(
        self, line: Line, index: str, around: tuple[str, ...], rest: Sequence[str]
    ) -> bool:
        """Is a loop over the index the outermost of several that reduce a line that writes first?

        Where the innermost loop alone reduces, the step itself starts.
        """
        if not line.first or line.target.tensor in self.copied or index not in line.reduced:
            return False
        inner = [i for i in rest if i in line.indices]
        return bool(inner) and not any(i in line.reduced for i in around)

    def _start(self, line: Line, around: tuple[str, ...]) -> tuple[Node, ...]:
        statement = line.statement
        ranges = tuple(r for r in statement.ranges if r.index in line.kept)
        value = IDENTITY[statement.reduction]
        start = Accumulate(line.target, Reduction.SET, value, ranges)
        return self.nest([Line(start, first=True)], around)

    def _step(self, line: Line, around: tuple[str, ...]) -> Step:
        path = [i for i in around if i in line.indices]
        starts = line.first and line.target.tensor not in self.copied
        starts = starts and not any(i in line.reduced for i in path[:-1])
        return Step(replace(line.statement, ranges=(), span=None), starts, line.unproved)


def _apart(lines: Sequence[Line], fast: Container[int]) -> Iterator[Sequence[Line]]:
    """Those that run over lanes by themselves, and the others: they don't share a loop."""
    for wanted in (True, False):
        some = [line for line in lines if (id(line) in fast) is wanted]
        if some:
            yield some
