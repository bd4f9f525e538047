"""Products that sum over the same indices, such as the gradients of a layer's weights, part by part together.

What several have on the right is packed once for all of them, and a part of what they have on the left
is in a cache still when the next one reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.products.groups import Along, Group
from loopgrad.backends.llvm.products.operands import LEFT, RIGHT, TARGET, Packed
from loopgrad.backends.llvm.products.sides import ordered
from loopgrad.backends.llvm.products.workspace import DEPTH, is_scattered
from loopgrad.ir import walk
from loopgrad.schedule.tree import Node, Product

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products


def together(nodes: Sequence[Node]) -> Iterator[Node | tuple[Product, ...]]:
    """The nodes in order; several products that may run together in a tuple."""
    group: tuple[Product, ...] = ()
    for node in nodes:
        if isinstance(node, Product) and _may_join(node, group):
            group += (node,)
            continue
        yield from _as_found(group)
        group = (node,) if isinstance(node, Product) else ()
        if not group:
            yield node
    yield from _as_found(group)


def _as_found(group: tuple[Product, ...]) -> Iterator[Node | tuple[Product, ...]]:
    if len(group) > 1:
        yield group
    else:
        yield from group


def _may_join(node: Product, group: Sequence[Product]) -> bool:
    """Do all sum over the same, of what none of them writes, each into a tensor of its own?"""
    everyone = (*group, node)
    if any({*one.k} != {*node.k} for one in everyone):
        return False
    written = {one.target.tensor for one in everyone}
    if len(written) < len(everyone):
        return False
    read = {
        r.tensor for one in everyone for side in (one.left, one.right) for r in walk.reads(side)
    }
    alone = any(
        one.packed or one.guard is not None or one.update or is_scattered(one) for one in everyone
    )
    return not alone and written.isdisjoint(read)


def with_one_right(group: Sequence[Product]) -> list[list[int]]:
    """The products of a group by what they pack, as numbers."""
    found: dict[object, list[int]] = {}
    for i, one in enumerate(group):
        found.setdefault((one.right, ordered(one.n, one.target)), []).append(i)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Right:
    """Products with one right side: their numbers, its columns, and the memory that it is packed into."""

    numbers: Sequence[int]
    n: Group
    memory: str

    @property
    def source(self) -> str:
        return _name(self.numbers[0], RIGHT)


class Together:
    """Emits a group of products."""

    def __init__(self, products: Products, group: Sequence[Product]):
        self.products, self.group = products, group
        self.groups, self.body = products.groups, products.body
        self.found = [products.operands(node, like=group[0]) for node in group]
        self.places = {
            _name(i, operand): place
            for i, o in enumerate(self.found)
            for operand, place in o.places.items()
        }

    def write(self) -> None:
        everyone = range(len(self.group))
        sides = [_name(i, operand) for i in everyone for operand in (LEFT, RIGHT)]
        k = self.groups.merged(self._joined([o.k for o in self.found], everyone), sides)
        k = self.groups.at_least_once(k)
        rights = [self._right(numbers) for numbers in with_one_right(self.group)]
        rows = [self.groups.merged(o.m, [LEFT, TARGET]) for o in self.found]
        depth = self.products.least(k.inner.count, str(DEPTH))

        def some(places: Mapping[str, str], number: str) -> None:
            def part(first: str) -> None:
                rest = self.body.value(f"sub i64 {k.inner.count}, {first}")
                here = Along(self.products.least(rest, depth), k.inner.strides)
                before = self.body.value(f"or i64 {number}, {first}")
                later = self.body.value(f"icmp ne i64 {before}, 0")
                moved = self.products.moved(places, k.inner, first)
                for right in rights:
                    self._part(right, rows, moved, here, depth, later)

            more = self.body.value(f"icmp sgt i64 {k.inner.count}, 1")
            end = self.body.select(more, "i64", k.inner.count, "1")  # zeros are stored, too
            self.products.repeat(end, depth, part)

        self.groups.over(k.outer, self.places, some)

    def _right(self, numbers: Sequence[int]) -> _Right:
        names = [_name(numbers[0], RIGHT), *(_name(i, TARGET) for i in numbers)]
        joined = self._joined([self.found[i].n for i in numbers], numbers)
        n = self.groups.merged(joined, names, contiguous=TARGET)
        space = self.products.workspaces[id(self.group[numbers[0]])][0]
        return _Right(numbers, n, self.products.frame.pointer(space.name))

    def _joined(
        self, indices: Sequence[Sequence[Along]], numbers: Sequence[int]
    ) -> tuple[Along, ...]:
        """The same indices of several products, with the strides of all their operands."""
        return tuple(
            Along(
                alike[0].count,
                {
                    _name(i, o): s
                    for i, a in zip(numbers, alike, strict=True)
                    for o, s in a.strides.items()
                },
            )
            for alike in zip(*indices, strict=True)
        )

    def _part(
        self,
        right: _Right,
        rows: Sequence[Group],
        places: Mapping[str, str],
        k: Along,
        depth: str,
        later: str,
    ) -> None:
        """Packs the part of k on the right, some columns at a time; and multiplies all that need it."""
        products = self.products
        n, width = right.n, products.columns_at_a_time(depth)

        def columns(at: Mapping[str, str], count: str) -> None:
            bk, bn = k.strides[right.source], n.inner.strides[right.source]
            products.calls.pack(
                k.count, count, at[right.source], bk, bn, right.memory, "0", k.count
            )
            for i in right.numbers:
                own = {operand: at[_name(i, operand)] for operand in (LEFT, TARGET)}
                products.multiply_all(
                    own,
                    rows[i],
                    count,
                    Group((), Along(k.count, {LEFT: k.strides[_name(i, LEFT)]})),
                    Packed(right.memory, k.count, count),
                    self.found[i].scale,
                    later if self.group[i].first else True,
                )

        self.groups.over(
            n.outer, places, lambda at, _: products.by_columns(at, n.inner, width, columns)
        )


def _name(number: int, operand: str) -> str:
    return f"{number}.{operand}"
