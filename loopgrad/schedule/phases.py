"""Lines -> phases: parallel nests, and what has to run between them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.schedule.choosing import may_share, parallel_index
from loopgrad.schedule.contractions import pack
from loopgrad.schedule.lines import Line
from loopgrad.schedule.nesting import Nesting
from loopgrad.schedule.sharing import Names, common
from loopgrad.schedule.staging import stage
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Pack, block_from, block_to

# Rows of a product that are worked on while they are in a cache: a multiple of the tiles' heights.
# FEWER where each stands for as many as another index has values.
ROWS, FEWER = 48, 4


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
            continue
        with_products, others = _connected(here)
        if with_products and others:
            yield from trees(others, names)
            here = with_products
        yield _shared(common(here, index, names), index, names)


def _connected(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Those that have to do with a contraction, by way of what one writes and another uses; the rest."""
    having = [line for line in lines if line.roles is not None]
    rest = [line for line in lines if line.roles is None]
    while True:
        written = {line.written.tensor for line in having}
        used = written.union(one.tensor for line in having for one in line.read)
        more = [
            line
            for line in rest
            if line.written.tensor in used or any(one.tensor in written for one in line.read)
        ]
        if not more:
            apart = set(map(id, rest))
            return [x for x in lines if id(x) not in apart], rest
        having += more
        rest = [line for line in rest if all(line is not other for other in more)]


def _shared(lines: Sequence[Line], index: str, names: Names) -> Tree:
    """The lines in one loop over the index, whose iterations threads share."""
    copied = frozenset(x.written.tensor for x in lines if index in x.reduced)
    if any(x.roles is not None and index in x.roles.m for x in lines):
        return Tree((_blocked(lines, index, copied, names),), copied)
    lower, upper = lines[0].bounds[index]
    if all(x.loops == (index,) for x in lines):
        # The one index there is runs over threads and over lanes.
        nodes = Nesting(copied).nest([within_block(x, index) for x in lines], ())
        return Tree((Blocks(index, lower, upper, None, nodes, Mark.PARALLEL),), copied)
    body = Nesting(copied).nest(lines, (index,))
    return Tree((Over(index, lower, upper, body, Mark.PARALLEL),), copied)


def _blocked(lines: Sequence[Line], index: str, copied: frozenset[str], names: Names) -> Node:
    """Products over blocks of the index, each followed by what is done to its rows.

    What has the index as an ordinary one runs over the block at hand. Right sides that are the same
    for all blocks are packed before.
    """
    lower, upper = lines[0].bounds[index]
    within = [within_block(line, index) for line in lines]
    if all(line.roles is not None for line in lines):
        nodes = Nesting(copied).nest(within, ())
        return Blocks(index, lower, upper, None, nodes, Mark.PARALLEL)
    written = {line.written.tensor for line in lines}
    same = [x for x in within if x.roles is not None and _is_same_for_all(x, index, written)]
    packs, known = packed(same, names)
    nodes = Nesting(copied, known).nest(within, ())
    several = any(line.roles is not None and len(line.roles.m) > 1 for line in lines)
    rows = FEWER if several else ROWS
    inner = Blocks(index, block_from(index), block_to(index), rows, nodes)
    return Blocks(index, lower, upper, None, (*packs, inner), Mark.PARALLEL)


def packed(lines: Iterable[Line], names: Names) -> tuple[list[Pack], dict[int, str]]:
    """The right sides of contractions, ready before; and their names, by the `id` of the roles."""
    made: dict[Pack, str] = {}
    known: dict[int, str] = {}
    for line in lines:
        if line.roles is not None:
            anonymous = pack(line, line.roles, "")
            if anonymous not in made:
                made[anonymous] = names.name("packed")
            known[id(line.roles)] = made[anonymous]
    return [replace(one, name=name) for one, name in made.items()], known


def _is_same_for_all(line: Line, index: str, written: Container[str]) -> bool:
    assert line.roles is not None
    right = line.roles.right
    if line.roles.batch or index not in line.roles.m:
        return False
    return not any(read.tensor in written for read in walk.reads(right))


def within_block(line: Line, index: str) -> Line:
    """The line with its loop over what one block holds."""
    ranges = tuple(
        replace(r, lower=block_from(index), upper=block_to(index)) if r.index == index else r
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))
