"""Lines -> trees of loops: lines that may share a loop do, the others stand between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from loopgrad.ir.nodes import Accumulate, Apply, Expression, Number, Reduction
from loopgrad.schedule.choosing import gaining, loop_order, vector_index
from loopgrad.schedule.contractions import product
from loopgrad.schedule.lines import Line
from loopgrad.schedule.staging import stage
from loopgrad.schedule.tree import Mark, Node, Over, Product, Step

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
    packs: the names under which contractions find their right sides, by the `id` of their roles.
    """

    def __init__(
        self, copied: frozenset[str] = frozenset(), packs: Mapping[int, str] | None = None
    ):
        self.copied = copied
        self.packs = packs or {}

    def nest(self, lines: Sequence[Line], around: tuple[str, ...]) -> tuple[Node, ...]:
        """The lines under loops over their indices that are not `around`."""
        return self._loops(lines, loop_order(lines, around), around, False)

    def _loops(
        self, lines: Sequence[Line], order: Sequence[str], around: tuple[str, ...], lanes: bool
    ) -> tuple[Node, ...]:
        """`lanes`: whether a loop around runs over lanes already."""
        if not order:
            return tuple(self._node(line, around) for line in lines)
        index, *rest = order
        apart = _never if lanes else _Conflicts(lines, index, around)
        positions = stage(lines, index, lambda x: index in x.loops, apart)
        nodes: list[Node] = []
        for position in sorted(set(positions)):
            here = [x for x, p in zip(lines, positions, strict=True) if p == position]
            if position % 2:
                nodes += self._loops(here, rest, around, lanes)
                continue
            nodes += self._loop(here, index, rest, around, lanes)
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
        if not line.first or line.written.tensor in self.copied or index not in line.reduced:
            return False
        inner = [i for i in rest if i in line.loops]
        return bool(inner) and not any(i in line.reduced for i in around)

    def _start(self, line: Line, around: tuple[str, ...]) -> tuple[Node, ...]:
        statement = line.statement
        ranges = tuple(r for r in statement.ranges if r.index in line.kept)
        value = IDENTITY[statement.reduction]
        start = Accumulate(line.target, Reduction.SET, value, ranges)
        return self.nest([Line(start, first=True)], around)

    def _node(self, line: Line, around: tuple[str, ...]) -> Step | Product:
        if line.roles is not None:
            return product(line, line.roles, self.packs.get(id(line.roles)))
        path = [i for i in around if i in line.loops]
        starts = line.first and line.written.tensor not in self.copied
        starts = starts and not any(i in line.reduced for i in path[:-1])
        return Step(replace(line.statement, ranges=(), span=None), starts, line.unproved)


def _never(line: Line, other: Line) -> bool:
    return False


class _Conflicts:
    """Lines that gain by running over the index in lanes, and those whose lanes are further inside."""

    def __init__(self, lines: Sequence[Line], index: str, around: tuple[str, ...]):
        having = [line for line in lines if index in line.loops]
        self.fast = set(map(id, gaining(having, index, around)))
        wanted = ((line, vector_index([line], (*around, index))) for line in having)
        self.deep = {id(x) for x, vector in wanted if vector and id(x) not in self.fast}

    def __call__(self, line: Line, other: Line) -> bool:
        one, two = id(line), id(other)
        return (one in self.fast and two in self.deep) or (one in self.deep and two in self.fast)
