"""Phases that do nothing: a long loop around loops over an empty axis is not gone through.

    for t < T:  for b < B vector:  h[b,t] = ...

does something where `0 < B`. What T is, the loop itself finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Extent, Index, Number, Read
from loopgrad.schedule import Nest, Phase, Sequence
from loopgrad.schedule.tree import Blocks, Dimension, Fused, Node, Over, Product, Step

# For each statement the loops around it, outermost first, of which none may be empty.
Around = tuple[Dimension, ...]


def busy(phase: Phase) -> Expression | None:
    """What has to hold of extents for the phase to do anything; None where nothing is known before."""
    found = list(_statements(phase))
    bounds = {bound for around in found for d in around for bound in (d.lower, d.upper)}
    if not all(map(_cannot_fail, bounds)):
        return None
    ways = dict.fromkeys(_some(around) for around in found)
    if None in ways or not ways:
        return None
    return reduce(lambda a, b: walk.apply("or", a, b), (way for way in ways if way is not None))


def _some(around: Around) -> Expression | None:
    """Is there an iteration, if there are any of the outermost loop?"""
    fixed = (d for d in around[1:] if not walk.indices_of(d.lower) | walk.indices_of(d.upper))
    return walk.conjunction(walk.compare("<", d.lower, d.upper) for d in fixed)


def _cannot_fail(bound: Expression) -> bool:
    """Else it is evaluated, where there is nothing to do too, so that it is refused."""
    match bound:
        case Number() | Extent() | Index():
            return True
        case Apply("+" | "-" | "neg" | "max" | "min", operands):
            return all(map(_cannot_fail, operands))
        case Apply("*" | "//", (operand, Number(int(factor)))):
            return factor > 0 and _cannot_fail(operand)
        case Apply("*", (Number(int(factor)), operand)):
            return factor > 0 and _cannot_fail(operand)
    return False


def _statements(phase: Phase) -> Iterator[Around]:
    match phase:
        case Fused(body):
            yield from _of_nodes(body, ())
        case Nest(_, _, loops):
            yield tuple(Dimension(o.index, o.lower, o.upper) for o in loops)
        case Sequence(_, loops, body):
            outer = tuple(Dimension(o.index, o.lower, o.upper) for o in loops)
            yield from ((*outer, *inner) for one in body for inner in _statements(one))


def _of_nodes(nodes: Iterable[Node], around: Around) -> Iterator[Around]:
    for node in nodes:
        match node:
            case Over(index, lower, upper, body) | Blocks(index, lower, upper, _, body):
                yield from _of_nodes(body, (*around, Dimension(index, lower, upper)))
            case Step(statement, first):
                yield _holding(statement.target, around) if first else around
            case Product(target, _, _, m, n, k, first):
                inside = (*around, *m, *n, *k)
                yield _holding(target, inside) if first else inside


def _holding(target: Read, around: Around) -> Around:
    """Those over its elements: what is written first is written where there is nothing to add up too."""
    indices = frozenset().union(*map(walk.indices_of, target.subscripts))
    return (*around[:1], *(d for d in around[1:] if d.index in indices))
