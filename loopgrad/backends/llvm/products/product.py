"""The product: blocks of k, blocks of rows, panels, tiles."""

from __future__ import annotations

from loopgrad.backends.llvm.products.kernel import part_name
from loopgrad.backends.llvm.products.narrow import along_k_name, along_m_name, few_columns
from loopgrad.backends.llvm.products.packing import pack_rows_name, rows_of_tile
from loopgrad.backends.llvm.products.tiles import Tile
from loopgrad.backends.llvm.products.tiling import DEPTH, ROWS, SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import Module

# Columns of a row that is wide, and elements of a B that the first-level cache holds.
WIDE, SMALL = 256, 8192


def emit_product(module: Module, tiling: Tiling) -> None:
    """`loopgrad_product_*(M, N, K, A, am, ak, packed, first, depth, columns, bk, C, cm, scale, adds)`."""
    pointer = module.pointer(tiling.real)
    parameters = (
        f"i64 %M, i64 %N, i64 %K, {pointer} %A, i64 %am, i64 %ak, {pointer} %packed, "
        f"i64 %first, i64 %depth, i64 %columns, i64 %bk, {pointer} %C, i64 %cm, {tiling.real} %scale, "
        "i1 zeroext %adds"
    )
    name = f"loopgrad_product_{SUFFIX[tiling.real]}"
    _Product(Writer(module, tiling, name, parameters, inner=False)).write()


class _Product:
    def __init__(self, writer: Writer):
        self.w, self.tiling = writer, writer.tiling

    def write(self) -> None:
        w, tiling = self.w, self.tiling
        count = tiling.rows_packed * DEPTH
        self.scratch = w.body.value(f"alloca {w.real}, i64 {count}, align 64")
        self.tile = w.body.value(f"alloca {w.real}, i64 {ROWS * tiling.width}, align 64")
        self.zeros = w.zeros()
        # Where k is contiguous, packing the rows of A would gain nothing.
        self.packs = w.compare("ne", "%ak", 1)
        self.lies = w.compare("ne", "%bk", 0)  # B, where it is
        self.across = w.body.value(f"select i1 {self.lies}, i64 1, i64 %depth")
        # Where they are not packed, more of k at a time: sums stay in registers, and rows are read through.
        parts = w.integer("sdiv", w.integer("add", "%K", tiling.deepest - 1), tiling.deepest)
        parts = w.body.value(f"select i1 {w.compare('sgt', parts, 1)}, i64 {parts}, i64 1")
        even = w.integer("sdiv", w.integer("sub", w.integer("add", "%K", parts), 1), parts)
        even = w.body.value(f"select i1 {w.compare('sgt', even, 1)}, i64 {even}, i64 1")
        self.deep = w.body.value(f"select i1 {self.packs}, i64 {DEPTH}, i64 {even}")
        w.loop("%K", self._depth, step=lambda _: self.deep)
        w.clear_where_empty("%K", "%adds", "%M", "%N", "%C", "%cm")
        w.finish()

    def _depth(self, k: str) -> None:
        w = self.w
        self.k = k
        self.depth = w.least(w.integer("sub", "%K", k), self.deep)
        later = w.compare("ne", k, 0)
        has_value = w.body.value(f"or i1 {later}, %adds")
        self.fresh = w.body.value(f"xor i1 {has_value}, true")
        self.dm = w.body.value(f"select i1 {self.fresh}, i64 0, i64 %cm")
        # Of few sums for wide rows most of the work is to write: row after row, while a cache holds all of B.
        wide = w.compare("sge", "%N", WIDE)
        small = w.compare("sle", w.integer("mul", self.depth, "%N"), SMALL)
        small = w.body.value(f"and i1 {wide}, {small}")
        self.most_rows = w.body.value(
            f"select i1 {small}, i64 {ROWS}, i64 {self.tiling.rows_packed}"
        )
        w.loop("%M", self._rows, step=self.most_rows)

    def _rows(self, m: str) -> None:
        """A block of rows, packed or where they are, against all panels."""
        w = self.w
        self.rows = w.least(w.integer("sub", "%M", m), self.most_rows)
        offset = w.integer("add", w.integer("mul", m, "%am"), w.integer("mul", self.k, "%ak"))
        source = w.at("%A", offset)
        given = f"i64 {self.rows}, i64 {self.depth}, {w.pointer} {source}, i64 %am, i64 %ak"
        name = pack_rows_name(self.tiling)
        self.few = self._few_columns()
        w.where(
            w.body.value(f"and i1 {self.packs}, {self._needs_tiles()}"),
            lambda: w.body.do(f"call void @{name}({given}, {w.pointer} {self.scratch})"),
        )
        pointer, packs = w.pointer, self.packs
        self.a = w.body.value(f"select i1 {packs}, {pointer} {self.scratch}, {pointer} {source}")
        self.row_step = w.body.value(f"select i1 {packs}, i64 {self.depth}, i64 %am")
        self.source = source
        self.c = w.at("%C", w.integer("mul", m, "%cm"))
        w.loop("%N", self._panel, step=self.tiling.width)

    def _panel(self, n: str) -> None:
        w, tiling = self.w, self.tiling
        lanes = tiling.lanes
        columns = w.least(w.integer("sub", "%N", n), tiling.width)
        end = w.integer("and", columns, lanes - 1)
        narrow = self._is_narrow(end)
        filled = w.integer("sdiv", w.integer("add", columns, lanes - 1), lanes)
        vectors = w.body.value(
            f"select i1 {narrow}, i64 {w.integer('sub', filled, 1)}, i64 {filled}"
        )
        packed = w.least(w.integer("sub", "%columns", n), tiling.width)
        filled = w.integer("and", w.integer("add", packed, lanes - 1), -lanes)
        self.stride = w.body.value(f"select i1 {self.lies}, i64 %bk, i64 {filled}")
        panel = w.at("%packed", w.integer("mul", n, self.across))
        # Of a B that lies where it is a vector may not be read beyond the last column.
        there = w.body.value(
            f"select i1 {self.lies}, i64 {w.integer('sdiv', columns, lanes)}, i64 {vectors}"
        )
        b = w.at(panel, w.integer("mul", w.integer("add", "%first", self.k), self.stride))
        c = w.at(self.c, n)
        taken = ""

        def piece(v: str) -> None:
            """As many vectors as a kernel takes: all of a full panel; two or one of another."""
            nonlocal taken
            taken = "1"
            for count in (2, 4)[: tiling.vectors // 2]:
                enough = w.compare("sge", w.integer("sub", there, v), count)
                taken = w.body.value(f"select i1 {enough}, i64 {count}, i64 {taken}")
            first = w.integer("mul", v, lanes)
            rest = w.integer("sub", columns, first)
            before = w.integer("sub", lanes, w.least(rest, lanes))
            before = w.body.value(f"select i1 {self.lies}, i64 {before}, i64 0")
            self._tiles(
                taken, w.at(b, w.integer("sub", first, before)), w.at(c, first), rest, before
            )

        w.loop(vectors, piece, step=lambda _: taken)
        if few_columns(tiling):
            first = w.integer("sub", columns, end)
            w.where(narrow, lambda: self._narrow(w.at(b, first), w.at(c, first), end))

    def _few_columns(self) -> str:
        """How many columns behind the last whole vector are done with lanes over k, or over rows.

        There have to be enough of these. Where there are no other columns, rows need no packing: so
        there may be twice as many.
        """
        w, lanes, few = self.w, self.tiling.lanes, few_columns(self.tiling)
        deep, tall = w.compare("sge", self.depth, 2 * lanes), w.compare("sge", self.rows, lanes)
        several, alone = w.compare("sge", self.rows, ROWS), w.compare("sle", "%N", 2 * few)
        along_k = w.body.value(f"and i1 {deep}, {several}")
        along_m = w.body.value(f"and i1 {w.compare('eq', '%am', 1)}, {tall}")
        may = w.body.value(f"select i1 {self.packs}, i1 {along_m}, i1 {along_k}")
        more = w.body.value(f"and i1 {self.packs}, {alone}")
        most = w.body.value(f"select i1 {more}, i64 {2 * few}, i64 {few}")
        return w.body.value(f"select i1 {may}, i64 {most}, i64 0")

    def _is_narrow(self, end: str) -> str:
        w = self.w
        some = w.compare("sgt", end, 0)
        return w.body.value(f"and i1 {some}, {w.compare('sle', end, self.few)}")

    def _needs_tiles(self) -> str:
        w = self.w
        return w.body.value(f"xor i1 {self._is_narrow('%N')}, true")

    def _narrow(self, b: str, c: str, columns: str) -> None:
        w, pointer = self.w, self.w.pointer
        before = w.body.value(f"select i1 {self.fresh}, {pointer} {self.zeros}, {pointer} {c}")
        step = w.body.value(f"select i1 {self.packs}, i64 %ak, i64 %am")
        given = (
            f"i64 {self.rows}, i64 {columns}, i64 {self.depth}, {pointer} {self.source}, i64 {step}, "
            f"{pointer} {b}, i64 {self.stride}, {pointer} {c}, i64 %cm, {pointer} {before}, i64 {self.dm}, "
            f"{w.real} %scale"
        )
        w.where(
            self.packs,
            lambda: w.body.do(f"call void @{along_m_name(self.tiling)}({given})"),
            lambda: w.body.do(f"call void @{along_k_name(self.tiling)}({given})"),
        )

    def _tiles(self, vectors: str, b: str, c: str, columns: str, before: str) -> None:
        """The rows of the block, tile by tile. before: so many columns of b are not meant."""
        w = self.w
        whole = w.compare("sge", columns, w.integer("mul", vectors, self.tiling.lanes))
        kernels = w.integer("mul", w.integer("lshr", vectors, 1), ROWS)  # 1, 2, 4 -> 0, 1, 2
        kernels = w.integer("sub", kernels, 1)
        rows = ""

        def tile(m: str) -> None:
            nonlocal rows
            rows = rows_of_tile(w, w.integer("sub", self.rows, m))
            packs = self.packs
            am = w.body.value(f"select i1 {packs}, i64 1, i64 %am")
            ak = w.body.value(f"select i1 {packs}, i64 {rows}, i64 1")
            a = w.at(self.a, w.integer("mul", m, self.row_step))
            place = w.at(c, w.integer("mul", m, "%cm"))
            known = w.body.value(
                f"select i1 {self.fresh}, {w.pointer} {self.zeros}, {w.pointer} {place}"
            )
            tile = Tile(w, w.integer("add", kernels, rows), rows, vectors)
            factors = [self.depth, a, am, ak, b, self.stride]
            w.where(
                whole,
                lambda: tile.call([*factors, place, "%cm", known, self.dm, "%scale"]),
                lambda: self._part(tile, columns, factors, place, known, w.at(self.tile, before)),
            )

        w.loop(self.rows, tile, step=lambda _: rows)

    def _part(
        self, tile: Tile, columns: str, factors: list[str], place: str, before: str, sums: str
    ) -> None:
        """A tile of which C has not all columns, by way of memory, where the sums begin that are meant."""
        w, pointer = self.w, self.w.pointer
        width = str(self.tiling.width)
        tile.call([*factors, self.tile, width, self.zeros, "0", "1.0"])
        w.body.do(
            f"call void @{part_name(self.tiling)}(i64 {tile.rows}, i64 {columns}, {pointer} {sums}, "
            f"{pointer} {place}, i64 %cm, {pointer} {before}, i64 {self.dm}, {w.real} %scale)"
        )
