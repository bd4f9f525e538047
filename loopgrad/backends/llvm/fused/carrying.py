"""What the steps of a vector loop's body hand on in a register: an element that several of them change.

    y[n] = -inf;  y[n] max= x[2*n];  y[n] max= x[2*n+1]   if 2*n + 1 < X

stores y once, behind the last. Where a guard rules lanes out, these keep what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from loopgrad.backends.llvm.fused.sizes import computed, size
from loopgrad.ir import walk
from loopgrad.ir.nodes import Read, Reduction
from loopgrad.schedule.tree import Node, Step

_CHEAP = 12  # parts of a value that is computed for lanes which a guard rules out


@dataclass(frozen=True, slots=True)
class Carried:
    """Steps, by identity. `all`: those that change what a register holds, which has every lane's
    element. `held`: those among them that need not store, as a later one does."""

    all: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()


@dataclass
class _Chains:
    """`open`: the elements that registers hold, each with the last step that changed it."""

    open: dict[Read, Step] = field(default_factory=dict)
    all: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)

    def step(self, step: Step, may_begin: bool) -> None:
        target = step.statement.target
        joins = step.statement.reduction is not Reduction.SET and not step.first
        before = self.open.get(target) if joins else None
        read = {r.tensor for r in walk.statement_reads(step.statement)}
        gone = read | {target.tensor}
        self.open = {t: s for t, s in self.open.items() if t.tensor not in gone}
        if before is not None and _is_cheap(step) and target.tensor not in read:
            self.all |= {id(before), id(step)}
            self.held.add(id(before))
            self.open[target] = step
        elif may_begin:
            self.open[target] = step


def carried(nodes: Collection[Node], is_there: Callable[[Read], bool]) -> Carried:
    """`is_there` tells of an element that it exists in every lane, whatever a guard says."""
    chains = _Chains()
    for node in nodes:
        if not isinstance(node, Step):
            chains.open.clear()
            continue
        statement = node.statement
        data = any(True for s in statement.target.subscripts for _ in walk.reads(s))
        guarded = statement.guard is not None
        adds = statement.reduction is not Reduction.SET and not node.first
        begins = not guarded or (adds and _is_cheap(node) and is_there(statement.target))
        chains.step(node, begins and not data)
    return Carried(frozenset(chains.all), frozenset(chains.held))


def _is_cheap(step: Step) -> bool:
    statement = step.statement
    if statement.guard is None:
        return True
    _, slow = size(statement.value)
    return computed(statement.value) <= _CHEAP and not slow and not step.unproved
