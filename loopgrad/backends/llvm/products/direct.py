"""Products that read B where it lies: columns in runs in memory, rows anywhere.

Nothing is packed: of a convolution each element of a panel would be written once, and read as often as there
are tiles of rows, which of few output channels is once or twice. A vector of columns is (a part of) one run;
what lanes it has beyond are masked off, in B and in C.
"""

from __future__ import annotations

from collections.abc import Sequence

from loopgrad.backends.llvm.products.kernel import Kernel
from loopgrad.backends.llvm.products.runs import entry
from loopgrad.backends.llvm.products.tiling import DEPTH, ROWS_LYING, SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module

Parameters = list[tuple[str, str]]

HEIGHTS = (1, 2, 4, ROWS_LYING)  # rows of a tile


def direct_name(tiling: Tiling, rows: int) -> str:
    return f"direct_{SUFFIX[tiling.real]}_{rows}"


def direct_parameters(module: Module, real: str) -> Parameters:
    """B[k,n] is at at_k[k] + starts[v] + lane, C[r,n] at r*cm + targets[v] + lane, of the first lanes[v]
    lanes of vector v of the panel. C = or (`adds`) += scale * A B.
    """
    pointer, table = module.pointer(real), module.pointer(I64)
    return [
        (I64, "%K"),
        (pointer, "%A"),
        (I64, "%am"),
        (I64, "%ak"),
        (pointer, "%B"),
        (table, "%at_k"),
        (table, "%starts"),
        (table, "%targets"),
        (table, "%lanes"),
        (pointer, "%C"),
        (I64, "%cm"),
        ("i1", "%adds"),
        (real, "%scale"),
    ]


class _Direct(Kernel):
    def write(self) -> None:
        w = self.w
        every = range(self.vectors)
        counts = [entry(w, "%lanes", str(v)) for v in every]
        self.masks = [w.first_lanes(count) for count in counts]
        targets = [entry(w, "%targets", str(v)) for v in every]
        kind = f"<{self.lanes} x i1>"
        adds = w.splat("%adds", "i1")
        known = [w.body.value(f"and {kind} {mask}, {adds}") for mask in self.masks]
        rows = [self.row_c("%C", "%cm", r) for r in range(self.rows)]
        places = [(w.at(row, targets[v]), v) for row in rows for v in every]
        sums, scale = self._sums(), w.splat("%scale")
        # All are loaded before the first is stored: a load waits for a store before it that masks off lanes
        # where it reads.
        after = [
            w.multiply_add(scale, value, w.masked_load(place, known[v]))
            for (place, v), value in zip(places, sums, strict=True)
        ]
        for (place, v), value in zip(places, after, strict=True):
            w.store_first(value, place, counts[v], self.masks[v])
        w.finish()

    def first_b(self) -> Parameters:
        w = self.w
        starts = [entry(w, "%starts", str(v)) for v in range(self.vectors)]
        self.columns = [w.at("%B", start) for start in starts]
        return [(w.module.pointer(I64), "%at_k")]

    def row_b(self, place: str) -> list[str]:
        """LLVM would take the mask off a load that one product alone needs; so it does not see through."""
        w = self.w
        offset = w.body.load(I64, place)
        columns = zip(self.columns, self.masks, strict=True)
        loaded = [w.masked_load(w.at(column, offset), mask) for column, mask in columns]
        return [w.body.intrinsic("arithmetic.fence", w.tiling.vector, b) for b in loaded]

    def next_b(self, place: str) -> str:
        return self.w.body.element(I64, place, 1)


def emit_product_at(module: Module, tiling: Tiling, heights: Sequence[int] = HEIGHTS) -> None:
    """`loopgrad_product_at_*(M, V, K, A, am, ak, B, at_k, starts, targets, run, C, cm, scale, adds)`.

    B[k,n] is at at_k[k] + starts[v] + lane and C[m,n] at m*cm + targets[v] + lane, for V vectors v: of
    every run of `run` columns the vectors that it takes, of which the last one may have fewer lanes.
    `targets` count runs without gaps. V is at least 1. heights: of the tiles that there are, from 1 on.
    """
    for rows in heights:
        parameters = ", ".join(f"{k} {n}" for k, n in direct_parameters(module, tiling.real))
        w = Writer(module, tiling, direct_name(tiling, rows), parameters, inner=True)
        _Direct(w, rows, tiling.vectors_lying).write()
    pointer, table = module.pointer(tiling.real), module.pointer(I64)
    parameters = (
        f"i64 %M, i64 %V, i64 %K, {pointer} %A, i64 %am, i64 %ak, {pointer} %B, {table} %at_k, "
        f"{table} %starts, {table} %targets, i64 %run, {pointer} %C, i64 %cm, {tiling.real} %scale, "
        "i1 zeroext %adds"
    )
    name = f"loopgrad_product_at_{SUFFIX[tiling.real]}"
    _ProductAt(Writer(module, tiling, name, parameters, inner=False), heights).write()


class _ProductAt:
    def __init__(self, writer: Writer, heights: Sequence[int]):
        self.w, self.tiling, self.heights = writer, writer.tiling, heights

    def write(self) -> None:
        w = self.w
        self.width = self.tiling.vectors_lying
        self.tables = [w.body.alloca(I64, self.width) for _ in range(3)]
        some = w.compare("sgt", "%K", 0)
        w.where(some, lambda: w.loop("%K", self._depth, step=DEPTH))
        w.where(some, lambda: None, self._without_terms)
        w.finish()

    def _without_terms(self) -> None:
        w = self.w
        first, last = entry(w, "%targets", "0"), entry(w, "%targets", w.integer("sub", "%V", 1))
        columns = w.integer("add", w.integer("sub", last, first), self._lanes_of(last))
        w.clear_where_empty("%K", "%adds", "%M", columns, w.at("%C", first), "%cm")

    def _lanes_of(self, target: str) -> str:
        w = self.w
        rest = w.integer("sub", "%run", w.integer("urem", target, "%run"))
        return w.least(rest, self.tiling.lanes)

    def _depth(self, k: str) -> None:
        w = self.w
        self.depth = w.least(w.integer("sub", "%K", k), DEPTH)
        self.adds = w.body.value(f"or i1 {w.compare('ne', k, 0)}, %adds")
        self.a = w.at("%A", w.integer("mul", k, "%ak"))
        self.at_k = w.body.element(I64, "%at_k", k)
        w.loop("%V", self._panel, step=self.width)

    def _panel(self, first: str) -> None:
        """Vectors behind the last one are that one again, of which no lane is stored."""
        w = self.w
        last = w.integer("sub", "%V", 1)
        for i in range(self.width):
            v = w.integer("add", first, i)
            there = w.least(v, last)
            start, target = entry(w, "%starts", there), entry(w, "%targets", there)
            count = w.body.select(w.compare("sle", v, last), I64, self._lanes_of(target), "0")
            for table, value in zip(self.tables, (start, target, count), strict=True):
                w.body.store(I64, value, w.body.element(I64, table, i))
        rows = ""

        def tile(m: str) -> None:
            nonlocal rows
            rest, rows, number = w.integer("sub", "%M", m), "1", "0"
            for i, height in enumerate(self.heights[1:], 1):
                enough = w.compare("sge", rest, height)
                rows = w.body.select(enough, I64, str(height), rows)
                number = w.body.select(enough, I64, str(i), number)
            a = w.at(self.a, w.integer("mul", m, "%am"))
            c = w.at("%C", w.integer("mul", m, "%cm"))
            kinds = [kind for kind, _ in direct_parameters(w.module, w.real)]
            names = [direct_name(self.tiling, r) for r in self.heights]
            sides = [self.depth, a, "%am", "%ak", "%B", self.at_k, *self.tables]
            w.call_one_of(names, number, kinds, [*sides, c, "%cm", self.adds, "%scale"])

        w.loop("%M", tile, step=lambda _: rows)
