"""Products of few rows, whose right side is read where it lies: to pack it would take longest.

As it stands in memory it is read once for each tile of rows, as a packed one is, but from lines that lie
apart; and where it lies along k its rows are multiplied with those of the left side one by one (`dots.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.products.dots import COLUMNS
from loopgrad.backends.llvm.products.groups import Along, Group
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET, Packed
from loopgrad.backends.llvm.writing.repeat import where

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

# Rows of the left side up to which it pays, and how many values of k there are for each at least where
# sums go across lanes: to add these up takes as long as so many multiplications.
ROWS, DEPTH_OF_ROW = 24, 8


class InPlace:
    def __init__(self, products: Products):
        self.products, self.body, self.groups = products, products.body, products.groups
        self.lanes = products.lanes

    def write(
        self, places: Mapping[str, str], m: Group, n: Group, k: Group, scale: str, adds: bool
    ) -> str:
        """All columns, where that pays. How many are done: all or none."""
        done = "0"
        if n.inner.strides[RIGHT] == "1":
            lies = self._lies(m.inner, n.inner, k.inner)
            right = Packed(places[RIGHT], "0", "0", apart=k.inner.strides[RIGHT])
            done = self.body.select(lies, "i64", n.inner.count, "0")
            where(
                self.body,
                lies,
                lambda: self.products.multiply_all(places, m, n.inner.count, k, right, scale, adds),
            )
        if not k.outer:
            dots = self._has_few(m.inner, n.inner, k.inner)
            done = self.body.select(dots, "i64", n.inner.count, done)
            where(self.body, dots, lambda: self._dots(places, m, n.inner, k.inner, scale, adds))
        return done

    def _lies(self, m: Along, n: Along, k: Along) -> str:
        """Are there few rows, and a vector in those of the right side, one after the other?"""
        return self._all(
            f"icmp sle i64 {m.count}, {ROWS}",
            f"icmp sge i64 {n.count}, {self.lanes}",
            f"icmp ne i64 {k.strides[RIGHT]}, 0",
        )

    def _has_few(self, m: Along, n: Along, k: Along) -> str:
        """Do both sides lie along k, and are there few rows beside the sums; or rows or columns of a tile?"""
        body, least = self.body, self.products.least(m.count, n.count)
        depth = self.products.multiply(m.count, str(DEPTH_OF_ROW))
        along = self._all(
            f"icmp eq i64 {k.strides[LEFT]}, 1",
            f"icmp eq i64 {k.strides[RIGHT]}, 1",
            f"icmp sge i64 {k.count}, {self.lanes}",
        )
        long = self._all(f"icmp sle i64 {m.count}, {ROWS}", f"icmp sle i64 {depth}, {k.count}")
        few = body.value(f"or i1 {long}, {body.value(f'icmp sle i64 {least}, {COLUMNS}')}")
        return body.value(f"and i1 {along}, {few}")

    def _all(self, *conditions: str) -> str:
        first, *rest = map(self.body.value, conditions)
        for condition in rest:
            first = self.body.value(f"and i1 {first}, {condition}")
        return first

    def _dots(
        self, places: Mapping[str, str], m: Group, n: Along, k: Along, scale: str, adds: bool
    ) -> None:
        def rows(at: Mapping[str, str], _: str) -> None:
            sides = (at[LEFT], m.inner.strides[LEFT]), (places[RIGHT], n.strides[RIGHT])
            target = at[TARGET], m.inner.strides[TARGET]
            counts = m.inner.count, n.count, k.count
            self.products.calls.dots(counts, *sides, target, scale, "true" if adds else "false")

        self.groups.over(m.outer, places, rows)
