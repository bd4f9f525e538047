"""The next row is fetched while a loop computes on this one.

    for b:
        for j vector:  m[b] max= s[b,j]               reads s from memory
        for j vector:  z[b] += exp(s[b,j] - m[b])     reads it from a cache, and computes

The second loop leaves memory idle, the first does nothing but wait for it. So the second asks for
s[b+1,j] where it reads s[b,j]: where rows are long, which the processor does not see coming, and a cache
holds what belongs to two of them.

In phases that touch more than caches hold, loops that read several rows at a time ask for the next ones, as
they lie in memory (`Groups`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from loopgrad.backends.llvm.fused.accesses import behind
from loopgrad.backends.llvm.fused.sizes import size
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Index, Number, Read
from loopgrad.schedule.tree import Mark, Over, Step

LEAST, MOST = 1 << 13, 1 << 21  # bytes of a row
LINE = 64  # bytes of memory that come together, at least

GROUP = 1 << 16  # bytes of rows that are read together, at most: a cache has room for the next ones


class Fetching:
    """What a vector loop asks for ahead, decided where the body of `vectors` stands before it."""

    def __init__(self, vectors: Vectors, outer: Over | None, loop: Over, lower: str, upper: str):
        self.vectors = vectors
        self.rows: list[
            tuple[str, str]
        ] = []  # the kinds, and the places at index 0 of the next row
        for read in _read_again(vectors, outer, loop) if outer else ():
            row, memory = vectors.rows.get(read), read.tensor not in vectors.frame.buffers
            if outer and memory and row is not None and row[1] == 1 and _is_row(read, outer):
                self._add(read, outer, row[0], lower, upper)

    def _add(self, read: Read, outer: Over, row: str, lower: str, upper: str) -> None:
        vectors, body = self.vectors, self.vectors.body
        store = vectors.frame.storage(read.tensor)
        place = read.subscripts.index(Index(outer.index))
        distance = "1"
        for axis in store.axes[place + 1 :]:
            distance = body.value(f"mul i64 {distance}, {vectors.extent(axis.extent)}")
        length = body.value(f"sub i64 {upper}, {lower}")
        fewest, most = (limit // BYTES[store.kind] for limit in (LEAST, MOST))
        above = body.value(f"sub i64 {length}, {fewest}")
        wanted = body.value(f"icmp ule i64 {above}, {most - fewest}")
        # Elsewhere it is this row's element, which is there already.
        ahead = body.select(wanted, I64, distance, "0")
        self.rows.append((store.kind, behind(body, store.kind, row, ahead)))

    def fetch(self, index: str, count: int) -> None:
        """Asks for that many elements of the next row, from the index on."""
        body = self.vectors.body
        for kind, row in self.rows:
            _ask(self.vectors, kind, behind(body, kind, row, index), count)


def _read_again(vectors: Vectors, outer: Over, loop: Over) -> Iterator[Read]:
    """What loops beside it have read before the loop does, if it leaves memory idle: it computes
    something slow, or has nothing else to do with memory."""
    known: set[Read] = set()
    for node in outer.body:
        if node is loop:
            break
        if isinstance(node, Over) and node.mark is Mark.VECTOR:
            known.update(_reads(node))
    again = [read for read in dict.fromkeys(_reads(loop)) if read in known]
    steps = [node.statement for node in loop.body if isinstance(node, Step)]
    slow = any(size(statement.value)[1] for statement in steps)
    accesses = [*(s.target for s in steps), *(read for read in _reads(loop) if read not in known)]
    along = {a.tensor for a in accesses if loop.index in walk.indices_of(a)}
    if not outer.descending and (slow or along <= vectors.frame.buffers.keys()):
        yield from again


def _reads(loop: Over) -> Iterator[Read]:
    for node in loop.body:
        if isinstance(node, Step):
            yield from walk.statement_reads(node.statement)


def _is_row(read: Read, outer: Over) -> bool:
    """Is the next value of the outer index the next row of an axis?"""
    return [s for s in read.subscripts if outer.index in walk.indices_of(s)] == [Index(outer.index)]


class Groups:
    """What a vector loop asks for that reads rows which follow each other in memory, all of each.

    It moves on in all rows at a time, the processor sees so many short streams. The next rows are asked for
    in one, as they lie. Decided where the body of `vectors` stands before the loop.
    """

    def __init__(self, vectors: Vectors, loop: Over, large: str | None):
        self.vectors = vectors
        # Their kinds, the first row, how many, and how far the next are.
        self.groups: list[tuple[str, str, int, str]] = []
        if large is not None:
            for rows in _following(vectors, loop):
                self._add(rows, large)

    def _add(self, rows: list[Read], large: str) -> None:
        vectors, body = self.vectors, self.vectors.body
        store = vectors.frame.storage(rows[0].tensor)
        together = body.value(f"mul i64 {vectors.extent(store.axes[-1].extent)}, {len(rows)}")
        fits = body.value(f"icmp ule i64 {together}, {GROUP // BYTES[store.kind]}")
        # Elsewhere it is something of these rows, which is there or is needed soon.
        ahead = body.select(body.value(f"and i1 {large}, {fits}"), I64, together, "0")
        self.groups.append((store.kind, vectors.rows[rows[0]][0], len(rows), ahead))

    def fetch(self, index: str, count: int) -> None:
        """Asks for as much of the next rows as the loop reads of these: that many elements of each."""
        body = self.vectors.body
        for kind, row, rows, ahead in self.groups:
            done = body.value(f"mul i64 {index}, {rows}")
            first = behind(body, kind, row, body.value(f"add i64 {done}, {ahead}"))
            _ask(self.vectors, kind, first, rows * count)


def _following(vectors: Vectors, loop: Over) -> Iterator[list[Read]]:
    """The loop's reads by groups: `x[e,j]`, `x[e+1,j]`, `x[e+2,j]`..., of which j goes over all."""
    found: dict[tuple[str, Expression], dict[int, Read]] = defaultdict(dict)
    for read in _reads(loop):
        if len(read.subscripts) > 1 and vectors.rows.get(read, ("", 0))[1] == 1:
            *outer, place, last = read.subscripts
            base, number = _base(place)
            extent = vectors.frame.tensors[read.tensor].extents[-1]
            whole = (last, loop.lower, loop.upper) == (Index(loop.index), Number(0), extent)
            plain = whole and not any(map(walk.indices_of, outer))
            if plain and read.tensor not in vectors.frame.buffers:
                found[read.tensor, base].setdefault(number, read)
    for group in found.values():
        if len(group) > 2 and sorted(group) == list(range(len(group))):
            yield [group[number] for number in range(len(group))]


def _base(place: Expression) -> tuple[Expression, int]:
    match place:
        case Apply("+", (base, Number(int(number)))):
            return base, number
    return place, 0


def _ask(vectors: Vectors, kind: str, first: str, count: int) -> None:
    """Asks for that many elements."""
    body = vectors.body
    for element in range(0, count, LINE // BYTES[kind]):
        body.prefetch(kind, behind(body, kind, first, element) if element else first, 2)
