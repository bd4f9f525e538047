"""Products without the zeros around an image: columns in boxes that have the same values of k.

Of a 3 x 3 window at the first row of an image, the taps above it meet nothing but zeros. So the columns
n, which several indices count up, are cut where the range of k changes that is left: into the first row,
the last row, and of those between, the first place, the last one, and the rest. Each box has tables
of its own of where its columns and its values of k lie, and of which row of what is packed, and of the
target, each of them is.
"""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm.products.borders import (
    AT_A_TIME,
    AT_COLUMNS,
    AT_DEPTH,
    BOX,
    COLUMNS,
    DEPTH,
    FEWEST,
    FIELDS,
    HEAD,
    INDEX,
    INDICES,
    NOBODY,
    SPARE,
    SPLIT,
    UNIT,
    K,
    N,
)
from loopgrad.backends.llvm.products.filling import Numbers, emit_filling
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, ONCE, Module


def emit_boxes(module: Module, tiling: Tiling) -> None:
    """`loopgrad_boxes_*(given, boxes, at_n, to, at_k, rows)`: `given` as `borders.py` says, n's indices
    before those of k; `boxes[0]` becomes their number, and behind it stands each box.
    """
    emit_filling(module, tiling)
    parameters = f"{module.pointer(I64)} %given, {_tables(module)}"
    name = f"loopgrad_boxes_{SUFFIX[tiling.real]}"
    _Boxes(Writer(module, tiling, name, parameters, inner=False, kind=ONCE)).write()


def emit_product_boxes(module: Module, tiling: Tiling) -> None:
    """As `product_turned`, of all boxes and the first `parts` values of the first index of k:
    `loopgrad_product_boxes_*(M, parts, packed, first, depth, B, boxes, at_n, to, at_k, rows, T, tm, adds)`.
    """
    pointer = module.pointer(tiling.real)
    parameters = (
        f"i64 %M, i64 %parts, {pointer} %packed, i64 %first, i64 %depth, {pointer} %B, {_tables(module)}, "
        f"{pointer} %T, i64 %tm, i1 zeroext %adds"
    )
    name = f"loopgrad_product_boxes_{SUFFIX[tiling.real]}"
    _of_all(Writer(module, tiling, name, parameters, inner=False))


def _tables(module: Module) -> str:
    names = ("boxes", "at_n", "to", "at_k", "rows")
    return ", ".join(f"{module.pointer(I64)} %{name}" for name in names)


def _of_all(w: Writer) -> None:
    """Panel after panel, each for all boxes: that is how long it stays in a cache."""
    p, t, width = w.pointer, w.module.pointer(I64), w.tiling.width

    def panel(m: str) -> None:
        rows = w.least(w.integer("sub", "%M", m), width)
        packed, sums = w.at("%packed", w.integer("mul", m, "%depth")), w.at("%T", m)

        def box(b: str) -> None:
            at = w.body.element(I64, "%boxes", w.integer("add", w.integer("mul", b, BOX), 1))
            values = [w.body.load(I64, w.body.element(I64, at, i)) for i in range(BOX)]
            depth = w.least(values[DEPTH], w.integer("mul", "%parts", values[UNIT]))
            at_k, rows_of_k = (w.body.element(I64, x, values[AT_DEPTH]) for x in ("%at_k", "%rows"))
            at_n, to = (w.body.element(I64, x, values[AT_COLUMNS]) for x in ("%at_n", "%to"))
            w.body.do(
                f"call void @loopgrad_product_turned_{SUFFIX[w.real]}(i64 {rows}, "
                f"i64 {values[COLUMNS]}, i64 {depth}, {p} {packed}, i64 %first, i64 %depth, {p} %B, "
                f"{t} {at_k}, {t} {rows_of_k}, {t} {at_n}, {t} {to}, {p} {sums}, i64 %tm, "
                "i1 zeroext %adds)"
            )

        w.loop(w.body.load(I64, "%boxes"), box)

    w.loop("%M", panel, step=width)
    w.finish()


class _Boxes(Numbers):
    """A loop over states: of n's indices before `level` a run of values is chosen; of that one it is next."""

    def write(self) -> None:
        w, body = self.w, self.body
        self.n, self.k = self.entry("%given", N), self.entry("%given", K)
        self.of_n = body.element(I64, "%given", HEAD)
        self.of_k = body.element(I64, self.of_n, w.integer("mul", self.n, INDEX))
        self.begins, self.ends = (body.alloca(I64, INDICES + 1) for _ in range(2))  # of runs
        self.lows, self.highs = (body.alloca(I64, INDICES + 1) for _ in range(2))  # of k
        self.level, self.columns, self.depth = (body.variable(I64, "0") for _ in range(3))
        self.found = body.variable(I64, "0")
        w.loop(self.k, self._all_of_k)
        self.put(self.entry(self.of_n, FIELDS.index("begin")), self.begins, 0)
        body.jump("next")
        body.start("next")
        level = body.load(I64, self.level)
        body.branch(w.compare("slt", level, 0), "done", "open")
        body.start("open")
        body.branch(w.compare("eq", level, self.n), "box", "inside")
        body.start("inside")
        some = w.compare(
            "slt", self.entry(self.begins, level), self.of_index(self.of_n, level, "end")
        )
        body.branch(some, "down", "up")
        body.start("down")
        self._choose(level)
        deeper = w.integer("add", level, 1)
        # Behind the last index is something that is never asked for.
        beyond = w.least(deeper, w.integer("sub", self.n, 1))
        begin = self.of_index(self.of_n, beyond, "begin")
        self.put(begin, self.begins, deeper)
        body.store(I64, deeper, self.level)
        body.jump("next")
        body.start("up")
        self._back(level)
        body.jump("next")
        body.start("box")
        self._box()
        self._back(level)
        body.jump("next")
        body.start("done")
        body.store(I64, body.load(I64, self.found), "%boxes")
        w.finish()

    def _all_of_k(self, e: str) -> None:
        self.put("0", self.lows, e)
        self.put(self.of_index(self.of_k, e, "end"), self.highs, e)

    def _back(self, level: str) -> None:
        """To the index before, behind its run."""
        w = self.w
        before = w.integer("sub", level, 1)
        self.body.store(I64, before, self.level)
        there = w.compare("sge", before, 0)
        w.where(there, lambda: self.put(self.entry(self.ends, before), self.begins, before))

    # ----------------------------------------------------------------------------------- one run

    def _choose(self, level: str) -> None:
        """The values of an index from the next one on that have the same range of k, or all of them."""
        w, body = self.w, self.body
        begin, end = self.entry(self.begins, level), self.of_index(self.of_n, level, "end")
        self.put(end, self.ends, level)
        partner = self.of_index(self.of_n, level, "partner")
        worth = w.compare("sge", self._columns_with(level), FEWEST)
        few = w.compare("slt", body.load(I64, self.found), SPLIT)
        cut = body.value(f"and i1 {worth}, {few}")
        cut = body.value(f"and i1 {cut}, {w.compare('sge', partner, 0)}")

        def same() -> None:
            low, high = self._range(level, begin, partner)
            some = w.compare("slt", low, high)
            # Where there is none the first one is taken, for there zeros are read.
            self.put(body.select(some, I64, low, "0"), self.lows, partner)
            self.put(body.select(some, I64, high, "1"), self.highs, partner)
            # Both go one way with the index: what is alike at two values is so between them.
            first = body.variable(I64, "0")
            last = body.variable(I64, "0")
            body.store(I64, begin, first)
            body.store(I64, w.integer("sub", end, 1), last)

            def halve() -> None:
                a, b = body.load(I64, first), body.load(I64, last)
                whole = w.integer("add", w.integer("add", a, b), 1)
                middle = w.integer("ashr", whole, 1)
                there = self._range(level, middle, partner)
                alike = body.value(
                    f"and i1 {w.compare('eq', there[0], low)}, {w.compare('eq', there[1], high)}"
                )
                body.store(I64, body.select(alike, I64, middle, a), first)
                less = w.integer("sub", middle, 1)
                body.store(I64, body.select(alike, I64, b, less), last)

            self._while(
                lambda: w.compare("slt", body.load(I64, first), body.load(I64, last)), halve
            )
            self.put(w.integer("add", body.load(I64, first), 1), self.ends, level)

        has_window = w.compare("sge", partner, 0)
        w.where(cut, same, lambda: w.where(has_window, lambda: self._all_of_k(partner)))

    def _while(self, holds: Callable[[], str], write: Callable[[], None]) -> None:
        body, mark = self.body, self.body.fresh("while")
        body.jump(mark)
        body.start(mark)
        body.branch(holds(), f"{mark}.on", f"{mark}.end")
        body.start(f"{mark}.on")
        write()
        body.jump(mark)
        body.start(f"{mark}.end")

    def _columns_with(self, level: str) -> str:
        """The columns of the runs chosen, with all values of the index and of those behind it."""
        w = self.w

        def index(d: str, count: str) -> list[str]:
            inside = w.compare("sge", d, level)
            all_of_it = [self.of_index(self.of_n, d, field) for field in ("begin", "end")]
            run = [self.entry(table, d) for table in (self.begins, self.ends)]
            ends = [
                self.body.select(inside, I64, whole, part)
                for whole, part in zip(all_of_it, run, strict=True)
            ]
            return [w.integer("mul", count, w.integer("sub", ends[1], ends[0]))]

        (count,) = w.loop(self.n, index, carried=[(I64, "1")])
        return count

    def _range(self, level: str, i: str, partner: str) -> tuple[str, str]:
        """The values j of the window's index of k with `0 <= first + by_n*i + by_k*j < length`. Where none
        is, it tells on which side the window is."""
        w, body = self.w, self.body
        first, by_n, by_k, length = (
            self.of_index(self.of_n, level, f) for f in ("first", "by_n", "by_k", "length")
        )
        at = w.integer("add", first, w.integer("mul", by_n, i))
        up = w.compare("sgt", by_k, 0)
        step = body.select(up, I64, by_k, w.integer("sub", 0, by_k))
        least = body.select(
            up, I64, w.integer("sub", 0, at), w.integer("sub", w.integer("add", at, 1), length)
        )
        behind = body.select(up, I64, w.integer("sub", length, at), w.integer("add", at, 1))
        most = self.of_index(self.of_k, partner, "end")

        def reached(distance: str) -> str:
            """How many steps reach so far, of no more than there are."""
            some = w.compare("sgt", distance, 0)
            distance = body.select(some, I64, distance, "0")
            steps = w.integer("udiv", w.integer("add", distance, w.integer("sub", step, 1)), step)
            return w.least(steps, most)

        return reached(least), reached(behind)

    # ----------------------------------------------------------------------------------- one box

    def _box(self) -> None:
        w, body = self.w, self.body
        t, fill = w.module.pointer(I64), f"fill_{SUFFIX[w.real]}"
        at, below = body.load(I64, self.columns), body.load(I64, self.depth)
        columns = self._count(self.n, "0", self.begins, self.ends)
        at_n, to = (body.element(I64, table, at) for table in ("%at_n", "%to"))
        body.do(
            f"call void @{fill}(i64 0, i64 {self.n}, {t} {self.of_n}, {t} {self.begins}, "
            f"{t} {self.ends}, {t} {at_n}, {t} {to})"
        )
        last = self.entry(at_n, w.integer("sub", columns, 1))
        for i in range(SPARE):
            self.put(last, at_n, w.integer("add", columns, i))
            self.put(self.entry("%given", NOBODY), to, w.integer("add", columns, i))
        low, high = self.entry(self.lows, 0), self.entry(self.highs, 0)
        parts = w.least(w.integer("sub", high, low), self.entry("%given", AT_A_TIME))
        self.put(w.integer("add", low, parts), self.highs, 0)
        begin = body.value(f"zext i1 {w.compare('sgt', self.k, 1)} to i64")
        unit = self._count(self.k, "1", self.lows, self.highs)
        at_k, rows = (body.element(I64, table, below) for table in ("%at_k", "%rows"))
        body.do(
            f"call void @{fill}(i64 {begin}, i64 {self.k}, {t} {self.of_k}, {t} {self.lows}, "
            f"{t} {self.highs}, {t} {at_k}, {t} {rows})"
        )
        self.put(high, self.highs, 0)
        depth = w.integer("mul", parts, unit)
        steps = [self.of_index(self.of_k, 0, field) for field in ("stride", "weight")]

        for table, step in zip((at_k, rows), steps, strict=True):
            body.do(
                f"call void @again_{SUFFIX[w.real]}(i64 {w.integer('sub', depth, unit)}, i64 {unit}, "
                f"i64 {step}, {t} {table})"
            )
        number = body.load(I64, self.found)
        place = body.element(I64, "%boxes", w.integer("add", w.integer("mul", number, BOX), 1))
        for i, value in enumerate((columns, at, below, unit, depth)):
            self.put(value, place, i)
        self.add_to(self.found, "1")
        self.add_to(self.columns, w.integer("add", columns, SPARE))
        self.add_to(self.depth, depth)

    def _count(self, indices: str, first: str, lows: str, highs: str) -> str:
        """The combinations of indices from the first one named on."""
        w = self.w

        def index(d: str, count: str) -> list[str]:
            inside = w.compare("sge", d, first)
            length = w.integer("sub", self.entry(highs, d), self.entry(lows, d))
            return [w.integer("mul", count, self.body.select(inside, I64, length, "1"))]

        (count,) = w.loop(indices, index, carried=[(I64, "1")])
        return count
