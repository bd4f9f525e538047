"""What a turn of a block gives to the next one, taken there: no turn goes over what it is added to twice.

    for t, b:  s[t,b] = g[t,b]
    for t descending:
        for b, c:  d[t,b]   += W[c,b] * s[t,c]
        for b:     s[t-1,b] += d[t,b]   if t > 0

becomes

    for t descending:
        for b:     s[t,b]   = g[t,b] + (d[t+1,b] if t < T - 1 else 0)
        for b, c:  d[t,b]  += W[c,b] * s[t,c]

The gradient of every state is of this kind. Here it needs no memory but a register, and no pass for `g`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.extents import polynomial
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule import Loop, Nest, Phase, nests, tensors_of
from loopgrad.schedule import Sequence as Block
from loopgrad.schedule.loops.narrowing import MIRRORED, narrower
from loopgrad.schedule.recurrences.fission import fission
from loopgrad.schedule.recurrences.unwinding import Place

_SUMS = (Reduction.ADD, Reduction.SUBTRACT)


@dataclass(frozen=True, slots=True)
class Pulled:
    """The phases, and those of their reads that are in range since others were."""

    phases: tuple[Phase, ...]
    in_range: frozenset[Place] = frozenset()


def pulled(
    phases: Sequence[Phase], writers: Mapping[str, int], in_range: Container[Place]
) -> Pulled:
    """The phases with their blocks so. `writers`: how many statements of the program write each tensor.

    Blocks in which nothing is summed up and whose turns lie side by side are left as they are: scans make
    more of them.
    """
    result = Pulled(tuple(phases))
    for block in phases:
        if isinstance(block, Block) and len(block.loops) == 1 and _is_of_nests(block):
            sums_up = _sums_up(block)
            for nest in block.body:
                given = _given(nest, block.loops[0], writers) if isinstance(nest, Nest) else None
                if given is not None and (sums_up or not given.side_by_side):
                    result = _taken(result, given, in_range)
    return result


def _is_of_nests(block: Block) -> bool:
    return all(isinstance(nest, Nest) for nest in block.body)


def _sums_up(block: Block) -> bool:
    own = [nest for nest in block.body if isinstance(nest, Nest)]
    return any(_reduces(nest) for nest in fission(own).core)


def _reduces(nest: Nest) -> bool:
    kept = frozenset().union(*map(walk.indices_of, nest.statement.target.subscripts))
    return not {loop.index for loop in nest.loops} <= kept


@dataclass(frozen=True, slots=True)
class Given:
    """A nest that adds to the state of the next turn, `ahead` of its own; the axis of the turns.

    turns: the range of those that do.
    """

    nest: Nest
    loop: Loop
    axis: int
    ahead: int
    turns: Range

    @property
    def side_by_side(self) -> bool:
        """Do the elements of all turns lie side by side? They may be a scan, then."""
        return self.axis == len(self.nest.statement.target.subscripts) - 1


def _given(nest: Nest, loop: Loop, writers: Mapping[str, int]) -> Given | None:
    statement, turn = nest.statement, loop.index
    target = statement.target
    if _reduces(nest) or statement.reduction not in _SUMS or writers[target.tensor] != 2:
        return None
    axes = [i for i, s in enumerate(target.subscripts) if turn in walk.indices_of(s)]
    others = [s for i, s in enumerate(target.subscripts) if i not in axes]
    if len(axes) != 1 or others != [Index(one.index) for one in nest.loops]:
        return None
    step = polynomial(Apply("-", (target.subscripts[axes[0]], Index(turn))))
    ahead = step.get((), 0)
    if set(step) != {()} or ahead != (-1 if loop.descending else 1):
        return None
    turns = _turns(statement.guard, loop)
    return None if turns is None else Given(nest, loop, axes[0], int(ahead), turns)


def _turns(guard: Expression | None, loop: Loop) -> Range | None:
    """Those in which the guard holds; None where it is not about them alone."""
    turns = Range(loop.index, loop.lower, loop.upper)
    for condition in walk.conjuncts(guard) if guard is not None else ():
        match condition:
            case Compare((operator,), (Index(loop.index), bound)) if operator in MIRRORED:
                pass
            case _:
                return None
        if walk.indices_of(bound) or any(True for _ in walk.reads(bound)):
            return None
        turns = narrower(turns, operator, bound)
    return turns


def _taken(whole: Pulled, given: Given, in_range: Container[Place]) -> Pulled:
    """The phases with what is given taken by its turn; as they are where that cannot be."""
    nest, tensor = given.nest, given.nest.statement.target.tensor
    (block,) = (p for p in whole.phases if isinstance(p, Block) and nest in p.body)
    before = whole.phases[: whole.phases.index(block)]
    starts = [p for p in before if isinstance(p, Nest) and p.statement.target.tensor == tensor]
    if len(starts) != 1 or not _is_read_in_its_turn(given, block, whole.phases):
        return whole
    (start,) = starts
    names = _same_element(start, given)
    if names is None:
        return whole
    later = {given.loop.index: _plus(Index(given.loop.index), -given.ahead)}
    proved: set[Place] = set()
    for one, values in ((start, names), (nest, later)):
        for read in walk.statement_reads(one.statement):
            if read.subscripts and (one.number, read) not in in_range:
                return whole
            proved.add((nest.number, _read(read, values)))
    if (nest.number, nest.statement.target) not in in_range:
        return whole
    taking = replace(nest, statement=_taking(given, start, names, later))
    proved.add((nest.number, taking.statement.target))
    body = (taking, *(one for one in block.body if one is not nest))
    phases = tuple(
        replace(block, body=body) if p is block else p for p in whole.phases if p is not start
    )
    return Pulled(phases, whole.in_range | proved)


def _is_read_in_its_turn(given: Given, block: Block, phases: Sequence[Phase]) -> bool:
    """Does the block alone read the state before it is complete, and each turn its own element?"""
    tensor, turn = given.nest.statement.target.tensor, Index(given.loop.index)
    if any(tensor in tensors_of(p) - _written(p) for p in phases if p is not block):
        return False
    reads = (r for n in nests((block,)) for r in walk.statement_reads(n.statement))
    return all(r.subscripts[given.axis] == turn for r in reads if r.tensor == tensor)


def _written(phase: Phase) -> frozenset[str]:
    return frozenset(nest.statement.target.tensor for nest in nests((phase,)))


def _same_element(start: Nest, given: Given) -> dict[str, Expression] | None:
    """The given nest's indices for those of the start, which writes all that it and its block go over."""
    if not start.starts or start.statement.reduction not in (*_SUMS, Reduction.SET):
        return None
    bounds = {loop.index: (loop.lower, loop.upper) for loop in (*given.nest.loops, given.loop)}
    own = {loop.index: (loop.lower, loop.upper) for loop in start.loops}
    names: dict[str, Expression] = {}
    subscripts = zip(
        start.statement.target.subscripts, given.nest.statement.target.subscripts, strict=True
    )
    for axis, (one, other) in enumerate(subscripts):
        wanted = Index(given.loop.index) if axis == given.axis else other
        if not isinstance(one, Index) or not isinstance(wanted, Index):
            return None
        if own[one.name] != bounds[wanted.name]:
            return None
        names[one.name] = wanted
    return names


def _read(read: Read, values: Mapping[str, Expression]) -> Read:
    found = walk.substitute(read, values)
    assert isinstance(found, Read)
    return found


def _taking(
    given: Given, start: Nest, names: Mapping[str, Expression], later: Mapping[str, Expression]
) -> Accumulate:
    """What the state starts from and what it is given, as one statement of its own turn."""
    statement, first = given.nest.statement, start.statement
    value = walk.substitute(first.value, names)
    if first.reduction is Reduction.SUBTRACT:
        value = Apply("neg", (value,))
    more = walk.substitute(statement.value, later)
    condition = _condition(given)
    if condition is not None:
        more = Conditional(condition, more, walk.number(0.0))
    sign = "+" if statement.reduction is Reduction.ADD else "-"
    return replace(
        statement,
        target=_read(first.target, names),
        value=Apply(sign, (value, more)),
        reduction=Reduction.SET if first.reduction is Reduction.SET else Reduction.ADD,
        guard=None,
    )


def _condition(given: Given) -> Expression | None:
    """When a turn is given something: those of the block that are `ahead` of one that gives."""
    turn, loop = Index(given.loop.index), given.loop
    assert given.turns.lower is not None and given.turns.upper is not None
    low, high = (_plus(bound, given.ahead) for bound in (given.turns.lower, given.turns.upper))
    parts = [
        None if _is_same(low, loop.lower) else walk.compare(">=", turn, low),
        None if _is_same(high, loop.upper) else walk.compare("<", turn, high),
    ]
    return walk.conjunction(parts)


def _plus(bound: Expression, count: int) -> Expression:
    match bound:
        case Number(int(value)):
            return Number(value + count)
    return walk.plus_one(bound) if count > 0 else Apply("-", (bound, Number(-count)))


def _is_same(one: Expression, other: Expression) -> bool:
    return polynomial(one) == polynomial(other)
