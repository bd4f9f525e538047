"""Grids of threads for products: rows times columns times parts of the sum.

    for o < O in blocks parallel as rows:
        for i < C in blocks parallel as columns:
            for b < B in blocks parallel as sums:
                product:  k.grad[o,i,p] = y.grad[b,o,n] * x[b,i,n+p]

Where threads share the rows alone, each packs all of the other side for itself: sixteen times what one thread
packs. How many of each is chosen at a call (`backends/llvm/fused/grid.py`). Those who sum up another part
than the first have a copy of the target, where that is small; the copies are added in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Compare, Conditional, Expression, Index, Number, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.lines import SMALL, Tensors
from loopgrad.schedule.tree import (
    ZERO,
    Axis,
    Blocks,
    Buffer,
    Dimension,
    Grid,
    Mark,
    Node,
    Product,
    Scope,
    block_from,
    block_to,
)

# Elements of all targets together up to which threads may have copies, and how many are summed for one at
# least, as to add up what sixteen have takes as long as to sum 240.
COPIED, DEEP = 1 << 18, 1 << 10

SIDE_BY_SIDE = 64  # columns that stay together


@dataclass(frozen=True, slots=True)
class Shape:
    """What a grid is chosen by: how many rows, columns and sums there are, and the loops of columns, and of
    sums where these are shared out.
    """

    rows: Expression
    columns: Expression
    depth: Expression
    across: Blocks
    sums: Blocks | None


def in_grid(
    nodes: tuple[Node, ...], buffers: Sequence[Buffer], tensors: Tensors
) -> tuple[tuple[Node, ...], tuple[Buffer, ...]]:
    """The trees of a phase, and its buffers, with a grid of threads where it is nothing but products."""
    match nodes:
        case (Blocks(size=None, body=body, mark=Mark.PARALLEL) as rows,):
            products = [node for node in body if isinstance(node, Product)]
            known = walk.is_fixed(rows.lower) and walk.is_fixed(rows.upper)
            if buffers or len(products) < len(body) or not known:
                return nodes, tuple(buffers)
            if not _may_be_cut(products, rows.index):
                return nodes, tuple(buffers)
            columns, sums = products[0].n[0], _sums(products)
            cut = [replace(p, n=_within(p.n, columns), k=_within(p.k, sums)) for p in products]
            inner: tuple[Node, ...] = tuple(cut)
            copies: tuple[Buffer, ...] = ()
            if sums is not None:
                inner = (_blocks(sums, inner, Grid.SUMS),)
                copies = tuple(_copies(products, tensors))
            last = all(p.target.subscripts[-1] == Index(columns.index) for p in products)
            across = _blocks(columns, inner, Grid.COLUMNS, SIDE_BY_SIDE if last else 1)
            return (replace(rows, body=(across,), grid=Grid.ROWS),), copies
    return nodes, tuple(buffers)


def shape(rows: Blocks) -> Shape:
    """Of a grid; sizes of the products in it together."""
    across = rows.body[0]
    assert isinstance(across, Blocks)
    inner = across.body[0]
    sums = inner if isinstance(inner, Blocks) else None
    products = [p for p in (sums or across).body if isinstance(p, Product)]
    bounds = {b.index: b for b in (rows, across, *([sums] if sums else []))}

    def count(dimensions: Sequence[Dimension]) -> Expression:
        return _product([_count(bounds.get(d.index, d)) for d in dimensions])

    columns = reduce(lambda a, b: walk.apply("+", a, b), [count(p.n) for p in products])
    return Shape(count(products[0].m), columns, count(products[0].k), across, sums)


def _may_be_cut(products: Sequence[Product], rows: str) -> bool:
    """Have they rows and outermost columns in common, targets of their own, and bounds that a call knows?"""
    if not products or any(p.guard is not None or p.packed is not None for p in products):
        return False
    if len({p.target.tensor for p in products}) < len(products):
        return False
    written = {p.target.tensor for p in products}
    reads = {r.tensor for p in products for side in (p.left, p.right) for r in walk.reads(side)}
    if written & reads or len({p.n[0] for p in products}) > 1:
        return False
    for p in products:
        if rows not in {d.index for d in p.m}:
            return False
        if Index(rows) not in p.target.subscripts or Index(p.n[0].index) not in p.target.subscripts:
            return False
        for d in (*p.m, *p.n, *p.k):
            if d.index != rows and not (walk.is_fixed(d.lower) and walk.is_fixed(d.upper)):
                return False
    return True


def _sums(products: Sequence[Product]) -> Dimension | None:
    """The dimension whose values are shared out: the first that all sum over, of more than few values."""
    if not all(p.first and p.reduction in (Reduction.ADD, Reduction.SUBTRACT) for p in products):
        return None  # copies are added up
    common = [d for d in products[0].k if all(d in p.k for p in products)]
    return next((d for d in common if not _has_few(d)), None)


def _has_few(d: Dimension) -> bool:
    return isinstance(d.upper, Number) and d.upper.value <= SMALL


def _within(dimensions: tuple[Dimension, ...], cut: Dimension | None) -> tuple[Dimension, ...]:
    return tuple(
        Dimension(d.index, block_from(d.index), block_to(d.index)) if d == cut else d
        for d in dimensions
    )


def _blocks(d: Dimension, body: tuple[Node, ...], grid: Grid, unit: int = 1) -> Blocks:
    return Blocks(d.index, d.lower, d.upper, None, body, Mark.PARALLEL, unit=unit, grid=grid)


def _copies(products: Sequence[Product], tensors: Tensors) -> list[Buffer]:
    """Of targets that are small together, of long sums."""
    extents = {p.target.tensor: tensors[p.target.tensor].extents for p in products}
    total = reduce(lambda a, b: walk.apply("+", a, b), map(_product, extents.values()))
    depth = _product([_count(d) for d in products[0].k])
    small = Compare(("<=",), (total, Number(COPIED)))
    pays = walk.conjunction([small, Compare((">=",), (depth, Number(DEEP)))])
    assert pays is not None
    found = []
    for tensor, (first, *others) in extents.items():
        axes = (
            Axis(0, Conditional(pays, first, ZERO)),
            *(Axis(i, e) for i, e in enumerate(others, 1)),
        )
        found.append(Buffer(tensor, ElementType.FLOAT, Scope.SUMMED, axes))
    return found


def _count(d: Dimension | Blocks) -> Expression:
    return d.upper if d.lower == ZERO else walk.apply("-", d.upper, d.lower)


def _product(counts: Sequence[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), counts)
