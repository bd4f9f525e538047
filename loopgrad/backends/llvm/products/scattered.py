"""Products whose right side is read, or packed, by tables of where its rows and columns lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.products.bordered import windows
from loopgrad.backends.llvm.products.exchanging import Exchanging, Kept, Memory
from loopgrad.backends.llvm.products.groups import Along, Group
from loopgrad.backends.llvm.products.operands import (
    LEFT,
    RIGHT,
    TARGET,
    Lying,
    Operands,
    Packed,
    Sides,
)
from loopgrad.backends.llvm.products.sides import ordered
from loopgrad.backends.llvm.products.workspace import TABLE
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.schedule.tree import Dimension, Product

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

# Values of k that are worth being packed by themselves.
PART_DEPTH = 256


class Scattered:
    def __init__(self, products: Products):
        self.products, self.body, self.groups = products, products.body, products.groups
        self.lanes = products.lanes

    def write(self, node: Product) -> None:
        """The right side is read, or packed, by tables of where its rows and columns lie.

        So all of n counts as one that does so in the target, and all of k. Parts of k that count as
        one on the left and are large enough are taken one by one, others together. Columns that are runs
        in memory need not be packed, if the left side need not be either.
        """
        o = self.products.operands(node)
        spaces = [self.products.frame.pointer(w.name) for w in self.products.workspaces[id(node)]]
        packed, at_k, at_n, left, turned, *others = spaces
        boxes, kept = (others[0], others[1:]) if node.borders else ("", others)
        m = self.groups.merged(o.m, [LEFT, TARGET])
        k = self.groups.at_least_once(self.groups.merged(o.k, [LEFT]))
        n = self.groups.merged(o.n, [TARGET], contiguous=TARGET)
        sides = Sides(
            m,
            k,
            n,
            o.n,
            o.k,
            self.products.multiply(self.groups.total(k.outer), k.inner.count),
            windows(self.products, node.borders, *self._counted(node)),
        )
        exchanging = Exchanging(self.products)
        exchanged, directly = exchanging.choice(sides, bool(kept))
        by_columns = replace(sides, n_within=self.groups.merged_indices(o.n, n))
        adds = "false" if node.first else "true"
        memory = Memory(left, turned, at_k, at_n, boxes, Kept(*kept) if kept else None)

        def rows(places: Mapping[str, str], _: str) -> None:
            exchanging.write(sides, places, memory, o.scale, adds)

        where(self.body, exchanged, lambda: self.groups.over(m.outer, o.places, rows))
        where(
            self.body,
            self.body.value(f"xor i1 {exchanged}, true"),
            lambda: self._by_columns(node, o, by_columns, (packed, at_k, at_n), directly),
        )

    def _counted(self, node: Product) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...]]:
        """The indices of n and of k in the order in which they are counted up."""
        return ordered(node.n, node.target), ordered(node.k, self.products.sides(node)[0].matrix)

    def _by_columns(
        self,
        node: Product,
        o: Operands,
        sides: Sides,
        spaces: tuple[str, str, str],
        directly: str,
    ) -> None:
        """With lanes over n, `directly` where they lie or packed."""
        packed, at_k, at_n = spaces
        m, k, n, within = sides.m, sides.k, sides.n, sides.n_within
        parts, inner = self.groups.total(k.outer), k.inner.count
        alone = self.body.value(f"icmp sge i64 {inner}, {PART_DEPTH}")
        together = self.body.select(alone, "i64", "1", parts)
        width = self.products.least(
            self.products.columns_at_a_time(self.products.multiply(together, inner)), str(TABLE)
        )
        one_part = self.body.value(f"icmp sle i64 {parts}, {together}")
        several = self.body.value(f"xor i1 {one_part}, true")
        # Where vectors of columns are read where they lie there are fewer of them than columns.
        *lines, run = within
        vectors = self.body.value(f"udiv i64 {self.products.filled(run.count)}, {self.lanes}")
        along = Along(vectors, {RIGHT: str(self.lanes), TARGET: str(self.lanes)})
        pieces = (*self._with_places(within), along)
        every = self.products.multiply(self.groups.total(lines), vectors)
        end = self.body.select(directly, "i64", every, n.inner.count)
        step = self.body.select(directly, "i64", str(TABLE // 2), width)
        targets = self.body.element("i64", at_n, TABLE // 2)

        def columns(first: str, places: Mapping[str, str], count: str) -> None:
            def some(part: str) -> None:
                left = self.body.value(f"sub i64 {parts}, {part}")
                here = self.products.least(left, together)
                depth, begin = (
                    self.products.multiply(here, inner),
                    self.products.multiply(part, inner),
                )
                where(self.body, several, lambda: tabulated(begin, depth))
                given = m, k, (part, here), o.scale, node.first

                def as_it_lies() -> None:
                    lies = Lying(places[RIGHT], at_k, at_n, targets, run.count)
                    self._multiply_parts(places, count, lies, *given)

                def by_panels() -> None:
                    right = places[RIGHT]
                    self.products.calls.pack_at(depth, count, right, at_k, at_n, packed)
                    moved = {**places, TARGET: self.groups.at(places[TARGET], first)}
                    self._multiply_parts(moved, count, Packed(packed, depth, count), *given)

                self._either(directly, as_it_lies, by_panels)

            def places_of_vectors() -> None:
                self.groups.tabulate(at_n, first, count, pieces, RIGHT)
                self.groups.tabulate(targets, first, count, pieces, TARGET)

            self._either(
                directly,
                places_of_vectors,
                lambda: self.groups.tabulate(at_n, first, count, within, RIGHT),
            )
            self.products.repeat(parts, together, some)

        def tabulated(begin: str, depth: str) -> None:
            self.groups.tabulate(at_k, begin, depth, o.k, RIGHT)

        def matrix(places: Mapping[str, str], _: str) -> None:
            def some(first: str) -> None:
                rest = self.body.value(f"sub i64 {end}, {first}")
                columns(first, places, self.products.least(rest, step))

            self.products.repeat(end, step, some)

        where(self.body, one_part, lambda: tabulated("0", self.products.multiply(parts, inner)))
        self.groups.over(n.outer, o.places, matrix)

    def _either(self, condition: str, then: Callable[[], None], other: Callable[[], None]) -> None:
        where(self.body, condition, then)
        where(self.body, self.body.value(f"xor i1 {condition}, true"), other)

    def _with_places(self, within: Sequence[Along]) -> list[Along]:
        """The indices but the last, with how far each moves in the order of all columns."""
        places, size = [], within[-1].count
        for along in reversed(within[:-1]):
            places.append(Along(along.count, {RIGHT: along.strides[RIGHT], TARGET: size}))
            size = self.products.multiply(size, along.count)
        return places[::-1]

    def _multiply_parts(
        self,
        places: Mapping[str, str],
        columns: str,
        right: Packed | Lying,
        m: Group,
        k: Group,
        parts: tuple[str, str],
        scale: str,
        stores: bool,
    ) -> None:
        """The parts of k at hand, `(first, count)`, times so many columns, or vectors of them."""
        first, count = parts

        def rows(at_rows: Mapping[str, str], _: str) -> None:
            def part(i: str) -> None:
                number = self.body.value(f"add i64 {first}, {i}")
                offset = self.groups.offset(number, k.outer, LEFT)
                left = self.groups.at(at_rows[LEFT], offset)
                begin = self.products.multiply(i, k.inner.count)
                adds = self.body.value(f"icmp ne i64 {number}, 0") if stores else "true"
                target = at_rows[TARGET]
                if isinstance(right, Packed):
                    given = right, begin, target, scale, adds
                    self.products.calls.product(m.inner, columns, k.inner, left, *given)
                else:
                    lies = replace(right, at_k=self.body.element("i64", right.at_k, begin))
                    self.products.calls.product_at(
                        m.inner, columns, k.inner, left, lies, target, scale, adds
                    )

            self.products.repeat(count, "1", part)

        self.groups.over(m.outer, places, rows)
