"""Short rows, several at a time: what a row waits for, others use.

    for b:
        for j vector:  m[b] max= s[b,j]
        for j vector:  Z[b] += exp(s[b,j] - m[b])

waits at the end of each loop over j until the lanes of a register are put together, which takes longer than
the loop where j has a few dozen values; and it counts and masks for each row anew. With four rows in each
loop over j, `b`, `b+1`, `b+2`, `b+3`, a processor has the others to do meanwhile. Each row is computed as it
would be alone, to the same bits.

What a row has for itself, as m and Z here, each of the four needs: `m`, `m+1`, `m+2`, `m+3`. Rows that are
left at the end run one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.fused.jamming import names
from loopgrad.backends.llvm.fused.sizes import computed, size
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Extent, Index, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Mark, Node, Over, Scope, Step, steps

ROWS = (4, 2)
_LARGE = 192  # parts of the expressions of all rows
_SLOW = 8  # parts that a function counts for which takes long


@dataclass(frozen=True, slots=True)
class Abreast:
    """The rows of a loop, `count` at a time.

    own: the tensors that each row has for itself.
    """

    loop: Over
    count: int
    own: tuple[str, ...]

    @property
    def indices(self) -> list[str]:
        return names(self.loop.index, self.count)

    @property
    def are_apart(self) -> bool:
        """Does it write rows that do not lie side by side, and add up nothing along them? Where such a row is
        several vectors, they are stored faster one behind the other.
        """
        targets = [
            (row.index, step.statement.target)
            for row in self.loop.body
            if isinstance(row, Over)
            for step in row.body
            if isinstance(step, Step)
        ]
        if any(index not in _indices(target) for index, target in targets):
            return False
        return any(
            target.subscripts[-2:] != (Index(self.loop.index), Index(index))
            for index, target in targets
            if target.tensor not in self.own
        )

    def over(self, nodes: Sequence[Over | tuple[Step, ...]]) -> Over:
        """The loop with this for a body."""
        body: list[Node] = []
        for node in nodes:
            body += (node,) if isinstance(node, Over) else node
        return replace(self.loop, body=tuple(body))

    def nodes(self) -> Iterator[Over | tuple[Step, ...]]:
        """What is done for all rows: loops along them, and steps, each once a row."""
        rows = range(self.count)
        for node in self.loop.body:
            if isinstance(node, Over):
                yield replace(node, body=tuple(self._moved(n, r) for r in rows for n in node.body))
            else:
                yield tuple(self._moved(node, row) for row in rows)

    def in_lanes(self, step: Step, frame: Frame) -> bool:
        """May a step be done for all rows at once, one in each lane, and does that pay?

        So it may where it has numbers that the row has in registers, and others that are the same for all.
        """
        statement = step.statement
        starts = step.first or statement.reduction is Reduction.SET
        if (
            statement.guard is not None
            or step.unproved
            or not starts
            or not size(statement.value)[1]
        ):
            return False
        reads = [*walk.reads(statement.value)]
        own = {read for read in reads if self.loop.index in walk.indices_of(read)}
        plain = all(
            read.tensor in self.own
            and frame.buffers[read.tensor].scope is Scope.REGISTER
            and not frame.buffers[read.tensor].lanes
            and frame.types[read.tensor] is ElementType.FLOAT
            for read in own
        )
        return plain and bool(own) and not _numbers(statement.value, self.loop.index)

    def _moved(self, node: Node, row: int) -> Step:
        assert isinstance(node, Step)
        if row == 0:
            # Steps are told apart by what object they are.
            return replace(node)
        at = {self.loop.index: Index(self.indices[row])}
        own = {tensor: of_row(tensor, row) for tensor in self.own}

        def change(expression: Expression) -> Expression:
            return _renamed(walk.substitute(expression, at), own)

        statement = walk.map_statement(node.statement, change)
        assert isinstance(statement, Accumulate)
        target = replace(
            statement.target, tensor=own.get(statement.target.tensor, statement.target.tensor)
        )
        unproved = tuple(r for r in map(change, node.unproved) if isinstance(r, Read))
        return replace(node, statement=replace(statement, target=target), unproved=unproved)


def of_row(tensor: str, row: int) -> str:
    """The name of what a row has in place of the tensor."""
    return f"{tensor}+{row}"


def abreast(loop: Over, frame: Frame) -> Abreast | None:
    """None where rows run one by one: others gain nothing, or hang on each other."""
    short = frame.layout.variant.abreast
    if not short or not _is_row(loop, short):
        return None
    inner = [node for node in steps(loop.body) if isinstance(node, Step)]
    own = _own(loop, inner, frame)
    count = _fitting(inner)
    if own is None or count == 1:
        return None
    return Abreast(loop, count, own)


def _is_row(loop: Over, short: Collection[str]) -> bool:
    """Is it made of loops over short rows, which are alike for all of them, and of steps?"""
    vectors = [node for node in loop.body if isinstance(node, Over)]
    if loop.descending or loop.mark not in (Mark.PARALLEL, Mark.SEQUENTIAL) or not vectors:
        return False
    flat = all(isinstance(node, Step) for row in vectors for node in row.body)
    plain = all(isinstance(node, Over | Step) for node in loop.body)
    return flat and plain and all(_is_short(row, loop.index, short) for row in vectors)


def _is_short(row: Over, index: str, short: Collection[str]) -> bool:
    match row:
        case Over(_, lower, Extent(name), _, Mark.VECTOR):
            return name in short and index not in walk.indices_of(lower)
    return False


def _own(loop: Over, inner: Collection[Step], frame: Frame) -> tuple[str, ...] | None:
    """The tensors that each row has for itself; None where one hangs on another."""
    written = {step.statement.target.tensor for step in inner}
    own: dict[str, None] = {}
    axes: dict[str, set[int]] = {}
    for step in inner:
        target = step.statement.target
        buffer = frame.buffers.get(target.tensor)
        if target.tensor in frame.split or (buffer and buffer.scope is Scope.SUMMED):
            return None
        if _is_partial(target.tensor, frame):
            if any(target.tensor in _tensors(other) for other in inner):
                return None
            continue
        for read in (target, *walk.statement_reads(step.statement)):
            if read.tensor in written:
                at = {i for i, s in enumerate(read.subscripts) if s == Index(loop.index)}
                axes[read.tensor] = axes.get(read.tensor, at) & at
        if buffer is not None and buffer.scope in (Scope.REGISTER, Scope.ROW):
            own[target.tensor] = None
    if not all(axes.values()):
        return None
    # What keeps the rows' axis has a place for each.
    kept = {t: {a.position for a in frame.buffers[t].axes} for t in own}
    return tuple(tensor for tensor in own if not axes[tensor] & kept[tensor])


def picked(loop: Over, frame: Frame) -> Abreast | None:
    """Of a loop whose rows data pick, which are added to one after the other, may be several times."""
    short = frame.layout.variant.abreast
    match loop.body:
        case (Over(body=body) as row,) if _is_short(row, loop.index, short):
            inner = [node for node in body if isinstance(node, Step)]
        case _:
            return None
    written = {step.statement.target.tensor for step in inner}
    apart = all(written.isdisjoint(_tensors(step)) for step in inner)
    buffered = any(tensor in frame.buffers for tensor in written)
    if len(inner) < len(body) or not apart or buffered or _fitting(inner) == 1:
        return None
    return Abreast(loop, _fitting(inner), ())


def _fitting(inner: Collection[Step]) -> int:
    """How many rows are no more code than is good."""
    parts = sum(map(_parts, inner))
    return next((count for count in ROWS if parts * count <= _LARGE), 1)


def _indices(read: Read) -> frozenset[str]:
    return frozenset().union(*map(walk.indices_of, read.subscripts))


def _tensors(step: Step) -> set[str]:
    return {read.tensor for read in walk.statement_reads(step.statement)}


def _is_partial(tensor: str, frame: Frame) -> bool:
    buffer = frame.buffers.get(tensor)
    return buffer is not None and buffer.scope is Scope.PARTIAL


def _parts(step: Step) -> int:
    value = step.statement.value
    return computed(value) + _SLOW * size(value)[1]


def _numbers(expression: Expression, index: str) -> bool:
    """Does it compute with the index itself?"""
    if isinstance(expression, Read):
        return False
    if expression == Index(index):
        return True
    return any(_numbers(part, index) for part in walk.children(expression))


def _renamed(expression: Expression, own: Mapping[str, str]) -> Expression:
    match expression:
        case Read(tensor, subscripts, span):
            inside = tuple(_renamed(s, own) for s in subscripts)
            return Read(own.get(tensor, tensor), inside, span)
    return walk.rebuild(expression, lambda part: _renamed(part, own))
