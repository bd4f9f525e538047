"""A product as plain loops: what stands in for the micro-kernel where that does not serve."""

from __future__ import annotations

from loopgrad.ir.nodes import Accumulate, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.identities import identity
from loopgrad.schedule.tree import Dimension, Mark, Node, Over, Product, Step


def as_loops(product: Product) -> Node:
    """`for m, n: target += left * right over k`, the contiguous n in vectors, k innermost.

    >>> from loopgrad.ir import walk
    >>> from loopgrad.ir.nodes import Extent, Index, Read
    >>> i, j, k = Index("i"), Index("j"), Index("k")
    >>> ranges = [Dimension(x.name, walk.ZERO, Extent(x.name.upper())) for x in (i, j, k)]
    >>> factors = Read("a", (i, k)), Read("b", (k, j))
    >>> loop = as_loops(Product(Read("c", (i, j)), *factors, *((r,) for r in ranges)))
    >>> loop.index, loop.body[0].index, loop.body[0].mark.value, loop.body[0].body[0].index
    ('i', 'j', 'vector', 'k')
    """
    sums = Accumulate(product.target, product.reduction, product.value, guard=product.guard)
    body = _around(product.k, (Step(sums),))
    if product.first:
        start = identity(product.reduction, ElementType.FLOAT)
        body = (Step(Accumulate(product.target, Reduction.SET, start, guard=product.guard)), *body)
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
