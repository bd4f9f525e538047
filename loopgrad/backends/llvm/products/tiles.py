"""The table of a product's tiles.

Most products need but two kinds, the full tile and, where code for what is left over is not there yet, the
least. Each sum is added up in the same order by either, so that a result does not tell which it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from loopgrad.backends.llvm.products.kernel import (
    emit_kernel,
    kernel_name,
    kernel_parameters,
    kernel_vectors,
)
from loopgrad.backends.llvm.products.tiling import KERNEL_ROWS, ROWS, SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import Module

Shape = tuple[int, int]  # rows, vectors


def shapes(tiling: Tiling) -> list[Shape]:
    """Of all tiles, in the order of the table."""
    return [(r, v) for v in kernel_vectors(tiling) for r in KERNEL_ROWS]


def first_shapes(tiling: Tiling) -> list[Shape]:
    """Of those that do the work of all where there are few."""
    return [(1, 1), (ROWS, tiling.vectors)]


def main_shapes(tiling: Tiling) -> list[Shape]:
    """The tiles that do most of the work of large products."""
    return [(rows, tiling.vectors) for rows in (4, ROWS)]


def emit_tiles(
    module: Module, tiling: Tiling, there: Collection[Shape], unrolled: Collection[Shape] = ()
) -> None:
    """These tiles, the table, and what stands for those that are not there."""
    least = _least_tiles_name(tiling)
    names = []
    for rows, vectors in shapes(tiling):
        if (rows, vectors) in there:
            emit_kernel(module, tiling, rows, vectors, (rows, vectors) in unrolled)
            names.append(kernel_name(tiling, rows, vectors))
        else:
            names.append(least)
    kind = _kind(module, tiling)
    entries = ", ".join(f"{kind} @{name}" for name in names)
    module.declare(f"{_table(tiling)} = internal constant {_several(module, tiling)} [{entries}]")
    if least in names:
        _emit_least_tiles(module, tiling)


class Tile:
    """The tile with that number in the table, of so many rows and vectors: its address, loaded here."""

    def __init__(self, writer: Writer, number: str, rows: str, vectors: str):
        self.w = w = writer
        self.rows, self.vectors = rows, vectors
        several, kind = _several(w.module, w.tiling), _kind(w.module, w.tiling)
        at = w.module.pointer(several)
        place = w.body.value(
            f"getelementptr {several}, {at} {_table(w.tiling)}, i64 0, i64 {number}"
        )
        self.address = w.body.load(kind, place)

    def call(self, values: Sequence[str]) -> None:
        """With what a kernel takes, but for `rows` and `vectors`."""
        kinds = [kind for kind, _ in kernel_parameters(self.w.module, self.w.real)]
        every = zip(kinds, [*values, self.rows, self.vectors], strict=True)
        self.w.body.do(f"call void {self.address}({', '.join(f'{k} {v}' for k, v in every)})")


def _emit_least_tiles(module: Module, tiling: Tiling) -> None:
    """`least_tiles_*`: what a tile of `rows` and `vectors` would do, by the least one."""
    given = kernel_parameters(module, tiling.real)
    parameters = ", ".join(f"{kind} {name}" for kind, name in given)
    w = Writer(module, tiling, _least_tiles_name(tiling), parameters, inner=True)

    def row(r: str) -> None:
        steps = {"%A": "%am", "%C": "%cm", "%D": "%dm"}
        rows = {matrix: w.at(matrix, w.integer("mul", r, step)) for matrix, step in steps.items()}

        def vector(v: str) -> None:
            n = w.integer("mul", v, tiling.lanes)
            places = {"%A": rows["%A"], "%B": w.at("%B", n), "%rows": "1", "%vectors": "1"}
            places |= {matrix: w.at(rows[matrix], n) for matrix in ("%C", "%D")}
            values = ", ".join(f"{kind} {places.get(name, name)}" for kind, name in given)
            w.body.do(f"call void @{kernel_name(tiling, 1, 1)}({values})")

        w.loop("%vectors", vector)

    w.loop("%rows", row)
    w.finish()


def _least_tiles_name(tiling: Tiling) -> str:
    return f"least_tiles_{SUFFIX[tiling.real]}"


def _table(tiling: Tiling) -> str:
    return f"@tiles_{SUFFIX[tiling.real]}"


def _several(module: Module, tiling: Tiling) -> str:
    """The table's type."""
    return f"[{len(shapes(tiling))} x {_kind(module, tiling)}]"


def _kind(module: Module, tiling: Tiling) -> str:
    """The type of a tile's address."""
    kinds = ", ".join(kind for kind, _ in kernel_parameters(module, tiling.real))
    return "ptr" if module.opaque_pointers else f"void ({kinds})*"
