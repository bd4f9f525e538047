"""Lines -> phases: parallel nests, and what has to run between them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.schedule.choosing import may_share, parallel_index
from loopgrad.schedule.contractions import pack
from loopgrad.schedule.lines import Line
from loopgrad.schedule.nesting import Nesting
from loopgrad.schedule.sharing import Names, common
from loopgrad.schedule.staging import stage
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, block_from, block_to

# Rows of a product that are worked on while they are in a cache: a multiple of the tiles' heights.
ROWS = 48


@dataclass(frozen=True, slots=True)
class Tree:
    """A phase before its buffers are known. `copied`: each thread has a copy of these tensors."""

    nodes: tuple[Node, ...]
    copied: frozenset[str] = frozenset()


def trees(lines: Sequence[Line], names: Names) -> Iterator[Tree]:
    """The phases of the lines, in order."""
    index = parallel_index(lines)
    if index is None:
        yield Tree(Nesting().nest(lines, ()))
        return
    positions = stage(lines, index, lambda line: may_share(line, index))
    for position in sorted(set(positions)):
        here = [x for x, p in zip(lines, positions, strict=True) if p == position]
        if position % 2:
            yield from trees(here, names)
        else:
            yield _shared(common(here, index, names), index, names)


def _shared(lines: Sequence[Line], index: str, names: Names) -> Tree:
    """The lines in one loop over the index, whose iterations threads share."""
    copied = frozenset(x.written.tensor for x in lines if index in x.reduced)
    if any(x.roles is not None and index in x.roles.m for x in lines):
        return Tree((_blocked(lines, index, copied, names),), copied)
    lower, upper = lines[0].bounds[index]
    if all(x.loops == (index,) for x in lines):
        # The one index there is runs over threads and over lanes.
        nodes = Nesting(copied).nest([_within_block(x, index) for x in lines], ())
        return Tree((Blocks(index, lower, upper, None, nodes, Mark.PARALLEL),), copied)
    body = Nesting(copied).nest(lines, (index,))
    return Tree((Over(index, lower, upper, body, Mark.PARALLEL),), copied)


def _blocked(lines: Sequence[Line], index: str, copied: frozenset[str], names: Names) -> Node:
    """Products over blocks of the index, each followed by what is done to its rows.

    What has the index as an ordinary one runs over the block at hand. Right sides that are the same
    for all blocks are packed before.
    """
    lower, upper = lines[0].bounds[index]
    within = [_within_block(line, index) for line in lines]
    if all(line.roles is not None for line in lines):
        nodes = Nesting(copied).nest(within, ())
        return Blocks(index, lower, upper, None, nodes, Mark.PARALLEL)
    written = {line.written.tensor for line in lines}
    packs, known = [], {}
    for line in within:
        if line.roles is not None and _is_same_for_all(line, index, written):
            name = names.name("packed")
            known[id(line.roles)] = name
            packs.append(pack(line, line.roles, name))
    nodes = Nesting(copied, known).nest(within, ())
    inner = Blocks(index, block_from(index), block_to(index), ROWS, nodes)
    return Blocks(index, lower, upper, None, (*packs, inner), Mark.PARALLEL)


def _is_same_for_all(line: Line, index: str, written: Container[str]) -> bool:
    assert line.roles is not None
    right = line.roles.right
    if line.roles.batch or index not in line.roles.m:
        return False
    return not any(read.tensor in written for read in walk.reads(right))


def _within_block(line: Line, index: str) -> Line:
    """The line with its loop over what one block holds."""
    ranges = tuple(
        replace(r, lower=block_from(index), upper=block_to(index)) if r.index == index else r
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))
