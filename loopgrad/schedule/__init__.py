"""The place between a program and its code: which loops run, in which order.

A `Scheduled` program is what a backend that generates code walks, without decisions of its own.
Schedules (`schedule.default`) are functions from `Facts` and `Safety` to one. Marks on loops, for
threads, vectors and tiles, belong on `Loop`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression


@dataclass(frozen=True, slots=True)
class Loop:
    """`lower <= index < upper`, upwards, or downwards from `upper - 1`."""

    index: str
    lower: Expression
    upper: Expression
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Nest:
    """One accumulate under its loops, outermost first. `number` is its place in the program.

    `starts`: it writes every element of its target, once, and nothing has touched the target
    before, so that the elements need not hold their identity when it begins.
    """

    number: int
    statement: Accumulate
    loops: tuple[Loop, ...]
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """Loops whose body runs in order, once for each value of their indices."""

    number: int
    loops: tuple[Loop, ...]
    body: tuple[Phase, ...]


Phase: TypeAlias = Nest | Sequence


@dataclass(frozen=True)
class Scheduled:
    """A program's phases in the order in which they run, each finished before the next begins."""

    facts: Facts
    safety: Safety
    phases: tuple[Phase, ...]


def tensors_of(phase: Phase) -> frozenset[str]:
    """The tensors that a phase reads or writes."""
    bounds = (bound for loop in phase.loops for bound in (loop.lower, loop.upper))
    found = {read.tensor for bound in bounds for read in walk.reads(bound)}
    match phase:
        case Nest(_, statement):
            found.add(statement.target.tensor)
            found.update(read.tensor for read in walk.statement_reads(statement))
        case Sequence(_, _, body):
            found.update(*map(tensors_of, body))
    return frozenset(found)


def nests(phases: tuple[Phase, ...]) -> Iterator[Nest]:
    """Every nest, those inside sequences included, in order."""
    for phase in phases:
        match phase:
            case Nest():
                yield phase
            case Sequence():
                yield from nests(phase.body)
