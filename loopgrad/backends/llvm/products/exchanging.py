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
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET, Sides
from loopgrad.backends.llvm.products.weighing import Arithmetic, Corner, Work, chosen
from loopgrad.backends.llvm.products.workspace import DEEP, LANES, PART, TABLE
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Read
from loopgrad.schedule.tree import Blocks, Node, Over, Product, Step, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products


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
        self.arithmetic = Arithmetic(self.body, self.lanes)

    def choice(self, sides: Sides, keeps: bool) -> tuple[str, str]:
        """Whether lanes over m are less work than lanes over n; and whether, with lanes over n, the right
        side is read where it lies. Both as i1: see `weighing.py`.

        keeps: the left side is packed once for all loops around.
        """
        *lines, run = sides.n_within
        corners = tuple(
            Corner(
                window.first,
                window.by_n,
                window.by_k,
                window.length,
                sides.n_within[window.n].count,
                sides.k_within[window.k].count,
            )
            for window in sides.windows
        )
        work = Work(
            sides.m.inner.count,
            sides.n.inner.count,
            sides.total,
            self.groups.total(sides.n.outer),
            self.groups.total(sides.m.outer),
            self.groups.total(lines),
            run.count,
            run.strides[RIGHT],
            sides.m.inner.strides[LEFT],
            sides.k.inner.strides[LEFT],
            corners,
        )
        return chosen(self.body, self.products.tiling, work, keeps)

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
        filled = self.body.value(f"mul i64 {self.arithmetic.vectors(rows)}, {self.lanes}")
        width = self.body.value(f"udiv i64 {PART}, {filled}")
        width = least(self.body.value(f"and i64 {width}, {-self.lanes}"), str(TABLE))
        bordered = Bordered(self.products, sides, memory.boxes) if sides.windows else None
        plan = bordered.plan(width) if bordered else None
        if plan is not None:
            width = self.body.select(plan.applies, "i64", plan.columns, width)
        skipping = _Skipping(bordered, plan) if bordered and plan else None
        together = self.body.value(f"udiv i64 {width}, {self.arithmetic.at_least_one(n.count)}")
        together = self.arithmetic.at_least_one(together)

        def columns(image: str, first: str, kept: bool) -> None:
            each = least(self.body.value(f"sub i64 {n.count}, {first}"), width)
            some = least(self.body.value(f"sub i64 {images}, {image}"), together)
            begin = self.arithmetic.sum(self.arithmetic.times(1, image, n.count), first)
            count = self.arithmetic.times(1, some, each)
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
                    sums = self.groups.at(memory.turned, self.arithmetic.times(1, i, each, filled))
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
                first = self.arithmetic.times(1, number, k.inner.count)
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
        panels = self.groups.at(kept.packed, self.arithmetic.times(1, begin, sides.total))

        step = self._depth(sides.total)
        if into.skipping is not None:
            plan = into.skipping.plan
            whole = self.arithmetic.times(1, plan.parts, plan.unit)
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
            each = self.body.value(f"udiv i64 {parts}, {self.arithmetic.at_least_one(first)}")
            whole = self.body.select(one, "i64", "1", self.arithmetic.times(1, plan.parts, each))
            together = self.body.select(plan.applies, "i64", whole, together)
            whole = self.body.select(
                one, "i64", self.arithmetic.times(1, plan.parts, plan.unit), inner
            )
            most = self.body.select(plan.applies, "i64", whole, most)

        def some_parts(part: str) -> None:
            here = least(self.body.value(f"sub i64 {parts}, {part}"), together)

            def piece(first: str) -> None:
                count = least(self.body.value(f"sub i64 {inner}, {first}"), most)
                depth = self.arithmetic.times(1, here, count)
                moved = self._moved(places[LEFT], first, k.inner.strides[LEFT])

                def pack(i: str) -> None:
                    number = self.body.value(f"add i64 {part}, {i}")
                    left = self.groups.at(moved, self.groups.offset(number, k.outer, LEFT))
                    step, across = k.inner.strides[LEFT], into.m.strides[LEFT]
                    at = self.arithmetic.times(1, i, count)
                    self.products.calls.pack(
                        count, into.m.count, left, step, across, memory.packed, at, depth
                    )

                self.products.repeat(here, "1", pack)
                begin = self.body.value(f"add i64 {self.arithmetic.times(1, part, inner)}, {first}")
                panels = memory.packed, "0", depth
                self._multiply(sides, into, (begin, depth), panels, (places[RIGHT], memory.at_k))

            self.products.repeat(inner, most, piece)

        self.products.repeat(parts, together, some_parts)

    def _moved(self, place: str, by: str, stride: str) -> str:
        return self.groups.at(place, self.arithmetic.times(1, by, stride))

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
            unit = self.arithmetic.at_least_one(found.plan.unit)
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
