"""The last columns of a product, where they are few: a register tile would compute a vector of them.

Lanes run over k where rows of A are contiguous, and over rows where columns are, one column at a time:
17 columns take little longer than 16, and a matrix times a vector a fraction of 16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopgrad.backends.llvm.products.dots import call_dots
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import Module

AT_ONCE = 4  # rows, or vectors of rows: as many sums hide how long one addition takes


def few_columns(tiling: Tiling) -> int:
    """How many there may be; 0 where vectors are too short for them to gain."""
    return tiling.lanes // 4


def along_k_name(tiling: Tiling) -> str:
    return f"along_k_{SUFFIX[tiling.real]}"


def along_m_name(tiling: Tiling) -> str:
    return f"along_m_{SUFFIX[tiling.real]}"


def emit_narrow(module: Module, tiling: Tiling) -> None:
    """`along_*(M, N, K, A, step, B, bk, C, cm, D, dm, scale)`: C = D + scale * A B.

    A[m,k] is at m*step + k for `along_k`, and at k*step + m for `along_m`; B[k,n] at k*bk + n.
    """
    if few_columns(tiling):
        pointer = module.pointer(tiling.real)
        parameters = (
            f"i64 %M, i64 %N, i64 %K, {pointer} %A, i64 %step, {pointer} %B, i64 %bk, {pointer} %C, "
            f"i64 %cm, {pointer} %D, i64 %dm, {tiling.real} %scale"
        )
        _AlongK(Writer(module, tiling, along_k_name(tiling), parameters, inner=True)).write()
        _AlongM(Writer(module, tiling, along_m_name(tiling), parameters, inner=True)).write()


class _Narrow:
    """columns: that many are computed at a time. sums: memory for those of their rows."""

    columns = 1

    def __init__(self, writer: Writer):
        self.w, self.tiling, self.lanes = writer, writer.tiling, writer.tiling.lanes
        count = self.columns * AT_ONCE * self.lanes
        self.sums = writer.body.value(f"alloca {writer.real}, i64 {count}, align 64")

    def _put(self, m: str, rows: str, place: str, n: str) -> None:
        """So many sums, which stand at the place, into column n, from row m on."""
        w, real = self.w, self.w.real

        def row(r: str) -> None:
            at = w.integer("add", m, r)
            c, d = (
                w.at(matrix, w.integer("add", w.integer("mul", at, step), n))
                for matrix, step in (("%C", "%cm"), ("%D", "%dm"))
            )
            value = w.body.value(f"fmul {real} {w.load(w.at(place, r), real)}, %scale")
            w.store(w.body.value(f"fadd {real} {value}, {w.load(d, real)}"), c, real)

        w.loop(rows, row, once=True)

    def _added(
        self, end: str, step: int, first: Sequence[str], add: Callable[[str, list[str]], list[str]]
    ) -> list[str]:
        carried = [(self.tiling.vector, value) for value in first]
        return self.w.loop(end, lambda k, *sums: add(k, list(sums)), step=step, carried=carried)


class _AlongK:
    def __init__(self, writer: Writer):
        self.w, self.tiling = writer, writer.tiling

    def write(self) -> None:
        w = self.w
        # Columns do not begin at one and the same place of a cache's ways.
        apart = self.tiling.deepest + self.tiling.lanes
        count = 2 * few_columns(self.tiling) * apart
        turned = w.body.value(f"alloca {w.real}, i64 {count}, align 64")
        w.loop("%N", lambda n: self._turn(n, w.at(turned, w.integer("mul", n, apart))))
        matrices = ("%A", "%step"), (turned, str(apart)), ("%C", "%cm"), ("%D", "%dm")
        call_dots(w, ("%M", "%N", "%K"), *matrices)
        w.finish()

    def _turn(self, n: str, to: str) -> None:
        """A column of B, whose elements come to stand side by side."""
        w = self.w
        source = w.at("%B", n)

        def element(k: str) -> None:
            value = w.load(w.at(source, w.integer("mul", k, "%bk")), w.real)
            w.store(value, w.at(to, k), w.real)

        w.loop("%K", element)


class _AlongM(_Narrow):
    columns = 2  # at a time, so that A is read half as often

    def write(self) -> None:
        self.w.loop("%M", self._rows, step=AT_ONCE * self.lanes)
        self.w.finish()

    def _rows(self, m: str) -> None:
        w, several = self.w, AT_ONCE * self.lanes
        rows = w.least(w.integer("sub", "%M", m), several)
        starts = [v * self.lanes for v in range(AT_ONCE)]
        masks = [w.first_lanes(w.integer("sub", rows, start)) for start in starts]
        places = [w.at("%A", w.integer("add", m, start)) for start in starts]

        def columns(n: str) -> None:
            # Beyond the last it is that one again; its sums are not stored.
            last = w.least(w.integer("add", n, 1), w.integer("sub", "%N", 1))
            factors = [w.at("%B", n), w.at("%B", last)]

            def step(k: str, sums: list[str]) -> list[str]:
                here, offset = w.integer("mul", k, "%bk"), w.integer("mul", k, "%step")
                reads = zip(places, masks, strict=True)
                loaded = [w.masked_load(w.at(a, offset), mask) for a, mask in reads]
                both = [w.splat(w.load(w.at(b, here), w.real)) for b in factors]
                products = ((a, b) for b in both for a in loaded)
                return [w.multiply_add(a, b, s) for (a, b), s in zip(products, sums, strict=True)]

            zeros = ["zeroinitializer"] * (self.columns * AT_ONCE)
            for v, value in enumerate(self._added("%K", 1, zeros, step)):
                w.store(value, w.at(self.sums, v * self.lanes))

            def put(c: str) -> None:
                place = w.at(self.sums, w.integer("mul", c, several))
                self._put(m, rows, place, w.integer("add", n, c))

            w.loop(w.integer("add", w.integer("sub", last, n), 1), put, once=True)

        w.loop("%N", columns, step=self.columns)
