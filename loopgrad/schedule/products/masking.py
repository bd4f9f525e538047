"""Guards that data decide become zeros in what a product reads.

    q[b,t,d] += s[b,t,u] * k[b,u,d]   if seen[b,u]

is a product over all u of sides that are 0 where `seen` is false: copies, small beside the product, or a
side that is 0 there in any case. Where one side alone has zeros, as the guard's indices are in no other, or
another one's hang on the row, 0 times the other one has to be 0: that one is looked at, as for `padding.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.limits import is_there_anyway
from loopgrad.schedule.lines import Line, Roles
from loopgrad.schedule.products.padding import Padding
from loopgrad.schedule.sums.sharing import extents_of, is_sparse


def with_masks(
    line: Line,
    lines: Iterable[Line],
    context: Context,
    padding: Padding,
    roles: Callable[[Line], Roles | None],
) -> tuple[Line, ...]:
    """The line as a product of sides with zeros, behind those that make them; none where it is none.

    lines: all there are. roles: of a contraction.
    """
    statement = line.statement
    guard = statement.guard
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    if guard is None or not sums or line.unproved or line.integral:
        return ()
    if not walk.indices_of(guard) or is_sparse(guard, context.tensors):
        return ()
    if not is_there_anyway(line.target, line, context.tensors):
        return ()  # a product adds 0 to what the guard leaves out
    whole = replace(line, statement=replace(statement, guard=None))
    found = roles(whole)
    if found is None:
        return ()
    masked = [_with_zeros(side, line, lines, context) for side in (found.left, found.right)]
    if not any(masked):
        return ()
    before: list[Line] = []
    sides: list[Expression] = []
    for side, zeros in zip((found.left, found.right), masked, strict=True):
        looked = (
            None if zeros or not _inputs_alone(side, context) else padding.looked_at(side, line)
        )
        if zeros is None and looked is None:
            return ()
        target, more = zeros or (side, looked or [])
        sides.append(target)
        before += more
    value = walk.apply("*", *sides)
    whole = replace(whole, statement=replace(whole.statement, value=value))
    made = roles(whole)
    return () if made is None else (*before, replace(whole, roles=made))


def _with_zeros(
    side: Expression, line: Line, lines: Iterable[Line], context: Context
) -> tuple[Expression, list[Line]] | None:
    """The side with zeros where the guard fails, and the line that makes them, if there has to be one."""
    guard = line.statement.guard
    assert guard is not None
    if not walk.indices_of(guard) <= walk.indices_of(side):
        return None
    if not is_there_anyway(side, line, context.tensors):
        return None
    if _is_zero_elsewhere(side, guard, lines):
        return side, []
    copy = _copy(side, guard, line, context)
    return None if copy is None else (copy.target, [copy])


def _inputs_alone(e: Expression, context: Context) -> bool:
    """Else the rows of a product would have to wait until all that it reads has been looked at."""
    return all(context.tensors[r.tensor].role == "input" for r in walk.reads(e))


def _is_zero_elsewhere(side: Expression, guard: Expression, lines: Iterable[Line]) -> bool:
    """Is it a tensor to which lines under the guard alone give more than 0?"""
    if not isinstance(side, Read):
        return False
    writers = [line for line in lines if line.written.tensor == side.tensor]
    # Where none of these writes it first, others have.
    return any(line.first for line in writers) and all(
        line.target == side and _is_guarded(line.statement, guard) for line in writers
    )


def _is_guarded(statement: Accumulate, guard: Expression) -> bool:
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT, Reduction.SET):
        return False
    match statement.value:
        case Number(0):
            return True
        case Conditional(condition, _, Number(0)) if statement.guard is None:
            return condition == guard
    return guard in _conjuncts(statement.guard)


def _conjuncts(guard: Expression | None) -> Sequence[Expression]:
    return [] if guard is None else [guard, *walk.conjuncts(guard)]


def _copy(side: Expression, guard: Expression, line: Line, context: Context) -> Line | None:
    """A line that computes the side where the guard holds, and else 0."""
    extents = extents_of(side, line, context.tensors)
    if extents is None:
        return None
    indices = tuple(i for i in line.indices if i in walk.indices_of(side))
    first = next(iter(walk.reads(side)))
    name = context.temporary(f"{first.tensor}.masked", tuple(extents[i] for i in indices))
    if any(line.bounds[i] != (Number(0), extents[i]) for i in indices):
        context.whole.add(name)
    target = Read(name, tuple(map(Index, indices)))
    ranges = tuple(Range(i, *line.bounds[i]) for i in indices)
    value = Conditional(guard, side, Number(0.0))
    return Line(Accumulate(target, Reduction.SET, value, ranges), first=True)
