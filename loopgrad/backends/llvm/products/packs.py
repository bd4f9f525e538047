"""`Pack` nodes: right sides that are packed whole, once for several products or for all threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.shares import share
from loopgrad.backends.llvm.products.groups import Along, Group
from loopgrad.backends.llvm.products.operands import RIGHT, Packed
from loopgrad.backends.llvm.products.sides import ordered
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.ir.nodes import Read
from loopgrad.schedule.tree import PANEL, Made, Node, Pack, Product, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products


def users(nodes: Sequence[Node]) -> dict[str, list[Product]]:
    """The products of each pack, by its name."""
    found: dict[str, list[Product]] = {}
    for node in steps(tuple(nodes)):
        if isinstance(node, Product) and node.packed is not None:
            found.setdefault(node.packed, []).append(node)
    return found


class Packs:
    """packed: what has been, by its name. users: the products of each pack, by its name."""

    def __init__(self, products: Products):
        self.products, self.body, self.groups = products, products.body, products.groups
        self.frame = products.frame
        self.packed: dict[str, Packed] = {}
        self.users: dict[str, list[Product]] = {}

    def write(self, node: Pack) -> None:
        """The whole right side; each combination of the outer indices of n is a matrix of its own."""
        if node.made is not Made.OWN:
            self._pack_together(node)
            return
        found = self.products.side(node.right, node.n, node.k)
        k = ordered(node.k, found.matrix)
        reads = {RIGHT: found.matrix}
        first, along = self.products.along(reads, (*node.n, *k))
        n, steps = along[: len(node.n)], along[len(node.n) :]
        merged = self._merged_columns(node, n)
        columns = merged or Group(n[:-1], n[-1])
        depth, count = self.groups.total(steps), columns.inner.count
        size = self.products.multiply(depth, self.products.filled(count))
        memory = self.frame.pointer(node.name)
        self.packed[node.name] = Packed(memory, depth, count, size, self._starts(node), merged)

        def matrix(places: Mapping[str, str], number: str) -> None:
            packed = self.groups.at(memory, self.products.multiply(number, size))
            self._pack_all(places[RIGHT], steps, columns.inner, packed, depth)

        self.groups.over(columns.outer, first, matrix)

    def _pack_together(self, node: Pack) -> None:
        """One matrix. Where it is large, the thread's part of it, unless it is ready; else all, by each."""
        k = ordered(node.k, node.right)
        places, along = self.products.along({RIGHT: node.right}, (*node.n, *k))
        n, steps = along[0], along[1:]
        depth = self.groups.total(steps)
        large = self.products.vectors.condition(node.large).text
        memory = self.frame.pointer(node.name)
        if node.made is Made.TOGETHER:
            group = self.groups.merged(steps, [RIGHT])
            where(self.body, large, lambda: self._pack_part(places[RIGHT], group, n, memory, depth))
            return
        own = self.frame.pointer(node.own)
        small = self.body.value(f"xor i1 {large}, true")
        where(self.body, small, lambda: self._pack_all(places[RIGHT], steps, n, own, depth))
        memory = self.body.select(large, self.products.calls.pointer, memory, own)
        self.packed[node.name] = Packed(memory, depth, n.count, "0", self._starts(node))

    def _starts(self, node: Pack) -> dict[str, str]:
        """Of each index the first value that is packed."""
        return {d.index: self.products.trees.bound(d.lower).text for d in (*node.n, *node.k)}

    def _pack_part(self, right: str, k: Group, n: Along, packed: str, depth: str) -> None:
        """What the thread packs: whole panels; or where there are fewer than threads, some of all k."""
        body = self.body
        panels = body.value(f"sdiv i64 {body.value(f'add i64 {n.count}, {PANEL - 1}')}, {PANEL}")
        enough = body.value(f"icmp sge i64 {panels}, %threads")
        of_panels = (
            body.select(enough, "i64", "%thread", "0"),
            body.select(enough, "i64", "%threads", "1"),
        )
        of_k = (
            body.select(enough, "i64", "0", "%thread"),
            body.select(enough, "i64", "1", "%threads"),
        )
        begin, end = share(body, panels, *of_panels)
        first = self.products.multiply(begin, str(PANEL))
        columns = body.value(
            f"sub i64 {self.products.least(self.products.multiply(end, str(PANEL)), n.count)}, {first}"
        )
        above, below = share(body, k.inner.count, *of_k)
        rows = body.value(f"sub i64 {below}, {above}")
        start = self.products.multiply(first, n.strides[RIGHT])
        own = self.groups.at(packed, self.products.multiply(first, depth))

        def some(places: Mapping[str, str], number: str) -> None:
            place = body.value(f"add i64 {self.products.multiply(number, k.inner.count)}, {above}")
            bk = k.inner.strides[RIGHT]
            source = self.groups.at(places[RIGHT], self.products.multiply(above, bk))
            self.products.calls.pack(rows, columns, source, bk, n.strides[RIGHT], own, place, depth)

        self.groups.over(k.outer, {RIGHT: self.groups.at(right, start)}, some)

    def _merged_columns(self, node: Pack, n: Sequence[Along]) -> Group | None:
        """The indices of n, as far as they count as one on the right side and in all targets.

        None where there is one, or where products go over them otherwise.
        """
        targets: dict[str, Read] = {}
        for product in self.users.get(node.name, ()):
            known = targets.setdefault(product.target.tensor, product.target)
            same = self.products.strides(product.target, node.n) == self.products.strides(
                known, node.n
            )
            if ordered(product.n, product.target) != node.n or not same:
                return None
        if len(n) == 1 or not targets:
            return None
        strides = {name: self.products.strides(target, node.n) for name, target in targets.items()}
        moving = [
            Along(a.count, {**a.strides, **{name: own[i] for name, own in strides.items()}})
            for i, a in enumerate(n)
        ]
        return self.groups.merged(moving, [RIGHT, *targets], contiguous=RIGHT)

    def _pack_all(self, right: str, k: Sequence[Along], n: Along, packed: str, depth: str) -> None:
        """Packs n columns and all of k, which are as many as `depth`."""
        group = self.groups.merged(k, [RIGHT])

        def part(places: Mapping[str, str], number: str) -> None:
            first = self.products.multiply(number, group.inner.count)
            bk, bn = group.inner.strides[RIGHT], n.strides[RIGHT]
            self.products.calls.pack(
                group.inner.count, n.count, places[RIGHT], bk, bn, packed, first, depth
            )

        self.groups.over(group.outer, {RIGHT: right}, part)
