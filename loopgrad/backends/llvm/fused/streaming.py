"""Stores past the caches, of results too large to be found there by who reads them next.

A store into a cache first reads the line that it changes; one past it does not, which saves a third
of the traffic of a copy. It has to be aligned, and it loses where the caches would have held the
result. So a phase decides when it begins, by the bytes that it touches, and each row by its address:
rows that do not begin at a vector's alignment, as those of odd lengths, get there by a head that is
stored as usual (`heads.py`). Code for calls that are not large has no such stores, and half the loops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from loopgrad.backends.llvm.fused.fetching import LINE
from loopgrad.backends.llvm.fused.heads import address_of
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing import layout
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Read, Reduction
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Pack, Step, loops, read_by, steps

LONG = 32  # vectors of a row that need not begin at an aligned address


class Streaming:
    """The decisions of one phase, emitted where the body of `vectors` stands at first."""

    def __init__(self, vectors: Vectors, nodes: tuple[Node, ...], lanes: int):
        self.vectors, self.body, self.lanes = vectors, vectors.body, lanes
        large = vectors.frame.layout.variant.large
        self.tensors = frozenset(_candidates(vectors, nodes) if large else ())
        # The i1: the phase touches much; None in code for calls that never do.
        self.large = self._is_large(nodes) if large else None
        self._rows = sum(loop.mark is Mark.VECTOR for loop in loops(nodes))

    def _is_large(self, nodes: tuple[Node, ...]) -> str:
        frame, total = self.vectors.frame, "0"
        for tensor in sorted(_used(nodes)):
            if tensor in frame.buffers:
                continue
            size = str(BYTES[frame.storage(tensor).kind])
            for extent in frame.tensors[tensor].extents:
                size = self.body.value(f"mul i64 {size}, {self.vectors.extent(extent)}")
            total = self.body.value(f"add i64 {total}, {size}")
        return self.body.value(f"icmp sge i64 {total}, {layout.LARGE}")

    def of(self, loop: Over) -> frozenset[str]:
        """The tensors that a vector loop may store past the caches."""
        rows = self.vectors.rows
        found = frozenset(
            node.statement.target.tensor
            for node in loop.body
            if isinstance(node, Step)
            and node.statement.target.tensor in self.tensors
            and rows.get(node.statement.target, ("", 0))[1] == 1
        )
        return found if len(found) < 2 or self._leave_whole(found) else frozenset()

    def _leave_whole(self, tensors: Collection[str]) -> bool:
        """Do lines of several tensors leave whole?

        Parts of them wait for the rest in a few buffers of the processor. Where another loop has been over
        the row, a cache holds it: parts come so fast that they leave by themselves, each for a whole one, and
        it takes two to three times as long as stores into the caches. Loads from memory let them wait.
        """
        least = min(BYTES[self.vectors.frame.storage(tensor).kind] for tensor in tensors)
        return self.lanes * least >= LINE or self._rows == 1

    def wanted(self, loop: Over, lower: str, first: str, upper: str) -> str:
        """The i1: the phase touches much, and all rows that the loop stores are aligned from `first` on.

        With a head before that not in short rows, of which few vectors would be left.
        """
        body, tensors = self.body, self.of(loop)
        assert self.large is not None
        holds = self.large
        for node in loop.body:
            if isinstance(node, Step) and node.statement.target.tensor in tensors:
                target = node.statement.target
                size = self.lanes * BYTES[self.vectors.frame.storage(target.tensor).kind]
                address = address_of(self.vectors, target, first)
                rest = body.value(f"and i64 {address}, {size - 1}")
                holds = body.value(f"and i1 {holds}, {body.value(f'icmp eq i64 {rest}, 0')}")
        length = body.value(f"sub nsw i64 {upper}, {lower}")
        long = body.value(f"icmp sge i64 {length}, {LONG * self.lanes}")
        whole = body.value(f"icmp eq i64 {first}, {lower}")
        return body.value(f"and i1 {holds}, {body.value(f'or i1 {whole}, {long}')}")

    def finish(self) -> None:
        """Others see what was stored so only behind a fence."""
        if self.tensors and self.large is not None:
            mark = self.body.fresh("fence")
            self.body.branch(self.large, mark, f"{mark}.end")
            self.body.start(mark)
            self.body.do("fence seq_cst")
            self.body.jump(f"{mark}.end")
            self.body.start(f"{mark}.end")


def _statements(nodes: tuple[Node, ...]) -> Iterator[tuple[Step, Accumulate]]:
    for node in steps(nodes):
        if isinstance(node, Step):
            yield node, node.statement


def _used(nodes: tuple[Node, ...]) -> set[str]:
    return _read(nodes).keys() | _written(nodes).keys()


def _written(nodes: tuple[Node, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in steps(nodes):
        if not isinstance(node, Pack):
            target = node.statement.target if isinstance(node, Step) else node.target
            found[target.tensor] += 1
    return found


def _read(nodes: tuple[Node, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in steps(nodes):
        match node:
            case Step(statement):
                found.update(read.tensor for read in walk.statement_reads(statement))
            case product:
                found.update(read.tensor for read in read_by(product))
    return found


def _forwarded(nodes: tuple[Node, ...]) -> Iterator[str]:
    """The tensors of reads of what an earlier step of the same loop's body has just computed."""
    for node in nodes:
        if isinstance(node, Over | Blocks):
            yield from _forwarded(node.body)
            written: set[Read] = set()
            for step in node.body:
                if isinstance(step, Step):
                    reads = walk.statement_reads(step.statement)
                    yield from (read.tensor for read in reads if read in written)
                    written.add(step.statement.target)


def _candidates(vectors: Vectors, nodes: tuple[Node, ...]) -> Iterator[str]:
    """Tensors in memory that one step stores, and that nothing reads again in the phase."""
    read, written = _read(nodes), _written(nodes)
    read.subtract(_forwarded(nodes))
    for step, statement in _statements(nodes):
        tensor = statement.target.tensor
        stores = step.first or statement.reduction is Reduction.SET
        once = written[tensor] == 1 and not read[tensor] and statement.guard is None
        if stores and once and tensor not in vectors.frame.buffers:
            yield tensor
