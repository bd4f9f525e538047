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
from loopgrad.backends.llvm.fused.shares import share
from loopgrad.backends.llvm.fused.surroundings import Position
from loopgrad.backends.llvm.products.bordered import windows
from loopgrad.backends.llvm.products.evaluated import Evaluated
from loopgrad.backends.llvm.products.exchanging import Exchanging, Kept, Memory, kept_sides
from loopgrad.backends.llvm.products.groups import Along, Group, Groups
from loopgrad.backends.llvm.products.library import tiling_here
from loopgrad.backends.llvm.products.operands import (
    LEFT,
    RIGHT,
    TARGET,
    Lying,
    Operands,
    Packed,
    Sides,
)
from loopgrad.backends.llvm.products.sides import Side, coefficients, ordered, side
from loopgrad.backends.llvm.products.tiling import SUFFIX
from loopgrad.backends.llvm.products.together import Together
from loopgrad.backends.llvm.products.workspace import (
    DEPTH,
    PANEL,
    PART,
    TABLE,
    Workspace,
    is_scattered,
    workspaces,
)
from loopgrad.backends.llvm.writing.repeat import counted, where
from loopgrad.ir.nodes import Expression, Read
from loopgrad.schedule.tree import Dimension, Made, Node, Pack, Product, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees

# Values of k that are worth being packed by themselves.
PART_DEPTH = 256


def users(nodes: Sequence[Node]) -> dict[str, list[Product]]:
    """The products of each pack, by its name."""
    found: dict[str, list[Product]] = {}
    for node in steps(tuple(nodes)):
        if isinstance(node, Product) and node.packed is not None:
            found.setdefault(node.packed, []).append(node)
    return found


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
        self.packed: dict[str, Packed] = {}
        self.users: dict[str, list[Product]] = {}  # of packs, by their names
        self.real = self.frame.module.real
        self.pointer = self.frame.module.pointer(self.real)
        self.tiling = tiling_here(self.real)
        self.lanes = self.tiling.lanes

    # -------------------------------------------------------------------------------------- sides

    def _sides(self, product: Product) -> tuple[Side, Side]:
        left = self._side(product.left, product.m, product.k)
        return left, self._side(product.right, product.n, product.k)

    def _side(self, expression: Expression, *groups: Sequence[Dimension]) -> Side:
        return side(expression, [d.index for group in groups for d in group], self.frame)

    # ----------------------------------------------------------------------------------- packing

    def pack(self, node: Pack) -> None:
        """The whole right side; each combination of the outer indices of n is a matrix of its own."""
        if node.made is not Made.OWN:
            self._pack_together(node)
            return
        found = self._side(node.right, node.n, node.k)
        k = ordered(node.k, found.matrix)
        reads = {RIGHT: found.matrix}
        first, along = self._along(reads, (*node.n, *k))
        n, steps = along[: len(node.n)], along[len(node.n) :]
        merged = self._merged_columns(node, n)
        columns = merged or Group(n[:-1], n[-1])
        depth, count = self.groups.total(steps), columns.inner.count
        size = self._packed_size(depth, count)
        memory = self.frame.pointer(node.name)
        starts = {d.index: self.trees.bound(d.lower).text for d in k}
        self.packed[node.name] = Packed(memory, depth, count, size, starts, merged)

        def matrix(places: Mapping[str, str], number: str) -> None:
            packed = self.groups.at(memory, self._multiply(number, size))
            self._pack_all(places[RIGHT], steps, columns.inner, packed, depth)

        self.groups.over(columns.outer, first, matrix)

    def _pack_together(self, node: Pack) -> None:
        """One matrix. Where it is large, the thread's part of it, unless it is ready; else all, by each."""
        k = ordered(node.k, node.right)
        places, along = self._along({RIGHT: node.right}, (*node.n, *k))
        n, steps = along[0], along[1:]
        depth = self.groups.total(steps)
        large = self.vectors.condition(node.large).text
        memory = self.frame.pointer(node.name)
        if node.made is Made.TOGETHER:
            group = self.groups.merged(steps, [RIGHT])
            where(self.body, large, lambda: self._pack_part(places[RIGHT], group, n, memory, depth))
            return
        own = self.frame.pointer(node.own)
        small = self.body.value(f"xor i1 {large}, true")
        where(self.body, small, lambda: self._pack_all(places[RIGHT], steps, n, own, depth))
        memory = self.body.select(large, self.pointer, memory, own)
        starts = {d.index: "0" for d in k}
        self.packed[node.name] = Packed(memory, depth, n.count, "0", starts)

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
        first = self._multiply(begin, str(PANEL))
        columns = body.value(
            f"sub i64 {self.least(self._multiply(end, str(PANEL)), n.count)}, {first}"
        )
        above, below = share(body, k.inner.count, *of_k)
        rows = body.value(f"sub i64 {below}, {above}")
        start = self._multiply(first, n.strides[RIGHT])
        own = self.groups.at(packed, self._multiply(first, depth))

        def some(places: Mapping[str, str], number: str) -> None:
            place = body.value(f"add i64 {self._multiply(number, k.inner.count)}, {above}")
            bk = k.inner.strides[RIGHT]
            source = self.groups.at(places[RIGHT], self._multiply(above, bk))
            self.call_pack(rows, columns, source, bk, n.strides[RIGHT], own, place, depth)

        self.groups.over(k.outer, {RIGHT: self.groups.at(right, start)}, some)

    def _merged_columns(self, node: Pack, n: Sequence[Along]) -> Group | None:
        """The indices of n, as far as they count as one on the right side and in all targets.

        None where there is one, or where products go over them otherwise.
        """
        targets: dict[str, Read] = {}
        for product in self.users.get(node.name, ()):
            known = targets.setdefault(product.target.tensor, product.target)
            same = self._strides(product.target, node.n) == self._strides(known, node.n)
            if ordered(product.n, product.target) != node.n or not same:
                return None
        if len(n) == 1 or not targets:
            return None
        strides = {name: self._strides(target, node.n) for name, target in targets.items()}
        moving = [
            Along(a.count, {**a.strides, **{name: own[i] for name, own in strides.items()}})
            for i, a in enumerate(n)
        ]
        return self.groups.merged(moving, [RIGHT, *targets], contiguous=RIGHT)

    def _pack_all(self, right: str, k: Sequence[Along], n: Along, packed: str, depth: str) -> None:
        """Packs n columns and all of k, which are as many as `depth`."""
        group = self.groups.merged(k, [RIGHT])

        def part(places: Mapping[str, str], number: str) -> None:
            first = self._multiply(number, group.inner.count)
            bk, bn = group.inner.strides[RIGHT], n.strides[RIGHT]
            self.call_pack(group.inner.count, n.count, places[RIGHT], bk, bn, packed, first, depth)

        self.groups.over(group.outer, {RIGHT: right}, part)

    # ----------------------------------------------------------------------------------- products

    def product(self, node: Product) -> None:
        if node.packed is not None:
            self._with_packed(node)
        elif is_scattered(node):
            self._scattered(node)
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
        left, right = self._sides(node)
        order = right if node.packed is not None else left
        if like is not None:
            order = self._sides(like)[0]
        k = ordered(node.k, order.matrix)
        m, n = ordered(node.m, node.target), ordered(node.n, node.target)
        reads = {LEFT: left.matrix, TARGET: node.target}
        if node.packed is None:
            reads[RIGHT] = right.matrix
        places, along = self._along(reads, (*m, *n, *k))
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
        whole = self.packed[node.packed or ""]
        first = "0"
        if len(node.k) == 1:  # it may be a part of what is packed
            lower = self.trees.bound(node.k[0].lower).text
            first = self.body.value(f"sub i64 {lower}, {whole.starts[node.k[0].index]}")
        m, k = self.groups.merged(o.m, [LEFT, TARGET]), self.groups.merged(o.k, [LEFT])
        k = self.groups.at_least_once(k)

        outer, columns = o.n[:-1], o.n[-1].count
        if whole.merged is not None:
            name, columns = node.target.tensor, whole.merged.inner.count
            outer = tuple(Along(a.count, {TARGET: a.strides[name]}) for a in whole.merged.outer)

        def matrix(places: Mapping[str, str], number: str) -> None:
            packed = self.groups.at(whole.memory, self._multiply(number, whole.size))
            part = Packed(packed, whole.depth, whole.columns)
            self.multiply_all(places, m, columns, k, part, o.scale, not node.first, first)

        self.groups.over(outer, o.places, matrix)

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
    ) -> None:
        """All of m and k times so many columns. `adds`: to what the target holds, from the start."""
        inner = k.inner

        def rows(at_rows: Mapping[str, str], _: str) -> None:
            def part(at: Mapping[str, str], number: str) -> None:
                first = self.body.value(f"add i64 {begin}, {self._multiply(number, inner.count)}")
                later = self.body.value(f"icmp ne i64 {number}, 0")
                add = adds if isinstance(adds, str) else "true" if adds else "false"
                add = self.body.value(f"or i1 {add}, {later}")
                self._call_product(
                    m.inner, columns, inner, at[LEFT], packed, first, at[TARGET], scale, add
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
        depth = self.least(k.inner.count, str(DEPTH))
        width = self.columns_at_a_time(depth)

        def columns(places: Mapping[str, str], count: str) -> None:
            def some(at_k: Mapping[str, str], number: str) -> None:
                def part(first: str) -> None:
                    moved = self.moved(at_k, k.inner, first)
                    rest = self.body.value(f"sub i64 {k.inner.count}, {first}")
                    here = Along(self.least(rest, depth), k.inner.strides)
                    bn = n.inner.strides[RIGHT]
                    self.call_pack(
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
                    )

                more = self.body.value(f"icmp sgt i64 {k.inner.count}, 1")
                end = self.body.select(more, "i64", k.inner.count, "1")  # zeros are stored, too
                self.repeat(end, depth, part)

            self.groups.over(k.outer, places, some)

        self.groups.over(
            n.outer, o.places, lambda at, _: self.by_columns(at, n.inner, width, columns)
        )

    def _scattered(self, node: Product) -> None:
        """The right side is read, or packed, by tables of where its rows and columns lie.

        So all of n counts as one that does so in the target, and all of k. Parts of k that count as
        one on the left and are large enough are taken one by one, others together. Columns that are runs
        in memory need not be packed, if the left side need not be either.
        """
        o = self.operands(node)
        spaces = [self.frame.pointer(w.name) for w in self.workspaces[id(node)]]
        packed, at_k, at_n, left, turned, *others = spaces
        boxes, kept = (others[0], others[1:]) if node.borders else ("", others)
        m = self.groups.merged(o.m, [LEFT, TARGET])
        k = self.groups.at_least_once(self.groups.merged(o.k, [LEFT]))
        n = self.groups.merged(o.n, [TARGET], contiguous=TARGET)
        within = self.groups.merged_indices(o.n, n)
        sides = Sides(
            m,
            k,
            n,
            within,
            o.k,
            self._multiply(self.groups.total(k.outer), k.inner.count),
            windows(self, node.borders, *self._counted(node)),
        )
        exchanging = Exchanging(self)
        exchanged, directly = exchanging.choice(sides, bool(kept))
        adds = "false" if node.first else "true"
        memory = Memory(left, turned, at_k, at_n, boxes, Kept(*kept) if kept else None)
        where(
            self.body, exchanged, lambda: exchanging.write(sides, o.places, memory, o.scale, adds)
        )
        where(
            self.body,
            self.body.value(f"xor i1 {exchanged}, true"),
            lambda: self._by_columns(node, o, sides, (packed, at_k, at_n), directly),
        )

    def _counted(self, node: Product) -> tuple[tuple[Dimension, ...], tuple[Dimension, ...]]:
        """The indices of n and of k in the order in which they are counted up."""
        return ordered(node.n, node.target), ordered(node.k, self._sides(node)[0].matrix)

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
        width = self.least(self.columns_at_a_time(self._multiply(together, inner)), str(TABLE))
        one_part = self.body.value(f"icmp sle i64 {parts}, {together}")
        several = self.body.value(f"xor i1 {one_part}, true")
        # Where vectors of columns are read where they lie there are fewer of them than columns.
        *lines, run = within
        vectors = self.body.value(f"udiv i64 {self._filled(run.count)}, {self.lanes}")
        along = Along(vectors, {RIGHT: str(self.lanes), TARGET: str(self.lanes)})
        pieces = (*self._with_places(within), along)
        every = self._multiply(self.groups.total(lines), vectors)
        end = self.body.select(directly, "i64", every, n.inner.count)
        step = self.body.select(directly, "i64", str(TABLE // 2), width)
        targets = self.body.element("i64", at_n, TABLE // 2)

        def columns(first: str, places: Mapping[str, str], count: str) -> None:
            def some(part: str) -> None:
                left = self.body.value(f"sub i64 {parts}, {part}")
                here = self.least(left, together)
                depth, begin = self._multiply(here, inner), self._multiply(part, inner)
                where(self.body, several, lambda: tabulated(begin, depth))
                given = m, k, (part, here), o.scale, node.first

                def as_it_lies() -> None:
                    lies = Lying(places[RIGHT], at_k, at_n, targets, run.count)
                    self._multiply_parts(places, count, lies, *given)

                def by_panels() -> None:
                    right = places[RIGHT]
                    self._call_pack_at(depth, count, right, at_k, at_n, packed)
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
            self.repeat(parts, together, some)

        def tabulated(begin: str, depth: str) -> None:
            self.groups.tabulate(at_k, begin, depth, o.k, RIGHT)

        def matrix(places: Mapping[str, str], _: str) -> None:
            def some(first: str) -> None:
                rest = self.body.value(f"sub i64 {end}, {first}")
                columns(first, places, self.least(rest, step))

            self.repeat(end, step, some)

        where(self.body, one_part, lambda: tabulated("0", self._multiply(parts, inner)))
        self.groups.over(n.outer, o.places, matrix)

    def _either(self, condition: str, then: Callable[[], None], other: Callable[[], None]) -> None:
        where(self.body, condition, then)
        where(self.body, self.body.value(f"xor i1 {condition}, true"), other)

    def _with_places(self, within: Sequence[Along]) -> list[Along]:
        """The indices but the last, with how far each moves in the order of all columns."""
        places, size = [], within[-1].count
        for along in reversed(within[:-1]):
            places.append(Along(along.count, {RIGHT: along.strides[RIGHT], TARGET: size}))
            size = self._multiply(size, along.count)
        return places[::-1]

    def _filled(self, columns: str) -> str:
        """Up to whole vectors."""
        filled = self.body.value(f"add i64 {columns}, {self.lanes - 1}")
        return self.body.value(f"and i64 {filled}, {-self.lanes}")

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
                begin = self._multiply(i, k.inner.count)
                adds = self.body.value(f"icmp ne i64 {number}, 0") if stores else "true"
                target = at_rows[TARGET]
                if isinstance(right, Packed):
                    given = right, begin, target, scale, adds
                    self._call_product(m.inner, columns, k.inner, left, *given)
                else:
                    lies = replace(right, at_k=self.body.element("i64", right.at_k, begin))
                    self._call_product_at(
                        m.inner, columns, k.inner, left, lies, target, scale, adds
                    )

            self.repeat(count, "1", part)

        self.groups.over(m.outer, places, rows)

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

    def columns_at_a_time(self, depth: str) -> str:
        """As many as make up a part, in whole panels."""
        some = self.body.value(f"icmp sgt i64 {depth}, 1")
        divisor = self.body.select(some, "i64", depth, "1")
        width = self.body.value(f"udiv i64 {PART}, {divisor}")
        width = self.body.value(f"and i64 {width}, {-PANEL}")
        enough = self.body.value(f"icmp ugt i64 {width}, {PANEL}")
        return self.body.select(enough, "i64", width, str(PANEL))

    # ------------------------------------------------------------------------------------- places

    def _along(
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

    def _strides(self, read: Read, dimensions: Sequence[Dimension]) -> list[str]:
        return [self._stride(read, d.index) for d in dimensions]

    def _stride(self, read: Read, index: str) -> str:
        found = coefficients(read, index, self.frame)
        known = [c for c in found if c is not None]
        return str(self.vectors.stride(self.frame.storage(read.tensor), known))

    def moved(self, places: Mapping[str, str], along: Along, by: str) -> dict[str, str]:
        moved = dict(places)
        for operand, stride in along.strides.items():
            moved[operand] = self.groups.at(places[operand], self._multiply(by, stride))
        return moved

    # -------------------------------------------------------------------------------------- calls

    def call_pack(
        self, k: str, n: str, right: str, bk: str, bn: str, packed: str, first: str, depth: str
    ) -> None:
        p, name = self.pointer, f"loopgrad_pack_{SUFFIX[self.real]}"
        self.frame.module.declare(f"declare void @{name}(i64, i64, {p}, i64, i64, {p}, i64, i64)")
        self.body.do(
            f"call void @{name}(i64 {k}, i64 {n}, {p} {right}, i64 {bk}, i64 {bn}, {p} {packed}, "
            f"i64 {first}, i64 {depth})"
        )

    def _call_pack_at(self, k: str, n: str, right: str, at_k: str, at_n: str, packed: str) -> None:
        p, name = self.pointer, f"loopgrad_pack_at_{SUFFIX[self.real]}"
        t = self.frame.module.pointer("i64")
        self.frame.module.declare(f"declare void @{name}(i64, i64, {p}, {t}, {t}, {p})")
        self.body.do(
            f"call void @{name}(i64 {k}, i64 {n}, {p} {right}, {t} {at_k}, {t} {at_n}, {p} {packed})"
        )

    def _call_product(
        self,
        m: Along,
        n: str,
        k: Along,
        left: str,
        packed: Packed,
        first: str,
        target: str,
        scale: str,
        adds: str,
    ) -> None:
        p, real, name = self.pointer, self.real, f"loopgrad_product_{SUFFIX[self.real]}"
        kinds = f"i64, i64, i64, {p}, i64, i64, {p}, i64, i64, i64, {p}, i64, {real}, i1 zeroext"
        self.frame.module.declare(f"declare void @{name}({kinds})")
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {n}, i64 {k.count}, {p} {left}, "
            f"i64 {m.strides[LEFT]}, i64 {k.strides[LEFT]}, {p} {packed.memory}, "
            f"i64 {first}, i64 {packed.depth}, i64 {packed.columns}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {real} {scale}, i1 zeroext {adds})"
        )

    def _call_product_at(
        self,
        m: Along,
        n: str,
        k: Along,
        left: str,
        right: Lying,
        target: str,
        scale: str,
        adds: str,
    ) -> None:
        p, t, real = self.pointer, self.frame.module.pointer("i64"), self.real
        name = f"loopgrad_product_at_{SUFFIX[real]}"
        kinds = (
            f"i64, i64, i64, {p}, i64, i64, {p}, {t}, {t}, {t}, i64, {p}, i64, {real}, i1 zeroext"
        )
        self.frame.module.declare(f"declare void @{name}({kinds})")
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {n}, i64 {k.count}, {p} {left}, "
            f"i64 {m.strides[LEFT]}, i64 {k.strides[LEFT]}, {p} {right.memory}, {t} {right.at_k}, "
            f"{t} {right.starts}, {t} {right.targets}, i64 {right.run}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {real} {scale}, i1 zeroext {adds})"
        )

    def _packed_size(self, depth: str, columns: str) -> str:
        return self._multiply(depth, self._filled(columns))

    def _multiply(self, a: str, b: str) -> str:
        return self.body.value(f"mul i64 {a}, {b}")

    def least(self, a: str, b: str) -> str:
        first = self.body.value(f"icmp slt i64 {a}, {b}")
        return self.body.select(first, "i64", a, b)
