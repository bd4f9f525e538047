"""The place between a program and its code: which loops run, in which order.

A `Scheduled` program is what a backend that generates code walks, without decisions of its own.
Schedules (`schedule.default`) are functions from `Facts` and `Safety` to one. What a schedule does
not understand stays a `Nest` or a `Sequence`, as written; the rest is `Fused`, a tree of marked loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from loopgrad.analysis.facts import Facts, Safety, TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression
from loopgrad.schedule.tree import (
    Blocks,
    Fused,
    Made,
    Node,
    Over,
    Pack,
    Product,
    Step,
    read_by,
)


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


Phase: TypeAlias = Nest | Sequence | Fused


@dataclass(frozen=True)
class Scheduled:
    """A program's phases in the order in which they run, each finished before the next begins.

    `tensors` holds those of `facts` and the schedule's own. `started`: computed tensors in memory
    that need no identity underneath, since a phase writes all of each before anything reads it.
    `requires`: conditions on extents and constants; where a call breaks one, the literal schedule
    has to be run.
    """

    facts: Facts
    safety: Safety
    phases: tuple[Phase, ...]
    tensors: Mapping[str, TensorFacts] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    requires: tuple[Expression, ...] = ()


def tensors_of(phase: Phase) -> frozenset[str]:
    """The tensors that a phase reads or writes."""
    if isinstance(phase, Fused):
        return frozenset().union(*map(_tensors_of_node, phase.body))
    bounds = (bound for loop in phase.loops for bound in (loop.lower, loop.upper))
    found = {read.tensor for bound in bounds for read in walk.reads(bound)}
    match phase:
        case Nest(_, statement):
            found.add(statement.target.tensor)
            found.update(read.tensor for read in walk.statement_reads(statement))
        case Sequence(_, _, body):
            found.update(*map(tensors_of, body))
    return frozenset(found)


def _tensors_of_node(node: Node) -> frozenset[str]:
    """The tensors that a tree reads or writes, those in registers included."""
    match node:
        case Step(statement):
            used = (statement.target, *walk.statement_reads(statement))
            return frozenset(read.tensor for read in used)
        case Product(target):
            return frozenset(read.tensor for read in (target, *read_by(node)))
        case Pack(name, made=made):
            reads = frozenset(read.tensor for read in read_by(node))
            return reads if made is Made.OWN else reads | {name}
        case Over(_, lower, upper, body) | Blocks(_, lower, upper, _, body):
            bounds = (*walk.reads(lower), *walk.reads(upper))
            own = frozenset(read.tensor for read in bounds)
            return own.union(*map(_tensors_of_node, body))


def in_memory(scheduled: Scheduled) -> frozenset[str]:
    """The tensors that some phase has in memory, as they are."""
    found: set[str] = set()
    for phase in scheduled.phases:
        inside: frozenset[str] = frozenset()
        if isinstance(phase, Fused):
            inside = frozenset(b.tensor for b in phase.buffers if not b.further)
        found |= tensors_of(phase) - inside
    return frozenset(found)


def nests(phases: tuple[Phase, ...]) -> Iterator[Nest]:
    """Every nest, those inside sequences included, in order."""
    for phase in phases:
        match phase:
            case Nest():
                yield phase
            case Sequence():
                yield from nests(phase.body)
