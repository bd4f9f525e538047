"""Lines -> trees of loops: lines that may share a loop do, the others stand between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Number, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Bounds, Line, Stairs, affine_indices
from loopgrad.schedule.loops.blocking import (
    STEP,
    on_step,
    packable,
    packed,
    split,
    step_of,
    triangle,
)
from loopgrad.schedule.loops.choosing import gaining, is_scattered, loop_order, vector_index
from loopgrad.schedule.loops.few import FEW, is_few, is_over_windows
from loopgrad.schedule.loops.staging import stage
from loopgrad.schedule.products.contractions import product
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Step, block_from, block_to

# Rows of a product that are worked on while they are in a cache: a multiple of the tiles' heights. MORE where
# all rows have one other side, which may be in no cache, and is read again for each block; FEWER where each
# stands for as many as other indices have values, and it is not known how many.
ROWS, MORE, FEWER = 48, 96, 4


class Nesting:
    """Builds the trees of one phase.

    copied: tensors of which each thread has a copy, which starts at the identity.
    """

    def __init__(self, context: Context, copied: frozenset[str] = frozenset()):
        self.context = context
        self.copied = copied
        self.wanted = context.choices.vector
        self.packs: dict[int, str] = {}  # of the contractions, by the `id` of their roles

    def nest(self, lines: Sequence[Line], around: tuple[str, ...]) -> tuple[Node, ...]:
        """The lines under loops over their indices that are not `around`."""
        lines = [without_unblocked(line, lines) for line in lines]
        return self._loops(lines, loop_order(lines, around, self.wanted), around, False)

    def _loops(
        self, lines: Sequence[Line], order: Sequence[str], around: tuple[str, ...], lanes: bool
    ) -> tuple[Node, ...]:
        """`lanes`: whether a loop around runs over lanes already."""
        if not order:
            return tuple(self._node(line, around) for line in lines)
        index, *rest = order
        if not lanes and wants_blocks(lines, index):
            return self._in_blocks(lines, order, around)
        lines = [row_by_row(line, index) for line in lines]
        if any(i not in order and i not in around for line in lines for i in line.loops):
            # What is no product any more has loops that the order does not know.
            return self._loops(lines, loop_order(lines, around, self.wanted), around, lanes)
        apart = _never if lanes else Conflicts(lines, index, around, self.wanted)
        positions = stage(lines, index, lambda x: index in x.loops, apart)
        nodes: list[Node] = []
        for position, here in positioned(lines, positions):
            if len(here) < len(lines) and not lanes:
                # The fewer lines may want another order.
                own = loop_order(here, around, self.wanted)
                if (
                    position % 2 == 0
                    and index in own[1:]
                    and _in_lanes_of(here, index, own, around)
                ):
                    nodes += self._loops(here, own, around, lanes)
                    continue
                rest = [i for i in own if i != index]
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
                yield from self._start(line, around, lanes)
        lower, upper = lines[0].bounds[index]
        vector = not lanes and vector_index(lines, around, self.wanted) == index
        vector = vector and all(line.roles is None for line in lines)  # no product is in lanes
        body = self._loops(lines, rest, (*around, index), lanes or vector)
        yield Over(index, lower, upper, body, Mark.VECTOR if vector else Mark.SEQUENTIAL)

    # --------------------------------------------------------------------------------- blocks

    def _in_blocks(
        self, lines: Sequence[Line], order: Sequence[str], around: tuple[str, ...]
    ) -> tuple[Node, ...]:
        """The lines in blocks of the first index of the order, where products are among them."""
        index = order[0]
        positions = stage(lines, index, lambda x: index in x.indices)
        nodes: list[Node] = []
        for position, here in positioned(lines, positions):
            if position % 2 or not wants_blocks(here, index):
                plain = [row_by_row(line, index) for line in here]
                nodes += self._loops(plain, loop_order(plain, around, self.wanted), around, False)
            else:
                lower, upper = here[0].bounds[index]
                nodes += self.blocks(here, index, (lower, upper), around)
        return tuple(nodes)

    def blocks(
        self, lines: Sequence[Line], index: str, bounds: Bounds, around: tuple[str, ...]
    ) -> Iterator[Node]:
        """Blocks of the index, behind what they start from and what they have in common."""
        started: list[Line] = []
        for line in lines:
            if line.first and index in line.reduced and line.written.tensor not in self.copied:
                if line.reduced.isdisjoint(around):  # else it has started, before those loops
                    yield from self._start(line, around)
                line = replace(line, first=False)
            started.append(line)
        unpacked = [x for x in started if id(x.roles) not in self.packs]
        # Few rows are a single block, in which products read their other sides where these lie.
        few = is_few(bounds[1], self.context.choices)
        few = few and not any(triangle(line, index) for line in lines)
        alike = () if few else packable(unpacked, index, around)
        packs, known = packed(alike, self.context)
        self.packs.update(known)
        yield from packs
        within = [part for line in started for part in split(line, index, self.context.whole)]
        within = [without_unblocked(line, within) for line in within]
        beside = _rows_beside(within, index)
        body = self._in_blocks(within, [beside], around) if beside else self.nest(within, around)
        rows = self.context.choices.rows or (FEW if few else _rows(lines, index))
        yield Blocks(index, *bounds, rows, body)

    # -------------------------------------------------------------------------------- starting

    def _needs_start(
        self, line: Line, index: str, around: tuple[str, ...], rest: Sequence[str]
    ) -> bool:
        """Is a loop over the index the outermost of several that reduce a line that writes first?

        Where the innermost loop alone reduces, the step itself starts, in what a register holds; a product
        inside of it reduces, too.
        """
        if not line.first or line.written.tensor in self.copied or index not in line.reduced:
            return False
        inner = [i for i in rest if i in line.loops]
        several = bool(inner) or line.roles is not None or _may_have_no_target(line)
        return several and not any(i in line.reduced for i in around)

    def _start(self, line: Line, around: tuple[str, ...], lanes: bool = False) -> tuple[Node, ...]:
        statement = line.statement
        ranges = tuple(r for r in statement.ranges if r.index in line.kept)
        element = self.context.tensors[line.written.tensor].element
        value = identity(statement.reduction, element)
        start = Accumulate(line.target, Reduction.SET, value, ranges)
        unproved = tuple(read for read in line.unproved if read == line.target)
        lines = [Line(start, unproved, first=True)]
        return self._loops(lines, loop_order(lines, around, self.wanted), around, lanes)

    def _node(self, line: Line, around: tuple[str, ...]) -> Node:
        if line.stairs is not None:
            return self._steps(line, line.stairs, around)
        if line.roles is not None:
            again = any(i in line.reduced for i in around if i in line.roles.batch)
            adds = again or line.written.tensor in self.copied
            added = replace(line, first=False) if adds else line
            return product(added, line.roles, self.packs.get(id(line.roles)))
        path = [i for i in around if i in line.loops]
        starts = line.first and line.written.tensor not in self.copied
        before = path if _may_have_no_target(line) else path[:-1]
        starts = starts and not any(i in line.reduced for i in before)
        return Step(replace(line.statement, ranges=(), span=None), starts, line.unproved)

    def _steps(self, line: Line, stairs: Stairs, around: tuple[str, ...]) -> Node:
        """A few rows at a time: the product of what they have in common, and what is left."""
        shared, rows = on_step(line, stairs)
        bounds = block_from(stairs.index), block_to(stairs.index)
        body = (self._node(shared, around), *self.nest(rows, around))
        return Blocks(step_of(stairs), *bounds, STEP, body)


def _rows(lines: Sequence[Line], index: str) -> int | Expression:
    """How many values of the index make up a block's rows, where other indices are rows as well."""
    more: dict[Expression, None] = {}
    for line in lines:
        others = [] if line.roles is None else [i for i in line.roles.m if i != index]
        if any(is_blocked(line, i) for i in others):
            # Of those there are as few as make up the rows, with all values of this one.
            lower, upper = line.bounds[index]
            few = walk.apply("min", Number(ROWS), walk.apply("max", upper, Number(1)))
            return few if lower == Number(0) and walk.is_fixed(upper) else ROWS
        if others and line.roles is not None and index in line.roles.m:
            if not all(
                line.bounds[i][0] == Number(0) and walk.is_fixed(line.bounds[i][1]) for i in others
            ):
                return FEWER
            more[_product([line.bounds[i][1] for i in others])] = None
    if len(more) > 1:
        return FEWER
    for count in more:
        enough = walk.apply("+", count, Number(ROWS - 1))
        return walk.apply("//", enough, walk.apply("max", count, Number(1)))
    alike = all(line.roles is None or not line.roles.batch for line in lines)
    return MORE if alike and all(triangle(line, index) is None for line in lines) else ROWS


def _rows_beside(lines: Sequence[Line], index: str) -> str | None:
    """An index that makes up rows of products together with the one in blocks, and wants blocks itself.

    Not where others have the one for a batch: then blocks for each of its values pack what they share once.
    Nor those of windows, which are few.
    """
    products = [(x.roles.batch, x.roles.m) for x in lines if x.roles is not None]
    batched = {i for batch, m in products if index in batch for i in m}
    beside = (i for _, m in products if index in m for i in m if i != index and i not in batched)
    subscripts = (s for x in lines for one in (x.target, *x.reads()) for s in one.subscripts)
    shared = {i for axis in map(affine_indices, subscripts) if len(axis) > 1 for i in axis}
    ends = {
        i for x in lines for i, outer in x.bound_by.items() if outer
    }  # with an index further in, maybe
    return next((i for i in beside if i not in shared | ends and wants_blocks(lines, i)), None)


def _product(counts: Sequence[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), counts)


def _may_have_no_target(line: Line) -> bool:
    """May its guard rule out that the target is there? Then no register adds up for it."""
    return line.statement.guard is not None and line.target in line.unproved


def positioned(lines: Sequence[Line], positions: Sequence[int]) -> Iterator[tuple[int, list[Line]]]:
    """The lines by position, in order."""
    for position in sorted(set(positions)):
        yield position, [x for x, p in zip(lines, positions, strict=True) if p == position]


def wants_blocks(lines: Sequence[Line], index: str) -> bool:
    """Is it a row of a product, and is something else done to the rows?

    More than to write what the products of a batch add to: one of them stays in a cache. And a sum that
    ends at the index, or over one at which rows end, is a product for several of its values together alone.
    """
    having = [line for line in lines if index in line.indices and not is_blocked(line, index)]
    if any(triangle(line, index) is not None for line in having):
        return True
    products = [line for line in having if line.roles is not None and index in line.roles.m]
    rows = any(not is_over_windows(line) for line in products)
    return rows and any(line.roles is None and not _starts(line, having) for line in having)


def _starts(line: Line, lines: Iterable[Line]) -> bool:
    """Does it write what the products of a batch add to, and nobody looks at?"""
    tensor = line.written.tensor
    adding = any(x.roles and x.roles.batch and x.written.tensor == tensor for x in lines)
    return adding and all(one.tensor != tensor for x in lines for one in x.read)


def row_by_row(line: Line, index: str) -> Line:
    """The line; no product, where one of its sums ends at the index, which is not in blocks."""
    return line if triangle(line, index) is None else replace(line, roles=None)


def without_unblocked(line: Line, lines: Sequence[Line]) -> Line:
    if line.roles is None:
        return line
    outer = line.bounding.intersection(line.indices) - {*line.roles.batch}
    return replace(line, roles=None) if any(not wants_blocks(lines, i) for i in outer) else line


def is_blocked(line: Line, index: str) -> bool:
    return line.bounds[index][0] == block_from(index)


def _in_lanes_of(
    lines: Sequence[Line], index: str, order: Sequence[str], around: tuple[str, ...]
) -> bool:
    """Is it the index over lanes, behind which the order has no other?"""
    return order[-1] == index and vector_index(lines, around) == index


def _never(line: Line, other: Line) -> bool:
    return False


class Conflicts:
    """Lines that gain by running over the index in lanes, and those whose lanes are further inside, or
    that lose by it: each lane would write on its own.
    """

    def __init__(
        self, lines: Sequence[Line], index: str, around: tuple[str, ...], wanted: str | None
    ):
        having = [line for line in lines if index in line.loops]
        self.fast = set(map(id, gaining(lines, index, around, wanted)))
        inner = ((line, vector_index([line], (*around, index), wanted)) for line in having)
        deep = {
            id(x) for x, vector in inner if vector or x.roles is not None or is_scattered(x, index)
        }
        self.deep = deep - self.fast

    def __call__(self, line: Line, other: Line) -> bool:
        one, two = id(line), id(other)
        return (one in self.fast and two in self.deep) or (one in self.deep and two in self.fast)
