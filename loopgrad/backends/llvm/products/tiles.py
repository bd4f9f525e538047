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
    names = [
        f"@{kernel_name(tiling, *shape)}" if shape in there else "null" for shape in shapes(tiling)
    ]
    entries = ", ".join(f"{kind} {name}" for name in names)
    module.declare(f"{_table(tiling)} = internal global [{len(names)} x {kind}] [{entries}]")
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


def call_tile(w: Writer, number: str, rows: str, vectors: str, values: Sequence[str]) -> None:
    """A call of the tile with that number in the table, of so many rows and vectors."""
    module, tiling = w.module, w.tiling
    several, kind = _several(module, tiling), _kind(module, tiling)
    at = module.pointer(several)
    place = w.body.value(f"getelementptr {several}, {at} {_table(tiling)}, i64 0, i64 {number}")
    tile = w.body.value(f"load atomic {kind}, {module.pointer(kind)} {place} acquire, align 8")
    kinds = [kind for kind, _ in kernel_parameters(module, w.real)]
    given = ", ".join(f"{k} {v}" for k, v in zip(kinds, values, strict=True))
    least = f"i64 {rows}, i64 {vectors}, {given}"
    w.where(
        w.body.value(f"icmp ne {kind} {tile}, null"),
        lambda: w.body.do(f"call void {tile}({given})"),
        lambda: w.body.do(f"call void @{_least_tiles_name(tiling)}({least})"),
    )


def _emit_least_tiles(module: Module, tiling: Tiling) -> None:
    """`least_tiles_*(rows, vectors, ...)`: what a tile of so many would do, by the least one."""
    given = kernel_parameters(module, tiling.real)
    parameters = ", ".join(f"{kind} {name}" for kind, name in given)
    name = _least_tiles_name(tiling)
    w = Writer(module, tiling, name, f"i64 %rows, i64 %vectors, {parameters}", inner=True)

    def row(r: str) -> None:
        steps = {"%A": "%am", "%C": "%cm", "%D": "%dm"}
        rows = {matrix: w.at(matrix, w.integer("mul", r, step)) for matrix, step in steps.items()}

        def vector(v: str) -> None:
            n = w.integer("mul", v, tiling.lanes)
            places = {"%A": rows["%A"], "%B": w.at("%B", n)}
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
