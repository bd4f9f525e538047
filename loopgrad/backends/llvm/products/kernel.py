"""The register tiles: `C = D + scale * A B` of a few rows and vectors, with the sums in registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import Module


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


def emit_kernel(module: Module, tiling: Tiling, rows: int, vectors: int) -> None:
    parameters = ", ".join(
        f"{kind} {name}" for kind, name in kernel_parameters(module, tiling.real)
    )
    name = kernel_name(tiling, rows, vectors)
    Kernel(Writer(module, tiling, name, parameters, inner=True), rows, vectors).write()


class Kernel:
    def __init__(self, writer: Writer, rows: int, vectors: int):
        self.w, self.rows, self.vectors = writer, rows, vectors
        self.lanes = writer.tiling.lanes

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
        starts = [
            w.at("%A", w.integer("mul", "%am", r)) if r else "%A" for r in range(0, self.rows, 3)
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
        return [(self.w.pointer, "%B")]

    def row_b(self, place: str) -> list[str]:
        """The vectors of a row."""
        return [self.w.load(self.w.at(place, v * self.lanes)) for v in range(self.vectors)]

    def next_b(self, place: str) -> str:
        return self.w.at(place, "%bk")

    def _sums(self) -> list[str]:
        """The sums over k, row after row."""
        w, kind = self.w, self.w.tiling.vector
        zeros = [(kind, "zeroinitializer")] * (self.rows * self.vectors)
        of_a = self.first_a()
        places = [*of_a, *self.first_b()]

        def step(_: str, *carried: str) -> list[str]:
            at_a, at_b = carried[: len(of_a)], carried[len(of_a)]
            sums = list(carried[len(places) :])
            b = self.row_b(at_b)
            for r, place in enumerate(self.column_a(at_a)):
                a = w.splat(w.load(place, w.real))
                for v in range(self.vectors):
                    i = r * self.vectors + v
                    sums[i] = w.multiply_add(a, b[v], sums[i])
            return [*self.next_a(at_a), self.next_b(at_b), *sums]

        return w.loop("%K", step, carried=places + zeros, once=True)[len(places) :]


def emit_part(module: Module, tiling: Tiling) -> None:
    """`part_*(rows, columns, T, C, cm, D, dm, scale)`: C = D + scale * T, where C has few columns.

    T[r,n], the tile's sums, is at r*width + n. What is beyond `columns` in C and D is not touched.
    """
    pointer, real = module.pointer(tiling.real), tiling.real
    parameters = (
        f"i64 %rows, i64 %columns, {pointer} %T, {pointer} %C, i64 %cm, {pointer} %D, i64 %dm, "
        f"{real} %scale"
    )
    w = Writer(module, tiling, part_name(tiling), parameters, inner=True)
    scale = w.splat("%scale")

    def vectors(n: str) -> None:
        mask = w.first_lanes(w.least(w.integer("sub", "%columns", n), tiling.lanes))

        def row(r: str) -> None:
            offsets = [w.integer("mul", r, step) for step in (tiling.width, "%cm", "%dm")]
            t, c, d = (
                w.at(w.at(matrix, offset), n)
                for matrix, offset in zip(("%T", "%C", "%D"), offsets, strict=True)
            )
            after = w.multiply_add(scale, w.load(t), w.masked_load(d, mask))
            w.masked_store(after, c, mask)

        w.loop("%rows", row)

    w.loop("%columns", vectors, step=tiling.lanes)
    w.finish()


def part_name(tiling: Tiling) -> str:
    return f"part_{SUFFIX[tiling.real]}"
