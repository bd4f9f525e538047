"""A product as plain loops: what stands in for the micro-kernel where that does not serve."""

from __future__ import annotations

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Reduction
from loopgrad.schedule.tree import Dimension, Mark, Node, Over, Product, Step


def as_loops(product: Product) -> Node:
    """`for m, n: target += left * right over k`, the contiguous n in vectors, k innermost.

    >>> from loopgrad.ir.nodes import Extent, Index, Read
    >>> i, j, k = Index("i"), Index("j"), Index("k")
    >>> ranges = [Dimension(x.name, walk.ZERO, Extent(x.name.upper())) for x in (i, j, k)]
    >>> factors = Read("a", (i, k)), Read("b", (k, j))
    >>> loop = as_loops(Product(Read("c", (i, j)), *factors, *((r,) for r in ranges)))
    >>> loop.index, loop.body[0].index, loop.body[0].mark.value, loop.body[0].body[0].index
    ('i', 'j', 'vector', 'k')
    """
    reduction = Reduction.SUBTRACT if product.negative else Reduction.ADD
    value = walk.apply("*", product.left, product.right)
    sums = Accumulate(product.target, reduction, value, guard=product.guard)
    body = _around(product.k, (Step(sums),))
    if product.first:
        zero = Accumulate(product.target, Reduction.SET, walk.number(0.0), guard=product.guard)
        body = (Step(zero), *body)
    if product.n:
        *others, last = product.n
        body = (Over(last.index, last.lower, last.upper, body, Mark.VECTOR),)
        body = _around(tuple(others), body)
    (node,) = _around(product.m, body)
    return node


def _around(dimensions: tuple[Dimension, ...], body: tuple[Node, ...]) -> tuple[Node, ...]:
    for d in reversed(dimensions):
        body = (Over(d.index, d.lower, d.upper, body),)
    return body
