"""Where computed tensors live: in registers or rows of one nest, or in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Number, Read
from loopgrad.schedule.lines import Tensors
from loopgrad.schedule.loops.phases import Tree
from loopgrad.schedule.tree import (
    Axis,
    Blocks,
    Buffer,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Scope,
    Step,
    block_from,
    read_by,
)


@dataclass(frozen=True, slots=True)
class Use:
    """A read or a write of a tensor, and the places of the nodes around it, outermost first."""

    read: Read
    path: tuple[tuple[int, Over | Blocks], ...]


def uses(nodes: Sequence[Node]) -> dict[str, list[Use]]:
    """Every use in the trees of a phase, by tensor."""
    found: dict[str, list[Use]] = defaultdict(list)
    for place, node in enumerate(nodes):
        for read, path in _visit(node, (), place):
            found[read.tensor].append(Use(read, path))
    return found


def _visit(
    node: Node, path: tuple[tuple[int, Over | Blocks], ...], place: int
) -> Iterator[tuple[Read, tuple[tuple[int, Over | Blocks], ...]]]:
    match node:
        case Step(statement):
            for read in (statement.target, *walk.statement_reads(statement)):
                yield read, path
        case Product(target):
            for read in (target, *read_by(node)):
                yield read, path
        case Pack():
            for read in read_by(node):
                yield read, path
        case Over() | Blocks():
            for bound in (node.lower, node.upper):
                for read in walk.reads(bound):
                    yield read, path
            for i, child in enumerate(node.body):
                yield from _visit(child, (*path, (place, node)), i)


def buffers_of(trees: Sequence[Tree], tensors: Tensors, kept: frozenset[str]) -> list[list[Buffer]]:
    """The buffers of each tree; what has none is in memory.

    kept: computed tensors that others than these trees see, such as results.
    """
    used = [uses(tree.nodes) for tree in trees]
    phases_with: dict[str, int] = defaultdict(int)
    for one in used:
        for tensor in one:
            phases_with[tensor] += 1
    found: list[list[Buffer]] = []
    for tree, one in zip(trees, used, strict=True):
        own = []
        for tensor, places in one.items():
            if tensors[tensor].role == "input":
                continue
            if tensor in tree.copied:
                own.append(_copy(tensor, tensors))
            elif tensor in tree.split:
                own.append(_row(tensor, tree.split[tensor], tensors))
            elif tensor not in kept and phases_with[tensor] == 1:
                own += _within(tensor, places, tensors)
        found.append(own)
    return found


def _copy(tensor: str, tensors: Tensors) -> Buffer:
    facts = tensors[tensor]
    axes = tuple(Axis(i, extent) for i, extent in enumerate(facts.extents))
    return Buffer(tensor, facts.element, Scope.PARTIAL, axes)


def _row(tensor: str, rows: Mapping[int, str], tensors: Tensors) -> Buffer:
    facts = tensors[tensor]
    axes = tuple(Axis(i, extent) for i, extent in enumerate(facts.extents) if i not in rows)
    return Buffer(tensor, facts.element, Scope.SPLIT, axes, rows=tuple(sorted(rows.items())))


def _within(tensor: str, places: Sequence[Use], tensors: Tensors) -> Iterator[Buffer]:
    """A buffer in registers, or in a row, of a tensor that one phase alone uses, if it can have one."""
    facts = tensors[tensor]
    common = _common([use.path for use in places])
    indices = {node.index for node in common if isinstance(node, Over)}
    again = _blocked_again([use.path[len(common) :] for use in places])
    blocks = {
        node.index: node for node in common if isinstance(node, Blocks) and node.index not in again
    }
    left = tuple(
        _axis(i, extent, places, blocks)
        for i, extent in enumerate(facts.extents)
        if _alone(i, places) not in indices and not _is_fixed(i, places)
    )
    lanes = any(isinstance(n, Over) and n.mark is Mark.VECTOR for n in common)
    if not left:
        yield Buffer(tensor, facts.element, Scope.REGISTER, lanes=lanes)
    elif not lanes and not _outlives(left, places, indices) and not _are_merged(left, places):
        yield Buffer(tensor, facts.element, Scope.ROW, left)


def _outlives(axes: Sequence[Axis], places: Sequence[Use], indices: set[str]) -> bool:
    """Does an iteration of the loops use elements of another: `h[t-1]`?"""
    return any(
        walk.indices_of(use.read.subscripts[axis.position]) & indices
        for axis in axes
        for use in places
    )


def _are_merged(axes: Sequence[Axis], places: Sequence[Use]) -> bool:
    """May one index go over two axes, `h[0,b.j]`? A row has not so many elements."""
    return any(
        axis.position and {use.read.subscripts[axis.position - 1] for use in places} == {Number(0)}
        for axis in axes
    )


def _common(paths: Sequence[tuple[tuple[int, Over | Blocks], ...]]) -> list[Over | Blocks]:
    """The loops that enclose every use."""
    common: list[Over | Blocks] = []
    for steps in zip(*paths, strict=False):
        places = {(place, id(node)) for place, node in steps}
        if len(places) > 1:
            break
        common.append(steps[0][1])
    return common


def _blocked_again(paths: Sequence[Sequence[tuple[int, Over | Blocks]]]) -> set[str]:
    """Indices that are in blocks within: there `block_from` is where those begin, not the block around."""
    return {node.index for path in paths for _, node in path if isinstance(node, Blocks)}


def _alone(axis: int, places: Sequence[Use]) -> str | None:
    """The one index that each use has alone for a subscript of the axis."""
    subscripts = {use.read.subscripts[axis] for use in places}
    subscript = subscripts.pop()
    return subscript.name if isinstance(subscript, Index) and not subscripts else None


def _is_fixed(axis: int, places: Sequence[Use]) -> bool:
    """Has each use the same number for a subscript of the axis?"""
    subscripts = {use.read.subscripts[axis] for use in places}
    return len(subscripts) == 1 and isinstance(subscripts.pop(), Number)


def _axis(
    axis: int, extent: Expression, places: Sequence[Use], blocks: Mapping[str, Blocks]
) -> Axis:
    """The axis, of one block's elements where every use is within a block of its index."""
    index = _alone(axis, places)
    block = blocks.get(index) if index else None
    if index is None or block is None:
        return Axis(axis, extent)
    count = Number(block.size) if isinstance(block.size, int) else block.size
    return Axis(axis, count or extent, block_from(index))
