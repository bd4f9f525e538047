"""Calls of products with their sides exchanged (`exchanged.py`), where these are less work.

Lanes run over the left side's rows then, which are packed, some at a time; the right side is read by
the tables of where its rows and columns lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.products.groups import Along, Group
from loopgrad.backends.llvm.products.narrow import few_columns
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET
from loopgrad.backends.llvm.products.tiling import SUFFIX
from loopgrad.backends.llvm.products.workspace import DEPTH, LANES, PART, TABLE
from loopgrad.backends.llvm.repeat import where

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

# Sixteenths of a vector's multiplication: what it takes to pack an element of the left side, or of the
# right one; and to turn one of the target.
PACKED_LEFT, PACKED_RIGHT, TURNED = 10, 4, 12


@dataclass(frozen=True, slots=True)
class Sides:
    """A product whose rows m, sums k and columns n count as one where strides allow.

    n_within, k_within: what those of n and k are that the right side has; `total`: all of k.
    """

    m: Group
    k: Group
    n: Group
    n_within: tuple[Along, ...]
    k_within: tuple[Along, ...]
    total: str


@dataclass(frozen=True, slots=True)
class Memory:
    """For what is packed, for the turned sums, and for the tables."""

    packed: str
    turned: str
    at_k: str
    at_n: str


class Exchanging:
    def __init__(self, products: Products):
        self.products, self.body, self.groups = products, products.body, products.groups
        self.lanes, self.real = products.lanes, products.real

    # ------------------------------------------------------------------------------------ choice

    def is_less(self, sides: Sides) -> str:
        """Whether lanes over m are less work than lanes over n, by what each wastes and packs."""
        m, k, n, total = sides.m.inner, sides.k.inner, sides.n.inner, sides.total
        rows, columns = m.count, n.count
        exchanged = self._sum(
            self._times(16, total, columns, self._vectors(rows)),
            self._times(PACKED_LEFT, total, rows),
            self._times(TURNED, rows, columns),
        )
        last = self.body.value(f"and i64 {columns}, {self.lanes - 1}")
        few = self.body.value(f"icmp sle i64 {last}, {few_columns(self.products.tiling)}")
        some = self._vectors(columns)
        less = self.body.value(f"udiv i64 {columns}, {self.lanes}")
        some = self.body.select(few, "i64", less, some)
        usual = self._sum(
            self._times(16, total, rows, some), self._times(PACKED_RIGHT, total, columns)
        )
        is_less = self.body.value(f"icmp slt i64 {exchanged}, {usual}")
        one = self.body.value(f"icmp eq i64 {self.groups.total(sides.m.outer)}, 1")
        sums = self.body.value(f"icmp sgt i64 {total}, 0")
        along_k = self.body.value(f"icmp eq i64 {k.strides[LEFT]}, 1")
        along_m = self.body.value(f"icmp eq i64 {m.strides[LEFT]}, 1")
        packable = self.body.value(f"or i1 {along_k}, {along_m}")
        for other in (one, sums, packable):
            is_less = self.body.value(f"and i1 {is_less}, {other}")
        return is_less

    def _vectors(self, count: str) -> str:
        more = self.body.value(f"add i64 {count}, {self.lanes - 1}")
        return self.body.value(f"udiv i64 {more}, {self.lanes}")

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
        """Some columns, and some rows, at a time; for each of these all of k, part by part."""
        least = self.products.least
        self.groups.tabulate(memory.at_k, "0", sides.total, sides.k_within, RIGHT)
        m, n = sides.m.inner, sides.n.inner
        filled = self.body.value(f"mul i64 {self._vectors(least(m.count, str(LANES)))}, {self.lanes}")
        width = self.body.value(f"udiv i64 {PART}, {filled}")
        width = least(self.body.value(f"and i64 {width}, {-self.lanes}"), str(TABLE))

        def columns(at: Mapping[str, str], first: str) -> None:
            count = least(self.body.value(f"sub i64 {n.count}, {first}"), width)
            self.groups.tabulate(memory.at_n, first, count, sides.n_within, RIGHT)
            target = self.groups.at(at[TARGET], first)

            def rows(begin: str) -> None:
                some = least(self.body.value(f"sub i64 {m.count}, {begin}"), str(LANES))
                here = {
                    LEFT: self._moved(at[LEFT], begin, m.strides[LEFT]),
                    RIGHT: at[RIGHT],
                    TARGET: self._moved(target, begin, m.strides[TARGET]),
                }
                block = Along(some, m.strides)
                self._sums(sides.k, block, count, here, memory, filled)
                self._put(block, count, memory.turned, filled, here[TARGET], scale, adds)

            self.products.repeat(m.count, str(LANES), rows)

        self.groups.over(
            sides.n.outer,
            places,
            lambda at, _: self.products.repeat(n.count, width, lambda first: columns(at, first)),
        )

    def _sums(
        self,
        k: Group,
        m: Along,
        columns: str,
        places: Mapping[str, str],
        memory: Memory,
        stride: str,
    ) -> None:
        """Over all of k: several parts of it that count as one on the left, or pieces of one."""
        least, inner = self.products.least, k.inner.count
        parts = self.groups.total(k.outer)
        several = self.body.value(f"udiv i64 {DEPTH}, {inner}")
        together = self.body.select(
            self.body.value(f"icmp sgt i64 {several}, 1"), "i64", several, "1"
        )
        piece = least(inner, str(DEPTH))

        def some_parts(part: str) -> None:
            here = least(self.body.value(f"sub i64 {parts}, {part}"), together)

            def pieces(first: str) -> None:
                count = least(self.body.value(f"sub i64 {inner}, {first}"), piece)
                depth = self._times(1, here, count)
                moved = self._moved(places[LEFT], first, k.inner.strides[LEFT])

                def pack(i: str) -> None:
                    number = self.body.value(f"add i64 {part}, {i}")
                    left = self.groups.at(moved, self.groups.offset(number, k.outer, LEFT))
                    step, across = k.inner.strides[LEFT], m.strides[LEFT]
                    at = self._times(1, i, count)
                    self.products.call_pack(
                        count, m.count, left, step, across, memory.packed, at, depth
                    )

                self.products.repeat(here, "1", pack)
                begin = self.body.value(f"add i64 {self._times(1, part, inner)}, {first}")
                later = self.body.value(f"icmp sgt i64 {begin}, 0")
                at_k = self.body.element("i64", memory.at_k, begin)
                right = places[RIGHT], at_k, memory.at_n
                self._multiply(m, columns, depth, memory.packed, right, memory.turned, stride, later)

            self.products.repeat(inner, piece, pieces)

        self.products.repeat(parts, together, some_parts)

    def _moved(self, place: str, by: str, stride: str) -> str:
        return self.groups.at(place, self._times(1, by, stride))

    def _multiply(
        self,
        m: Along,
        columns: str,
        depth: str,
        packed: str,
        right: tuple[str, str, str],
        turned: str,
        stride: str,
        adds: str,
    ) -> None:
        module = self.body.module
        p, t = self.products.pointer, module.pointer("i64")
        name = f"loopgrad_product_turned_{SUFFIX[self.real]}"
        kinds = f"i64, i64, i64, {p}, {p}, {t}, {t}, {p}, i64, i1 zeroext"
        module.declare(f"declare void @{name}({kinds})")
        memory, at_k, at_n = right
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {columns}, i64 {depth}, {p} {packed}, {p} {memory}, "
            f"{t} {at_k}, {t} {at_n}, {p} {turned}, i64 {stride}, i1 zeroext {adds})"
        )

    def _put(
        self, m: Along, columns: str, turned: str, stride: str, target: str, scale: str, adds: str
    ) -> None:
        module, p = self.body.module, self.products.pointer
        name = f"loopgrad_put_turned_{SUFFIX[self.real]}"
        module.declare(f"declare void @{name}(i64, i64, {p}, i64, {p}, i64, {self.real}, i1 zeroext)")
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {columns}, {p} {turned}, i64 {stride}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {self.real} {scale}, i1 zeroext {adds})"
        )
