"""A recurrence by way of other tensors, as one statement.

    for t:
        for b:  p[t,b] = h[t-1,b] if t > 0 else h0[b]
        for b:  h[t,b] = a[t,b] * p[t,b]

is `h[t,b] = a[t,b] * (h[t-1,b] if t > 0 else h0[b])`. So `h` hangs on itself alone, and `p`, if somebody
wants it, follows for all times at once.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Conditional, Expression, Index, Read, Reduction
from loopgrad.schedule import Loop, Nest
from loopgrad.schedule.costs import cost
from loopgrad.schedule.lines import Bounds, Tensors
from loopgrad.schedule.recurrences.fission import fission

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
    tensors: Tensors,
) -> Unwound:
    """The body with one statement in its core, where that can be had; as it is otherwise.

    written_once: tensors that one statement of the program writes. seen: those that others than these
    read. in_range: reads that are. tensors: all there are.
    """
    core = fission(body).core
    as_it_is = Unwound(tuple(body))
    if len(core) < 2 or len(loops) != 1:
        return as_it_is
    changed = {nest.number: nest for nest in body}
    proved: set[Place] = set()
    for nest in core:
        definition = _definition(changed[nest.number], loops[0].index, written_once, tensors)
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
    """What each element of a tensor is, at these indices, one of which is the block's.

    bounds: of those indices that do not go over all of their axes.
    """

    nest: Nest
    indices: tuple[str, ...]
    value: Expression
    turn: int  # the axis of the block's index
    bounds: Mapping[str, Bounds]


def _definition(
    nest: Nest, turn: str, written_once: Container[str], tensors: Tensors
) -> Definition | None:
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
    axes = dict(zip(indices, tensors[target.tensor].extents, strict=True))
    bounds = {
        loop.index: (loop.lower, loop.upper)
        for loop in nest.loops
        if (loop.lower, loop.upper) != (walk.ZERO, axes[loop.index])
    }
    return Definition(nest, indices, value, indices.index(turn), bounds)


def _reaches(definition: Definition, read: Read, nest: Nest) -> bool:
    """Is what the nest reads defined, in each of its iterations? Elsewhere an element is 0."""
    values = dict(zip(definition.indices, read.subscripts, strict=True))
    known = {loop.index: (loop.lower, loop.upper) for loop in nest.loops}
    for index, bounds in definition.bounds.items():
        lower, upper = (walk.substitute(bound, values) for bound in bounds)
        match values[index]:
            case Index(name) if known.get(name) == (lower, upper):
                continue
        return False
    return True


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
    if not all(_reaches(definition, read, nest) for read in found):
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


# ------------------------------------------------------------------------ what the state starts from

MOST_READS = 2  # of what is added to the state: more would rather be added up beforehand

_OPERATION = {
    Reduction.ADD: "+",
    Reduction.SUBTRACT: "-",
    Reduction.MULTIPLY: "*",
    Reduction.MAXIMUM: "max",
    Reduction.MINIMUM: "min",
}
_NOTHING = {
    Reduction.ADD: 0,
    Reduction.SUBTRACT: 0,
    Reduction.MULTIPLY: 1,
    Reduction.MAXIMUM: float("-inf"),
    Reduction.MINIMUM: float("inf"),
}


def with_start(
    unwinding: Unwound, writers: Mapping[str, int], in_range: Container[Place]
) -> Unwound:
    """`h[t] += x[t]` and `h[t] += a[t] * h[t-1]   if t > 0` as one statement, which goes over memory once.

    writers: how many statements of the program write each tensor.
    """
    parts = fission(unwinding.body)
    if len(parts.core) != 1:
        return unwinding
    (step,) = parts.core
    state = step.statement.target.tensor
    found = [nest for nest in parts.before if nest.statement.target.tensor == state]
    if len(found) != 1 or writers[state] != 2 or not _is_whole(step):
        return unwinding
    (start,) = found
    values = _same_element(start, step)
    if values is None or not _is_whole(start) or not _may_join(start, step):
        return unwinding

    def moved(e: Expression) -> Expression:
        return walk.substitute(e, values)

    proved = {
        (step.number, new)
        for read in walk.statement_reads(start.statement)
        if (start.number, read) in in_range and isinstance(new := moved(read), Read)
    }
    joined = replace(step, statement=_joined(moved(start.statement.value), start, step))
    body = tuple(joined if nest is step else nest for nest in unwinding.body if nest is not start)
    return Unwound(body, unwinding.in_range | proved)


def _is_whole(nest: Nest) -> bool:
    """Does each iteration write an element of its own?"""
    kept = frozenset().union(*map(walk.indices_of, nest.statement.target.subscripts))
    return {loop.index for loop in nest.loops} <= kept


def _same_element(start: Nest, step: Nest) -> dict[str, Expression] | None:
    """The step's indices for those of the start, where both go over the same elements."""
    if len(start.loops) != len(step.loops):
        return None
    values: dict[str, Expression] = {}
    for one, other in zip(start.loops, step.loops, strict=True):
        bounds = (walk.substitute(bound, values) for bound in (one.lower, one.upper))
        if tuple(bounds) != (other.lower, other.upper):
            return None
        values[one.index] = Index(other.index)
    target = walk.substitute(start.statement.target, values)
    return values if target == step.statement.target else None


def _may_join(start: Nest, step: Nest) -> bool:
    first, more = start.statement, step.statement
    sums = (Reduction.ADD, Reduction.SUBTRACT)
    alike = first.reduction is more.reduction or {first.reduction, more.reduction} <= set(sums)
    tensors = {read.tensor for read in walk.reads(first.value)}
    return (
        alike
        and more.reduction is not Reduction.SET
        and first.guard is None
        and len(tensors) <= MOST_READS
        and cost(first.value) <= MOST_COST
    )


def _joined(value: Expression, start: Nest, step: Nest) -> Accumulate:
    statement, reduction = step.statement, step.statement.reduction
    if start.statement.reduction is Reduction.SUBTRACT:
        value = Apply("neg", (value,))
    more = statement.value
    if statement.guard is not None:
        more = Conditional(statement.guard, more, walk.number(_NOTHING[reduction]))
    whole = Apply(_OPERATION[reduction], (value, more))
    if reduction is Reduction.SUBTRACT:
        reduction = Reduction.ADD
    return replace(statement, value=whole, reduction=reduction, guard=None)
