"""What a scheduled program comes to: for each phase its text, what it keeps where, what it reads and writes.

`loopgrad explain` prints it. Bytes are sums of products of extents, so that they are formulas before a
call and numbers at one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir.nodes import Apply, Conditional, Expression, Number
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import apply
from loopgrad.schedule import Nest, Phase, Scheduled, nests, tensors_of
from loopgrad.schedule.show import show_phase
from loopgrad.schedule.supported import Support
from loopgrad.schedule.tree import (
    ZERO,
    Blocks,
    Buffer,
    Fused,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Scope,
    Step,
)

INTEGER_BYTES = 8


@dataclass(frozen=True)
class Bytes:
    """A sum: for each product of extents, how many bytes an element of it counts."""

    terms: tuple[tuple[tuple[Expression, ...], int], ...] = ()

    def __add__(self, other: Bytes) -> Bytes:
        total: Counter[tuple[Expression, ...]] = Counter()
        for extents, count in (*self.terms, *other.terms):
            total[extents] += count
        return Bytes(tuple(total.items()))

    def __str__(self) -> str:
        """`8*B*J + 4*B`; 0 for nothing."""
        terms = ("*".join([str(count), *map(_factor, extents)]) for extents, count in self.terms)
        return " + ".join(terms) or "0"

    def at(self, value: Callable[[Expression], int]) -> int:
        """The number, given what each extent's formula comes to."""
        return sum(count * prod(max(0, value(e)) for e in extents) for extents, count in self.terms)


def _factor(extent: Expression) -> str:
    text = show_expression(extent, compact=True)
    return f"({text})" if isinstance(extent, Apply | Conditional) else text


@dataclass(frozen=True)
class Held:
    """What a phase keeps for itself: its name, where, and how many bytes of each thread it takes.

    `scope` None: the right side of products, packed for them.
    """

    name: str
    scope: Scope | None
    extents: tuple[Expression, ...] = ()
    bytes: Bytes = Bytes()


@dataclass(frozen=True)
class PhaseAccount:
    """A phase. `reason`: why it runs as written, where it does. `shared`: the index that threads share."""

    lines: tuple[str, ...]
    statements: int
    held: tuple[Held, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    moved: Bytes = field(default_factory=Bytes)
    shared: str | None = None
    work: Expression | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Account:
    """A program. `between`: the tensors in memory from one phase to the next, beside inputs and results."""

    phases: tuple[PhaseAccount, ...]
    inputs: Bytes
    results: Bytes
    between: Bytes
    thread: Bytes  # at most, of each thread's own
    requires: tuple[Expression, ...]


def account(scheduled: Scheduled, size: int = 4) -> Account:
    """What the program comes to with `size` bytes for a real element."""
    return _Accounting(scheduled, size).whole()


class _Accounting:
    def __init__(self, scheduled: Scheduled, size: int):
        self.scheduled, self.size = scheduled, size
        self.tensors = {**scheduled.facts.tensors, **scheduled.tensors}
        self.support = Support(scheduled.facts, scheduled.safety)
        # A computed tensor with a buffer in every phase that uses it is in no memory of its own.
        self.own = [
            {b.tensor for b in phase.buffers if b.scope in (Scope.REGISTER, Scope.ROW)}
            if isinstance(phase, Fused)
            else set()
            for phase in scheduled.phases
        ]

    def whole(self) -> Account:
        phases = tuple(map(self._phase, self.scheduled.phases, self.own))
        used: set[str] = set()
        for phase, own in zip(self.scheduled.phases, self.own, strict=True):
            used |= tensors_of(phase) - own
        between = [t for t in self.tensors.values() if t.role == "temporary" and t.name in used]
        facts = self.scheduled.facts.tensors.values()
        threads = [
            self._sum(h.bytes for h in p.held if h.scope is not Scope.REGISTER) for p in phases
        ]
        return Account(
            phases,
            self._sum(self._bytes(t) for t in facts if t.role == "input"),
            self._sum(self._bytes(t) for t in facts if t.role == "result"),
            self._sum(map(self._bytes, between)),
            max(threads, key=lambda b: len(b.terms), default=Bytes()),
            self.scheduled.requires,
        )

    def _phase(self, phase: Phase, own: set[str]) -> PhaseAccount:
        lines = tuple(show_phase(phase, buffers=False))
        if not isinstance(phase, Fused):
            found = list(nests((phase,)))
            reads, writes, moved = self._moved(phase, own)
            reason = self._reason(found)
            return PhaseAccount(lines, len(found), (), reads, writes, moved, reason=reason)
        held = [self._held(b) for b in phase.buffers if b.scope is not Scope.PROGRAM]
        held += map(self._packed, _nodes(phase.body, Pack))
        count = sum(1 for _ in _nodes(phase.body, Step | Product))
        reads, writes, moved = self._moved(phase, own)
        shared = _shared(phase)
        return PhaseAccount(lines, count, tuple(held), reads, writes, moved, shared, phase.work)

    def _moved(self, phase: Phase, own: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], Bytes]:
        """What is read and what is written of the memory that phases share, and the bytes of both."""
        written = set(_written(phase))
        names = [n for n in self.tensors if n in tensors_of(phase) - own]
        reads = tuple(n for n in names if n not in written)
        writes = tuple(n for n in names if n in written)
        return reads, writes, self._sum(self._bytes(self.tensors[n]) for n in names)

    def _held(self, buffer: Buffer) -> Held:
        extents = tuple(axis.extent for axis in buffer.axes)
        return Held(buffer.tensor, buffer.scope, extents, self._product(extents, buffer.element))

    def _packed(self, pack: Pack) -> Held:
        extents = tuple(
            d.upper if d.lower == ZERO else apply("-", d.upper, d.lower) for d in (*pack.n, *pack.k)
        )
        return Held(
            show_expression(pack.right), None, extents, self._product(extents, ElementType.FLOAT)
        )

    def _bytes(self, tensor: TensorFacts) -> Bytes:
        return self._product(tensor.extents, tensor.element)

    def _product(self, extents: tuple[Expression, ...], element: ElementType) -> Bytes:
        size = {ElementType.FLOAT: self.size, ElementType.BOOL: 1}.get(element, INTEGER_BYTES)
        named = []
        for extent in extents:
            if isinstance(extent, Number) and isinstance(extent.value, int):
                size *= extent.value
            else:
                named.append(extent)
        return Bytes(((tuple(named), size),))

    def _sum(self, parts: Iterable[Bytes]) -> Bytes:
        total = Bytes()
        for part in parts:
            total += part
        return total

    def _reason(self, found: Iterable[Nest]) -> str | None:
        reasons = (self.support.reason_against(nest.statement) for nest in found)
        return next((reason for reason in reasons if reason), None)


def _written(phase: Phase) -> Iterator[str]:
    if not isinstance(phase, Fused):
        yield from (nest.statement.target.tensor for nest in nests((phase,)))
        return
    for node in _nodes(phase.body, Step | Product):
        target = node.statement.target if isinstance(node, Step) else node.target
        yield target.tensor


def _nodes(nodes: Iterable[Node], kind: Any) -> Iterator[Any]:
    """Those of a kind, in order."""
    for node in nodes:
        if isinstance(node, kind):
            yield node
        if isinstance(node, Over | Blocks):
            yield from _nodes(node.body, kind)


def _shared(phase: Fused) -> str | None:
    for node in phase.body:
        match node:
            case Over(index=index, mark=Mark.PARALLEL) | Blocks(index=index, mark=Mark.PARALLEL):
                return index
    return None
