"""Products with their sides exchanged: lanes run over the rows of C, and B is read where it lies.

    T[to[n],m] = or += sum over k of A[m,rows[k]] * B[at_k[k] + at_n[n]]        product_turned
    C[m,n] = or += scale * T[n,m]                                     put_turned

A is packed as a right side is; the elements of B, wherever they lie, are read one by one, each for a
whole tile of A's columns. So of a convolution nothing is packed but its weights, and no lane is
wasted on the last places of small images. `to` and `rows` are there for products that leave out
zeros (`boxes.py`): without them, columns and values of k are those that come next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loopgrad.backends.llvm.products.kernel import AT_ONCE, Kernel
from loopgrad.backends.llvm.products.runs import entry
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module

Parameters = list[tuple[str, str]]

FEW_ROWS, MOST_ROWS = 4, 8  # of a tile
NUMBERS = 1056  # columns, or values of k, of a call without tables of which they are, at most


def rows_of(tiling: Tiling, vectors: int) -> tuple[int, int]:
    """Rows of the tiles of so many vectors. Fewer are taken for as many, of which the last ones are the last
    one again.

    Narrow tiles are higher: they have few multiplications for each value of k, beside what it takes to find
    where it lies.
    """
    registers = MOST_ROWS * tiling.vectors
    return FEW_ROWS, min(MOST_ROWS, (registers - vectors - 1) // vectors)


def vectors_of(tiling: Tiling) -> list[int]:
    """Of the tiles that there are."""
    return list(range(1, tiling.vectors + 1))


def _name(tiling: Tiling, rows: int, vectors: int) -> str:
    return f"turned_{SUFFIX[tiling.real]}_{rows}x{vectors}"


def _parameters(module: Module, real: str) -> Parameters:
    """As those of a kernel, but that A[r,k] is at at_n[min(r, last)] + at_k[k] of `A`, B[k,n] at
    rows[k]*bk + n, C[r,n] at to[r]*cm + n, and D likewise.
    """
    pointer, table = module.pointer(real), module.pointer(I64)
    return [
        (I64, "%K"),
        (pointer, "%A"),
        (table, "%at_k"),
        (table, "%rows"),
        (table, "%at_n"),
        (table, "%to"),
        (I64, "%last"),
        (pointer, "%B"),
        (I64, "%bk"),
        (pointer, "%C"),
        (I64, "%cm"),
        (pointer, "%D"),
        (I64, "%dm"),
        (real, "%scale"),
    ]


class _Turned(Kernel):
    def __init__(self, writer: Writer, rows: int, vectors: int):
        super().__init__(writer, rows, vectors)
        self.targets: dict[int, str] = {}
        self.at_k, self.of_k = "%at_k", "%rows"  # where the next sums begin

    def first_a(self) -> Parameters:
        w = self.w
        numbers = [w.least(r, "%last") if r else "0" for r in range(self.rows)]
        self.starts = [w.at("%A", entry(w, "%at_n", number)) for number in numbers]
        return [(w.module.pointer(I64), self.at_k)]

    def column_a(self, places: Sequence[str]) -> list[str]:
        offset = self.w.body.load(I64, places[0])
        return [self.w.at(start, offset) for start in self.starts]

    def next_a(self, places: Sequence[str]) -> list[str]:
        return [self.w.body.element(I64, places[0], 1)]

    def first_b(self) -> Parameters:
        return [(self.w.module.pointer(I64), self.of_k)]

    def row_b(self, place: str) -> list[str]:
        w = self.w
        row = w.at("%B", w.integer("mul", w.body.load(I64, place), "%bk"))
        return super().row_b(row)

    def next_b(self, place: str) -> str:
        return self.w.body.element(I64, place, 1)

    def row_c(self, matrix: str, step: str, r: int) -> str:
        w = self.w
        if r not in self.targets:
            self.targets[r] = entry(w, "%to", str(r))
        return w.at(matrix, w.integer("mul", self.targets[r], step))


class _Unrolled(_Turned):
    """Of full panels, several k at a time where none is left out, as away from an image's borders: no row
    is looked up then, and there are a seventh fewer instructions (`kernel.py` says what for).
    """

    def _sums(self) -> list[str]:
        w = self.w
        zeros = ["zeroinitializer"] * (self.rows * self.vectors)
        first, last = (entry(w, "%rows", k) for k in ("0", w.integer("sub", "%K", 1)))
        # Rows go up: as many as lie between the first and the last are all of these.
        whole = w.compare("eq", w.integer("sub", last, first), w.integer("sub", "%K", 1))
        panel = w.compare("eq", "%bk", w.tiling.width)
        both = w.body.value(f"and i1 {whole}, {panel}")
        count = w.body.select(both, I64, w.integer("and", "%K", -AT_ONCE), "0")
        sums = self._several(count, first, zeros)
        self.at_k, self.of_k = (w.body.element(I64, t, count) for t in ("%at_k", "%rows"))
        return self._added(w.integer("sub", "%K", count), sums)

    def _several(self, count: str, row: str, sums: Sequence[str]) -> list[str]:
        w, width = self.w, self.w.tiling.width
        places = [*self.first_a(), (w.pointer, w.at("%B", w.integer("mul", row, width)))]
        carried = [*places, *((w.tiling.vector, value) for value in sums)]

        def step(_: str, *values: str) -> list[str]:
            at_a, at_b, sums = values[0], values[1], list(values[2:])
            for k in range(AT_ONCE):
                if k and w.tiling.fills_registers:
                    w.keep_order()
                b = Kernel.row_b(self, w.at(at_b, k * width) if k else at_b)
                column = self.column_a([w.body.element(I64, at_a, k) if k else at_a])
                sums = self.with_products(column, b, sums)
            return [w.body.element(I64, at_a, AT_ONCE), w.at(at_b, AT_ONCE * width), *sums]

        return w.loop(count, step, step=AT_ONCE, carried=carried)[2:]


def emit_turned(module: Module, tiling: Tiling, few: bool) -> None:
    """Both functions. `few`: with one kind of tiles, which does the work of all, and what is computed is put
    element by element.

    `loopgrad_product_turned_*(M, N, K, packed, first, depth, B, at_k, rows, at_n, to, T, tm, adds)`: T[n,m]
    is at to[n]*tm + m, where columns up to a whole vector, and what `to` says of `MOST_ROWS` columns behind
    the last, may be written. What is packed has `depth` values of k; those meant are `rows` behind `first`.
    For `rows` and `to` null may be given, where K and N are at most `NUMBERS` - MOST_ROWS.
    `loopgrad_put_turned_*(M, N, T, tm, C, cm, scale, adds)`: rows of T up to a whole vector may be
    read.
    """
    kinds = ", ".join(f"{kind} {name}" for kind, name in _parameters(module, tiling.real))
    widths = [1] if few else vectors_of(tiling)
    shapes = {v: rows_of(tiling, v)[-1:] if few else rows_of(tiling, v) for v in widths}
    for vectors, heights in shapes.items():
        for rows in heights:
            w = Writer(module, tiling, _name(tiling, rows, vectors), kinds, inner=True)
            (_Unrolled if vectors == tiling.vectors else _Turned)(w, rows, vectors).write()
    pointer, table = module.pointer(tiling.real), module.pointer(I64)
    parameters = (
        f"i64 %M, i64 %N, i64 %K, {pointer} %packed, i64 %first, i64 %depth, {pointer} %B, "
        f"{table} %at_k, {table} %some_rows, {table} %at_n, {table} %some_to, {pointer} %T, i64 %tm, "
        "i1 zeroext %adds"
    )
    name = f"loopgrad_product_turned_{SUFFIX[tiling.real]}"
    _Product(Writer(module, tiling, name, parameters, inner=False), shapes).write()
    parameters = (
        f"i64 %M, i64 %N, {pointer} %T, i64 %tm, {pointer} %C, i64 %cm, {tiling.real} %scale, "
        "i1 zeroext %adds"
    )
    name = f"loopgrad_put_turned_{SUFFIX[tiling.real]}"
    _Put(Writer(module, tiling, name, parameters, inner=False), few).write()


class _Product:
    """Panels of A's columns, each against all of B, tile by tile."""

    def __init__(self, writer: Writer, shapes: Mapping[int, Sequence[int]]):
        self.w, self.tiling, self.shapes = writer, writer.tiling, shapes

    def write(self) -> None:
        w = self.w
        self.zeros = w.zeros()
        self.dm = w.body.value("select i1 %adds, i64 %tm, i64 0")
        self.rows, self.to = self._or_numbers("%some_rows"), self._or_numbers("%some_to")
        some = w.compare("sgt", "%K", 0)
        w.where(some, lambda: w.loop("%M", self._panel, step=self.tiling.width))
        w.clear_where_empty("%K", "%adds", "%N", "%M", "%T", "%tm")
        w.finish()

    def _or_numbers(self, table: str) -> str:
        """The table, or where there is none, 0, 1, 2, ..."""
        w, kind = self.w, self.w.module.pointer(I64)
        several = f"[{NUMBERS} x i64]"
        values = ", ".join(f"i64 {i}" for i in range(NUMBERS))
        w.module.declare(f"@numbers = internal constant {several} [{values}]")
        at = w.module.pointer(several)
        numbers = w.body.value(f"getelementptr {several}, {at} @numbers, i64 0, i64 0")
        none = w.body.value(f"icmp eq {kind} {table}, null")
        return w.body.select(none, kind, numbers, table)

    def _panel(self, m: str) -> None:
        w, lanes = self.w, self.tiling.lanes
        columns = w.least(w.integer("sub", "%M", m), self.tiling.width)
        self.stride = w.integer("and", w.integer("add", columns, lanes - 1), -lanes)
        vectors = w.integer("sdiv", self.stride, lanes)
        panel, t = w.at("%packed", w.integer("mul", m, "%depth")), w.at("%T", m)
        panel = w.at(panel, w.integer("mul", "%first", self.stride))
        taken = ""

        def piece(v: str) -> None:
            """As many vectors as a kernel takes."""
            nonlocal taken
            left = w.integer("sub", vectors, v)
            number = high = taken = "0"
            for i, (count, heights) in enumerate(self.shapes.items()):
                enough = w.compare("sge", left, count)
                of_kind = ((count, taken), (i * len(heights), number), (heights[-1], high))
                taken, number, high = (
                    w.body.value(f"select i1 {enough}, i64 {here}, i64 {before}")
                    for here, before in of_kind
                )
            first = w.integer("mul", v, lanes)
            self._tiles(number, high, w.at(panel, first), w.at(t, first))

        w.loop(vectors, piece, step=lambda _: taken)

    def _tiles(self, kind: str, high: str, panel: str, t: str) -> None:
        """`kind`: the number of the kernel of few rows; the next one is that of `high` rows."""
        w = self.w
        names = [_name(self.tiling, r, v) for v, heights in self.shapes.items() for r in heights]
        kinds = [kind for kind, _ in _parameters(w.module, w.real)]
        rows = ""

        def tile(n: str) -> None:
            nonlocal rows
            rest = w.integer("sub", "%N", n)
            kernel, rows = kind, high
            if len(names) > len(self.shapes):
                many = self._is_high(rest, high)
                rows = w.body.value(f"select i1 {many}, i64 {high}, i64 {FEW_ROWS}")
                kernel = w.integer("add", kind, w.body.value(f"zext i1 {many} to i64"))
            before = w.body.value(f"select i1 %adds, {w.pointer} {t}, {w.pointer} {self.zeros}")
            last = w.integer("sub", w.least(rest, rows), 1)
            at_n, to = (w.body.element(I64, table, n) for table in ("%at_n", self.to))
            sides = ["%K", "%B", "%at_k", self.rows, at_n, to, last, panel, self.stride]
            w.call_one_of(names, kernel, kinds, [*sides, t, "%tm", before, self.dm, "1.0"])

        w.loop("%N", tile, step=lambda _: rows)

    def _is_high(self, rest: str, high: str) -> str:
        """Whether the next tile is: of six rows, 7 that are left are 4 and 3, 8 are 4 and 4."""
        w = self.w
        several, beyond = w.compare("sgt", rest, FEW_ROWS), w.compare("sgt", rest, high)
        twice = w.compare("sle", rest, 2 * FEW_ROWS)
        awkward = w.body.value(f"and i1 {beyond}, {twice}")
        return w.body.value(f"select i1 {awkward}, i1 false, i1 {several}")


class _Put:
    """Squares of as many rows and columns as a vector has lanes."""

    def __init__(self, writer: Writer, few: bool):
        self.w, self.lanes, self.few = writer, writer.tiling.lanes, few

    def write(self) -> None:
        w = self.w
        square = self._elements if self.few else self._square
        if not self.few:
            self.scale, self.adding = w.splat("%scale"), w.splat("%adds", "i1")
            self.square = w.body.value(f"alloca {w.real}, i64 {self.lanes**2}, align 64")

        def rows(m: str) -> None:
            w.loop("%N", lambda n: square(m, n), step=self.lanes)

        w.loop("%M", rows, step=self.lanes)
        w.finish()

    def _elements(self, m: str, n: str) -> None:
        """A square element by element, as `_square` computes them: nothing is added to those of a whole one
        where C has no value yet, and 0 to others."""
        w, lanes, real = self.w, self.lanes, self.w.real
        columns, left = w.integer("sub", "%N", n), w.integer("sub", "%M", m)
        wide, high = w.compare("sge", columns, lanes), w.compare("sge", left, lanes)
        whole = w.body.value(f"and i1 {wide}, {high}")
        zero = w.body.select(whole, real, *(w.module.number(zero) for zero in (-0.0, 0.0)))

        def row(i: str) -> None:
            source = w.at("%T", w.integer("add", m, i))
            to = w.at("%C", w.integer("mul", "%cm", w.integer("add", m, i)))

            def element(j: str) -> None:
                column = w.integer("add", n, j)
                value = w.load(w.at(source, w.integer("mul", "%tm", column)), real)
                value = w.body.value(f"fmul {real} {value}, %scale")
                place = w.at(to, column)
                before = w.body.select("%adds", real, w.load(place, real), zero)
                w.store(w.body.value(f"fadd {real} {value}, {before}"), place, real)

            w.loop(w.least(columns, lanes), element, once=True)

        w.loop(w.least(left, lanes), row, once=True)

    def _square(self, m: str, n: str) -> None:
        w, lanes = self.w, self.lanes
        source = w.at(w.at("%T", w.integer("mul", n, "%tm")), m)
        loaded = [w.load(w.at(source, w.integer("mul", "%tm", r))) for r in range(lanes)]
        rows = [self._scaled(row) for row in w.transposed(loaded)]
        to = w.at(w.at("%C", w.integer("mul", m, "%cm")), n)
        places = [w.at(to, w.integer("mul", "%cm", r)) for r in range(lanes)]
        columns, left = w.integer("sub", "%N", n), w.integer("sub", "%M", m)

        def all_of_it() -> None:
            for row, place in zip(rows, places, strict=True):
                w.store(row, place)

        def added() -> None:
            for row, place in zip(rows, places, strict=True):
                w.store(w.body.value(f"fadd {w.tiling.vector} {row}, {w.load(place)}"), place)

        def some() -> None:
            for r, row in enumerate(rows):
                w.store(row, w.at(self.square, r * lanes))
            count = w.least(columns, lanes)
            mask = w.first_lanes(count)
            known = w.body.value(f"and <{lanes} x i1> {mask}, {self.adding}")

            def one(r: str) -> None:
                place = w.at(to, w.integer("mul", "%cm", r))
                row = w.load(w.at(self.square, w.integer("mul", r, lanes)))
                before = w.masked_load(place, known)
                value = w.body.value(f"fadd {w.tiling.vector} {row}, {before}")
                w.store_first(value, place, count, mask)

            w.loop(w.least(left, lanes), one)

        wide, high = w.compare("sge", columns, lanes), w.compare("sge", left, lanes)
        whole = w.body.value(f"and i1 {wide}, {high}")
        w.where(whole, lambda: w.where("%adds", added, all_of_it), some)

    def _scaled(self, row: str) -> str:
        return self.w.body.value(f"fmul {self.w.tiling.vector} {row}, {self.scale}")
