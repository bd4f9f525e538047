"""Schedules used when nobody asks for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.ir.nodes import Accumulate, Block, Call, Range, Statement
from loopgrad.schedule import Loop, Nest, Phase, Scheduled, Sequence
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.fusing import fused
from loopgrad.schedule.starting import mark_starting

USUAL = Choices()


def literal(facts: Facts, safety: Safety) -> Scheduled:
    """Every statement a nest of its own, its loops as written, in the order written."""
    extents = {tensor.name: tensor.extents for tensor in facts.tensors.values()}
    phases = _phases(facts.program.statements, count())
    return Scheduled(facts, safety, tuple(mark_starting(phases, extents)))


def optimized(facts: Facts, safety: Safety, choices: Choices = USUAL) -> Scheduled:
    """Statements in common loops, over threads and lanes, with values kept in registers and rows."""
    return fused(literal(facts, safety), choices)


def _phases(statements: Iterable[Statement], numbers: Iterator[int]) -> Iterator[Phase]:
    """Numbers count as `walk.all_statements` does: blocks before their bodies."""
    for statement in statements:
        number = next(numbers)
        match statement:
            case Accumulate():
                yield Nest(number, statement, _loops(statement.ranges))
            case Block():
                body = tuple(_phases(statement.body, numbers))
                yield Sequence(number, _loops(statement.ranges), body)
            case Call():
                raise TypeError("calls have to be unfolded before a program is scheduled")


def _loops(ranges: Iterable[Range]) -> tuple[Loop, ...]:
    return tuple(_loop(r) for r in ranges)


def _loop(r: Range) -> Loop:
    if r.lower is None or r.upper is None:
        raise TypeError(f"the range of {r.index} has to be inferred before it is scheduled")
    return Loop(r.index, r.lower, r.upper, r.descending)
