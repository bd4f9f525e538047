"""What of a block has to run in its order, and what may run before or after it for all times at once.

The core of a block are the statements on a cycle of dependences, and those between them. What the
core does not reach comes before: `Ra[t,b,j] += WxR[j,k] * x[t,b,k]`. What it reaches, but does not
need, comes after: the gradients of weights. There the block's index is one like any other, and what reads
what a turn before has written stands behind the statement that writes it:

    for t:
        y[t]   = 2 * c[t]                       for t:  c[t+1] = x[t]
        c[t+1] = x[t]               is          for t:  y[t]   = 2 * c[t]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopgrad.ir import walk
from loopgrad.ir.nodes import Reduction
from loopgrad.schedule import Nest


@dataclass(frozen=True, slots=True)
class Fission:
    """The nests of a block's body in three parts: the core in its order, others behind all that they need."""

    before: tuple[Nest, ...]
    core: tuple[Nest, ...]
    after: tuple[Nest, ...]


def fission(body: Sequence[Nest]) -> Fission:
    """The parts of a block. Each may be empty; without a cycle there is nothing but `before`."""
    needs = [set(_needs(nest, body)) for nest in body]
    reached = _closure(needs)  # of each nest, all that it needs
    cyclic = {i for i, all_needed in enumerate(reached) if i in all_needed}
    after_cycle = {i for i, needed in enumerate(reached) if needed & cyclic} | cyclic
    core = {i for i in after_cycle if i in cyclic or any(i in reached[cycle] for cycle in cyclic)}
    before = [i for i in range(len(body)) if i not in after_cycle]
    return Fission(
        tuple(body[i] for i in _ordered(before, needs)),
        tuple(nest for i, nest in enumerate(body) if i in core),
        tuple(body[i] for i in _ordered(sorted(after_cycle - core), needs)),
    )


def _ordered(numbers: Sequence[int], needs: Sequence[set[int]]) -> list[int]:
    """Those of nests, none of which needs itself, each behind those that it needs; else as they stood."""
    waiting, found = list(numbers), []
    while waiting:
        ready = next(i for i in waiting if needs[i].isdisjoint(waiting))
        waiting.remove(ready)
        found.append(ready)
    return found


def _needs(nest: Nest, body: Sequence[Nest]) -> Iterator[int]:
    """The nests of the body that write what it reads, or set first what it updates."""
    statement = nest.statement
    read = {read.tensor for read in walk.statement_reads(statement)}
    adds = statement.reduction is not Reduction.SET
    for number, other in enumerate(body):
        written = other.statement.target.tensor
        sets = other.statement.reduction is Reduction.SET
        if written in read or (sets and adds and written == statement.target.tensor):
            yield number


def _closure(needs: Sequence[set[int]]) -> list[set[int]]:
    """All that each needs, by way of others too."""
    reached = [set(direct) for direct in needs]
    changed = True
    while changed:
        changed = False
        for one in reached:
            more = set().union(*(reached[j] for j in one)) - one
            if more:
                one |= more
                changed = True
    return reached
