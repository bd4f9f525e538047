"""The register tiles: `C = D + scale * A B` of a few rows and vectors, with the sums in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.repeat import whole_groups
from loopgrad.backends.llvm.writing.text import Module

AT_ONCE = 4  # values of k


def kernel_name(tiling: Tiling, rows: int, vectors: int) -> str:
    return f"tile_{SUFFIX[tiling.real]}_{rows}x{vectors}"


def kernel_vectors(tiling: Tiling) -> list[int]:
    return [count for count in (1, 2, 4) if count <= tiling.vectors]


def kernel_parameters(module: Module, real: str) -> list[tuple[str, str]]:
    """Kinds and names. A[r,k] is at r*am + k*ak, B[k,n] at k*bk + n, C[r,n] at r*cm + n; K > 0. How
    many rows and vectors are meant, a kernel knows by itself.

    D is C's value before, or zeros with dm = 0; C = D + scale * A B.
    """
    pointer = module.pointer(real)
    return [
        ("i64", "%K"),
        (pointer, "%A"),
        ("i64", "%am"),
        ("i64", "%ak"),
        (pointer, "%B"),
        ("i64", "%bk"),
        (pointer, "%C"),
        ("i64", "%cm"),
        (pointer, "%D"),
        ("i64", "%dm"),
        (real, "%scale"),
        ("i64", "%rows"),
        ("i64", "%vectors"),
    ]


def emit_kernel(
    module: Module, tiling: Tiling, rows: int, vectors: int, unrolled: bool = False
) -> None:
    """`unrolled`: with loops of its own for where the factors most often are."""
    parameters = ", ".join(
        f"{kind} {name}" for kind, name in kernel_parameters(module, tiling.real)
    )
    name = kernel_name(tiling, rows, vectors)
    kind = _Unrolled if unrolled else Kernel
    kind(Writer(module, tiling, name, parameters, inner=True), rows, vectors).write()


class Kernel:
    def __init__(self, writer: Writer, rows: int, vectors: int):
        self.w, self.rows, self.vectors = writer, rows, vectors
        self.lanes = writer.tiling.lanes
        self.begin_a, self.begin_b = "%A", "%B"  # where the next sums begin

    def write(self) -> None:
        w = self.w
        for place in self._places("%C", "%cm"):
            w.prefetch(place)
        sums = self._sums()
        scale = w.splat("%scale")
        places = zip(self._places("%C", "%cm"), self._places("%D", "%dm"), sums, strict=True)
        for place, before, value in places:
            w.store(w.multiply_add(scale, value, w.load(before)), place)
        w.finish()

    def _places(self, matrix: str, step: str) -> Iterator[str]:
        """The addresses of the tile's vectors, row after row."""
        w = self.w
        for r in range(self.rows):
            row = self.row_c(matrix, step, r)
            for v in range(self.vectors):
                yield w.at(row, v * self.lanes) if v else row

    def row_c(self, matrix: str, step: str, r: int) -> str:
        """The address of a row of C or D."""
        return self.w.at(matrix, self.w.integer("mul", step, r)) if r else matrix

    def first_a(self) -> list[tuple[str, str]]:
        """What tells where a column of A is: kinds and first values.

        Three rows are reached from each pointer, so that few registers hold addresses.
        """
        w = self.w
        self.twice = w.integer("mul", "%am", 2)
        first = self.begin_a
        starts = [
            w.at(first, w.integer("mul", "%am", r)) if r else first for r in range(0, self.rows, 3)
        ]
        return [(w.pointer, start) for start in starts]

    def column_a(self, places: Sequence[str]) -> list[str]:
        """The addresses of a column's elements."""
        w = self.w
        steps = ("0", "%am", self.twice)
        return [
            w.at(places[r // 3], steps[r % 3]) if r % 3 else places[r // 3]
            for r in range(self.rows)
        ]

    def next_a(self, places: Sequence[str]) -> list[str]:
        return [self.w.at(place, "%ak") for place in places]

    def first_b(self) -> list[tuple[str, str]]:
        """What tells where a row of B is: a kind and its first value."""
        return [(self.w.pointer, self.begin_b)]

    def row_b(self, place: str) -> list[str]:
        """The vectors of a row."""
        return [self.w.load(self.w.at(place, v * self.lanes)) for v in range(self.vectors)]

    def next_b(self, place: str) -> str:
        return self.w.at(place, "%bk")

    def _sums(self) -> list[str]:
        """The sums over k, row after row."""
        return self._added("%K", ["zeroinitializer"] * (self.rows * self.vectors), once=True)

    def _added(self, count: str, sums: Sequence[str], once: bool = False) -> list[str]:
        """The sums with those over so many values of k."""
        w = self.w
        first = [(w.tiling.vector, value) for value in sums]
        of_a = self.first_a()
        places = [*of_a, *self.first_b()]

        def step(_: str, *carried: str) -> list[str]:
            at_a, at_b = carried[: len(of_a)], carried[len(of_a)]
            sums = list(carried[len(places) :])
            b = self.row_b(at_b)
            sums = self.with_products(self.column_a(at_a), b, sums)
            return [*self.next_a(at_a), self.next_b(at_b), *sums]

        return w.loop(count, step, carried=places + first, once=once)[len(places) :]

    def with_products(
        self, column: Sequence[str], b: Sequence[str], sums: Sequence[str]
    ) -> list[str]:
        """The sums with those of one k: a column of A, by addresses, and a row of B."""
        w, sums = self.w, list(sums)
        for r, place in enumerate(column):
            a = w.splat(w.load(place, w.real))
            for v in range(self.vectors):
                i = r * self.vectors + v
                sums[i] = w.multiply_add(a, b[v], sums[i])
        return sums


class _Unrolled(Kernel):
    """Of a B that is packed in full panels, several k at a time, whose places are known distances apart.

    What is left beside multiplications are loads: a sixth fewer instructions in all. Where a processor runs
    two threads on a core, which take turns, as few as that keep its multipliers busy.
    """

    def _sums(self) -> list[str]:
        w, rows = self.w, self.rows
        zeros = ["zeroinitializer"] * (rows * self.vectors)
        panel = w.compare("eq", "%bk", w.tiling.width)
        lies = w.body.value(f"and i1 {panel}, {w.compare('eq', '%ak', 1)}")
        packed = w.body.value(f"and i1 {w.compare('eq', '%am', 1)}, {w.compare('eq', '%ak', rows)}")
        packed = w.body.value(f"and i1 {panel}, {packed}")
        several = whole_groups(w.body, "0", "%K", AT_ONCE)
        read, of_packed = (
            w.body.value(f"select i1 {fits}, i64 {several}, i64 0") for fits in (lies, packed)
        )
        sums = self._of_rows(read, zeros)
        sums = self._of_packed(of_packed, sums)
        return self._rest(w.integer("or", read, of_packed), sums)

    def _of_rows(self, count: str, sums: Sequence[str]) -> list[str]:
        """Of rows of A that lie in memory."""
        w = self.w
        starts = self.first_a()

        def column(places: Sequence[str], k: int) -> list[str]:
            return [w.at(place, k) if k else place for place in self.column_a(places)]

        def following(places: Sequence[str]) -> list[str]:
            return [w.at(place, AT_ONCE) for place in places]

        return self._several(count, starts, column, following, sums)

    def _of_packed(self, count: str, sums: Sequence[str]) -> list[str]:
        """Of a tile of A that is packed, column after column."""
        w, rows = self.w, self.rows

        def column(places: Sequence[str], k: int) -> list[str]:
            offsets = [k * rows + r for r in range(rows)]
            return [w.at(places[0], offset) if offset else places[0] for offset in offsets]

        def following(places: Sequence[str]) -> list[str]:
            return [w.at(places[0], AT_ONCE * rows)]

        return self._several(count, [(w.pointer, "%A")], column, following, sums)

    def _several(
        self,
        count: str,
        starts: Sequence[tuple[str, str]],
        column: Callable[[Sequence[str], int], list[str]],
        following: Callable[[Sequence[str]], list[str]],
        sums: Sequence[str],
    ) -> list[str]:
        """`column(places, k)`: the addresses of a column of A; `following(places)`: the next places."""
        w, width = self.w, self.w.tiling.width
        carried = [*starts, *self.first_b(), *((w.tiling.vector, value) for value in sums)]

        def step(_: str, *values: str) -> list[str]:
            places, at_b = values[: len(starts)], values[len(starts)]
            sums = list(values[len(starts) + 1 :])
            for k in range(AT_ONCE):
                if k and w.tiling.fills_registers:
                    w.keep_order()
                b = self.row_b(w.at(at_b, k * width) if k else at_b)
                sums = self.with_products(column(places, k), b, sums)
            return [*following(places), w.at(at_b, AT_ONCE * width), *sums]

        return w.loop(count, step, step=AT_ONCE, carried=carried)[len(starts) + 1 :]

    def _rest(self, done: str, sums: Sequence[str]) -> list[str]:
        """The sums with those from `done` on."""
        w = self.w
        self.begin_a = w.at("%A", w.integer("mul", done, "%ak"))
        self.begin_b = w.at("%B", w.integer("mul", done, "%bk"))
        return self._added(w.integer("sub", "%K", done), sums)


def emit_part(module: Module, tiling: Tiling) -> None:
    """`part_*(rows, columns, T, C, cm, D, dm, scale)`: C = D + scale * T, where C has few columns.

    T[r,n], the tile's sums, is at r*width + n. What is beyond `columns` in C and D is not touched. All of D
    is read before anything is stored: where rows are no whole vectors, a vector that is stored reaches into
    the next row, and a processor that loads from there waits until the store is done, lanes or no lanes.
    """
    pointer, real = module.pointer(tiling.real), tiling.real
    parameters = (
        f"i64 %rows, i64 %columns, {pointer} %T, {pointer} %C, i64 %cm, {pointer} %D, i64 %dm, "
        f"{real} %scale"
    )
    w = Writer(module, tiling, part_name(tiling), parameters, inner=True)
    scale = w.splat("%scale")

    def place(matrix: str, step: str | int, r: str, n: str) -> str:
        return w.at(w.at(matrix, w.integer("mul", r, step)), n)

    def each(write: Callable[[str, str, str, str], None]) -> None:
        """`write(r, n, count, mask)` for the vectors of all rows."""

        def vectors(n: str) -> None:
            count = w.least(w.integer("sub", "%columns", n), tiling.lanes)
            mask = w.first_lanes(count)
            w.loop("%rows", lambda r: write(r, n, count, mask))

        w.loop("%columns", vectors, step=tiling.lanes)

    def add(r: str, n: str, _: str, mask: str) -> None:
        t = place("%T", tiling.width, r, n)
        before = w.masked_load(place("%D", "%dm", r, n), mask)
        w.store(w.multiply_add(scale, w.load(t), before), t)

    def put(r: str, n: str, count: str, mask: str) -> None:
        value = w.load(place("%T", tiling.width, r, n))
        w.store_first(value, place("%C", "%cm", r, n), count, mask)

    each(add)
    each(put)
    w.finish()


def part_name(tiling: Tiling) -> str:
    return f"part_{SUFFIX[tiling.real]}"
