"""Whether lanes run over the rows of a product or over its columns: what each would take, found when running.

The formula is a function of its own, once for all products of a kind: it is long, and next to nothing beside
the product. So it is not optimised (`ONCE`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from loopgrad.backends.llvm.products.direct import HEIGHTS
from loopgrad.backends.llvm.products.narrow import few_columns
from loopgrad.backends.llvm.products.tiling import ROWS, ROWS_LYING, Tiling
from loopgrad.backends.llvm.products.workspace import KEPT
from loopgrad.backends.llvm.writing.text import ONCE, Body

# Sixteenths of a vector's multiplication: what it takes to pack an element of the left side, or of the
# right one, where it stands alone; an element of a run, and where a run begins; to turn an element of the
# target; to multiply by one of few columns; to begin and end a tile; and, where zeros are left out, to find
# the place of a column or of a value of k.
PACKED_LEFT, PACKED_ALONE, PACKED_IN_RUN, RUN, TURNED, FEW, TILE = 14, 34, 4, 100, 12, 4, 1500
FOUND = 192
CACHED, FETCHED_LEFT = 1 << 20, 48  # more elements of a left side take so long each
LYING = 17  # to multiply where the right side lies
# Sums of a tile, of a right side that is packed, and of one that lies: fewer take as long, as each waits for
# the value of k before.
LEAST_SUMS, LEAST_SUMS_LYING = 8, 6
# What the last vectors of a panel take each beyond that, where they are one, or two: `exchanged.rows_of`.
NARROW = (10, 3)


@dataclass(frozen=True, slots=True)
class Corner:
    """A window (`borders.py`), and how many values its indices of n and of k take."""

    first: str
    by_n: str
    by_k: str
    length: str
    n: str
    k: str


@dataclass(frozen=True, slots=True)
class Work:
    """What a product's work hangs on. rows, columns, total: that count as one, of k all; images, outer: of n
    and of m outside of them; lines, run: of n all indices but the last, and that one, with its stride on the
    right side; by_m, by_k: strides on the left side.
    """

    rows: str
    columns: str
    total: str
    images: str
    outer: str
    lines: str
    run: str
    by_run: str
    by_m: str
    by_k: str
    corners: tuple[Corner, ...]

    def numbers(self) -> Iterator[str]:
        """All of them in order."""
        *own, corners = astuple(self)
        yield from own
        for corner in corners:
            yield from corner


def _parameters(corners: int) -> Work:
    """The same as the function has them."""
    own = {each.name: f"%{each.name}" for each in fields(Work)[:-1]}
    of_corners = (
        Corner(*(f"%{each.name}.{number}" for each in fields(Corner))) for number in range(corners)
    )
    return Work(**own, corners=tuple(of_corners))


def chosen(body: Body, tiling: Tiling, work: Work, keeps: bool) -> tuple[str, str]:
    """Whether lanes over m are less work than lanes over n, by what each wastes and packs; and whether,
    with lanes over n, the right side is read where it lies. Both as i1.

    keeps: the left side is packed once for all loops around, and for that it must not be too large.
    """
    count = len(work.corners)
    name = f"weighed{count}{'kept' if keeps else ''}"
    if name not in body.module.functions:
        own = _parameters(count)
        given = ", ".join(f"i64 {number}" for number in own.numbers())
        weighing = Body(body.module, name, f"internal i64 @{name}({given}) {ONCE}")
        exchanged, directly = _Weighing(weighing, tiling, own).choice(keeps)
        one = weighing.select(exchanged, "i64", "1", "0")
        two = weighing.select(directly, "i64", "2", "0")
        weighing.do(f"ret i64 {weighing.value(f'add i64 {one}, {two}')}")
        weighing.finish()
    given = ", ".join(f"i64 {number}" for number in work.numbers())
    both = body.value(f"call i64 @{name}({given})")
    bits = (body.value(f"and i64 {both}, {bit}") for bit in (1, 2))
    first, second = (body.value(f"icmp ne i64 {bit}, 0") for bit in bits)
    return first, second


class Arithmetic:
    """On counts."""

    def __init__(self, body: Body, lanes: int):
        self.body, self.lanes = body, lanes

    def at_least(self, a: str, b: str) -> str:
        more = self.body.value(f"icmp sgt i64 {a}, {b}")
        return self.body.select(more, "i64", a, b)

    def at_least_one(self, count: str) -> str:
        return self.at_least(count, "1")

    def vectors(self, count: str) -> str:
        return self.cut(count, self.lanes)

    def cut(self, count: str, size: int) -> str:
        """How many pieces of a size, the last of which may be smaller."""
        more = self.body.value(f"add i64 {count}, {size - 1}")
        return self.body.value(f"udiv i64 {more}, {size}")

    def times(self, number: int, *factors: str) -> str:
        product = str(number)
        for factor in factors:
            product = self.body.value(f"mul i64 {product}, {factor}")
        return product

    def sum(self, *terms: str) -> str:
        total, *rest = terms
        for term in rest:
            total = self.body.value(f"add i64 {total}, {term}")
        return total

    def all(self, *conditions: str) -> str:
        first, *rest = conditions
        for condition in rest:
            first = self.body.value(f"and i1 {first}, {condition}")
        return first


class _Weighing(Arithmetic):
    def __init__(self, body: Body, tiling: Tiling, work: Work):
        super().__init__(body, tiling.lanes)
        self.tiling, self.work = tiling, work

    def choice(self, keeps: bool) -> tuple[str, str]:
        body, w = self.body, self.work
        rows, columns, total, images, outer = w.rows, w.columns, w.total, w.images, w.outer
        every = self.times(1, images, columns)
        width = self.tiling.width
        exchanged = self.sum(
            self._left(self.times(1, total, every, self._by_rows(rows))),
            self._packing_left(self.times(1, total, rows)),
            self.times(FOUND, self.sum(total, every)) if w.corners else "0",
            self.times(TURNED, rows, every),
            self.times(TILE, self.cut(every, ROWS), self.cut(rows, width)),
        )
        exchanged = self.times(1, outer, exchanged)
        one = self.sum(
            self.times(1, outer, total, self._rows_packed(rows), self._by_lanes(columns)),
            self.times(1, total, self._packing(columns)),
            self.times(TILE, outer, self.cut(rows, ROWS), self.cut(columns, width)),
        )
        packed = self.times(1, images, one)
        vectors = self.times(1, w.lines, self.vectors(w.run))
        across = self.tiling.vectors_lying
        panels = self.cut(vectors, across)
        direct = self.sum(
            self.times(LYING * across, outer, total, self._rows_lying(rows), panels),
            self.times(TILE, outer, self.cut(rows, ROWS_LYING), panels),
        )
        along_k = body.value(f"icmp eq i64 {w.by_k}, 1")
        along_m = body.value(f"icmp eq i64 {w.by_m}, 1")
        lies = body.value(f"icmp eq i64 {w.by_run}, 1")
        less = body.value(f"icmp sle i64 {direct}, {packed}")
        directly = self.all(along_k, lies, less)
        again = self._fetching_left(self.times(1, total, rows))
        again = self.times(1, body.value(f"sub i64 {images}, 1"), again)
        usual = self.sum(body.select(directly, "i64", direct, packed), again)
        filled = self.times(self.lanes, self.vectors(rows))
        size = self.times(1, total, filled)
        return (
            self.all(
                body.value(f"icmp slt i64 {exchanged}, {usual}"),
                # What is kept is of all rows.
                body.value(f"icmp eq i64 {outer}, 1") if keeps else "true",
                body.value(f"icmp sgt i64 {self.times(1, total, rows)}, 0"),
                body.value(f"or i1 {along_k}, {along_m}"),
                body.value(f"icmp sle i64 {size}, {KEPT}") if keeps else "true",
            ),
            directly,
        )

    def _left(self, work: str) -> str:
        """How much of the work is not with zeros: of each window, about, all but its corners."""
        for window in self.work.corners:
            lowest = highest = window.first
            for step, count in ((window.by_n, window.n), (window.by_k, window.k)):
                last = self.times(1, step, self.body.value(f"sub i64 {count}, 1"))
                up = self.body.value(f"icmp sgt i64 {last}, 0")
                low, high = (
                    self.body.select(up, "i64", *pair) for pair in (("0", last), (last, "0"))
                )
                lowest, highest = self.sum(lowest, low), self.sum(highest, high)
            corner = self.times(2, window.by_n, window.by_k)
            corner = self.at_least_one(
                self.at_least(self.body.value(f"sub i64 0, {corner}"), corner)
            )
            lost = "0"
            below = self.body.value(f"sub i64 0, {lowest}")
            above = self.body.value(f"sub i64 {self.sum(highest, '1')}, {window.length}")
            for beyond in (below, above):
                far = self.at_least(beyond, "0")
                area = self.times(1, far, self.sum(far, "1"))
                lost = self.sum(lost, self.body.value(f"udiv i64 {area}, {corner}"))
            every = self.at_least_one(self.times(1, window.n, window.k))
            rest = self.at_least(self.body.value(f"sub i64 {every}, {lost}"), "0")
            work = self.times(1, self.body.value(f"udiv i64 {work}, {every}"), rest)
        return work

    def _rows_packed(self, rows: str) -> str:
        """As `_rows_lying`, of tiles of a packed right side, whose last rows are the same height or so."""
        return self.at_least(rows, str(-(-LEAST_SUMS // self.tiling.vectors)))

    def _rows_lying(self, rows: str) -> str:
        """How many rows of full tiles take as long as these, of which the last ones are lower tiles."""
        least = -(-LEAST_SUMS_LYING // self.tiling.vectors_lying)
        total = self.times(ROWS_LYING, self.body.value(f"udiv i64 {rows}, {ROWS_LYING}"))
        for height in HEIGHTS[:-1]:
            found = self.body.value(
                f"icmp ne i64 {self.body.value(f'and i64 {rows}, {height}')}, 0"
            )
            each = self.body.select(found, "i64", str(max(height, least)), "0")
            total = self.sum(total, each)
        return total

    def _by_rows(self, rows: str) -> str:
        """Sixteenths of a vector that so many rows take, in panels of several vectors."""
        vectors = self.vectors(rows)
        last = self.body.value(f"urem i64 {vectors}, {self.tiling.vectors}")
        total = self.times(16, vectors)
        for count, more in enumerate(NARROW[: self.tiling.vectors - 1], 1):
            found = self.body.value(f"icmp eq i64 {last}, {count}")
            total = self.sum(total, self.body.select(found, "i64", str(more * count), "0"))
        return total

    def _by_lanes(self, columns: str) -> str:
        """Sixteenths of a vector that so many columns take: the last ones are a vector or few."""
        last = self.body.value(f"and i64 {columns}, {self.lanes - 1}")
        alone = self.body.value(f"icmp sle i64 {last}, {few_columns(self.tiling)}")
        whole = self.body.value(f"sub i64 {columns}, {last}")
        few = self.sum(self.times(16, self.vectors(whole)), self.times(FEW, last))
        return self.body.select(alone, "i64", few, self.times(16, self.vectors(columns)))

    def _packing_left(self, elements: str) -> str:
        return self.sum(self.times(PACKED_LEFT, elements), self._fetching_left(elements))

    def _fetching_left(self, elements: str) -> str:
        """What is too large for a cache is fetched for each matrix of a batch."""
        large = self.body.value(f"icmp sgt i64 {elements}, {CACHED}")
        each = self.body.select(large, "i64", str(FETCHED_LEFT - PACKED_LEFT), "0")
        return self.times(1, each, elements)

    def _packing(self, columns: str) -> str:
        """Sixteenths of a vector that it takes to pack as many elements, in runs of the last index."""
        run = self.at_least_one(self.work.run)
        runs = self.body.value(f"udiv i64 {columns}, {run}")
        in_runs = self.sum(self.times(PACKED_IN_RUN, columns), self.times(RUN, runs))
        stands = self.body.value(f"icmp eq i64 {self.work.by_run}, 1")
        return self.body.select(stands, "i64", in_runs, self.times(PACKED_ALONE, columns))
