"""Lines -> phases: parallel nests, and what has to run between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loopgrad.schedule.choosing import may_share, parallel_index
from loopgrad.schedule.lines import Line
from loopgrad.schedule.nesting import Nesting
from loopgrad.schedule.sharing import Names, common
from loopgrad.schedule.staging import stage
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, block_from, block_to


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
            yield _shared(common(here, index, names), index)


def _shared(lines: Sequence[Line], index: str) -> Tree:
    """The lines in one loop over the index, whose iterations threads share."""
    copied = frozenset(x.target.tensor for x in lines if index in x.reduced)
    nesting = Nesting(copied)
    lower, upper = lines[0].bounds[index]
    if all(line.indices == (index,) for line in lines):
        # The one index there is runs over threads and over lanes.
        nodes = nesting.nest([_within_block(line) for line in lines], ())
        return Tree((Blocks(index, lower, upper, None, nodes, Mark.PARALLEL),), copied)
    body = nesting.nest(lines, (index,))
    return Tree((Over(index, lower, upper, body, Mark.PARALLEL),), copied)


def _within_block(line: Line) -> Line:
    """The line with its loop over what one block holds."""
    ranges = tuple(
        replace(r, lower=block_from(r.index), upper=block_to(r.index))
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))
