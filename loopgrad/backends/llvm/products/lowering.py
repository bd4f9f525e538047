"""`Product` and `Pack` nodes -> calls of the shared code for products.

The right side is packed, all of it (`Pack`) or part by part, the left side is read where it is. Of
several indices for m, n or k, those count as one whose strides allow it; the others are loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.fused.surroundings import Position
from loopgrad.backends.llvm.products.calls import Calls
from loopgrad.backends.llvm.products.evaluated import Evaluated
from loopgrad.backends.llvm.products.exchanging import kept_sides
from loopgrad.backends.llvm.products.groups import Along, Group, Groups
from loopgrad.backends.llvm.products.in_place import InPlace
from loopgrad.backends.llvm.products.library import tiling_here
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET, Operands, Packed
from loopgrad.backends.llvm.products.packs import Packs
from loopgrad.backends.llvm.products.pairs import Pairs
from loopgrad.backends.llvm.products.scattered import Scattered
from loopgrad.backends.llvm.products.sides import Side, coefficients, ordered, side
from loopgrad.backends.llvm.products.together import Together
from loopgrad.backends.llvm.products.workspace import (
    DEPTH,
    LARGE_PART,
    PART,
    Workspace,
    is_scattered,
    workspaces,
)
from loopgrad.backends.llvm.writing.repeat import counted, where
from loopgrad.ir.nodes import Expression, Number, Read
from loopgrad.schedule.tree import PANEL, Dimension, Node, Product, Update

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees


def prepared(
    nodes: tuple[Node, ...], frame: Frame
) -> tuple[tuple[Node, ...], dict[int, tuple[Workspace, ...]]]:
    """The trees with loops that compute what products read, and the memory that products need."""
    nodes = Evaluated(frame).nodes(nodes, {})
    spaces = workspaces(nodes, kept_sides(nodes))
    for space in dict.fromkeys(chain.from_iterable(spaces.values())):
        frame.add(space.facts, space.buffer)
    return nodes, spaces


class Products:
    """Emits products where the body of a phase stands.

    workspaces: the memory of each pack, and of each product that packs for itself, by `id`.
    """

    def __init__(self, trees: Trees, workspaces: Mapping[int, tuple[Workspace, ...]]):
        self.trees, self.body, self.frame = trees, trees.body, trees.frame
        self.vectors, self.workspaces = trees.vectors, workspaces
        self.groups = Groups(self.body)
        self.calls = Calls(self.body)
        self.real, self.pointer = self.calls.real, self.calls.pointer
        self.tiling = tiling_here(self.real)
        self.lanes = self.tiling.lanes
        self.packs, self.scattered, self.lying = Packs(self), Scattered(self), InPlace(self)
        self.pairs = Pairs(self)

    # -------------------------------------------------------------------------------------- sides

    def sides(self, product: Product) -> tuple[Side, Side]:
        left = self.side(product.left, product.m, product.k)
        return left, self.side(product.right, product.n, product.k)

    def side(self, expression: Expression, *groups: Sequence[Dimension]) -> Side:
        return side(expression, [d.index for group in groups for d in group], self.frame)

    # ----------------------------------------------------------------------------------- products

    def product(self, node: Product) -> None:
        if node.packed is not None:
            self._with_packed(node)
        elif is_scattered(node):
            assert node.update is None, "sides of pairs are plain matrices"
            self.scattered.write(node)
        else:
            self._in_parts(node)
        self.vectors.wrote(node.target, None)

    def together(self, group: Sequence[Product]) -> None:
        """Products that may run together."""
        Together(self, group).write()
        for node in group:
            self.vectors.wrote(node.target, None)

    def operands(self, node: Product, like: Product | None = None) -> Operands:
        """`like`: the product in whose order the indices of k stand."""
        left, right = self.sides(node)
        order = right if node.packed is not None else left
        if like is not None:
            order = self.sides(like)[0]
        k = ordered(node.k, order.matrix)
        m, n = ordered(node.m, node.target), ordered(node.n, node.target)
        reads = {LEFT: left.matrix, TARGET: node.target}
        if node.packed is None:
            reads[RIGHT] = right.matrix
        places, along = self.along(reads, (*m, *n, *k))
        of_m, of_n = along[: len(m)], along[len(m) : len(m) + len(n)]
        of_k = along[len(m) + len(n) :]
        scale = self._scale(node, (*left.scales, *right.scales), of_k)
        return Operands(places, of_m, of_n, of_k, scale)

    def _scale(self, node: Product, scales: Sequence[Expression], k: Sequence[Along]) -> str:
        """The number that the sums are multiplied by: 0 for sums of nothing, as `/ sqrt(K)` is inf."""
        value = None
        for each in scales:
            factor = self.vectors.real(each)
            value = factor if value is None else self.vectors.operate("*", value, factor)
        if value is None:
            return "-1.0" if node.negative else "1.0"
        scale = self.vectors.operate("neg", value).text if node.negative else value.text
        some = self.body.value(f"icmp ne i64 {self.groups.total(k)}, 0")
        return self.body.select(some, self.real, scale, "0.0")

    def _with_packed(self, node: Product) -> None:
        """The right side has been packed; each value of the outer indices of n has its matrix."""
        o = self.operands(node)
        whole = self.packs.packed[node.packed or ""]
        first = "0"
        if len(node.k) == 1:  # it may be a part of what is packed
            lower = self.trees.bound(node.k[0].lower).text
            first = self.body.value(f"sub i64 {lower}, {whole.starts[node.k[0].index]}")
        m, k = self.groups.merged(o.m, [LEFT, TARGET]), self.groups.merged(o.k, [LEFT])
        k = self.groups.at_least_once(k)

        outer, columns = o.n[:-1], o.n[-1].count
        before = self._columns_before(node, whole)
        if whole.merged is not None:
            name, columns = node.target.tensor, whole.merged.inner.count
            outer = tuple(Along(a.count, {TARGET: a.strides[name]}) for a in whole.merged.outer)

        def matrix(places: Mapping[str, str], number: str) -> None:
            packed = self.groups.at(whole.memory, self.multiply(number, whole.size))
            packed = self.groups.at(packed, self.multiply(before, whole.depth))
            there = self.body.value(f"sub i64 {whole.columns}, {before}")
            part = Packed(packed, whole.depth, there)
            adds = not node.first
            self.multiply_all(places, m, columns, k, part, o.scale, adds, first, node.update)

        self.groups.over(outer, o.places, matrix)

    def _columns_before(self, node: Product, whole: Packed) -> str:
        """How many columns of what is packed lie before the first one: whole panels."""
        last = node.n[-1]
        if whole.merged is not None or last.lower == Number(0):
            return "0"
        lower = self.trees.bound(last.lower).text
        return self.body.value(f"sub i64 {lower}, {whole.starts[last.index]}")

    def multiply_all(
        self,
        places: Mapping[str, str],
        m: Group,
        columns: str,
        k: Group,
        packed: Packed,
        scale: str,
        adds: bool | str,
        begin: str = "0",
        update: Update | None = None,
    ) -> None:
        """All of m and k times so many columns. `adds`: to what the target holds, from the start.
        `update`: what is done with pairs of elements instead.

        A right side that is not packed is in places, too.
        """
        inner = k.inner

        def rows(at_rows: Mapping[str, str], _: str) -> None:
            def part(at: Mapping[str, str], number: str) -> None:
                right, first = packed, "0"
                if packed.apart == "0":
                    first = self.multiply(number, inner.count)
                    first = self.body.value(f"add i64 {begin}, {first}")
                else:
                    right = replace(packed, memory=at[RIGHT])
                later = self.body.value(f"icmp ne i64 {number}, 0")
                add = adds if isinstance(adds, str) else "true" if adds else "false"
                add = self.body.value(f"or i1 {add}, {later}")
                if update is not None:
                    self.pairs.write(
                        update, (m.inner, columns, inner), at, right, first, scale, add
                    )
                    return
                self.calls.product(
                    m.inner, columns, inner, at[LEFT], right, first, at[TARGET], scale, add
                )

            self.groups.over(k.outer, at_rows, part)

        self.groups.over(m.outer, places, rows)

    def _in_parts(self, node: Product) -> None:
        """k and n are cut, so that what is packed stays in a cache."""
        o = self.operands(node)
        m = self.groups.merged(o.m, [LEFT, TARGET])
        k = self.groups.at_least_once(self.groups.merged(o.k, [LEFT, RIGHT]))
        n = self.groups.merged(o.n, [RIGHT, TARGET], contiguous=TARGET)
        packed = self.frame.pointer(self.workspaces[id(node)][0].name)
        depth = self.depth_at_a_time(k.inner)
        width = self.columns_at_a_time(depth, LARGE_PART)

        def columns(places: Mapping[str, str], count: str) -> None:
            def some(at_k: Mapping[str, str], number: str) -> None:
                def part(first: str) -> None:
                    moved = self.moved(at_k, k.inner, first)
                    rest = self.body.value(f"sub i64 {k.inner.count}, {first}")
                    here = Along(self.least(rest, depth), k.inner.strides)
                    bn = n.inner.strides[RIGHT]
                    self.calls.pack(
                        here.count,
                        count,
                        moved[RIGHT],
                        here.strides[RIGHT],
                        bn,
                        packed,
                        "0",
                        here.count,
                    )
                    before = self.body.value(f"or i64 {number}, {first}")
                    adds = self.body.value(f"icmp ne i64 {before}, 0")
                    if not node.first:
                        adds = "true"
                    self.multiply_all(
                        moved,
                        m,
                        count,
                        Group((), here),
                        Packed(packed, here.count, count),
                        o.scale,
                        adds,
                        update=node.update,
                    )

                more = self.body.value(f"icmp sgt i64 {k.inner.count}, 1")
                end = self.body.select(more, "i64", k.inner.count, "1")  # zeros are stored, too
                self.repeat(end, depth, part)

            self.groups.over(k.outer, places, some)

        def matrix(places: Mapping[str, str], _: str) -> None:
            done = "0"
            if node.update is None:
                done = self.lying.write(places, m, n, k, o.scale, not node.first)
            rest = Along(self.body.value(f"sub i64 {n.inner.count}, {done}"), n.inner.strides)
            self.by_columns(self.moved(places, n.inner, done), rest, width, columns)

        self.groups.over(n.outer, o.places, matrix)

    def by_columns(
        self,
        places: Mapping[str, str],
        n: Along,
        width: str,
        write: Callable[[Mapping[str, str], str], None],
    ) -> None:
        """So many columns at a time."""

        def some(first: str) -> None:
            rest = self.body.value(f"sub i64 {n.count}, {first}")
            write(self.moved(places, n, first), self.least(rest, width))

        self.repeat(n.count, width, some)

    def repeat(self, end: str, step: str, write: Callable[[str], None]) -> None:
        """`write(i)` for i = 0, step, 2 step, ... below `end`."""
        runs = self.body.value(f"icmp sgt i64 {end}, 0")
        some = self.body.value(f"icmp sgt i64 {step}, 1")
        step = self.body.select(some, "i64", step, "1")
        where(self.body, runs, lambda: counted(self.body, "0", end, step, write))

    def depth_at_a_time(self, k: Along) -> str:
        """Equal parts of k: few, where a row of the left side is read as it lies."""
        body = self.body
        lies = body.value(f"icmp eq i64 {k.strides[LEFT]}, 1")
        parts = body.value(f"add i64 {k.count}, {self.tiling.deepest - 1}")
        parts = body.value(f"sdiv i64 {parts}, {self.tiling.deepest}")
        several = body.value(f"icmp sgt i64 {parts}, 1")
        parts = body.select(several, "i64", parts, "1")
        more = body.value(f"add i64 {k.count}, {body.value(f'sub i64 {parts}, 1')}")
        even = body.value(f"sdiv i64 {more}, {parts}")
        return body.select(lies, "i64", even, self.least(k.count, str(DEPTH)))

    def columns_at_a_time(self, depth: str, part: int = PART) -> str:
        """As many as make up a part, in whole panels."""
        some = self.body.value(f"icmp sgt i64 {depth}, 1")
        divisor = self.body.select(some, "i64", depth, "1")
        width = self.body.value(f"udiv i64 {part}, {divisor}")
        width = self.body.value(f"and i64 {width}, {-PANEL}")
        enough = self.body.value(f"icmp ugt i64 {width}, {PANEL}")
        return self.body.select(enough, "i64", width, str(PANEL))

    # ------------------------------------------------------------------------------------- places

    def along(
        self, reads: Mapping[str, Expression], dimensions: Sequence[Dimension]
    ) -> tuple[dict[str, str], tuple[Along, ...]]:
        """Where the operands' first elements are, and how the indices move them."""
        trees, vectors = self.trees, self.vectors
        counts = []
        for d in dimensions:
            lower, upper = trees.bound(d.lower), trees.bound(d.upper)
            count = self.body.value(f"sub i64 {upper.text}, {lower.text}")
            some = self.body.value(f"icmp sgt i64 {count}, 0")
            counts.append(self.body.select(some, "i64", count, "0"))
        positions = self.positions(dimensions)
        with vectors.scope((), positions), trees.with_positions(positions):
            places = {}
            strides: list[dict[str, str]] = [{} for _ in dimensions]
            for operand, read in reads.items():
                assert isinstance(read, Read)
                places[operand] = vectors.place(read).pointer
                for d, own in zip(dimensions, strides, strict=True):
                    own[operand] = self._stride(read, d.index)
        return places, tuple(Along(c, s) for c, s in zip(counts, strides, strict=True))

    def positions(self, dimensions: Sequence[Dimension]) -> dict[str, Position]:
        """The indices at their first values."""
        trees = self.trees
        return {
            d.index: trees.position(d.index, trees.bound(d.lower).text, d.lower, d.upper)
            for d in dimensions
        }

    def strides(self, read: Read, dimensions: Sequence[Dimension]) -> list[str]:
        return [self._stride(read, d.index) for d in dimensions]

    def _stride(self, read: Read, index: str) -> str:
        found = coefficients(read, index, self.frame)
        known = [c for c in found if c is not None]
        return str(self.vectors.stride(self.frame.storage(read.tensor), known))

    def moved(self, places: Mapping[str, str], along: Along, by: str) -> dict[str, str]:
        moved = dict(places)
        for operand, stride in along.strides.items():
            moved[operand] = self.groups.at(places[operand], self.multiply(by, stride))
        return moved

    def multiply(self, a: str, b: str) -> str:
        return self.body.value(f"mul i64 {a}, {b}")

    def filled(self, columns: str) -> str:
        """Up to whole vectors."""
        more = self.body.value(f"add i64 {columns}, {self.lanes - 1}")
        return self.body.value(f"and i64 {more}, {-self.lanes}")

    def least(self, a: str, b: str) -> str:
        first = self.body.value(f"icmp slt i64 {a}, {b}")
        return self.body.select(first, "i64", a, b)
