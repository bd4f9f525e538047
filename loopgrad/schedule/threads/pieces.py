"""Images that several threads share: the values of a loop around, and of each a piece.

    for b < B parallel:
        for i, m, n vector:  x.padded[b,i,m,n] = ...
        for m < X in blocks parallel:
            product:  y[b,o,m,n] = k[o,i,p,q] * x.padded[b,i,m+p,n+q]

Threads get contiguous parts of the rows m, counted through the images. What a thread has of an image is one
block to it; what that needs of the rest of the image, in memory of the thread's own, it makes for itself.

Where a map goes before such a product or behind it, `y[b,o,m,n] = c[o]`, a thread's block is in blocks
itself, of so many rows that what both write stays in a cache between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Number, Read
from loopgrad.schedule.loops.buffers import uses
from loopgrad.schedule.tree import (
    Blocks,
    Buffer,
    Dimension,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Scope,
    Step,
    block_from,
    block_to,
    collapsed,
    read_by,
    shared_blocks,
    steps,
)

# Values of an index that stay together: of rows of a product, or of what lies side by side in memory.
ROWS, SIDE_BY_SIDE = 12, 64
# Of a product to which something is done: elements that stay in a cache, and columns for which a left side is
# packed again.
CACHED, COLUMNS = 1 << 17, 1 << 10


def in_pieces(nodes: tuple[Node, ...], buffers: Sequence[Buffer]) -> tuple[Node, ...]:
    """The trees of a phase, with pieces of what a product writes for each value of a loop that threads share;
    themselves, where there are none."""
    match nodes:
        case (Over(mark=Mark.PARALLEL) as loop,) if shared_blocks(loop) is None:
            inner = collapsed(loop)
            if isinstance(inner, Blocks) or any(buffer.further for buffer in buffers):
                return nodes
            body = _with_pieces((inner or loop).body, nodes, buffers)
            if body is None:
                return nodes
            if inner is not None:
                body = (replace(inner, body=body),)
            return (replace(loop, body=body),)
    return nodes


def _with_pieces(
    body: tuple[Node, ...], nodes: tuple[Node, ...], buffers: Sequence[Buffer]
) -> tuple[Node, ...] | None:
    own = {b.tensor for b in buffers if b.scope in (Scope.ROW, Scope.REGISTER)}
    products = [x for x in steps(body) if isinstance(x, Product)]
    if all(_written([node]) <= own for node in body) or not products:
        return None
    dimension, unit = _cut(products[0])
    if not walk.is_fixed(dimension.lower) or not walk.is_fixed(dimension.upper):
        return None
    axes = {
        tensor: {_axis(use.read, dimension.index) for use in places}
        for tensor, places in uses(nodes).items()
    }
    aligned = {tensor for tensor, found in axes.items() if len(found) == 1 and None not in found}
    before: list[Node] = []
    within: list[Node] = []
    for node in body:
        cut = _restricted(node, dimension) if _written([node]) <= aligned else None
        if cut is not None:
            within.append(cut)
        elif _is_own(node, own) and not _reads([node]) & _written(within):
            before.append(node)
        else:
            return None
    start, end = dimension.lower, dimension.upper
    rows = _cached(products[0], dimension) if len(within) > len(products) else None
    if rows is not None:
        ends = block_from(dimension.index), block_to(dimension.index)
        within = [Blocks(dimension.index, *ends, rows, tuple(within))]
    piece = Blocks(dimension.index, start, end, None, tuple(within), Mark.PARALLEL, unit=unit)
    return (*before, piece)


def _cut(product: Product) -> tuple[Dimension, int]:
    """The dimension that pieces are of, and how many of its values stay together."""
    taps = {d.index for d in product.k}
    subscripts = (s for r in walk.reads(product.right) for s in r.subscripts)
    windows = any(not isinstance(s, Index) and taps & walk.indices_of(s) for s in subscripts)
    if not windows:
        return product.m[0], ROWS
    first = product.n[0]
    return first, SIDE_BY_SIDE if product.target.subscripts[-1] == Index(first.index) else 1


def _cached(product: Product, dimension: Dimension) -> Expression | None:
    """How many values of a dimension of n have no more elements than a cache holds; None where that is not
    known before."""
    sizes = (*product.m, *product.n)
    fixed = all(walk.is_fixed(d.lower) and walk.is_fixed(d.upper) for d in sizes)
    if dimension not in product.n or not fixed:
        return None
    columns = _count(d for d in product.n if d != dimension)
    elements = walk.apply("*", columns, _count(product.m))
    rows: Expression = Number(1)
    for all_of_it, one in ((CACHED, elements), (COLUMNS, columns)):
        some = walk.apply("//", Number(all_of_it), walk.apply("max", one, Number(1)))
        rows = walk.apply("max", rows, some)
    return rows


def _count(dimensions: Iterable[Dimension]) -> Expression:
    """How many values they take, where they take any."""
    sizes = (walk.apply("-", d.upper, d.lower) for d in dimensions)
    one: Expression = Number(1)
    return reduce(lambda a, b: walk.apply("*", a, b), sizes, one)


def _axis(read: Read, index: str) -> int | None:
    """The axis that the index alone subscripts, if it is in no other."""
    axes = [i for i, s in enumerate(read.subscripts) if index in walk.indices_of(s)]
    return axes[0] if len(axes) == 1 and read.subscripts[axes[0]] == Index(index) else None


def _restricted(node: Node, piece: Dimension) -> Node | None:
    """The node over the values in a block; None where it does not go over all of them, once."""
    begin, end = block_from(piece.index), block_to(piece.index)
    match node:
        case Product():
            sides = [
                tuple(Dimension(d.index, begin, end) if d == piece else d for d in side)
                for side in (node.m, node.n)
            ]
            restricted = replace(node, m=sides[0], n=sides[1])
            whole = node.packed is None or sides[1] == node.n
            return restricted if restricted != node and whole else None
        case Over(index=index) if index == piece.index:
            whole = (node.lower, node.upper) == (piece.lower, piece.upper)
            return replace(node, lower=begin, upper=end) if whole else None
        case Over(body=body):
            cut = [_restricted(each, piece) for each in body]
            found = tuple(each for each in cut if each is not None)
            return replace(node, body=found) if len(found) == len(body) else None
    return None


def _is_own(node: Node, own: Collection[str]) -> bool:
    """Does it make ready what a thread has for itself, at little cost?"""
    plain = not any(isinstance(x, Product) for x in steps((node,)))
    return isinstance(node, Pack) or (plain and _written([node]) <= set(own))


def _written(nodes: Sequence[Node]) -> set[str]:
    found = steps(tuple(nodes))
    return {x.statement.target.tensor if isinstance(x, Step) else x.target.tensor for x in found}


def _reads(nodes: Sequence[Node]) -> set[str]:
    return {read.tensor for expression in _expressions(nodes) for read in walk.reads(expression)}


def _expressions(nodes: Sequence[Node]) -> Iterator[Expression]:
    for node in nodes:
        match node:
            case Step(statement):
                yield from walk.statement_expressions(statement)
            case Product() | Pack():
                yield from read_by(node)
            case Over(_, lower, upper, body) | Blocks(_, lower, upper, _, body):
                yield from (lower, upper, *_expressions(body))
