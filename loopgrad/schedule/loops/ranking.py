"""Ranks of integers below a number: the place of each among all, in their order, equal ones as they come.

    rank[t] = how many u there are with w[u] < w[t], or w[u] == w[t] and u < t

is a count of each value, the sums of these, and one more step for each t.
"""

from __future__ import annotations

from collections.abc import Sequence

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Number, Range, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line
from loopgrad.schedule.tree import ZERO, Node, Over, Step


def ranks_of(line: Line, context: Context) -> tuple[Node, ...]:
    """The loops of a line of ranks.

    Where an access of `line.unproved` is out of range nothing is looked at, and the phase fails: so values
    may be anything, where one says that they are below the number.
    """
    assert line.ranks is not None
    statement, value = line.statement, line.statement.value
    extent = walk.apply("+", line.ranks, Number(1))
    name = context.name(f"{line.written.tensor}.next")
    context.tensors[name] = TensorFacts(name, "temporary", (extent,), ElementType.INT)
    index = context.name("v")

    def count(subscript: Expression) -> Read:
        return Read(name, (subscript,))

    here, above = count(Index(index)), count(walk.plus_one(Index(index)))
    of_value, behind = count(value), count(walk.plus_one(value))
    every = statement.ranges
    more = (_set(behind, walk.plus_one(behind), line.unproved),)
    last = (
        _set(line.target, of_value, line.unproved),
        _set(of_value, walk.plus_one(of_value), line.unproved),
    )
    return (
        Over(index, ZERO, extent, (_set(here, ZERO),)),
        *_around(every, more),
        Over(index, ZERO, line.ranks, (_set(above, walk.apply("+", above, here)),)),
        *_around(every, last),
    )


def _set(target: Read, value: Expression, unproved: Sequence[Read] = ()) -> Step:
    return Step(Accumulate(target, Reduction.SET, value), unproved=tuple(unproved))


def _around(ranges: Sequence[Range], body: tuple[Node, ...]) -> tuple[Node, ...]:
    for r in reversed(ranges):
        assert r.lower is not None and r.upper is not None
        body = (Over(r.index, r.lower, r.upper, body),)
    return body
