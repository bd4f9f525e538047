"""Stores at every second element, of steps that together write all of them: whole vectors instead.

    for q vector:  x[2*q] = a[q];  x[2*q+1] = b[q]

stores a[0], b[0], a[1], b[1], ... side by side, where two stores with gaps would take twice as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.polynomial import constant_value, subtract
from loopgrad.backends.llvm.fused import accesses
from loopgrad.backends.llvm.fused.accesses import Place
from loopgrad.backends.llvm.fused.sizes import size
from loopgrad.backends.llvm.writing.text import Body
from loopgrad.ir import walk
from loopgrad.ir.nodes import Index, Read, Reduction
from loopgrad.schedule.tree import Node, Step

_MOST = 4  # elements from one lane to the next


@dataclass
class Weaving:
    """Groups of targets, those of each in the order of memory; what has come of them so far."""

    groups: Mapping[Read, tuple[Read, ...]] = field(default_factory=dict)
    steps: frozenset[int] = frozenset()  # by identity
    waiting: dict[Read, tuple[Place, str, str | None]] = field(default_factory=dict)

    def takes(
        self, body: Body, target: Read, place: Place, value: str, lanes: int, mask: str | None
    ) -> bool:
        """Whether the store is one of a group's; with the last of them all are stored."""
        group = self.groups.get(target)
        if group is None:
            return False
        self.waiting[target] = place, value, mask
        if all(each in self.waiting for each in group):
            found = [self.waiting.pop(each) for each in group]
            values, masks = [v for _, v, _ in found], [m for _, _, m in found]
            accesses.store_woven(body, found[0][0], values, lanes, masks)
        return True


def woven(nodes: Sequence[Node], index: str, apart: frozenset[int]) -> Weaving:
    """The groups among a vector loop's own steps, over the index. `apart`: steps that are in none."""
    groups: dict[Read, tuple[Read, ...]] = {}
    steps: set[int] = set()
    for run in _runs(nodes, index, apart):
        places = {_place(step.statement.target, run[0].statement.target): step for step in run}
        least = min((p for p in places if p is not None), default=0)
        wanted = range(least, least + len(run))
        if None in places or {*places} != {*wanted} or len(run) != _stride(run[0], index):
            continue
        targets = tuple(places[place].statement.target for place in wanted)
        groups |= dict.fromkeys(targets, targets)
        steps |= {id(step) for step in run}
    return Weaving(groups, frozenset(steps))


def _runs(nodes: Sequence[Node], index: str, apart: frozenset[int]) -> Iterator[list[Step]]:
    """Steps that follow each other and may make up a group: as many as elements are apart."""
    run: list[Step] = []
    for node in nodes:
        if not isinstance(node, Step) or id(node) in apart or not _may_wait(node, index):
            run = []
            continue
        if run and _place(node.statement.target, run[0].statement.target) is None:
            run = []
        if any(
            r.tensor == node.statement.target.tensor for r in walk.statement_reads(node.statement)
        ):
            run = []
            continue
        run.append(node)
        if len(run) == _stride(node, index):
            yield run
            run = []


def _may_wait(step: Step, index: str) -> bool:
    """Does it store what costs little, at a place that data do not tell?"""
    statement = step.statement
    stores = step.first or statement.reduction is Reduction.SET
    if not stores or _stride(step, index) <= 1:
        return False
    data = any(True for s in statement.target.subscripts for _ in walk.reads(s))
    cheap = not size(statement.value)[1] and not step.unproved
    return cheap and not data


def _stride(step: Step, index: str) -> int:
    """How many elements lie from one lane's to the next; 0 where that is not evident, or too many."""
    *others, last = step.statement.target.subscripts or (walk.ZERO,)
    if isinstance(last, Index):
        return 0
    if any(index in walk.indices_of(other) for other in others):
        return 0
    linear = polynomial(last)
    stride = linear.get((Index(index),), 0)
    rest = subtract(linear, {(Index(index),): stride})
    if any(index in walk.indices_of(atom) for monomial in rest for atom in monomial):
        return 0
    return stride if 1 < stride <= _MOST else 0


def _place(target: Read, other: Read) -> int | None:
    """How many elements it lies behind the other; None where that is not evident."""
    if target.tensor != other.tensor or target.subscripts[:-1] != other.subscripts[:-1]:
        return None
    return constant_value(
        subtract(polynomial(target.subscripts[-1]), polynomial(other.subscripts[-1]))
    )
