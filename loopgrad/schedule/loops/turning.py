"""Maps that read across: `y[j,b] = x[b,j]` in blocks, through a copy of what a block reads.

Whichever of the two indices runs over lanes, one of the tensors is gone over at a stride: each element
takes a line of a cache for itself, and strides of a power of two want them all in the same places. So

    for j in blocks of 32 parallel:
        for b in blocks of about 64:
            for b:  for j vector:  x.turned[b,j] = x[b,j]
            for j:  for b vector:  y[j,b] = x.turned[b,j]

reads and writes whole lines; what is read at a stride is a small copy, in a cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Number, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, access, reads_whole_axes
from loopgrad.schedule.loops.blocking import within_block
from loopgrad.schedule.loops.choosing import loop_order, vector_index
from loopgrad.schedule.loops.nesting import Nesting
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Step, block_from, block_to

# Of the index along which is read, some lines of a cache; of that over lanes, some registers: about so many
# elements, as the last block is not to be a few. A number of them that is a multiple of `REGISTER`.
ALONG, ACROSS, REGISTER = 32, 64, 16


@dataclass(frozen=True, slots=True)
class _Turn:
    """`reads` are contiguous along `along`, everything that is written along `lanes`."""

    reads: tuple[Read, ...]
    along: str
    lanes: str


def turned(lines: Sequence[Line], context: Context) -> tuple[Node, ...] | None:
    """The tree of maps that read across, the outermost loop over threads; None where they do not."""
    choices = context.choices
    wanted = choices.turn and not choices.parallel and not choices.vector
    turn = _turn(lines, context) if wanted and _are_alike(lines) else None
    if turn is None:
        return None
    bounds = lines[0].bounds
    both = {turn.along, turn.lanes}
    around = tuple(i for i in loop_order(lines, ()) if i not in both)
    copies = {read: _copy(read, context) for read in turn.reads}
    nesting = Nesting(context)
    within = [within_block(within_block(x, turn.along), turn.lanes) for x in lines]
    body = (
        *(_copying(read, copy, turn) for read, copy in copies.items()),
        *nesting.nest([_with_copies(x, copies) for x in within], around),
    )
    body = (Blocks(turn.lanes, *bounds[turn.lanes], _even(bounds[turn.lanes]), body),)
    # Threads take the values of the outermost index, in pairs with those of the next, or with blocks.
    outer = [
        Mark.PARALLEL
        if n == 0 or (n == 1 and all(map(walk.is_fixed, bounds[i])))
        else Mark.SEQUENTIAL
        for n, i in enumerate(around)
    ]
    mark = Mark.PARALLEL if len(around) < 2 else Mark.SEQUENTIAL
    node: Node = Blocks(turn.along, *bounds[turn.along], ALONG, body, mark)
    for index, own in reversed([*zip(around, outer, strict=True)]):
        node = Over(index, *bounds[index], (node,), own)
    return (node,)


def _are_alike(lines: Sequence[Line]) -> bool:
    """Are all maps over one rectangle, which use of each other what stands in the same place?"""
    first = lines[0]
    targets = {line.written.tensor: line.target for line in lines}
    return all(
        set(line.indices) == set(first.indices)
        and not (
            line.reduced or line.bounding or line.unproved or line.integral or line.stands_alone
        )
        and line.roles is None
        and line.statement.guard is None
        and line.written.affine == line.written.indices
        and all(read == targets.get(read.tensor, read) for read in (line.target, *line.reads()))
        for line in lines
    )


def _turn(lines: Sequence[Line], context: Context) -> _Turn | None:
    """What to copy, if there is anything: whole tensors of which another axis than the last is in lanes."""
    lanes = vector_index(lines, ())
    if lanes is None or any(lanes not in line.written.along for line in lines):
        return None
    written = {line.written.tensor for line in lines}
    by_last: dict[str, list[Read]] = {}
    for line in lines:
        for read in line.reads():
            one = access(read)
            last = one.bare[-1] if one.bare else None
            across = last is not None and last != lanes and one.axis_of(lanes) is not None
            if across and read.tensor not in written and _is_whole(read, line, context):
                found = by_last.setdefault(str(last), [])
                found += [read] * (read not in found)
    if not by_last:
        return None
    along = max(by_last, key=lambda i: len(by_last[i]))
    return _Turn(tuple(by_last[along]), along, lanes)


def _is_whole(read: Read, line: Line, context: Context) -> bool:
    """Is all of the tensor read, an element once; is it one of real numbers?"""
    facts, indices = context.tensors[read.tensor], access(read).bare
    real = facts.element is ElementType.FLOAT
    return real and len({*indices}) == facts.rank and reads_whole_axes(read, line, context.tensors)


def _copy(read: Read, context: Context) -> Read:
    extents = context.tensors[read.tensor].extents
    return Read(context.temporary(f"{read.tensor}.turned", extents), read.subscripts)


def _even(bounds: tuple[Expression, Expression]) -> int | Expression:
    """Of how many elements blocks are so that the last one is not much shorter: 65 are one, 129 two."""
    lower, upper = bounds
    extent = walk.without_neutral(walk.apply("-", upper, lower))
    if isinstance(extent, Number):
        return ACROSS
    number = walk.number
    count = walk.apply("//", walk.apply("+", extent, number(ACROSS - REGISTER)), number(ACROSS))
    last = walk.apply("-", extent, number(1))
    of_each = walk.apply("//", last, walk.apply("max", count, number(1)))
    registers = walk.apply("//", walk.apply("+", of_each, number(REGISTER)), number(REGISTER))
    return walk.apply("max", walk.apply("*", registers, number(REGISTER)), number(1))


def _copying(read: Read, copy: Read, turn: _Turn) -> Node:
    """Of what a block reads, as it lies in memory."""
    step = Step(Accumulate(copy, Reduction.SET, read, ()), first=True)
    along, lanes = turn.along, turn.lanes
    inner = Over(along, block_from(along), block_to(along), (step,), Mark.VECTOR)
    return Over(lanes, block_from(lanes), block_to(lanes), (inner,))


def _with_copies(line: Line, copies: Mapping[Read, Read]) -> Line:
    def changed(e: Expression) -> Expression:
        return copies.get(e, e) if isinstance(e, Read) else walk.rebuild(e, changed)

    statement = line.statement
    return replace(line, statement=replace(statement, value=changed(statement.value)))
