"""A recurrence by way of other tensors, as one statement.

    for t:
        for b:  p[t,b] = h[t-1,b] if t > 0 else h0[b]
        for b:  h[t,b] = a[t,b] * p[t,b]

is `h[t,b] = a[t,b] * (h[t-1,b] if t > 0 else h0[b])`. So `h` hangs on itself alone, and `p`, if somebody
wants it, follows for all times at once.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Index, Read, Reduction
from loopgrad.schedule import Loop, Nest
from loopgrad.schedule.costs import cost
from loopgrad.schedule.fission import fission

MOST_COST = 16  # of what is computed twice

Place = tuple[int, Read]  # a statement's number, and a read in it


@dataclass(frozen=True, slots=True)
class Unwound:
    """The nests of a block's body, and those of their reads that are in range since others were."""

    body: tuple[Nest, ...]
    in_range: frozenset[Place] = frozenset()


def unwound(
    body: Sequence[Nest],
    loops: Sequence[Loop],
    written_once: Container[str],
    seen: Container[str],
    in_range: Container[Place],
) -> Unwound:
    """The body with one statement in its core, where that can be had; as it is otherwise.

    written_once: tensors that one statement of the program writes. seen: those that others than these
    read. in_range: reads that are.
    """
    core = fission(body).core
    as_it_is = Unwound(tuple(body))
    if len(core) < 2 or len(loops) != 1:
        return as_it_is
    changed = {nest.number: nest for nest in body}
    proved: set[Place] = set()
    for nest in core:
        definition = _definition(changed[nest.number], loops[0].index, written_once)
        if definition is None:
            continue
        for other in core:
            if other is not nest:
                _put_in(changed, other.number, definition, in_range, proved)
    new = tuple(changed[nest.number] for nest in body)
    if len(fission(new).core) > 1:
        return as_it_is
    read = {r.tensor for nest in new for r in walk.statement_reads(nest.statement)}
    gone = {nest.number for nest in core if _is_unread(nest, read, seen)}
    return Unwound(tuple(nest for nest in new if nest.number not in gone), frozenset(proved))


def _is_unread(nest: Nest, read: Container[str], seen: Container[str]) -> bool:
    tensor = nest.statement.target.tensor
    return tensor not in read and tensor not in seen


@dataclass(frozen=True, slots=True)
class Definition:
    """What each element of a tensor is, at these indices, one of which is the block's."""

    nest: Nest
    indices: tuple[str, ...]
    value: Expression
    turn: int  # the axis of the block's index


def _definition(nest: Nest, turn: str, written_once: Container[str]) -> Definition | None:
    statement = nest.statement
    target, value = statement.target, statement.value
    indices = tuple(s.name for s in target.subscripts if isinstance(s, Index))
    loops = {loop.index for loop in nest.loops}
    if statement.guard is not None or len(indices) < len(target.subscripts):
        return None
    if turn not in indices or set(indices) != {turn, *loops} or len(set(indices)) < len(indices):
        return None
    if target.tensor not in written_once or cost(value) > MOST_COST:
        return None
    match statement.reduction:
        case Reduction.SET | Reduction.ADD:
            pass
        case Reduction.SUBTRACT:
            value = Apply("neg", (value,))
        case _:
            return None
    return Definition(nest, indices, value, indices.index(turn))


def _put_in(
    changed: dict[int, Nest],
    number: int,
    definition: Definition,
    in_range: Container[Place],
    proved: set[Place],
) -> None:
    """Changes the statement of that number, if it reads the tensor in the same turn alone."""
    nest, tensor = changed[number], definition.nest.statement.target.tensor
    turn = Index(definition.indices[definition.turn])
    found = [r for r in walk.statement_reads(nest.statement) if r.tensor == tensor]
    if not found or any(r.subscripts[definition.turn] != turn for r in found):
        return

    def put(e: Expression) -> Expression:
        if not isinstance(e, Read) or e.tensor != tensor:
            return walk.rebuild(e, put)
        values = dict(zip(definition.indices, e.subscripts, strict=True))
        own = definition.nest.number
        for read in walk.reads(definition.value):
            new = walk.substitute(read, values)
            if isinstance(new, Read) and ((own, read) in in_range or (own, read) in proved):
                proved.add((number, new))
        return walk.substitute(definition.value, values)

    statement = walk.map_statement(nest.statement, put)
    assert isinstance(statement, Accumulate)
    changed[number] = replace(nest, statement=statement)
