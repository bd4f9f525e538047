"""Tables of where the values of several indices lie, one after the other."""

from __future__ import annotations

from loopgrad.backends.llvm.products.borders import FIELDS, INDEX, INDICES
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module


def emit_filling(module: Module, tiling: Tiling) -> None:
    """`fill_*` and `again_*`, for `boxes.py`."""
    suffix = SUFFIX[tiling.real]
    table = module.pointer(I64)
    tables = ", ".join(f"{table} %{name}" for name in ("D", "lows", "highs", "places", "numbers"))
    parameters = f"i64 %from, i64 %count, {tables}"
    _Fill(Writer(module, tiling, f"fill_{suffix}", parameters, inner=True)).write()
    parameters = f"i64 %count, i64 %unit, i64 %step, {table} %table"
    _again(Writer(module, tiling, f"again_{suffix}", parameters, inner=True))


class Numbers:
    """Numbers in memory, by the function's arguments and on its stack."""

    def __init__(self, writer: Writer):
        self.w, self.body = writer, writer.body

    def entry(self, table: str, number: str | int) -> str:
        return self.body.load(I64, self.body.element(I64, table, number))

    def put(self, value: str, table: str, number: str | int) -> None:
        self.body.store(I64, value, self.body.element(I64, table, number))

    def of_index(self, indices: str, number: str | int, field: str) -> str:
        place = self.w.integer("add", self.w.integer("mul", number, INDEX), FIELDS.index(field))
        return self.entry(indices, place)

    def add_to(self, place: str, value: str) -> None:
        self.body.store(I64, self.w.integer("add", self.body.load(I64, place), value), place)


def _again(w: Writer) -> None:
    """`again_*(count, unit, step, table)`: so many more entries, each `step` more than that `unit` before."""

    def entry(i: str) -> None:
        before = w.body.load(I64, w.body.element(I64, "%table", i))
        to = w.body.element(I64, "%table", w.integer("add", i, "%unit"))
        w.body.store(I64, w.integer("add", before, "%step"), to)

    w.loop("%count", entry)
    w.finish()


class _Fill(Numbers):
    """`fill_*(from, count, D, lows, highs, places, numbers)`: where the combinations lie of the values of
    indices `from` and behind, of `count`, the last of them fastest; and which they are of all. Those before
    stand at their first values.
    """

    def write(self) -> None:
        w, body = self.w, self.body
        self.values = body.alloca(I64, INDICES)
        last = w.integer("sub", "%count", 1)
        self.turns = body.variable(I64, "1")
        self.filled = body.variable(I64, "0")

        def start(d: str) -> None:
            low = self.entry("%lows", d)
            self.put(low, self.values, d)
            here = w.compare("sge", d, "%from")
            outer = w.body.value(f"and i1 {here}, {w.compare('slt', d, last)}")
            length = w.integer("sub", self.entry("%highs", d), low)
            factor = body.select(outer, I64, length, "1")
            body.store(I64, w.integer("mul", body.load(I64, self.turns), factor), self.turns)

        w.loop("%count", start)
        length = w.integer("sub", self.entry("%highs", last), self.entry("%lows", last))
        steps = [self.of_index("%D", last, field) for field in ("stride", "weight")]

        def turn(_: str) -> None:
            def index(d: str, place: str, number: str) -> list[str]:
                value = self.entry(self.values, d)
                beyond = w.integer("sub", value, self.of_index("%D", d, "begin"))
                moved = w.integer("mul", value, self.of_index("%D", d, "stride"))
                counted = w.integer("mul", beyond, self.of_index("%D", d, "weight"))
                return [w.integer("add", place, moved), w.integer("add", number, counted)]

            begin = body.load(I64, self.filled)
            place, number = w.loop("%count", index, carried=[(I64, "0"), (I64, "0")])

            def entry(i: str, *values: str) -> list[str]:
                at = w.integer("add", begin, i)
                for value, table in zip(values, ("%places", "%numbers"), strict=True):
                    self.put(value, table, at)
                return [w.integer("add", v, step) for v, step in zip(values, steps, strict=True)]

            w.loop(length, entry, carried=[(I64, place), (I64, number)])
            self.add_to(self.filled, length)
            self._count(w.integer("sub", last, 1))

        w.loop(body.load(I64, self.turns), turn)
        w.finish()

    def _count(self, first: str) -> None:
        """The index `first` goes on; where it ends it begins again, and the one before goes on."""
        w, body = self.w, self.body
        mark = body.fresh("count")
        before = body.block
        body.jump(mark)
        body.start(mark)
        d, complete = body.phi_later(I64)
        body.branch(w.compare("slt", d, "%from"), f"{mark}.end", f"{mark}.on")
        body.start(f"{mark}.on")
        after = w.integer("add", self.entry(self.values, d), 1)
        goes_on = w.compare("slt", after, self.entry("%highs", d))
        self.put(body.select(goes_on, I64, after, self.entry("%lows", d)), self.values, d)
        complete((first, before), (w.integer("sub", d, 1), body.block))
        body.branch(goes_on, f"{mark}.end", mark)
        body.start(f"{mark}.end")
