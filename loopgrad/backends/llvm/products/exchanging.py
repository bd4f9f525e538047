"""Calls of products with their sides exchanged (`exchanged.py`), where these are less work.

Lanes run over the left side's rows then, which are packed, some at a time; the right side is read by
the tables of where its rows and columns lie.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.products.bordered import Bordered, Plan
from loopgrad.backends.llvm.products.groups import Along
from loopgrad.backends.llvm.products.narrow import few_columns
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET, Sides
from loopgrad.backends.llvm.products.tiling import ROWS, ROWS_LYING
from loopgrad.backends.llvm.products.workspace import DEEP, KEPT, LANES, PART, TABLE
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Read
from loopgrad.schedule.tree import Blocks, Node, Over, Product, Step, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

# Sixteenths of a vector's multiplication: what it takes to pack an element of the left side, or of the
# right one, where it stands alone; an element of a run, and where a run begins; to turn an element of the
# target; to multiply by one of few columns; to begin and end a tile; and, where zeros are left out, to find
# the place of a column or of a value of k.
PACKED_LEFT, PACKED_ALONE, PACKED_IN_RUN, RUN, TURNED, FEW, TILE = 14, 34, 4, 100, 12, 4, 1500
FOUND = 192
CACHED, FETCHED_LEFT = 1 << 20, 48  # more elements of a left side take so long each
LYING = 17  # to multiply where the right side lies


@dataclass(frozen=True, slots=True)
class Kept:
    """A left side that is packed once for all that loops around do, and its table of k."""

    packed: str
    at_k: str


@dataclass(frozen=True, slots=True)
class Memory:
    """For what is packed, for the turned sums, and for the tables."""

    packed: str
    turned: str
    at_k: str
    at_n: str
    boxes: str
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class _Skipping:
    """Of a product that may leave out zeros."""

    bordered: Bordered
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Sums:
    """Some rows and columns of the target, turned, each row so far from the next."""

    m: Along
    columns: str
    memory: Memory
    stride: str
    skipping: _Skipping | None = None


def kept_sides(nodes: Sequence[Node]) -> frozenset[int]:
    """The products in loops, by `id`, whose left sides are the same whenever they run in a phase."""
    written = {step.target.tensor for step in _written(nodes)}
    return frozenset(
        id(node)
        for around, node in _products(nodes, False)
        if around and isinstance(node.left, Read) and _is_kept(node, node.left, written)
    )


def _written(nodes: Sequence[Node]) -> Iterator[Accumulate | Product]:
    for step in steps(tuple(nodes)):
        yield step.statement if isinstance(step, Step) else step


def _products(nodes: Sequence[Node], around: bool) -> Iterator[tuple[bool, Product]]:
    """Each product, and whether a loop is around it."""
    for node in nodes:
        match node:
            case Product():
                yield around, node
            case Over() | Blocks():
                whole = isinstance(node, Blocks) and node.size is None  # what one thread gets
                yield from _products(node.body, around or not whole)


def _is_kept(product: Product, left: Read, written: Collection[str]) -> bool:
    own = {d.index for d in (*product.m, *product.k)}
    bounds = (b for d in (*product.m, *product.k) for b in (d.lower, d.upper))
    fixed = not any(walk.indices_of(b) or any(walk.reads(b)) for b in bounds)
    return fixed and walk.indices_of(left) <= own and left.tensor not in written


class Exchanging:
    def __init__(self, products: Products):
        self.products, self.body, self.groups = products, products.body, products.groups
        self.lanes, self.real = products.lanes, products.real

    # ------------------------------------------------------------------------------------ choice

    def choice(self, sides: Sides, keeps: bool) -> tuple[str, str]:
        """Whether lanes over m are less work than lanes over n, by what each wastes and packs; and whether,
        with lanes over n, the right side is read where it lies. Both as i1.

        keeps: the left side is packed once for all loops around, and for that it must not be too large.
        """
        body, m, k, total = self.body, sides.m.inner, sides.k.inner, sides.total
        rows, columns = m.count, sides.n.inner.count
        images, outer = (self.groups.total(side.outer) for side in (sides.n, sides.m))
        every = self._times(1, images, columns)
        *lines, run = sides.n_within
        width = self.products.tiling.width
        exchanged = self._sum(
            self._left(sides, self._times(16, total, every, self._vectors(rows))),
            self._packing_left(self._times(1, total, rows)),
            self._times(FOUND, self._sum(total, every)) if sides.windows else "0",
            self._times(TURNED, rows, every),
            self._times(TILE, self._cut(every, ROWS), self._cut(rows, width)),
        )
        exchanged = self._times(1, outer, exchanged)
        one = self._sum(
            self._times(1, outer, total, rows, self._by_lanes(columns)),
            self._times(1, total, self._packing(columns, run)),
            self._times(TILE, outer, self._cut(rows, ROWS), self._cut(columns, width)),
        )
        packed = self._times(1, images, one)
        vectors = self._times(1, self.groups.total(lines), self._vectors(run.count))
        across = self.products.tiling.vectors_lying
        panels = self._cut(vectors, across)
        direct = self._sum(
            self._times(LYING * across, outer, total, rows, panels),
            self._times(TILE, outer, self._cut(rows, ROWS_LYING), panels),
        )
        along_k = body.value(f"icmp eq i64 {k.strides[LEFT]}, 1")
        along_m = body.value(f"icmp eq i64 {m.strides[LEFT]}, 1")
        lies = body.value(f"icmp eq i64 {run.strides[RIGHT]}, 1")
        less = body.value(f"icmp sle i64 {direct}, {packed}")
        directly = self._all(along_k, lies, less)
        again = self._fetching_left(self._times(1, total, rows))
        again = self._times(1, body.value(f"sub i64 {images}, 1"), again)
        usual = self._sum(body.select(directly, "i64", direct, packed), again)
        size = self._times(1, total, self._filled(rows))
        return (
            self._all(
                body.value(f"icmp slt i64 {exchanged}, {usual}"),
                # What is kept is of all rows.
                body.value(f"icmp eq i64 {outer}, 1") if keeps else "true",
                body.value(f"icmp sgt i64 {self._times(1, total, rows)}, 0"),
                body.value(f"or i1 {along_k}, {along_m}"),
                body.value(f"icmp sle i64 {size}, {KEPT}") if keeps else "true",
            ),
            directly,
        )

    def _all(self, *conditions: str) -> str:
        first, *rest = conditions
        for condition in rest:
            first = self.body.value(f"and i1 {first}, {condition}")
        return first

    def _left(self, sides: Sides, work: str) -> str:
        """How much of the work is not with zeros: of each window, about, all but its corners."""
        for window in sides.windows:
            n, k = sides.n_within[window.n].count, sides.k_within[window.k].count
            lowest = highest = window.first
            for step, count in ((window.by_n, n), (window.by_k, k)):
                last = self._times(1, step, self.body.value(f"sub i64 {count}, 1"))
                up = self.body.value(f"icmp sgt i64 {last}, 0")
                low, high = (
                    self.body.select(up, "i64", *pair) for pair in (("0", last), (last, "0"))
                )
                lowest, highest = self._sum(lowest, low), self._sum(highest, high)
            corner = self._times(2, window.by_n, window.by_k)
            corner = self._at_least_one(
                self._at_least(self.body.value(f"sub i64 0, {corner}"), corner)
            )
            lost = "0"
            below = self.body.value(f"sub i64 0, {lowest}")
            above = self.body.value(f"sub i64 {self._sum(highest, '1')}, {window.length}")
            for beyond in (below, above):
                far = self._at_least(beyond, "0")
                area = self._times(1, far, self._sum(far, "1"))
                lost = self._sum(lost, self.body.value(f"udiv i64 {area}, {corner}"))
            every = self._at_least_one(self._times(1, n, k))
            rest = self._at_least(self.body.value(f"sub i64 {every}, {lost}"), "0")
            work = self._times(1, self.body.value(f"udiv i64 {work}, {every}"), rest)
        return work

    def _at_least(self, a: str, b: str) -> str:
        more = self.body.value(f"icmp sgt i64 {a}, {b}")
        return self.body.select(more, "i64", a, b)

    def _by_lanes(self, columns: str) -> str:
        """Sixteenths of a vector that so many columns take: the last ones are a vector or few."""
        last = self.body.value(f"and i64 {columns}, {self.lanes - 1}")
        alone = self.body.value(f"icmp sle i64 {last}, {few_columns(self.products.tiling)}")
        whole = self.body.value(f"sub i64 {columns}, {last}")
        few = self._sum(self._times(16, self._vectors(whole)), self._times(FEW, last))
        return self.body.select(alone, "i64", few, self._times(16, self._vectors(columns)))

    def _packing_left(self, elements: str) -> str:
        return self._sum(self._times(PACKED_LEFT, elements), self._fetching_left(elements))

    def _fetching_left(self, elements: str) -> str:
        """What is too large for a cache is fetched for each matrix of a batch."""
        large = self.body.value(f"icmp sgt i64 {elements}, {CACHED}")
        each = self.body.select(large, "i64", str(FETCHED_LEFT - PACKED_LEFT), "0")
        return self._times(1, each, elements)

    def _packing(self, columns: str, last: Along) -> str:
        """Sixteenths of a vector that it takes to pack as many elements, in runs of the last index."""
        least_one = self.body.value(f"icmp sgt i64 {last.count}, 1")
        run = self.body.select(least_one, "i64", last.count, "1")
        runs = self.body.value(f"udiv i64 {columns}, {run}")
        in_runs = self._sum(self._times(PACKED_IN_RUN, columns), self._times(RUN, runs))
        stands = self.body.value(f"icmp eq i64 {last.strides[RIGHT]}, 1")
        return self.body.select(stands, "i64", in_runs, self._times(PACKED_ALONE, columns))

    def _vectors(self, count: str) -> str:
        return self._cut(count, self.lanes)

    def _cut(self, count: str, size: int) -> str:
        """How many pieces of a size, the last of which may be smaller."""
        more = self.body.value(f"add i64 {count}, {size - 1}")
        return self.body.value(f"udiv i64 {more}, {size}")

    def _times(self, number: int, *factors: str) -> str:
        product = str(number)
        for factor in factors:
            product = self.body.value(f"mul i64 {product}, {factor}")
        return product

    def _sum(self, *terms: str) -> str:
        total, *rest = terms
        for term in rest:
            total = self.body.value(f"add i64 {total}, {term}")
        return total

    # -------------------------------------------------------------------------------------- calls

    def write(
        self, sides: Sides, places: Mapping[str, str], memory: Memory, scale: str, adds: str
    ) -> None:
        """Some columns, and some rows, at a time; for each of these all of k, part by part.

        Columns that count as one in the target, or all of several times as many.
        """
        least = self.products.least
        m, n, images = sides.m.inner, sides.n.inner, self.groups.total(sides.n.outer)
        rows = least(m.count, str(LANES))
        filled = self.body.value(f"mul i64 {self._vectors(rows)}, {self.lanes}")
        width = self.body.value(f"udiv i64 {PART}, {filled}")
        width = least(self.body.value(f"and i64 {width}, {-self.lanes}"), str(TABLE))
        bordered = Bordered(self.products, sides, memory.boxes) if sides.windows else None
        plan = bordered.plan(width) if bordered else None
        if plan is not None:
            width = self.body.select(plan.applies, "i64", plan.columns, width)
        skipping = _Skipping(bordered, plan) if bordered and plan else None
        together = self.body.value(f"udiv i64 {width}, {self._at_least_one(n.count)}")
        together = self._at_least_one(together)

        def columns(image: str, first: str, kept: bool) -> None:
            each = least(self.body.value(f"sub i64 {n.count}, {first}"), width)
            some = least(self.body.value(f"sub i64 {images}, {image}"), together)
            begin = self._sum(self._times(1, image, n.count), first)
            count = self._times(1, some, each)
            self._unless(
                skipping,
                lambda: self.groups.tabulate(memory.at_n, begin, count, sides.n_within, RIGHT),
            )
            if skipping is not None:
                skipping.bordered.find(skipping.plan, begin, count)
            target = self.groups.at(places[TARGET], first)

            def some_rows(begin: str) -> None:
                here = least(self.body.value(f"sub i64 {m.count}, {begin}"), str(LANES))
                left = self._moved(places[LEFT], begin, m.strides[LEFT])
                into = _Sums(Along(here, m.strides), count, memory, filled, skipping)
                if kept:
                    self._of_kept(sides, begin, into, places[RIGHT])
                else:
                    self._of_packed(sides, into, {LEFT: left, RIGHT: places[RIGHT]})
                to = self._moved(target, begin, m.strides[TARGET])

                def put(i: str) -> None:
                    number = self.body.value(f"add i64 {image}, {i}")
                    there = self.groups.at(to, self.groups.offset(number, sides.n.outer, TARGET))
                    sums = self.groups.at(memory.turned, self._times(1, i, each, filled))
                    self.products.calls.put_turned(into.m, each, (sums, filled), there, scale, adds)

                self.products.repeat(some, "1", put)

            self.products.repeat(m.count, str(LANES), some_rows)

        def matrices(kept: bool) -> None:
            self.products.repeat(
                images,
                together,
                lambda image: self.products.repeat(
                    n.count, width, lambda first: columns(image, first, kept)
                ),
            )

        def in_parts() -> None:
            self._unless(
                skipping,
                lambda: self.groups.tabulate(memory.at_k, "0", sides.total, sides.k_within, RIGHT),
            )
            matrices(False)

        def of_kept() -> None:
            self._keep(sides, places[LEFT], memory)
            matrices(True)

        if memory.kept is None:
            in_parts()
        else:
            of_kept()

    def _unless(self, skipping: _Skipping | None, write: Callable[[], None]) -> None:
        """What is of use where nothing is left out."""
        if skipping is None:
            write()
        else:
            where(self.body, self.body.value(f"xor i1 {skipping.plan.applies}, true"), write)

    def _filled(self, count: str) -> str:
        return self.body.value(f"mul i64 {self._vectors(count)}, {self.lanes}")

    def _keep(self, sides: Sides, left: str, memory: Memory) -> None:
        """All of the left side, packed where this runs for the first time; and the table of k."""
        kept = memory.kept
        assert kept is not None
        known = self.body.variable("i1", "false")
        new = self.body.value(f"xor i1 {self.body.load('i1', known)}, true")
        m, k = sides.m.inner, sides.k

        def pack() -> None:
            self.groups.tabulate(kept.at_k, "0", sides.total, sides.k_within, RIGHT)

            def part(at: Mapping[str, str], number: str) -> None:
                first = self._times(1, number, k.inner.count)
                step, across = k.inner.strides[LEFT], m.strides[LEFT]
                self.products.calls.pack(
                    k.inner.count, m.count, at[LEFT], step, across, kept.packed, first, sides.total
                )

            self.groups.over(k.outer, {LEFT: left}, part)
            self.body.store("i1", "true", known)

        where(self.body, new, pack)

    def _of_kept(self, sides: Sides, begin: str, into: _Sums, right: str) -> None:
        """Over all of k, of rows that are packed."""
        kept = into.memory.kept
        assert kept is not None
        panels = self.groups.at(kept.packed, self._times(1, begin, sides.total))

        step = self._depth(sides.total)
        if into.skipping is not None:
            plan = into.skipping.plan
            whole = self._times(1, plan.parts, plan.unit)
            step = self.body.select(plan.applies, "i64", whole, step)

        def piece(first: str) -> None:
            count = self.products.least(self.body.value(f"sub i64 {sides.total}, {first}"), step)
            at = first, sides.total
            self._multiply(sides, into, (first, count), (panels, *at), (right, kept.at_k))

        self.products.repeat(sides.total, step, piece)

    def _depth(self, total: str) -> str:
        """So much of k at a time that all pieces are of about one size."""
        half = self.body.value(f"add i64 {total}, {DEEP // 2}")
        pieces = self.body.value(f"udiv i64 {half}, {DEEP}")
        several = self.body.value(f"icmp ugt i64 {pieces}, 1")
        pieces = self.body.select(several, "i64", pieces, "1")
        more = self.body.value(f"add i64 {total}, {pieces}")
        return self.body.value(f"udiv i64 {self.body.value(f'sub i64 {more}, 1')}, {pieces}")

    def _of_packed(self, sides: Sides, into: _Sums, places: Mapping[str, str]) -> None:
        """Over all of k: several parts of it that count as one on the left, or pieces of one."""
        k = sides.k
        least, inner, memory = self.products.least, k.inner.count, into.memory
        parts = self.groups.total(k.outer)
        several = self.body.value(f"udiv i64 {DEEP}, {inner}")
        some = self.body.value(f"icmp sgt i64 {several}, 1")
        together = self.body.select(some, "i64", several, "1")
        most = self._depth(inner)
        if into.skipping is not None:
            # All parts, or else all pieces, are of as many values of k's first index.
            plan = into.skipping.plan
            one = self.body.value(f"icmp eq i64 {parts}, 1")
            first = sides.k_within[0].count
            each = self.body.value(f"udiv i64 {parts}, {self._at_least_one(first)}")
            whole = self.body.select(one, "i64", "1", self._times(1, plan.parts, each))
            together = self.body.select(plan.applies, "i64", whole, together)
            whole = self.body.select(one, "i64", self._times(1, plan.parts, plan.unit), inner)
            most = self.body.select(plan.applies, "i64", whole, most)

        def some_parts(part: str) -> None:
            here = least(self.body.value(f"sub i64 {parts}, {part}"), together)

            def piece(first: str) -> None:
                count = least(self.body.value(f"sub i64 {inner}, {first}"), most)
                depth = self._times(1, here, count)
                moved = self._moved(places[LEFT], first, k.inner.strides[LEFT])

                def pack(i: str) -> None:
                    number = self.body.value(f"add i64 {part}, {i}")
                    left = self.groups.at(moved, self.groups.offset(number, k.outer, LEFT))
                    step, across = k.inner.strides[LEFT], into.m.strides[LEFT]
                    at = self._times(1, i, count)
                    self.products.calls.pack(
                        count, into.m.count, left, step, across, memory.packed, at, depth
                    )

                self.products.repeat(here, "1", pack)
                begin = self.body.value(f"add i64 {self._times(1, part, inner)}, {first}")
                panels = memory.packed, "0", depth
                self._multiply(sides, into, (begin, depth), panels, (places[RIGHT], memory.at_k))

            self.products.repeat(inner, most, piece)

        self.products.repeat(parts, together, some_parts)

    def _moved(self, place: str, by: str, stride: str) -> str:
        return self.groups.at(place, self._times(1, by, stride))

    def _at_least_one(self, count: str) -> str:
        return self._at_least(count, "1")

    def _multiply(
        self,
        sides: Sides,
        into: _Sums,
        k: tuple[str, str],
        left: tuple[str, str, str],
        right: tuple[str, str],
    ) -> None:
        """So many values of k: (first, count). left: what is packed, its first one of these, and how many it
        has; right: where it is, and the table of its rows."""
        first, count = k
        adds = self.body.value(f"icmp sgt i64 {first}, 0")
        memory, table = right
        skipping = into.skipping

        def of_all() -> None:
            at_k = self.body.element("i64", table, first)
            self._multiply_all(into, count, left, (memory, at_k), adds)

        def of_boxes(found: _Skipping) -> None:
            unit = self._at_least_one(found.plan.unit)
            begin, parts = (self.body.value(f"udiv i64 {x}, {unit}") for x in k)
            moved = self._moved(memory, begin, sides.k_within[0].strides[RIGHT])
            sums = into.memory.turned, into.stride
            found.bordered.call(into.m.count, parts, left, moved, sums, adds)

        self._unless(skipping, of_all)
        if skipping is not None:
            where(self.body, skipping.plan.applies, lambda: of_boxes(skipping))

    def _multiply_all(
        self,
        into: _Sums,
        count: str,
        left: tuple[str, str, str],
        right: tuple[str, str],
        adds: str,
    ) -> None:
        memory, at_k = right
        self.products.calls.product_turned(
            (into.m.count, into.columns, count),
            left,
            (memory, at_k, into.memory.at_n),
            (into.memory.turned, into.stride),
            adds,
        )
