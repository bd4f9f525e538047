"""The core of a block over time: the batch over threads outside of it, weights packed before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Conditional, Index, Number, Range, Read, Reduction
from loopgrad.schedule import Loop
from loopgrad.schedule.context import Context
from loopgrad.schedule.costs import cost
from loopgrad.schedule.lines import Access, Line, Roles, access, with_names
from loopgrad.schedule.loops.blocking import is_one_matrix, packed, within_block
from loopgrad.schedule.loops.choosing import DEAR, vector_index
from loopgrad.schedule.loops.nesting import Nesting
from loopgrad.schedule.loops.phases import Tree
from loopgrad.schedule.products.contractions import apart, roles
from loopgrad.schedule.products.padding import Padding
from loopgrad.schedule.recurrences.padded import without_borders
from loopgrad.schedule.recurrences.scans import scan
from loopgrad.schedule.sums.factoring import factors, is_some
from loopgrad.schedule.sums.sharing import common
from loopgrad.schedule.sums.sides import multiplied
from loopgrad.schedule.tree import Blocks, Mark, Node, Over


def recurrence(
    lines: Sequence[Line], loops: Sequence[Loop], context: Context
) -> tuple[tuple[Line, ...], Tree]:
    """What has to run before, and the lines of a block's core, in its loops.

    Where an index is unreduced, and at the same axis of every tensor that the core writes, its
    values have nothing to do with each other: each thread takes some of them through all times, and
    waits for no other. What is linear in its state may be a scan.
    """
    order = tuple(loop.index for loop in loops)
    lines = _with_own_names(lines, loops)
    parallel = scan(lines, loops, context.choices)
    if parallel is not None:
        return (), Tree((parallel,))
    before: tuple[Line, ...] = ()
    if context.choices.products:
        padding = Padding(context)
        before, lines = without_borders(lines, order, padding)
        lines = [
            part
            for line in lines
            for whole in apart(line, lambda one: _in_block(one, order, padding))
            for part in _without_factors(whole, order, padding)
        ]
    return before, _threaded(lines, loops, context)


def _threaded(lines: Sequence[Line], loops: Sequence[Loop], context: Context) -> Tree:
    order = tuple(loop.index for loop in loops)
    batch = _batch(lines, order)
    if batch is None:
        nodes = Nesting(context).nest(lines, order)
        return Tree((_looped(nodes, loops),))
    lower, upper = lines[0].bounds[batch]
    within = common([within_block(line, batch) for line in lines], batch, context)
    packs, known = packed(_constant(within, order), context)
    nesting = Nesting(context)
    nesting.packs.update(known)
    if _gains_by_lanes(within, order, batch):
        nesting.wanted = nesting.wanted or batch
    nodes = nesting.nest(within, order)
    body = (*packs, _looped(nodes, loops))
    return Tree((Blocks(batch, lower, upper, None, body, Mark.PARALLEL),))


def _gains_by_lanes(lines: Sequence[Line], order: Sequence[str], batch: str) -> bool:
    """Do lanes gain over the batch, whose elements are far apart? Where much is computed for each that is
    stored; what is added to has to be fetched lane by lane, too."""
    if vector_index(lines, order) is not None:
        return False
    if any(line.statement.reduction is not Reduction.SET for line in lines):
        return False
    alone = all(set(line.loops) <= {*order, batch} for line in lines)
    return alone and sum(cost(line.statement.value) for line in lines) >= DEAR * len(lines)


def _looped(nodes: tuple[Node, ...], loops: Sequence[Loop]) -> Node:
    for loop in reversed(loops):
        over = Over(loop.index, loop.lower, loop.upper, nodes, descending=loop.descending)
        nodes = (over,)
    return nodes[0]


def _with_own_names(lines: Sequence[Line], loops: Sequence[Loop]) -> list[Line]:
    """The lines with the block's own names for the block's indices, which stand first; what another index
    is called so gets another name, the same in all lines."""
    own = {loop.index for loop in loops}
    taken = own.union(*(line.indices for line in lines))
    others: dict[str, str] = {}
    for name in dict.fromkeys(i for line in lines for i in line.indices[len(loops) :]):
        if name in own:
            others[name] = walk.fresh_name(name, taken)
            taken.add(others[name])
    outer = [{r.index: loop.index for r, loop in _outer(line, loops)} for line in lines]
    return [with_names(line, {**others, **names}) for line, names in zip(lines, outer, strict=True)]


def _outer(line: Line, loops: Sequence[Loop]) -> Iterator[tuple[Range, Loop]]:
    return zip(line.statement.ranges, loops, strict=False)


def _in_block(line: Line, order: tuple[str, ...], padding: Padding) -> tuple[Line, ...]:
    """The line with its roles within the block: the block's indices select a product.

    A guard on them alone (`if t > 0`) says whether there is one; a line that writes first is then one that
    stores zeros, and the product.
    """
    guarded = _guarded(line, order)
    statement = guarded.statement
    guard = statement.guard
    if guard is None:
        return (_with_roles(line, roles(line), order, padding),)
    if not walk.indices_of(guard) <= set(order) or list(walk.reads(guard)):
        return (line,)
    found = roles(replace(guarded, statement=replace(statement, guard=None)))
    product = _with_roles(guarded, found, order, padding)
    if product.roles is None:
        return (replace(line, roles=None),)
    if not line.first:
        return (product,)
    return (_zeros(line), replace(product, first=False)) if set(order) <= line.kept else (line,)


def _guarded(line: Line, order: tuple[str, ...]) -> Line:
    """`a += e   if t > 0` for `a += e if t > 0 else 0`."""
    match line.statement:
        case Accumulate(
            _, Reduction.ADD | Reduction.SUBTRACT, Conditional(c, e, Number(0)), _, None
        ):
            if walk.indices_of(c) <= set(order) and not list(walk.reads(c)):
                return replace(line, statement=replace(line.statement, value=e, guard=c))
    return line


def _with_roles(line: Line, found: Roles | None, order: tuple[str, ...], padding: Padding) -> Line:
    if found is None or set(order) & {*found.n, *found.k}:
        return replace(line, roles=None)
    m = tuple(i for i in found.m if i not in order)
    batch = tuple(i for i in line.indices if i in order or i in found.batch)
    borders = padding.borders(found.right)
    return replace(line, roles=replace(found, m=m, batch=batch, borders=borders) if m else None)


def _without_factors(line: Line, order: tuple[str, ...], padding: Padding) -> tuple[Line, ...]:
    """A sum that is a product but for factors without its indices: the product, and what they make of it.

    `d[t-1,b,i] += s[t,b,j] * W[j,i] * (1 - h[t-1,b,i]**2)` does not compute the last one for each j.
    """
    statement = line.statement
    parts = list(factors(statement.value))
    free = [f for f in parts if not walk.indices_of(f) & line.reduced]
    bound = [f for f in parts if walk.indices_of(f) & line.reduced]
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT) and line.roles is None
    ranges = tuple(r for r in statement.ranges if r.index in line.kept)
    whole = all(line.bounds[r.index][0] == Number(0) for r in ranges) and set(order) <= line.kept
    if not (sums and line.reduced and bound and any(map(walk.indices_of, free)) and whole):
        return (line,)
    if line.unproved or line.integral or line.bounding:
        return (line,)
    context = padding.context
    name = context.temporary("sum", tuple(line.bounds[r.index][1] for r in ranges))
    total = Read(name, tuple(Index(r.index) for r in ranges))
    inner = Accumulate(total, Reduction.ADD, multiplied(bound), statement.ranges, statement.guard)
    product = _in_block(Line(inner, first=True), order, padding)
    if product[-1].roles is None:
        del context.tensors[name]
        return (line,)
    # The first to write stores zeros where the guard does not hold.
    guard = None if line.first else statement.guard
    needed = walk.conjunction([is_some(line), statement.guard if line.first else None])
    assert needed is not None
    value = Conditional(needed, multiplied([*free, total]), walk.number(0.0))
    outer = replace(statement, value=value, ranges=ranges, guard=guard)
    return *product, replace(line, statement=outer)


def _zeros(line: Line) -> Line:
    """What a sum starts from, stored."""
    ranges = tuple(r for r in line.statement.ranges if r.index in line.kept)
    start = Accumulate(line.target, Reduction.SET, walk.number(0.0), ranges)
    return Line(start, first=True)


def _batch(lines: Sequence[Line], order: tuple[str, ...]) -> str | None:
    """An index that each line has, and keeps; the one that stands first in memory."""
    written = {line.written.tensor for line in lines}
    for index in lines[0].indices:
        if index in order or any(index not in line.kept for line in lines):
            continue
        if any(line.bound_by[index] for line in lines):
            continue
        uses = [
            one for line in lines for one in (line.written, *line.read) if one.tensor in written
        ]
        if all(_axis(one.tensor, index, uses) is not None for one in uses):
            return index
    return None


def _axis(tensor: str, index: str, uses: Sequence[Access]) -> int | None:
    """The axis at which every use of the tensor has the index alone."""
    axes = {one.axis_of(index) for one in uses if one.tensor == tensor}
    return axes.pop() if len(axes) == 1 else None


def _constant(lines: Sequence[Line], order: tuple[str, ...]) -> Iterator[Line]:
    """The contractions whose right sides are the same at all times."""
    written = {line.written.tensor for line in lines}
    for line in lines:
        if line.roles is not None and set(line.roles.batch) <= set(order) and is_one_matrix(line):
            reads = list(map(access, walk.reads(line.roles.right)))
            if not any(one.indices & set(order) or one.tensor in written for one in reads):
                yield line
