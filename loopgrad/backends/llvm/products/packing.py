"""Packing of B into panels and of rows of A into tiles.

B[K,N] packed: panels of `width` columns (the last of as many whole vectors as it needs), each
[k][columns of the panel]. Columns beyond N hold anything: what they give is never stored.

`few`: code for a while, with few ways to copy, whatever lies where; short, as LLVM's time goes with it.
"""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm.products.runs import entry, run
from loopgrad.backends.llvm.products.tiling import ROWS, SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module

WORTH_TURNING = 4  # rows, of columns that lie anywhere
AHEAD = 8  # columns of A: memory is asked for so much earlier than it is read


def emit_pack(module: Module, tiling: Tiling, few: bool) -> None:
    """`loopgrad_pack_*(K, N, B, bk, bn, packed, first, depth)`: B[k,n] is at k*bk + n*bn.

    They become the values `first` to `first + K` of k in panels that have `depth` of them.
    """
    pointer = module.pointer(tiling.real)
    parameters = (
        f"i64 %K, i64 %N, {pointer} %B, i64 %bk, i64 %bn, {pointer} %packed, i64 %first, i64 %depth"
    )
    name = f"loopgrad_pack_{SUFFIX[tiling.real]}"
    _Pack(Writer(module, tiling, name, parameters, inner=False), few).write()


class _Pack:
    def __init__(self, writer: Writer, few: bool):
        self.w, self.lanes, self.width = writer, writer.tiling.lanes, writer.tiling.width
        self.few = few

    def write(self) -> None:
        w = self.w
        rows, columns = w.compare("eq", "%bn", 1), w.compare("eq", "%bk", 1)
        deep = w.compare("sge", "%K", w.tiling.group)
        turned = w.body.value(f"and i1 {columns}, {deep}")
        w.loop("%N", lambda n: self._panel(n, rows, turned), step=self.width)
        w.finish()

    def _panel(self, n: str, rows: str, turned: str) -> None:
        w = self.w
        rest = w.integer("sub", "%N", n)
        vectors = w.integer(
            "sdiv", w.integer("add", w.least(rest, self.width), self.lanes - 1), self.lanes
        )
        self.stride = w.integer("mul", vectors, self.lanes)
        self.rest, self.n = rest, n
        panel = w.at("%packed", w.integer("mul", n, "%depth"))
        self.to = w.at(panel, w.integer("mul", "%first", self.stride))
        self.source = w.at("%B", w.integer("mul", n, "%bn"))
        if self.few:
            w.where(rows, self._partial_rows, self._elements)
            return
        w.where(
            rows,
            lambda: w.where(
                w.compare("sge", rest, self.width), self._full_rows, self._partial_rows
            ),
            lambda: w.where(turned, self._columns, self._elements),
        )

    def _full_rows(self) -> None:
        """Rows that are contiguous are copied."""
        w, lanes = self.w, self.lanes

        def row(k: str) -> None:
            source = w.at(self.source, w.integer("mul", k, "%bk"))
            to = w.at(self.to, w.integer("mul", k, self.width))
            for v in range(w.tiling.vectors):
                w.store(w.load(w.at(source, v * lanes)), w.at(to, v * lanes))

        w.loop("%K", row)

    def _partial_rows(self) -> None:
        w = self.w

        def vector(j: str) -> None:
            mask = w.first_lanes(w.least(w.integer("sub", self.rest, j), self.lanes))
            source, to = w.at(self.source, j), w.at(self.to, j)

            def row(k: str) -> None:
                value = w.masked_load(w.at(source, w.integer("mul", k, "%bk")), mask)
                w.store(value, w.at(to, w.integer("mul", k, self.stride)))

            w.loop("%K", row)

        w.loop(self.stride, vector, step=self.lanes)

    def _columns(self) -> None:
        """Columns that are contiguous are transposed: as many at a time as a vector has lanes, a group of k
        at a time.

        A column's group is loaded to where it has to be among those of other columns; then nothing
        crosses from a group of lanes to another. The last group of k ends at K, over what the one before
        has written.
        """
        w, lanes, group = self.w, self.lanes, self.w.tiling.group
        last = w.integer("sub", "%K", group)
        greatest = w.integer("sub", self.rest, 1)

        def columns(j: str) -> None:
            places = [
                w.at(
                    self.source, w.integer("mul", w.least(w.integer("add", j, i), greatest), "%bn")
                )
                for i in range(lanes)
            ]
            to = w.at(self.to, j)

            def block(k: str) -> None:
                first = w.least(k, last)
                found = [w.load(w.at(place, first), w.group) for place in places]
                rows = w.turned([w.together(found[i::group]) for i in range(group)])
                for i, row in enumerate(rows):
                    offset = w.integer("mul", w.integer("add", first, i), self.stride)
                    w.store(row, w.at(to, offset))

            w.loop("%K", block, step=group)

        w.loop(self.stride, columns, step=lanes)

    def _elements(self) -> None:
        """Neither: element by element."""
        w = self.w
        greatest = w.integer("sub", self.rest, 1)

        def row(k: str) -> None:
            source = w.at(self.source, w.integer("mul", k, "%bk"))
            to = w.at(self.to, w.integer("mul", k, self.stride))

            def element(j: str) -> None:
                place = w.at(source, w.integer("mul", w.least(j, greatest), "%bn"))
                w.store(w.load(place, w.real), w.at(to, j), w.real)

            w.loop(self.stride, element)

        w.loop("%K", row)


def emit_pack_at(module: Module, tiling: Tiling, few: bool) -> None:
    """`loopgrad_pack_at_*(K, N, B, at_k, at_n, packed)`: B[k,n] is at at_k[k] + at_n[n], K deep."""
    pointer, offsets = module.pointer(tiling.real), module.pointer(I64)
    parameters = (
        f"i64 %K, i64 %N, {pointer} %B, {offsets} %at_k, {offsets} %at_n, {pointer} %packed"
    )
    name = f"loopgrad_pack_at_{SUFFIX[tiling.real]}"
    _PackAt(Writer(module, tiling, name, parameters, inner=False), few).write()


class _PackAt:
    """A vector of columns at a time: one run in memory, two, every other element, or columns that lie
    anywhere, of which many rows are packed at a time where these are runs."""

    def __init__(self, writer: Writer, few: bool):
        self.w, self.lanes, self.width = writer, writer.tiling.lanes, writer.tiling.width
        self.few = few

    def write(self) -> None:
        w = self.w
        w.loop("%N", self._panel, step=self.width)
        w.finish()

    def _panel(self, n: str) -> None:
        w, lanes = self.w, self.lanes
        rest = w.integer("sub", "%N", n)
        filled = w.integer("add", w.least(rest, self.width), lanes - 1)
        self.stride = w.integer("and", filled, -lanes)
        panel = w.at("%packed", w.integer("mul", n, "%K"))

        def vector(j: str) -> None:
            first = w.integer("add", n, j)
            there = w.least(w.integer("sub", "%N", first), lanes)
            self._vector(first, there, w.at(panel, j))

        w.loop(self.stride, vector, step=lanes)

    def _vector(self, n: str, there: str, to: str) -> None:
        """So many columns from n on."""
        w = self.w
        start = entry(w, "%at_n", n)
        length = run(w, "%at_n", n, there, 1)
        whole = w.compare("eq", length, there)

        def one_run() -> None:
            mask = w.first_lanes(there)
            self._rows(to, lambda row: w.masked_load(w.at(row, start), mask))

        if self.few:
            w.where(whole, one_run, lambda: self._elements(n, there, to))
            return
        second = w.integer("add", n, length)
        left = w.integer("sub", there, length)
        two = w.compare("eq", run(w, "%at_n", second, left, 1), left)

        def two_runs() -> None:
            low, all_lanes = w.first_lanes(length), w.first_lanes(there)
            kind = f"<{self.lanes} x i1>"
            high = w.body.value(f"xor {kind} {low}, {all_lanes}")
            back = w.integer("sub", entry(w, "%at_n", second), length)

            def row(source: str) -> str:
                a = w.masked_load(w.at(source, start), low)
                b = w.masked_load(w.at(source, back), high)
                return w.body.value(
                    f"select {kind} {low}, {w.tiling.vector} {a}, {w.tiling.vector} {b}"
                )

            self._rows(to, row)

        def others() -> None:
            even = w.compare("eq", run(w, "%at_n", n, there, 2), there)
            w.where(
                even,
                lambda: self._every_other(start, there, to),
                lambda: self._anywhere(n, there, to),
            )

        w.where(whole, one_run, lambda: w.where(two, two_runs, others))

    def _every_other(self, start: str, there: str, to: str) -> None:
        """Columns with one element between each two: of two vectors the even lanes."""
        w = self.w
        low, high = self._masks_apart(there)
        self._rows(to, lambda source: self._even(w.at(source, start), low, high))

    def _masks_apart(self, count: str) -> tuple[str, str]:
        """The lanes of two vectors that hold so many elements with one between each two."""
        w, lanes = self.w, self.lanes
        elements = w.integer("sub", w.integer("mul", count, 2), 1)
        low = w.first_lanes(w.least(elements, lanes))
        return low, w.first_lanes(w.integer("sub", elements, lanes))

    def _even(self, first: str, low: str, high: str) -> str:
        w, lanes, kind = self.w, self.lanes, self.w.tiling.vector
        even = ", ".join(f"i32 {2 * i}" for i in range(lanes))
        a, b = w.masked_load(first, low), w.masked_load(w.at(first, lanes), high)
        return w.body.value(f"shufflevector {kind} {a}, {kind} {b}, <{lanes} x i32> <{even}>")

    def _is_long(self, run: str, room: str) -> str:
        """Is it worth being turned, and may a whole vector of rows be written?"""
        return self.w.body.value(f"and i1 {self.w.compare('sge', run, WORTH_TURNING)}, {room}")

    def _rows(self, to: str, load: Callable[[str], str]) -> None:
        w = self.w

        def row(k: str) -> None:
            value = load(w.at("%B", entry(w, "%at_k", k)))
            w.store(value, w.at(to, w.integer("mul", k, self.stride)))

        w.loop("%K", row)

    def _elements(self, n: str, there: str, to: str) -> None:
        """Column by column, each element by itself; beyond the last it is that one again."""
        w = self.w
        last = w.integer("sub", there, 1)

        def column(j: str) -> None:
            number = w.integer("add", n, w.least(j, last))
            source = w.at("%B", entry(w, "%at_n", number))
            place = w.at(to, j)

            def element(k: str) -> None:
                value = w.load(w.at(source, entry(w, "%at_k", k)), w.real)
                w.store(value, w.at(place, w.integer("mul", k, self.stride)), w.real)

            w.loop("%K", element)

        w.loop(self.lanes, column, once=True)

    def _anywhere(self, n: str, there: str, to: str) -> None:
        """Rows that are a run in each column are read along it, and turned; others one by one.

        What is written behind a run that is shorter than a vector is written again by the next rows.
        """
        w, lanes = self.w, self.lanes
        last = w.integer("sub", there, 1)
        columns = [entry(w, "%at_n", w.integer("add", n, w.least(last, j))) for j in range(lanes)]
        step = ""

        def rows(k: str) -> None:
            nonlocal step
            left = w.integer("sub", "%K", k)
            most, room = w.least(left, lanes), w.compare("sge", left, lanes)
            runs = {apart: run(w, "%at_k", k, most, apart) for apart in (1, 2)}
            turns = {apart: self._is_long(length, room) for apart, length in runs.items()}
            alone = w.body.value(f"select i1 {turns[2]}, i64 {runs[2]}, i64 1")
            step = w.body.value(f"select i1 {turns[1]}, i64 {runs[1]}, i64 {alone}")
            source = w.at("%B", entry(w, "%at_k", k))
            place = w.at(to, w.integer("mul", k, self.stride))
            columns_at = [w.at(source, column) for column in columns]

            def side_by_side() -> list[str]:
                mask = w.first_lanes(runs[1])
                return [w.masked_load(column, mask) for column in columns_at]

            def every_other() -> list[str]:
                low, high = self._masks_apart(runs[2])
                return [self._even(column, low, high) for column in columns_at]

            def several() -> None:
                found = w.chosen(turns[1], w.tiling.vector, side_by_side, every_other)
                for i, row in enumerate(w.transposed(found)):
                    w.store(row, w.at(place, w.integer("mul", self.stride, i)))

            def single() -> None:
                for j, column in enumerate(columns_at):
                    w.store(w.load(column, w.real), w.at(place, j), w.real)

            w.where(w.body.value(f"or i1 {turns[1]}, {turns[2]}"), several, single)

        w.loop("%K", rows, step=lambda _: step)


def emit_pack_rows(module: Module, tiling: Tiling, few: bool) -> None:
    """`pack_rows_*(M, K, A, am, ak, packed)`: tiles as `product` cuts them, each [k][rows]."""
    pointer = module.pointer(tiling.real)
    parameters = f"i64 %M, i64 %K, {pointer} %A, i64 %am, i64 %ak, {pointer} %packed"
    w = Writer(module, tiling, pack_rows_name(tiling), parameters, inner=True)
    contiguous = w.compare("eq", "%am", 1)
    done, rows = "0", ""
    if not few:
        full = w.body.value(f"select i1 {contiguous}, i64 {_full_tiles(w)}, i64 0")
        w.where(w.compare("sgt", full, 0), lambda: _full_rows(w, full))
        done = w.integer("mul", full, ROWS)

    def tile(m: str) -> None:
        nonlocal rows
        rows = rows_of_tile(w, w.integer("sub", "%M", m))
        source = w.at("%A", w.integer("mul", m, "%am"))
        to = w.at("%packed", w.integer("mul", m, "%K"))
        if few:
            _few_rows(w, rows, source, to)
            return
        four = w.body.value(f"and i1 {w.compare('eq', rows, 4)}, {contiguous}")
        w.where(four, lambda: _four_rows(w, source, to), lambda: _few_rows(w, rows, source, to))

    left = w.integer("sub", "%M", done)
    w.loop(left, lambda m: tile(w.integer("add", m, done)), step=lambda _: rows)
    w.finish()


def pack_rows_name(tiling: Tiling) -> str:
    return f"pack_rows_{SUFFIX[tiling.real]}"


def rows_of_tile(w: Writer, rest: str) -> str:
    """How many of the rows that are left the next tile takes: 7 are 4 and 3, 8 are 4 and 4.

    A tile of one or two rows reads B as fast as one of four.
    """
    awkward = w.integer("sub", rest, ROWS + 1)
    is_awkward = w.compare("ult", awkward, 2)
    usual = w.least(rest, ROWS)
    return w.body.value(f"select i1 {is_awkward}, i64 4, i64 {usual}")


def _full_tiles(w: Writer) -> str:
    """How many tiles of `ROWS` rows `rows_of_tile` cuts M into, before smaller ones."""
    whole = w.compare("eq", w.integer("srem", "%M", ROWS), 0)
    one = w.body.value(f"zext i1 {whole} to i64")
    return w.integer("add", w.integer("sdiv", w.integer("sub", "%M", 3), ROWS), one)


def _full_rows(w: Writer, tiles: str) -> None:
    """Elements of a column that stand side by side, of all full tiles: memory is read in its order."""
    four, two = f"<4 x {w.real}>", f"<2 x {w.real}>"
    depth = w.integer("mul", "%K", ROWS)
    ahead = w.integer("mul", "%ak", AHEAD)

    def column(k: str) -> None:
        source = w.at("%A", w.integer("mul", k, "%ak"))
        to = w.at("%packed", w.integer("mul", k, ROWS))

        def tile(t: str) -> None:
            place = w.at(source, w.integer("mul", t, ROWS))
            there = w.at(to, w.integer("mul", t, depth))
            w.prefetch(w.at(place, ahead))
            w.store(w.load(place, four), there, four)
            w.store(w.load(w.at(place, 4), two), w.at(there, 4), two)

        w.loop(tiles, tile, once=True)

    w.loop("%K", column)


def _four_rows(w: Writer, source: str, to: str) -> None:
    four = f"<4 x {w.real}>"

    def column(k: str) -> None:
        place = w.at(source, w.integer("mul", k, "%ak"))
        w.store(w.load(place, four), w.at(to, w.integer("mul", k, 4)), four)

    w.loop("%K", column)


def _few_rows(w: Writer, rows: str, source: str, to: str) -> None:
    def row(r: str) -> None:
        place = w.at(source, w.integer("mul", r, "%am"))
        there = w.at(to, r)

        def element(k: str) -> None:
            value = w.load(w.at(place, w.integer("mul", k, "%ak")), w.real)
            w.store(value, w.at(there, w.integer("mul", k, rows)), w.real)

        w.loop("%K", element)

    w.loop(rows, row)
