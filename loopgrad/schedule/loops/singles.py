"""Loops whose steps run one by one: what is the same in all of them is worth taking out."""

from __future__ import annotations

from collections.abc import Iterable

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Number
from loopgrad.schedule.lines import SMALL
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Step


def runs_singly(nodes: Iterable[Node]) -> bool:
    """Has an innermost loop no lanes, or one inside of others bounds that are divided for?

    Not where it takes few values, nor where a loop with lanes inside takes longer than the division.
    """
    return any(_singly(node) for node in nodes)


def has_no_lanes(nodes: Iterable[Node]) -> bool:
    """Do loops run singly, and nothing several at once? Then LLVM may find vectors there."""
    nodes = tuple(nodes)
    return runs_singly(nodes) and not any(map(_has_lanes, nodes))


def _has_lanes(node: Node) -> bool:
    match node:
        case Step():
            return False
        case Over(mark=mark, body=body):
            return mark in (Mark.VECTOR, Mark.SCAN) or any(map(_has_lanes, body))
        case Blocks(body=body):
            return any(map(_has_lanes, body))
    return True


def _singly(node: Node) -> bool:
    match node:
        case Over(mark=mark, body=body):
            if _is_dear(node) and (mark is Mark.VECTOR or not any(map(_has_lanes, body))):
                return True
            if mark in (Mark.VECTOR, Mark.SCAN):
                return any(_is_dear(inner) for inner in body)
            if all(map(_is_small, body)):
                return not _is_short(node)
            return runs_singly(body)
        case Blocks(body=body):
            return runs_singly(body)
    return False


def _is_small(node: Node) -> bool:
    """Is it a step, or a few times some?"""
    match node:
        case Step():
            return True
        case Over(mark=Mark.SEQUENTIAL | Mark.PARALLEL, body=body):
            return _is_short(node) and all(map(_is_small, body))
    return False


def _is_short(loop: Over) -> bool:
    match loop.lower, loop.upper:
        case Number(low), Number(high):
            return high - low <= SMALL
    return False


def _is_dear(node: Node) -> bool:
    return isinstance(node, Over) and any(
        isinstance(e, Apply)
        and e.operation in ("//", "%")
        and not isinstance(e.operands[1], Number)
        and bool(walk.indices_of(e))
        for bound in (node.lower, node.upper)
        for e in walk.subexpressions(bound)
    )
