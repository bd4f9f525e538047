"""The trees of a `Fused` phase -> instructions: a walk over its loops.

A vector loop runs some copies of its body at a time, each on all lanes, then what is left by one
vector at a time under a mask; so nothing is ever done one by one. What a loop accumulates into one
element stays in registers, one for each copy (and lane), and is put together behind the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from loopgrad.backends.llvm.fused import heads
from loopgrad.backends.llvm.fused.abreast import abreast
from loopgrad.backends.llvm.fused.accesses import positions, splat
from loopgrad.backends.llvm.fused.again import Again
from loopgrad.backends.llvm.fused.carrying import Carried, carried
from loopgrad.backends.llvm.fused.fetching import Fetching, Groups
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.fused.interior import Interior, interior
from loopgrad.backends.llvm.fused.invariants import hoisted, spread
from loopgrad.backends.llvm.fused.jamming import PAGE, SHORTEST, jammed, names, rows
from loopgrad.backends.llvm.fused.overlapping import overlap
from loopgrad.backends.llvm.fused.own_rows import OwnRows
from loopgrad.backends.llvm.fused.scans import Scan
from loopgrad.backends.llvm.fused.sharing import Sharing
from loopgrad.backends.llvm.fused.short_rows import ShortRows
from loopgrad.backends.llvm.fused.sizes import copies, is_short
from loopgrad.backends.llvm.fused.streaming import Streaming
from loopgrad.backends.llvm.fused.surroundings import Around, Position
from loopgrad.backends.llvm.fused.turns import Handed, Inside, handed, inside
from loopgrad.backends.llvm.fused.weaving import Weaving, woven
from loopgrad.backends.llvm.fused.window_rows import WindowRows
from loopgrad.backends.llvm.products.lowering import Products
from loopgrad.backends.llvm.products.packs import users
from loopgrad.backends.llvm.products.together import together
from loopgrad.backends.llvm.products.workspace import Workspace
from loopgrad.backends.llvm.writing.repeat import counted, handing, in_pieces, whole_groups
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.backends.llvm.writing.text import I64, vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Read
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import (
    Blocks,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Step,
    collapsed,
    shared_blocks,
)

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT


class Trees(Sharing):
    """Emits the nodes of a phase where the frame's body stands."""

    def __init__(self, frame: Frame, lanes: int, workspaces: Mapping[int, tuple[Workspace, ...]]):
        super().__init__(frame)
        self.lanes = lanes
        self.products = Products(self, workspaces)
        self.certain: Mapping[Expression, Value] = {}  # conditions that hold in the lanes at hand
        self.several: WindowRows | None = None  # in the vector loop at hand
        self.at_a_time = 0  # short rows, in the loop at hand

    def phase(self, nodes: tuple[Node, ...], turns: Mapping[str, int]) -> None:
        """All of a phase. `turns`: indices that are numbers (`unrolling.py`)."""
        self.vectors.indices = {name: Position(str(value)) for name, value in turns.items()}
        self.streaming = Streaming(self.vectors, nodes, self.lanes)
        self.products.packs.users = users(nodes)
        self.nodes(nodes)
        self.streaming.finish()

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        for node in together(nodes):
            match node:
                case tuple():
                    self.products.together(node)
                case Step():
                    self._step(node)
                case Over():
                    self._over(node)
                case Blocks():
                    self._blocks(node)
                case Product(guard=None):
                    self.products.product(node)
                case Product():
                    self._guarded(node)
                case Pack():
                    self.products.packs.write(node)

    def _guarded(self, product: Product) -> None:
        assert product.guard is not None
        holds = self.vectors.condition(product.guard)
        self.where(holds.text, lambda: self.products.product(product))

    # -------------------------------------------------------------------------------------- loops

    def _over(self, loop: Over) -> None:
        inner, blocks = collapsed(loop), shared_blocks(loop)
        if blocks is not None:
            self._shared_blocks(loop, inner, blocks)
            return
        if inner is not None:
            self._pairs(loop, inner)
            return
        lower, upper = self.bound(loop.lower), self.bound(loop.upper)
        if loop.mark is Mark.PARALLEL:
            lower, upper = self._part(lower, upper)
        if loop.mark is Mark.VECTOR:
            self._vector(loop, lower, upper)
        elif loop.mark is Mark.SCAN:
            self._scan(loop, lower, upper)
        elif loop.mark is Mark.PICKED:
            OwnRows(self, loop).emit(lower, upper)
        elif lower.lanes == upper.lanes == 1:
            self._either_way(loop, lower, upper)
        else:
            self._ragged(loop, lower, upper)

    def _run(
        self,
        loop: Over,
        lower: Value,
        upper: Value,
        lanes: int,
        several: int,
        write: Callable[[], None],
    ) -> None:
        """`write` emits the loop where it runs; with what it accumulates."""
        with self.accumulators.within(loop, lanes, several) as accumulators:
            always = any(a.step.first for a in accumulators)

            def run() -> None:
                write()
                if not always:
                    for accumulator in accumulators:
                        self.finish(accumulator, True)

            runs = self.body.value(f"icmp slt i64 {lower.text}, {upper.text}")
            self.where(runs, run)
            if always:  # over nothing, too
                for accumulator in accumulators:
                    self.finish(accumulator, False)

    def _either_way(self, loop: Over, lower: Value, upper: Value) -> None:
        """A loop whose turns may go innermost, where that hands on more in registers: see `turns.py`."""
        found = self._turned(loop) if self.vectors.around.lanes == 1 else None
        if found is None:
            self._scalar(loop, lower, upper)
            return
        fits = self._fits(found)
        self.where(fits, lambda: self._rows_of(found))
        other = self.body.value(f"xor i1 {fits}, true")
        self.where(other, lambda: self._scalar(loop, lower, upper))

    def _turned(self, loop: Over) -> Inside | None:
        found = inside(loop)
        if found is None:
            return None
        loops = (*found.rows, found.lanes, loop)
        with self._with(**{one.index: self._position(one, "0") for one in loops}):
            (turns,) = found.lanes.body
            assert isinstance(turns, Over)
            return found if handed(turns, self._is_on_axis) else None

    def _is_on_axis(self, read: Read, axis: int) -> bool:
        """Is it a real number in memory, and there wherever its subscript on the axis is in range?"""
        storage = self.frame.storage(read.tensor)
        if storage.register or storage.facts.element is not FLOAT:
            return False
        return len(storage.axes) == len(read.subscripts) and self.vectors.is_safe(read, axis)

    def _fits(self, found: Inside) -> str:
        """The i1: a register holds all that there is of a turn."""
        fits = self.body.value(f"icmp sle i64 {self._length(found.lanes)}, {self.lanes}")
        for row in found.rows:
            single = self.body.value(f"icmp eq i64 {self._length(row)}, 1")
            fits = self.body.value(f"and i1 {fits}, {single}")
        return fits

    def _length(self, loop: Over) -> str:
        lower, upper = self.bound(loop.lower), self.bound(loop.upper)
        return self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")

    def _rows_of(self, found: Inside) -> None:
        row = next(iter(found.rows), None)
        loop = found.lanes if row is None else row
        lower, upper = self.bound(loop.lower), self.bound(loop.upper)
        if row is None:
            end = upper.text
            self.while_any(lower.text, end, self.lanes, lambda i: self.some(loop, i, end))
            return
        rest = replace(found, rows=found.rows[1:])

        def once(index: str) -> None:
            with self.at(row, index), self.row_of(row):
                self._rows_of(rest)

        self.while_any(lower.text, upper.text, 1, once)

    def _in_turns(self, loop: Over, lower: Value, upper: Value) -> None:
        """The turns of a loop that runs; what one hands on to the next stays in a register."""
        elements = handed(loop, self._is_on_axis)
        first = lower.text
        if loop.descending:
            first = self.body.value(f"sub nsw i64 {upper.text}, 1")
        with self.at(loop, first):
            start = [self._element(each.now, each.axis) for each in elements]

        def once(index: str, given: Sequence[str]) -> list[str]:
            before = self._carried, self._handed
            now = [replace(s, text=text) for s, text in zip(start, given, strict=True)]
            with self.at(loop, index):
                self._handed = {each.then: each.axis for each in elements if each.written}
                self._carried = carried(loop.body, self._is_there)
                known = {each.now: value for each, value in zip(elements, now, strict=True)}
                self.vectors.known.update((read, value) for read, value in known.items())
                self.nodes(loop.body)
                then = [self._left(each, known).text for each in elements]
            self._carried, self._handed = before
            return then

        kinds = [self.vectors.kind(FLOAT, value.lanes) for value in start]
        given = list(zip(kinds, (value.text for value in start), strict=True))
        handing(self.body, lower.text, upper.text, once, given, loop.descending)

    def _left(self, each: Handed, known: Mapping[Read, Value]) -> Value:
        """What a turn leaves of an element."""
        value = self.vectors.known.get(each.then)
        if value is None and not each.written:
            value = known.get(each.then)
        if value is None:
            value = self._element(each.then, each.axis)
        return self.vectors.widened(value, self.vectors.around.lanes)

    def _scalar(self, loop: Over, lower: Value, upper: Value) -> None:
        plan = overlap(loop) if self.vectors.around.lanes == 1 else None
        several = None if plan is None else WindowRows(self, loop, plan)
        if several is not None and several.can():
            several.emit(lower, upper)
            return
        short = self.short_rows(loop)
        if short is not None:
            short(lower.text, upper.text)
            return
        count = rows(loop)

        def once(index: str) -> None:
            with self.at(loop, index), self.row_of(loop):
                self.nodes(loop.body)

        def in_lanes(index: str) -> None:
            before = self._carried
            with self.at(loop, index):
                self._carried = carried(loop.body, self._is_there)
                self.nodes(loop.body)
            self._carried = before

        def together(index: str) -> None:
            numbers = [index, *(self._sum(index, str(row)) for row in range(1, count))]
            own = {
                name: self._position(loop, number)
                for name, number in zip(names(loop.index, count), numbers, strict=True)
            }
            with self._with(**own), self._repeated(loop):
                self.nodes(jammed(loop, count))

        def write() -> None:
            if self.vectors.around.lanes > 1:
                with hoisted(self.vectors, loop, lower, upper):
                    if handed(loop, self._is_on_axis):
                        self._in_turns(loop, lower, upper)
                    else:
                        counted(self.body, lower.text, upper.text, 1, in_lanes, loop.descending)
                return
            if count == 1:
                counted(self.body, lower.text, upper.text, 1, once, loop.descending)
                return
            middle = whole_groups(self.body, lower.text, upper.text, count)
            if self.streaming.large is not None:
                singly = self._is_read_ahead(loop, self.streaming.large)
                middle = self.body.select(singly, I64, lower.text, middle)
            self.while_any(lower.text, middle, count, together)
            self.while_any(middle, upper.text, 1, once)

        def run() -> None:
            self._run(loop, lower, upper, self.vectors.around.lanes, 1, write)

        if self.vectors.around.lanes > 1 or count > 1:
            run()
            return
        with self.accumulators.around(loop, self.lanes, copies) as accumulators:
            run()
        for accumulator in accumulators:
            self.finish(accumulator, False)

    def short_rows(self, loop: Over) -> Callable[[str, str], None] | None:
        if self.vectors.around.lanes > 1 or rows(loop) > 1:
            return None
        several = abreast(loop, self.frame)
        return None if several is None else ShortRows(self, several).emit

    def _is_read_ahead(self, rows: Over, large: str) -> str:
        """The i1: memory is read, where it is read in its order, and several rows share a page; but they are
        not so short that to begin one takes longer."""
        (inner,) = rows.body
        assert isinstance(inner, Over)
        lower, upper = self.bound(inner.lower), self.bound(inner.upper)
        length = self.body.value(f"sub i64 {upper.text}, {lower.text}")
        size = BYTES[self.frame.module.real]
        above = self.body.value(f"sub i64 {length}, {SHORTEST // size}")
        fits = self.body.value(f"icmp ule i64 {above}, {(PAGE - SHORTEST) // size}")
        return self.body.value(f"and i1 {large}, {fits}")

    def _ragged(self, loop: Over, lower: Value, upper: Value) -> None:
        """A loop inside a vector loop, with bounds of its own in each lane."""
        vectors, whole = self.vectors, self.vectors.whole
        lanes = vectors.around.lanes
        low, high = vectors.widened(lower, lanes), vectors.widened(upper, lanes)
        if vectors.around.mask is not None:
            mask = Value(vectors.around.mask, BOOL, lanes)
            high = vectors.select(mask, high, low)
        # Lanes that do not run must not widen the loop.
        order = self.body.value(f"icmp slt {vector(I64, lanes)} {low.text}, {high.text}")
        runs = Value(order, BOOL, lanes)
        least = vectors.select(runs, low, whole.literal(2**62))
        most = vectors.select(runs, high, whole.literal(-(2**62)))
        first = self.contributions.across(lambda a, b: whole.extremum("min", a, b), least)
        last = self.contributions.across(lambda a, b: whole.extremum("max", a, b), most)

        def once(index: str) -> None:
            own = {loop.index: self._position(loop, index)}
            with self._with(**own), self._repeated(loop):
                each = vectors.widened(Value(index, INT), lanes)
                above = self.body.value(f"icmp sge {vector(I64, lanes)} {each.text}, {low.text}")
                below = self.body.value(f"icmp slt {vector(I64, lanes)} {each.text}, {high.text}")
                with vectors.masked(
                    vectors.both(Value(above, BOOL, lanes), Value(below, BOOL, lanes))
                ):
                    self.nodes(loop.body)

        def write() -> None:
            counted(self.body, first.text, last.text, 1, once, loop.descending)

        self._run(loop, first, last, lanes, 1, write)

    # ------------------------------------------------------------------------------- vector loops

    def _vector(self, loop: Over, lower: Value, upper: Value) -> None:
        lanes, several = self.lanes, 1 if self.at_a_time else copies(loop)
        step = lanes * several

        def copied(index: str) -> None:
            for copy in range(several):
                first = index
                if copy:
                    first = self.body.value(f"add nsw i64 {index}, {copy * lanes}")
                self.once_in_lanes(loop, Around(loop.index, lanes, first, copy=copy))

        def write() -> None:
            with hoisted(self.vectors, loop, lower, upper):
                both()

        def both() -> None:
            fetching = Fetching(self.vectors, self._rows, loop, lower.text, upper.text)
            groups = Groups(self.vectors, loop, self.streaming.large)
            inside = interior(self.vectors, loop, self._position(loop, ""), lower, upper)

            def fetch(index: str, count: int) -> None:
                fetching.fetch(index, count)
                groups.fetch(index, count)

            def of_interior(index: str) -> None:
                fetch(index, step)
                copied(index)

            def main(index: str) -> None:
                fetch(index, step)
                if inside is None:
                    copied(index)
                else:
                    self._looking(inside, index, step, copied)

            past = self.streaming.of(loop) if is_short(loop, self.at_a_time or 1) else frozenset()
            begin = None
            if not self.at_a_time:
                begin = heads.first(self.vectors, loop, lower.text, upper.text, lanes, past)
            if past:
                from_there = begin or lower.text
                wanted = self.streaming.wanted(loop, lower.text, from_there, upper.text)

            again = Again(self, loop, inside)
            runs_again = not past and not self.at_a_time and again.can()

            def piece(first: str, end: str) -> None:
                if runs_again:
                    again.emit(first, end, step, of_interior, begin is None)
                    return
                middle = whole_groups(self.body, first, end, step)
                if past:
                    self.vectors.past_caches = past
                    self.where(wanted, lambda: self.while_any(first, middle, step, main))
                    self.vectors.past_caches = frozenset()
                    other = self.body.value(f"xor i1 {wanted}, true")
                    self.where(other, lambda: self.while_any(first, middle, step, main))
                else:
                    self.while_any(first, middle, step, main)
                rest = partial(self.some, loop, end=end, last=begin is None)
                self.while_any(middle, end, lanes, rest)

            if begin is None:
                piece(lower.text, upper.text)
            else:
                spread(self.vectors, loop, lanes)
                in_pieces(self.body, lower.text, begin, upper.text, piece)

        self._run(loop, lower, upper, lanes, several, write)

    def some(self, loop: Over, index: str, end: str, last: bool = False) -> None:
        """The body of a vector loop from the index on, in as many lanes as there are values below the end.

        last: the loop ends there, and its vectors follow each other from where it begins.
        """
        lanes = self.lanes
        left = self.body.value(f"sub nsw i64 {end}, {index}")
        fewer = self.body.value(f"icmp slt i64 {left}, {lanes}")
        count = self.body.select(fewer, I64, left, str(lanes))
        left = splat(self.body, "i32", self.body.value(f"trunc i64 {count} to i32"), lanes)
        kind, numbers = vector("i32", lanes), positions(lanes, "i32")
        mask = self.body.value(f"icmp slt {kind} {numbers}, {left}")
        ends = (loop.lower, loop.upper) if last else None
        some = Around(loop.index, lanes, index, tail=mask, mask=mask, count=count, ends=ends)
        self.once_in_lanes(loop, some)

    def _looking(
        self, inside: Interior, index: str, step: int, write: Callable[[str], None]
    ) -> None:
        """`write` for as many values of the index, in the interior without its conditions."""
        holds = inside.holds(self.body, index, step)
        self.certain = inside.known
        self.where(holds, lambda: write(index))
        self.certain = {}
        self.where(self.body.value(f"xor i1 {holds}, true"), lambda: write(index))

    def while_any(self, lower: str, upper: str, step: int, write: Callable[[str], None]) -> None:
        some = self.body.value(f"icmp slt i64 {lower}, {upper}")
        self.where(some, lambda: counted(self.body, lower, upper, step, write))

    def once_in_lanes(self, loop: Over, around: Around) -> None:
        """A copy of the body of a vector loop."""
        with self.in_lanes(loop, around):
            self.vectors.known |= self.certain
            if self.several is not None:
                self.several.sums()
                return
            self._carried = carried(loop.body, self._is_there)
            self.contributions.weaving = woven(loop.body, loop.index, self._carried.all)
            if self.at_a_time > 1:
                self._load_first(loop.body)
            self.nodes(loop.body)
        self._carried, self.contributions.weaving = Carried(), Weaving()

    def _load_first(self, nodes: Sequence[Node]) -> None:
        """What the steps read and do not write: a load waits for stores to addresses that end alike."""
        inner = [node for node in nodes if isinstance(node, Step)]
        written = {step.statement.target.tensor for step in inner}
        reads = {read: None for step in inner for read in walk.statement_reads(step.statement)}
        for read in reads:
            fixed = written.isdisjoint(part.tensor for part in walk.reads(read))
            if (
                fixed
                and not self.frame.storage(read.tensor).register
                and self.vectors.is_cheap(read)
            ):
                self.vectors.lower(read)

    def _is_there(self, target: Read) -> bool:
        """In every lane of the loop, whatever a guard says, and with no other place for another lane?"""
        storage = self.frame.storage(target.tensor)
        return not storage.register and self.vectors.is_safe(target)

    @contextmanager
    def in_lanes(self, loop: Over, around: Around) -> Iterator[None]:
        """The body of a loop for several values of its index, the first of which is `around.first`."""
        vectors = self.vectors
        vectors.around = around
        with self.at(loop, around.first):
            yield
        vectors.around = Around()

    @contextmanager
    def at(self, loop: Over, text: str) -> Iterator[None]:
        """The body of a loop for one value of its index; it may have run before for another."""
        with self._with(**{loop.index: self._position(loop, text)}), self._repeated(loop):
            yield

    # -------------------------------------------------------------------------------------- scans

    def _scan(self, loop: Over, lower: Value, upper: Value) -> None:
        def write() -> None:
            with hoisted(self.vectors, loop, lower, upper):
                Scan(self, loop, self.lanes).emit(lower, upper)

        runs = self.body.value(f"icmp slt i64 {lower.text}, {upper.text}")
        self.where(runs, write)
