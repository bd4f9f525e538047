"""The table of a product's tiles: which are there from the start, and which come when a thread has made them.

Most products need but two kinds, the full tile and, where code for what is left over is not there yet, the
least: the others take half of the time that LLVM needs for all. Each sum is added up in the same order by
either, so that a result does not tell which it was.
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
    """Of those that are there from the start."""
    return [(1, 1), (ROWS, tiling.vectors)]


def emit_tiles(module: Module, tiling: Tiling, there: Collection[Shape]) -> None:
    """The tiles that are there from the start, the table, and what stands for those that are not."""
    for rows, vectors in shapes(tiling):
        if (rows, vectors) in there:
            emit_kernel(module, tiling, rows, vectors)
    kind = _kind(module, tiling)
    least = _least_tiles_name(tiling)
    names = [kernel_name(tiling, *s) if s in there else least for s in shapes(tiling)]
    entries = ", ".join(f"{kind} @{name}" for name in names)
    module.declare(f"{_table(tiling)} = internal global {_several(module, tiling)} [{entries}]")
    _emit_least_tiles(module, tiling)


def emit_address(module: Module, tiling: Tiling) -> None:
    """`loopgrad_tiles_*()`: where the table is."""
    name, at = f"loopgrad_tiles_{SUFFIX[tiling.real]}", module.pointer(_several(module, tiling))
    module.functions[name] = f"define {at} @{name}() #0 {{\n  ret {at} {_table(tiling)}\n}}\n"


def emit_other_tiles(module: Module, tiling: Tiling) -> None:
    """The other tiles, and `loopgrad_edges_*(table)`, which puts them there."""
    several, kind = _several(module, tiling), _kind(module, tiling)
    at = module.pointer(several)
    w = Writer(module, tiling, f"loopgrad_edges_{SUFFIX[tiling.real]}", f"{at} %table", False)
    for number, shape in enumerate(shapes(tiling)):
        if shape not in first_shapes(tiling):
            emit_kernel(module, tiling, *shape)
            place = w.body.value(f"getelementptr {several}, {at} %table, i64 0, i64 {number}")
            name = kernel_name(tiling, *shape)
            w.body.do(
                f"store atomic {kind} @{name}, {module.pointer(kind)} {place} release, align 8"
            )
    w.finish()


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
        where = f"{w.module.pointer(kind)} {place}"
        self.address = w.body.value(f"load atomic {kind}, {where} acquire, align 8")

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
