"""Lines -> phases: parallel nests, and what has to run between them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.ir import walk
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import SMALL, Line, few_values
from loopgrad.schedule.loops.blocking import within_block
from loopgrad.schedule.loops.choosing import vector_index
from loopgrad.schedule.loops.few import by_products
from loopgrad.schedule.loops.merging import merged, with_merged_sums
from loopgrad.schedule.loops.moments import moments_of
from loopgrad.schedule.loops.nesting import Conflicts, Nesting, wants_blocks
from loopgrad.schedule.loops.parting import LIGHTER, parted, unrelated
from loopgrad.schedule.loops.ranking import ranks_of
from loopgrad.schedule.loops.staging import stage
from loopgrad.schedule.loops.turning import turned
from loopgrad.schedule.sums.sharing import common
from loopgrad.schedule.threads.choosing import may_share, parallel_index
from loopgrad.schedule.threads.owning import owned, owned_parts
from loopgrad.schedule.threads.splitting import growing, shared_blocks
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, block_from, block_to


@dataclass(frozen=True, slots=True)
class Tree:
    """A phase before its buffers are known.

    copied: tensors of which each thread has a copy, with those among them that hold nothing before.
    split: those that threads which share a row add to, with the axes that the rows' indices go over.
    """

    nodes: tuple[Node, ...]
    copied: Mapping[str, bool] = field(default_factory=dict)
    split: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def trees(lines: Sequence[Line], context: Context) -> Iterator[Tree]:
    """The phases of the lines, in order."""
    if not lines:
        return
    if len(lines) == 1 and lines[0].moments:
        yield from map(Tree, moments_of(lines[0], context))
        return
    if len(lines) == 1 and lines[0].ranks is not None:
        yield Tree(ranks_of(lines[0], context))
        return
    owning = owned_parts(lines, context)
    if any(part.rows for part in owning):
        for each in owning:
            if each.rows:
                yield Tree(owned(each, context))
            else:
                yield from trees(each.lines, context)
        return
    index = parallel_index(lines, context)
    if index is None and any(line.stands_alone for line in lines):
        for line in lines:
            yield from trees([line], context)
        return
    if index is None:
        yield Tree(Nesting(context).nest(lines, ()))
        return
    alone = list(by_products(lines, index, context.choices))
    if len(alone) > 1:
        for part in alone:
            yield from trees(part, context)
        return
    heaviest = max(line.weight for line in lines)
    heavy = {id(line) for line in lines if LIGHTER * line.weight > heaviest}
    conflicts = Conflicts(lines, index, (), context.choices.vector)

    def shun(line: Line, other: Line) -> bool:
        return {id(line), id(other)} <= heavy and conflicts(line, other)

    able = [line for line in lines if may_share(line, index, context)]
    apart_from = {id(line) for line in able if _has_rows_beside(line, able, index)}
    sharing = {id(line) for line in able} - apart_from
    positions = stage(lines, index, lambda line: id(line) in sharing, shun)
    for position in sorted(set(positions)):
        here = [x for x, p in zip(lines, positions, strict=True) if p == position]
        if position % 2:
            yield from trees(here, context)
            continue
        with_products, others = _connected(here)
        if with_products and others:
            yield from trees(others, context)
            here = with_products
        apart = unrelated(here) if with_products else [here]
        if len(apart) == 1:
            apart = parted(here, context.tensors)
        if len(apart) > 1:
            for part in apart:
                yield from trees(part, context)
            continue
        joined = merged(here, context)
        if joined is here:
            joined = with_merged_sums(here, context)
        if joined is not here:
            yield from trees(joined, context)
        else:
            here = list(common(here, index, context))
            across = turned(here, context)
            yield Tree(across) if across else _shared(here, index, context)


def _has_rows_beside(line: Line, lines: Sequence[Line], index: str) -> bool:
    """Would the line add to a copy for each thread, where another writes rows of the tensor that a
    thread has for itself?

    `y[k,l] = 0`, then `y[k,k] += x[k,j]`: the rows of others are in none but their own copies.
    """
    target = line.written
    return target.axis_of(index) is None and any(
        other.written.tensor == target.tensor and other.written.axis_of(index) is not None
        for other in lines
    )


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


def _shared(lines: Sequence[Line], index: str, context: Context) -> Tree:
    """The lines in one loop over the index, whose iterations threads share."""
    copied: dict[str, bool] = {}
    for line in lines:
        if line.written.axis_of(index) is None:
            copied[line.written.tensor] = copied.get(line.written.tensor, False) or line.first
    nesting = Nesting(context, frozenset(copied))
    lower, upper = lines[0].bounds[index]
    if any(x.roles is not None and index in (*x.roles.m, *x.roles.k) for x in lines):
        # Each thread takes a part of the index, in blocks where rows follow on the products.
        if wants_blocks(lines, index):
            bounds = block_from(index), block_to(index)
            single = _single(lines)
            body = tuple(nesting.blocks(lines, index, bounds, single))
            for i in reversed(single):
                body = (Over(i, *lines[0].bounds[i], body),)
        else:
            body = nesting.nest([within_block(x, index) for x in lines], ())
        shares = growing(lines, index)
        return Tree((Blocks(index, lower, upper, None, body, Mark.PARALLEL, shares),), copied)
    if vector_index(lines, (), context.choices.vector) == index:
        # It runs over lanes within each thread's part.
        body = nesting.nest([within_block(x, index) for x in lines], ())
        return Tree((Blocks(index, lower, upper, None, body, Mark.PARALLEL),), copied)
    body = nesting.nest(lines, (index,))
    split: Mapping[str, Mapping[int, str]] = {}
    rows = {index: (lower, upper)}
    match body:
        case (Over(mark=Mark.SEQUENTIAL) as inner,) if _in_pairs(lines, inner, copied):
            rows[inner.index] = inner.lower, inner.upper
            within, split = shared_blocks(inner.body, lines, copied, rows)
            if within is not inner.body or not _have_few(lines, inner.index):
                body = (replace(inner, body=within, mark=Mark.PARALLEL),)
        case _:
            body, split = shared_blocks(body, lines, copied, rows)
    return Tree((Over(index, lower, upper, body, Mark.PARALLEL),), copied, split)


def _single(lines: Sequence[Line]) -> tuple[str, ...]:
    """The indices of one value that all lines keep: outside, what blocks have in common is packed once."""
    return tuple(
        i
        for i in lines[0].loops
        if all(i in line.loops and i in line.kept and few_values(line, i) == 1 for line in lines)
    )


def _have_few(lines: Sequence[Line], index: str) -> bool:
    """Does the index take few values, so that finding a pair would take longer than what is done for it?"""
    return any(0 < few_values(line, index) <= SMALL for line in lines)


def _in_pairs(lines: Sequence[Line], inner: Over, copied: Container[str]) -> bool:
    """May threads take pairs of both indices: do these have elements of their own as well?"""
    if not (walk.is_fixed(inner.lower) and walk.is_fixed(inner.upper)):
        return False
    return all(
        line.written.tensor in copied or line.written.axis_of(inner.index) is not None
        for line in lines
    )
