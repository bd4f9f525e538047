"""Loops that threads share, and blocks of an index: which values a thread gets, where bounds and indices are.

The walk over trees (`trees.py`) stands on it, and emits what is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from loopgrad.backends.llvm.fused.frame import GOES_ON, Frame, Value
from loopgrad.backends.llvm.fused.invariants import written_in
from loopgrad.backends.llvm.fused.shares import share
from loopgrad.backends.llvm.fused.steps import Steps
from loopgrad.backends.llvm.fused.surroundings import INDEX_BITS, Position
from loopgrad.backends.llvm.writing.repeat import counted, handing
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir.nodes import Expression, Number
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import (
    ZERO,
    Blocks,
    Grid,
    Mark,
    Node,
    Over,
    Product,
    Shares,
    block_from,
    block_to,
    is_block,
    steps,
)

INT = ElementType.INT
TILES = 12  # a multiple of the heights of a product's tiles


class Sharing(Steps):
    """What of loops and blocks is the thread's own."""

    def __init__(self, frame: Frame):
        super().__init__(frame)
        self._portion: tuple[Value, Value] | None = None  # of blocks shared within a loop
        self._rows: Over | None = None  # the loop whose iterations begin here, one by one

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        """Emits them; the walk's."""
        raise NotImplementedError

    def short_rows(self, loop: Over) -> Callable[[str, str], None] | None:
        """What emits the rows of a loop from one value up to another, several at a time; None where they are
        not short. The walk's."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- threads

    def _pairs(self, outer: Over, inner: Over | Blocks) -> None:
        """The thread's part of the pairs of two indices, or of one and the blocks of another."""
        above, height = self._begin_and_count(outer)
        left, width = self._begin_and_count(inner)
        count = Value(self.body.value(f"mul i64 {height}, {width}"), INT)
        first, last = self._part(self.vectors.whole.literal(0), count)
        short = self.short_rows(inner) if isinstance(inner, Over) else None

        def some(row: str) -> None:
            before = self.body.value(f"mul i64 {row}, {width}")
            begin = self.greatest(self.body.value(f"sub i64 {first.text}, {before}"), "0")
            end = self.least(self.body.value(f"sub i64 {last.text}, {before}"), width)
            place = {outer.index: self._position(outer, self._sum(above, row))}
            with self._with(**place), self._repeated(outer):
                assert short is not None
                short(self._sum(left, begin), self._sum(left, end))

        def once(number: str, pair: Sequence[str]) -> list[str]:
            row, column = pair
            place = {outer.index: self._position(outer, self._sum(above, row))}
            with self._with(**place), self._repeated(outer):
                self._column(inner, left, column)
            following = self._sum(column, "1")
            over = self.body.value(f"icmp eq i64 {following}, {width}")
            more = self.body.value(f"zext i1 {over} to i64")
            return [self._sum(row, more), self.body.select(over, I64, "0", following)]

        def run() -> None:
            # Divided once: that takes longer than what is done on a short row.
            row = self.body.value(f"udiv i64 {first.text}, {width}")
            if short is not None:
                most = self.body.value(f"sub i64 {last.text}, 1")
                end = self._sum(self.body.value(f"udiv i64 {most}, {width}"), "1")
                counted(self.body, row, end, 1, some)
                return
            column = self.body.value(f"urem i64 {first.text}, {width}")
            handing(self.body, first.text, last.text, once, [(I64, row), (I64, column)])

        runs = self.body.value(f"icmp slt i64 {first.text}, {last.text}")
        self.where(runs, run)

    def _column(self, inner: Over | Blocks, left: str, column: str) -> None:
        """What is done for a value of the inner one of two indices, or a block of them."""
        if isinstance(inner, Blocks):
            self._numbered(inner, self.bound(inner.lower), self.bound(inner.upper))(column)
            return
        place = {inner.index: self._position(inner, self._sum(left, column))}
        with self._with(**place), self.row_of(inner):
            self.nodes(inner.body)

    def _shared_blocks(self, outer: Over, inner: Over | Blocks | None, blocks: Blocks) -> None:
        """The thread's part of the blocks, counted through the values of one loop around, or pairs of two."""
        assert not isinstance(inner, Blocks)
        above, height = self._begin_and_count(outer)
        left, width = self._begin_and_count(inner) if inner else ("0", "1")
        _, depth = self._begin_and_count(blocks)
        if self.frame.split:  # what sums begin with is there for no blocks, too
            depth = self.greatest(depth, "1")
        pairs = self.body.value(f"mul i64 {height}, {width}")
        count = Value(self.body.value(f"mul i64 {pairs}, {depth}"), INT)
        first, last = self._part(self.vectors.whole.literal(0), count)

        def once(number: str) -> None:
            row = self.body.value(f"udiv i64 {number}, {width}")
            column = self.body.value(f"urem i64 {number}, {width}")
            before = self.body.value(f"mul i64 {number}, {depth}")
            begin = self.greatest(self.body.value(f"sub i64 {first.text}, {before}"), "0")
            end = self.least(self.body.value(f"sub i64 {last.text}, {before}"), depth)
            places = {outer.index: self._position(outer, self._sum(above, row))}
            if inner:
                places[inner.index] = self._position(inner, self._sum(left, column))
            with self._with(**places), self._repeated(outer), self._split(begin):
                self._portion = Value(begin, INT), Value(end, INT)
                self.nodes((inner or outer).body)
                self._portion = None

        def run() -> None:
            begin = self.body.value(f"udiv i64 {first.text}, {depth}")
            end = self.body.value(f"udiv i64 {self.body.value(f'sub i64 {last.text}, 1')}, {depth}")
            counted(self.body, begin, self._sum(end, "1"), 1, once)

        runs = self.body.value(f"icmp slt i64 {first.text}, {last.text}")
        self.where(runs, run)

    @contextmanager
    def _split(self, begin: str) -> Iterator[None]:
        """In it what threads add to for a row is the tensor, or the copy of who goes on with the row."""
        frame = self.frame
        if not frame.split:
            yield
            return
        goes_on = self.body.value(f"icmp sgt i64 {begin}, 0")
        for tensor, buffer in frame.split.items():
            kind = frame.module.pointer(frame.storage(tensor).kind)
            whole, own = frame.pointer(tensor), frame.pointer(buffer.own)
            frame.here[tensor] = self.body.select(goes_on, kind, own, whole)
        number = self.body.value(f"zext i1 {goes_on} to i64")
        with self._with(**{GOES_ON.name: Position(number, ZERO, Number(2))}):
            yield
        frame.here.clear()

    def least(self, one: str, other: str) -> str:
        return self.body.select(self.body.value(f"icmp slt i64 {one}, {other}"), I64, one, other)

    def greatest(self, one: str, other: str) -> str:
        return self.body.select(self.body.value(f"icmp sgt i64 {one}, {other}"), I64, one, other)

    def _begin_and_count(self, loop: Over | Blocks) -> tuple[str, str]:
        """The first value of the index, and how many there are, or how many blocks of them."""
        lower, upper = self.bound(loop.lower), self.bound(loop.upper)
        count = self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        some = self.body.value(f"icmp sgt i64 {count}, 0")
        count = self.body.select(some, I64, count, "0")
        if isinstance(loop, Blocks):
            count = self._block_count(count, self._block_size(loop))
        return lower.text, count

    def _block_size(self, blocks: Blocks) -> str:
        size = blocks.counted
        return str(size) if isinstance(size, int) else self.bound(size).text

    def _block_count(self, count: str, size: str) -> str:
        more = self.body.value(f"add nsw i64 {count}, {size}")
        return self.body.value(f"sdiv i64 {self.body.value(f'sub nsw i64 {more}, 1')}, {size}")

    def _sum(self, one: str, other: str) -> str:
        return self.body.value(f"add nsw i64 {one}, {other}")

    def bound(self, bound: Expression) -> Value:
        return self.vectors.whole.limited(self.vectors.integer(bound), INDEX_BITS)

    def _position(self, loop: Over, text: str) -> Position:
        return Position(text, *self._whole(loop))

    def _whole(self, loop: Over | Blocks) -> tuple[Expression | None, Expression | None]:
        """The bounds of the loop, or of the one that it cuts up."""
        if is_block(loop.lower, loop.upper) and loop.lower.name in self.vectors.indices:
            known = self.vectors.indices[loop.lower.name]
            return known.lower, known.upper
        return loop.lower, loop.upper

    def position(self, index: str, text: str, lower: Expression, upper: Expression) -> Position:
        """Of an index that has this value, and runs between those."""
        return self._position(Over(index, lower, upper, ()), text)

    def with_positions(self, positions: Mapping[str, Position]) -> AbstractContextManager[None]:
        """In it the indices have these values."""
        return self._with(**positions)

    @contextmanager
    def _with(self, **positions: Position) -> Iterator[None]:
        outer = self.vectors.indices
        self.vectors.indices = {**outer, **positions}
        yield
        self.vectors.indices = outer

    @contextmanager
    def row_of(self, loop: Over) -> Iterator[None]:
        """In it an iteration of the loop stands."""
        outer, self._rows = self._rows, loop
        yield
        self._rows = outer

    def _repeated(self, loop: Over | Blocks) -> AbstractContextManager[None]:
        """The body of a loop: it may have run before, for another value of the index."""
        names = (loop.index, block_from(loop.index).name, block_to(loop.index).name)
        own = names[:1] if isinstance(loop, Over) else names
        return self.vectors.scope(written_in(loop.body), own)

    # ------------------------------------------------------------------------------------- blocks

    def _part(
        self, lower: Value, upper: Value, shares: Shares = Shares.EVEN
    ) -> tuple[Value, Value]:
        """What the thread gets of an interval."""
        count = self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        some = self.body.value(f"icmp sgt i64 {count}, 0")
        count = self.body.select(some, I64, count, "0")
        first, last = (
            replace(lower, text=self.body.value(f"add i64 {lower.text}, {end}"))
            for end in share(self.body, count, grows=shares is Shares.GROWING)
        )
        return first, last

    def _blocks(self, blocks: Blocks) -> None:
        vectors = self.vectors
        lower, upper = self.bound(blocks.lower), self.bound(blocks.upper)
        parallel = blocks.mark is Mark.PARALLEL
        if blocks.size is None:
            if parallel and self._portion:
                lower, upper = self._piece(blocks, lower, upper, self._portion)
            elif blocks.grid is not Grid.NONE:
                lower, upper = self._of_grid(blocks, lower, upper)
            elif parallel:
                lower, upper = self._part(lower, upper, blocks.shares)
            if blocks.grid is Grid.SUMS:  # of nothing, too
                self._block(blocks, lower.text, upper.text)
                return
            runs = self.body.value(f"icmp slt i64 {lower.text}, {upper.text}")
            self.where(runs, lambda: self._block(blocks, lower.text, upper.text))
            return
        length = self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        count = self._block_count(length, self._block_size(blocks))
        first, last = vectors.whole.literal(0), Value(count, INT)
        if parallel:
            first, last = self._portion or self._part(first, last)
            if self._portion:  # which may be of a row without blocks
                last = Value(self.least(last.text, count), INT)
        once = self._numbered(blocks, lower, upper)
        runs = self.body.value(f"icmp slt i64 {first.text}, {last.text}")
        self.where(runs, lambda: counted(self.body, first.text, last.text, 1, once))

    def _of_grid(self, blocks: Blocks, lower: Value, upper: Value) -> tuple[Value, Value]:
        """What the thread has of a dimension of the grid: threads that differ in their sums come one after
        the other, then those that differ in their columns."""
        body = self.body
        row = body.value("mul i64 %columns, %sums")
        match blocks.grid:
            case Grid.SUMS:
                part, parts = body.value("urem i64 %thread, %sums"), "%sums"
            case Grid.COLUMNS:
                part = body.value(f"urem i64 {body.value('udiv i64 %thread, %sums')}, %columns")
                parts = "%columns"
            case _:
                part = body.value(f"udiv i64 %thread, {row}")
                parts = body.value(f"udiv i64 %threads, {row}")
        _, count = self._begin_and_count(blocks)
        first, last = share(body, count, part, parts)
        begin, end = (
            self._sum(lower.text, body.value(f"mul nsw i64 {number}, {blocks.unit}"))
            for number in (first, last)
        )
        return replace(lower, text=begin), replace(upper, text=self.least(end, upper.text))

    def _piece(
        self, blocks: Blocks, lower: Value, upper: Value, portion: tuple[Value, Value]
    ) -> tuple[Value, Value]:
        """What is in the blocks that the thread has."""
        begin, end = (
            self._sum(lower.text, self.body.value(f"mul nsw i64 {number.text}, {blocks.unit}"))
            for number in portion
        )
        return replace(lower, text=begin), replace(upper, text=self.least(end, upper.text))

    def _numbered(self, blocks: Blocks, lower: Value, upper: Value) -> Callable[[str], None]:
        """What runs the block of a number: first and last by turns, where work grows from block to block.

        So contiguous parts are alike.
        """
        size = self._even_size(blocks, lower, upper)

        def once(number: str) -> None:
            if blocks.shares is Shares.GROWING:
                number = self._folded(number, blocks, lower, upper)
            offset = self.body.value(f"mul nsw i64 {number}, {size}")
            begin = self.body.value(f"add nsw i64 {lower.text}, {offset}")
            end = self.body.value(f"add nsw i64 {begin}, {size}")
            over = self.body.value(f"icmp sgt i64 {end}, {upper.text}")
            self._block(blocks, begin, self.body.select(over, I64, upper.text, end))

        return once

    def _even_size(self, blocks: Blocks, lower: Value, upper: Value) -> str:
        """Of blocks of a product's rows, so that none is a remainder: each streams all of the other side.

        There are as many as there would be, and their sizes are multiples of the tiles' heights.
        """
        size = blocks.counted
        if not isinstance(size, int) or size % TILES or not _has_product(blocks):
            return self._block_size(blocks)
        length = self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        count = self._block_count(length, str(size))
        least = self.greatest(count, "1")
        tiles = self._block_count(length, self.body.value(f"mul nsw i64 {least}, {TILES}"))
        return self.body.value(f"mul nsw i64 {tiles}, {TILES}")

    def _folded(self, number: str, blocks: Blocks, lower: Value, upper: Value) -> str:
        """0, last, 1, last but one, ..."""
        length = self.body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        count = self._block_count(length, self._block_size(blocks))
        half = self.body.value(f"lshr i64 {number}, 1")
        odd = self.body.value(f"trunc i64 {number} to i1")
        behind = self.body.value(f"sub i64 {self.body.value(f'sub i64 {count}, 1')}, {half}")
        return self.body.select(odd, I64, behind, half)

    def _block(self, blocks: Blocks, begin: str, end: str) -> None:
        bounds = self._whole(blocks)
        ends = {
            block_from(blocks.index).name: Position(begin, *bounds),
            block_to(blocks.index).name: Position(end, *bounds),
        }
        with self._with(**ends), self._repeated(blocks):
            self.nodes(blocks.body)


def _has_product(blocks: Blocks) -> bool:
    return any(isinstance(step, Product) for step in steps(blocks.body))
