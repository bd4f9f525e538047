"""Products that read B where it lies: columns that are runs of whole vectors, rows anywhere.

Nothing is packed: of a convolution with rows of 32 places each element of a panel would be written
once, and read as often as there are tiles of rows.
"""

from __future__ import annotations

from loopgrad.backends.llvm.products.kernel import Kernel
from loopgrad.backends.llvm.products.packing import rows_of_tile
from loopgrad.backends.llvm.products.runs import entry
from loopgrad.backends.llvm.products.tiling import DEPTH, KERNEL_ROWS, SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module

Parameters = list[tuple[str, str]]


def direct_name(tiling: Tiling, rows: int) -> str:
    return f"direct_{SUFFIX[tiling.real]}_{rows}"


def direct_parameters(module: Module, real: str) -> Parameters:
    """As those of a kernel, but B[k,n] is at at_k[k] + at_n[n], where each vector of n is a run."""
    pointer, table = module.pointer(real), module.pointer(I64)
    return [
        (I64, "%K"),
        (pointer, "%A"),
        (I64, "%am"),
        (I64, "%ak"),
        (pointer, "%B"),
        (table, "%at_k"),
        (table, "%at_n"),
        (pointer, "%C"),
        (I64, "%cm"),
        (pointer, "%D"),
        (I64, "%dm"),
        (real, "%scale"),
    ]


class _Direct(Kernel):
    def first_b(self) -> Parameters:
        w = self.w
        starts = [entry(w, "%at_n", str(v * self.lanes)) for v in range(self.vectors)]
        self.columns = [w.at("%B", start) for start in starts]
        return [(w.module.pointer(I64), "%at_k")]

    def row_b(self, place: str) -> list[str]:
        w = self.w
        offset = w.body.load(I64, place)
        return [w.load(w.at(column, offset)) for column in self.columns]

    def next_b(self, place: str) -> str:
        return self.w.body.element(I64, place, 1)


def emit_product_at(module: Module, tiling: Tiling) -> None:
    """`loopgrad_product_at_*(M, N, K, A, am, ak, B, at_k, at_n, C, cm, scale, adds)`.

    N is a multiple of a panel's columns, and every vector of them a run in memory.
    """
    for rows in KERNEL_ROWS:
        parameters = ", ".join(f"{k} {n}" for k, n in direct_parameters(module, tiling.real))
        w = Writer(module, tiling, direct_name(tiling, rows), parameters, inner=True)
        _Direct(w, rows, tiling.vectors).write()
    pointer, table = module.pointer(tiling.real), module.pointer(I64)
    parameters = (
        f"i64 %M, i64 %N, i64 %K, {pointer} %A, i64 %am, i64 %ak, {pointer} %B, {table} %at_k, "
        f"{table} %at_n, {pointer} %C, i64 %cm, {tiling.real} %scale, i1 zeroext %adds"
    )
    name = f"loopgrad_product_at_{SUFFIX[tiling.real]}"
    _ProductAt(Writer(module, tiling, name, parameters, inner=False)).write()


class _ProductAt:
    def __init__(self, writer: Writer):
        self.w, self.tiling = writer, writer.tiling

    def write(self) -> None:
        w = self.w
        self.zeros = w.zeros()
        w.loop("%K", self._depth, step=DEPTH)
        w.clear_where_empty("%K", "%adds", "%M", "%N", "%C", "%cm")
        w.finish()

    def _depth(self, k: str) -> None:
        w = self.w
        self.depth = w.least(w.integer("sub", "%K", k), DEPTH)
        has_value = w.body.value(f"or i1 {w.compare('ne', k, 0)}, %adds")
        self.fresh = w.body.value(f"xor i1 {has_value}, true")
        self.dm = w.body.value(f"select i1 {self.fresh}, i64 0, i64 %cm")
        self.a = w.at("%A", w.integer("mul", k, "%ak"))
        self.at_k = w.body.element(I64, "%at_k", k)
        w.loop("%N", self._panel, step=self.tiling.width)

    def _panel(self, n: str) -> None:
        w = self.w
        at_n, c = w.body.element(I64, "%at_n", n), w.at("%C", n)
        rows = ""

        def tile(m: str) -> None:
            nonlocal rows
            rows = rows_of_tile(w, w.integer("sub", "%M", m))
            place = w.at(c, w.integer("mul", m, "%cm"))
            before = w.body.value(
                f"select i1 {self.fresh}, {w.pointer} {self.zeros}, {w.pointer} {place}"
            )
            a = w.at(self.a, w.integer("mul", m, "%am"))
            sides = [self.depth, a, "%am", "%ak", "%B", self.at_k, at_n]
            kinds = [kind for kind, _ in direct_parameters(w.module, w.real)]
            names = [direct_name(self.tiling, r) for r in KERNEL_ROWS]
            w.call_one_of(
                names,
                w.integer("sub", rows, 1),
                kinds,
                [*sides, place, "%cm", before, self.dm, "%scale"],
            )

        w.loop("%M", tile, step=lambda _: rows)
