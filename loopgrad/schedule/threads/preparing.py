"""Right sides of products that all threads make ready together, in a phase before the one that needs them.

Where each thread packs a matrix of weights for itself, 16 threads do so 16 times, for a few rows each,
and each copy takes the room in the caches that all would have for one. A small matrix is sooner packed
than fetched from where another thread has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Compare, Conditional, Expression, Index, Number, Read
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Tensors
from loopgrad.schedule.loops.phases import Tree
from loopgrad.schedule.tree import (
    ZERO,
    Blocks,
    Dimension,
    Made,
    Node,
    Over,
    Pack,
    Product,
    is_parallel,
    steps,
)

VECTOR = 16  # no vector has more lanes

# Elements of a matrix from which on it is worth its way from the caches of the threads that packed it.
LARGE = 1 << 18


def filled(columns: Expression) -> Expression:
    """As many as whole vectors have."""
    up = walk.apply("+", columns, Number(VECTOR - 1))
    return walk.apply("*", walk.apply("//", up, Number(VECTOR)), Number(VECTOR))


def with_packs_before(tree: Tree, context: Context) -> Iterator[Tree]:
    """The tree; before it one of the packs that are the same for all threads, if there are some."""
    match tree.nodes:
        case (Over() | Blocks() as loop,) if is_parallel(loop):
            written = _written(tree.nodes)
            together = [
                node
                for node in loop.body
                if isinstance(node, Pack) and _may_share(node, loop.index, written, context.tensors)
            ]
            if together:
                for pack in together:
                    extent = Conditional(is_large(pack), room(pack), ZERO)
                    context.holds(pack.name, (extent,))
                yield Tree(tuple(_made(pack, Made.TOGETHER) for pack in together))
                body = tuple(
                    _made(node, Made.BEFORE)
                    if isinstance(node, Pack) and node in together
                    else node
                    for node in loop.body
                )
                tree = replace(tree, nodes=(replace(loop, body=body),))
    yield tree


def _made(pack: Pack, made: Made) -> Pack:
    return replace(pack, made=made, large=is_large(pack))


def is_large(pack: Pack) -> Expression:
    return Compare((">=",), (room(pack), Number(LARGE)))


def _may_share(pack: Pack, index: str, written: frozenset[str], tensors: Tensors) -> bool:
    """Is it one matrix as it stands in memory, whichever values of the index a thread has?"""
    match pack.right:
        case Read(tensor, subscripts):
            plain = all(isinstance(s, Index | Number) for s in subscripts)
            known = tensor not in written and tensors[tensor].element is ElementType.FLOAT
            fixed = index not in walk.indices_of(pack.right)
            whole = all(d.lower == ZERO and not walk.indices_of(d.upper) for d in _sides(pack))
            reads = any(True for d in _sides(pack) for _ in walk.reads(d.upper))
            return plain and known and fixed and whole and not reads and len(pack.n) == 1
    return False


def _sides(pack: Pack) -> Sequence[Dimension]:
    return (*pack.n, *pack.k)


def room(pack: Pack) -> Expression:
    """The elements that it takes, at most."""
    total = filled(pack.n[0].upper)
    for d in reversed(pack.k):
        total = walk.apply("*", d.upper, total)
    return total


def _written(nodes: tuple[Node, ...]) -> frozenset[str]:
    return frozenset(
        node.target.tensor if isinstance(node, Product) else node.statement.target.tensor
        for node in steps(nodes)
    )
