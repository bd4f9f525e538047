"""Products whose two sides both lie along k, of few rows or columns: sums over pairs of rows, lanes over k.

Nothing is packed: to turn a side takes as long as to multiply it by a dozen rows. The sums of a tile are
added up across their lanes together, a shuffle or two for each.
"""

from __future__ import annotations

from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import Module

COLUMNS = 4  # of a tile


def rows_of_dots(tiling: Tiling) -> int:
    """Of a tile: with its columns as many sums as half of the registers hold."""
    return tiling.vectors


def dots_name(tiling: Tiling) -> str:
    return f"dots_{SUFFIX[tiling.real]}"


def emit_dots(module: Module, tiling: Tiling) -> None:
    """`dots_*(M, N, K, A, am, B, bn, C, cm, D, dm, scale)`: C = D + scale * A B, A[m,k] being at m*am + k,
    B[k,n] at n*bn + k; and `loopgrad_dots_*(M, N, K, A, am, B, bn, C, cm, scale, adds)`.
    """
    pointer, real = module.pointer(tiling.real), tiling.real
    sides = f"i64 %M, i64 %N, i64 %K, {pointer} %A, i64 %am, {pointer} %B, i64 %bn, {pointer} %C, i64 %cm"
    parameters = f"{sides}, {pointer} %D, i64 %dm, {real} %scale"
    _Dots(Writer(module, tiling, dots_name(tiling), parameters, inner=True)).write()
    name, parameters = (
        f"loopgrad_dots_{SUFFIX[real]}",
        f"{sides}, {real} %scale, i1 zeroext %adds",
    )
    w = Writer(module, tiling, name, parameters, inner=False)
    zeros = w.zeros()
    before = w.body.value(f"select i1 %adds, {pointer} %C, {pointer} {zeros}")
    step = w.body.value("select i1 %adds, i64 %cm, i64 0")

    def some(n: str) -> None:
        """As many columns as there are zeros."""
        moved = w.integer("mul", n, "%bn")
        known = w.body.value(f"select i1 %adds, i64 {n}, i64 0")
        call_dots(
            w,
            ("%M", w.least(w.integer("sub", "%N", n), tiling.width), "%K"),
            ("%A", "%am"),
            (w.at("%B", moved), "%bn"),
            (w.at("%C", n), "%cm"),
            (w.at(before, known), step),
        )

    w.loop("%N", some, step=tiling.width)
    w.finish()


def call_dots(w: Writer, counts: tuple[str, str, str], *matrices: tuple[str, str]) -> None:
    """counts: M, N and K. matrices: A, B, C and D, where they are and how far their rows lie apart."""
    given = ", ".join(f"{w.pointer} {at}, i64 {step}" for at, step in matrices)
    m, n, k = counts
    w.body.do(
        f"call void @{dots_name(w.tiling)}(i64 {m}, i64 {n}, i64 {k}, {given}, {w.real} %scale)"
    )


class _Dots:
    def __init__(self, writer: Writer):
        self.w, self.lanes = writer, writer.tiling.lanes
        self.rows = rows_of_dots(writer.tiling)

    def write(self) -> None:
        w = self.w
        self.sums = w.body.value(f"alloca {w.real}, i64 {self.rows * COLUMNS}, align 64")
        w.loop(
            "%N", lambda n: w.loop("%M", lambda m: self._tile(m, n), step=self.rows), step=COLUMNS
        )
        w.finish()

    def _tile(self, m: str, n: str) -> None:
        w = self.w
        rows, columns = (
            w.least(w.integer("sub", *pair), most)
            for pair, most in ((("%M", m), self.rows), (("%N", n), COLUMNS))
        )
        self._add_up(
            self._places("%A", "%am", m, rows, self.rows),
            self._places("%B", "%bn", n, columns, COLUMNS),
        )
        whole = w.compare("eq", columns, COLUMNS)

        def row(r: str) -> None:
            number = w.integer("add", m, r)
            place, before = (
                w.at(w.at(matrix, w.integer("mul", number, step)), n)
                for matrix, step in (("%C", "%cm"), ("%D", "%dm"))
            )
            own = w.at(self.sums, w.integer("mul", r, COLUMNS))
            several = f"<{COLUMNS} x {w.real}>"

            def one(i: str) -> None:
                self._put(w.real, w.at(own, i), w.at(before, i), w.at(place, i))

            w.where(
                whole,
                lambda: self._put(several, own, before, place),
                lambda: w.loop(columns, one, once=True),
            )

        w.loop(rows, row, once=True)

    def _places(self, matrix: str, step: str, first: str, count: str, most: int) -> list[str]:
        """Where rows begin. Those beyond the last are that one again; their sums are not stored."""
        w = self.w
        last = w.integer("sub", count, 1)
        numbers = (w.integer("add", first, w.least(last, i)) for i in range(most))
        return [w.at(matrix, w.integer("mul", number, step)) for number in numbers]

    def _add_up(self, left: list[str], right: list[str]) -> None:
        """The sums of all pairs of rows, into memory."""
        w, kind = self.w, self.w.tiling.vector

        def step(k: str, *sums: str) -> list[str]:
            mask = w.first_lanes(w.integer("sub", "%K", k))
            a, b = ([self._some(w.at(p, k), mask) for p in side] for side in (left, right))
            pairs = ((x, y) for x in a for y in b)
            return [w.multiply_add(x, y, s) for (x, y), s in zip(pairs, sums, strict=True)]

        zeros = [(kind, "zeroinitializer")] * (len(left) * len(right))
        found = w.loop("%K", step, step=self.lanes, carried=zeros)
        for i in range(0, len(found), self.lanes):
            some = found[i : i + self.lanes]
            w.store(w.across_each(some), w.at(self.sums, i))

    def _some(self, place: str, mask: str) -> str:
        """As many as there are. LLVM would take the mask off a load that it sees through."""
        loaded = self.w.masked_load(place, mask)
        return self.w.body.intrinsic("arithmetic.fence", self.w.tiling.vector, loaded)

    def _put(self, kind: str, sums: str, before: str, place: str) -> None:
        w = self.w
        scale = "%scale"
        if kind != w.real:
            vector = w.body.value(f"insertelement {kind} undef, {w.real} %scale, i32 0")
            mask = f"<{COLUMNS} x i32> zeroinitializer"
            scale = w.body.value(f"shufflevector {kind} {vector}, {kind} undef, {mask}")
        value = w.body.value(f"fmul {kind} {w.load(sums, kind)}, {scale}")
        w.store(w.body.value(f"fadd {kind} {value}, {w.load(before, kind)}"), place, kind)
