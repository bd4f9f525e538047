"""The memory that products pack into: how much each takes at most, in the thread's scratch memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeGuard

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.products.borders import BOXES, ROOM, SPARE
from loopgrad.backends.llvm.products.ranges import Known, count_at_most, inside
from loopgrad.ir import walk
from loopgrad.ir.nodes import Conditional, Expression, Index, Number
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.lines import access, is_shifted
from loopgrad.schedule.products.joining import are_before
from loopgrad.schedule.threads.preparing import VECTOR, filled, room
from loopgrad.schedule.tree import (
    PANEL,
    Axis,
    Blocks,
    Buffer,
    Dimension,
    Made,
    Node,
    Over,
    Pack,
    Product,
    Scope,
)

PART = 1 << 17  # elements that are packed at a time, where that suffices: they stay in a cache
LARGE_PART = 1 << 18  # of a matrix that is packed by itself: what else is read goes through
DEPTH = 256  # values of k that are packed at a time, where k may be cut
TABLE = 1024  # columns whose places are known at a time, at most
DEEP = 512  # values of k at a time, where the left side is packed: half of it more at most
KEPT = 1 << 22  # elements of a left side that are packed once for all loops around, at most
DEEPEST = 3 * DEEP // 2
PLACES = TABLE + BOXES * SPARE  # of columns in boxes, at most
LANES = 256  # rows that are packed at a time, where lanes run over them
INT = ElementType.INT


@dataclass(frozen=True, slots=True)
class Workspace:
    """`size` elements of the thread's own memory, under a name that no tensor of a program has."""

    name: str
    size: Expression
    element: ElementType = ElementType.FLOAT

    @property
    def buffer(self) -> Buffer:
        return Buffer(self.name, self.element, Scope.ROW, (Axis(0, self.size),))

    @property
    def facts(self) -> TensorFacts:
        return TensorFacts(self.name, "temporary", (self.size,), self.element)


def workspaces(
    nodes: Sequence[Node], kept: Collection[int] = ()
) -> dict[int, tuple[Workspace, ...]]:
    """Of every pack, and of every product that packs for itself, by the `id` of the node.

    The first is for what is packed; two others for tables of where k and n lie, two for a left side that is
    packed, and sums whose lanes run over it, and one for what is left out. Products that pack for
    themselves do so one after the other, into the same memory; but a left side that is the same whenever a
    product runs (`kept`, by `id`) has memory of its own, and a table of k.
    """
    every = list(_inside(nodes, {}))
    alone = [(node, known) for node, known in every if _packs_for_itself(node)]
    part = Workspace("product", _greatest(_part(node, known) for node, known in alone))
    scattered = [(node, known) for node, known in alone if is_scattered(node)]
    tables = (
        Workspace("product.k", _greatest(_count(n.k, known) for n, known in scattered), INT),
        Workspace("product.n", Number(TABLE), INT),
        Workspace("product.left", _greatest(_left(node, known) for node, known in scattered)),
        Workspace("product.turned", _greatest(_turned(node, known) for node, known in scattered)),
    )
    bordered = [(node, known) for node, known in scattered if node.borders]
    boxes = Workspace("product.boxes", _greatest(_boxes(n, known) for n, known in bordered), INT)
    found: dict[int, tuple[Workspace, ...]] = {}
    for node, known in every:
        match node:
            case Pack(name, _, n, k, Made.OWN):
                found[id(node)] = (Workspace(name, _packed(n, k, known)),)
            case Pack(made=Made.BEFORE, large=large):
                size = Conditional(large, Number(0), room(node))
                found[id(node)] = (Workspace(node.own, size),)
            case Product(packed=None):
                found[id(node)] = (part, *tables) if is_scattered(node) else (part,)
                if node.borders and is_scattered(node):
                    found[id(node)] += (boxes,)
                if id(node) in kept and is_scattered(node):
                    found[id(node)] += _kept(node, known, len(found))
    return found


def _packs_for_itself(node: Node) -> TypeGuard[Product]:
    return isinstance(node, Product) and node.packed is None


def _greatest(sizes: Iterable[Expression]) -> Expression:
    distinct = list(dict.fromkeys(sizes))
    return reduce(lambda a, b: walk.apply("max", a, b), distinct) if distinct else Number(0)


def is_scattered(product: Product) -> bool:
    """Does an index of k share a subscript with others, as in `x[i+p]`, or does the right side go in steps
    over several indices of n, as in `x[2*m,2*n]`?

    Then indices hardly ever count as one on the right side. Nor do they where columns are of several images,
    or lie in short runs.
    """
    indices = {d.index for d in product.k}
    steps = {
        subscript
        for read in walk.reads(product.right)
        for subscript in read.subscripts
        if any(
            d.index in walk.indices_of(subscript) and not is_shifted(subscript, d.index)
            for d in product.n
        )
    }
    return (
        product.runs_apart
        or _is_of_images(product)
        or len(steps) > 1
        or any(
            not isinstance(subscript, Index) and indices & walk.indices_of(subscript)
            for side in (product.left, product.right)
            for read in walk.reads(side)
            for subscript in read.subscripts
        )
    )


def _is_of_images(product: Product) -> bool:
    m, n = (tuple(d.index for d in side) for side in (product.m, product.n))
    return are_before(n, m, access(product.target))


def _inside(nodes: Sequence[Node], known: Known) -> Iterator[tuple[Node, Known]]:
    """Every pack and product, with what is known of the indices around it."""
    for node in nodes:
        match node:
            case Pack() | Product():
                yield node, known
            case Over() | Blocks():
                yield from _inside(node.body, inside(node, known))


def _packed(n: Sequence[Dimension], k: Sequence[Dimension], known: Known) -> Expression:
    """All of a side: the last index of n filled up to whole vectors."""
    *outer, last = n
    return walk.apply("*", _count([*outer, *k], known), filled(_count([last], known)))


def _part(product: Product, known: Known) -> Expression:
    depth = _count(product.k, known)
    least = walk.apply("max", Number(LARGE_PART), walk.apply("*", depth, Number(PANEL)))
    return walk.apply("min", least, _packed(product.n, product.k, known))


def _kept(product: Product, known: Known, number: int) -> tuple[Workspace, ...]:
    """Of a left side with no more elements than are kept: for all of it, and a table; else for nothing."""
    rows, depth = count_at_most(product.m, known), _count(product.k, known)
    if rows is None:
        return ()
    size = walk.apply("*", filled(rows), depth)
    fits = walk.apply("//", Number(KEPT), walk.apply("max", size, Number(1)))
    fits = walk.apply("min", Number(1), fits)
    return (
        Workspace(f"kept.{number}", walk.apply("*", size, fits)),
        Workspace(f"kept.{number}.k", walk.apply("*", depth, fits), INT),
    )


def _left(product: Product, known: Known) -> Expression:
    """Some rows of the left side, and as many values of k as are taken at a time."""
    depth = walk.apply("min", Number(DEEPEST), _count(product.k, known))
    return walk.apply("*", depth, _lanes(product, known))


def _boxes(product: Product, known: Known) -> Expression:
    """All boxes, where each of their columns is, and where each value of k is."""
    depth = walk.apply("min", Number(DEEPEST), _count(product.k, known))
    tables = walk.apply("*", Number(2 * BOXES), depth)
    return walk.apply("+", Number(ROOM + 2 * PLACES), tables)


def _turned(product: Product, known: Known) -> Expression:
    """Some rows and columns of the target, and the columns that are written behind the last one."""
    lanes, columns = _lanes(product, known), _count(product.n, known)
    most = walk.apply("*", lanes, walk.apply("+", columns, Number(VECTOR)))
    return walk.apply(
        "min", most, walk.apply("+", Number(PART), walk.apply("*", lanes, Number(VECTOR)))
    )


def _lanes(product: Product, known: Known) -> Expression:
    """The rows of the left side, filled up to whole vectors, that are packed at a time."""
    rows = count_at_most(product.m, known)
    if rows is None:
        return Number(LANES)
    return walk.apply("min", Number(LANES), filled(rows))


def _count(dimensions: Sequence[Dimension], known: Known) -> Expression:
    count = count_at_most(dimensions, known)
    assert count is not None, "products without bounds are loops (`evaluated.py`)"
    return count
