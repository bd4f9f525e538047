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
from loopgrad.schedule.showing.show import show_phase
from loopgrad.schedule.supported import Support
from loopgrad.schedule.threads.preparing import room
from loopgrad.schedule.tree import (
    ZERO,
    Blocks,
    Fused,
    Made,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Scope,
    Step,
    packs,
)

INTEGER_BYTES = 8
ALIGNMENT = 64  # each tensor on the way begins at a multiple of that


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


@dataclass(frozen=True)
class Kept:
    """Memory that code takes for a tensor, or to pack a side of a product: `size` bytes an element.

    further: of the threads the first takes none, as it adds up in the tensor's own memory.
    """

    name: str
    size: int
    extents: tuple[Expression, ...]
    further: bool = False

    @property
    def bytes(self) -> Bytes:
        return bytes_of(self.extents, self.size)

    def at(self, value: Callable[[Expression], int]) -> int:
        """What it takes, its alignment included."""
        return -(-self.bytes.at(value) // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Memory:
    """What a call takes beside its inputs and results.

    `between`: for all phases. `phases`: of each thread in each phase, which use the same memory one after
    the other.
    """

    between: tuple[Kept, ...]
    phases: tuple[tuple[Kept, ...], ...]

    def at(self, value: Callable[[Expression], int], threads: int) -> int:
        """Bytes, given what each extent's formula comes to."""

        def taken(phase: tuple[Kept, ...]) -> int:
            return sum(kept.at(value) * (threads - kept.further) for kept in phase)

        return sum(k.at(value) for k in self.between) + max(map(taken, self.phases), default=0)


def bytes_of(extents: Iterable[Expression], size: int) -> Bytes:
    """Of a tensor with elements of `size` bytes: numbers among the extents are multiplied out."""
    named = []
    for extent in extents:
        if isinstance(extent, Number) and isinstance(extent.value, int):
            size *= extent.value
        else:
            named.append(extent)
    return Bytes(((tuple(named), size),))


def _factor(extent: Expression) -> str:
    text = show_expression(extent, compact=True)
    return f"({text})" if isinstance(extent, Apply | Conditional) else text


@dataclass(frozen=True)
class Held:
    """What a phase keeps for itself: its name, where, and how many bytes of each thread it takes.

    `scope` None: the right side of products, packed for them; without a name, what products make ready
    for themselves.
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
    memory: Memory
    requires: tuple[Expression, ...]

    @property
    def between(self) -> Bytes:
        """What phases share, beside inputs and results."""
        return _sum(kept.bytes for kept in self.memory.between)

    @property
    def threads(self) -> tuple[tuple[Bytes, Bytes], ...]:
        """What each thread takes for itself, in one phase or another; and what each but the first does."""

        def taken(phase: tuple[Kept, ...], further: bool) -> Bytes:
            return _sum(kept.bytes for kept in phase if kept.further == further)

        own = ((taken(phase, False), taken(phase, True)) for phase in self.memory.phases)
        return tuple(dict.fromkeys(both for both in own if any(one.terms for one in both)))


def account(scheduled: Scheduled, size: int = 4, memory: Memory | None = None) -> Account:
    """What the program comes to with `size` bytes for a real element.

    memory: what code for it takes; without it, what the schedule says of that. Products that pack what
    they read for themselves take more.
    """
    return _Accounting(scheduled, size, memory).whole()


def _sum(parts: Iterable[Bytes]) -> Bytes:
    total = Bytes()
    for part in parts:
        total += part
    return total


class _Accounting:
    def __init__(self, scheduled: Scheduled, size: int, memory: Memory | None):
        self.scheduled, self.size, self.memory = scheduled, size, memory
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
        memory = self.memory or self._memory()
        phases = tuple(map(self._phase, self.scheduled.phases, self.own, memory.phases))
        facts = self.scheduled.facts.tensors.values()
        return Account(
            phases,
            _sum(self._bytes(t) for t in facts if t.role == "input"),
            _sum(self._bytes(t) for t in facts if t.role == "result"),
            memory,
            self.scheduled.requires,
        )

    def _memory(self) -> Memory:
        """As far as the schedule says."""
        used: set[str] = set()
        for phase, own in zip(self.scheduled.phases, self.own, strict=True):
            used |= tensors_of(phase) - own
        between = [t for t in self.tensors.values() if t.role == "temporary" and t.name in used]
        phases = (
            tuple(self._kept(p)) if isinstance(p, Fused) else () for p in self.scheduled.phases
        )
        return Memory(
            tuple(Kept(t.name, self._size(t.element), t.extents) for t in between), tuple(phases)
        )

    def _kept(self, phase: Fused) -> Iterator[Kept]:
        for b in phase.buffers:
            if b.scope is Scope.ROW or b.further:
                kept = tuple(axis.extent for axis in b.axes)
                yield Kept(b.own, self._size(b.element), kept, b.further)
        for pack in _packs_of_threads(phase):
            yield Kept(pack.own, self.size, tuple(_extents(pack)))

    def _phase(self, phase: Phase, own: set[str], kept: tuple[Kept, ...]) -> PhaseAccount:
        lines = tuple(show_phase(phase, buffers=False))
        reads, writes, moved = self._moved(phase, own)
        if not isinstance(phase, Fused):
            found = list(nests((phase,)))
            reason = self._reason(found)
            return PhaseAccount(lines, len(found), (), reads, writes, moved, reason=reason)
        count = sum(1 for _ in _nodes(phase.body, Step | Product))
        held = tuple(self._held(phase, kept))
        return PhaseAccount(lines, count, held, reads, writes, moved, _shared(phase), phase.work)

    def _held(self, phase: Fused, kept: tuple[Kept, ...]) -> Iterator[Held]:
        """What the phase keeps for itself; what its products pack for themselves last, in one."""
        buffers = {b.own: b for b in phase.buffers}
        yield from (Held(b.tensor, b.scope) for b in buffers.values() if b.scope is Scope.REGISTER)
        packs = {pack.own: show_expression(pack.right) for pack in _packs_of_threads(phase)}
        others = []
        for one in kept:
            if one.name in buffers:
                own = buffers[one.name]
                yield Held(own.tensor, own.scope, one.extents, one.bytes)
            elif one.name in packs:
                yield Held(packs[one.name], None, one.extents, one.bytes)
            else:
                others.append(one.bytes)
        if others:
            yield Held("", None, (), _sum(others))

    def _moved(self, phase: Phase, own: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], Bytes]:
        """What is read and what is written of the memory that phases share, and the bytes of both."""
        written = set(_written(phase))
        names = [n for n in self.tensors if n in tensors_of(phase) - own]
        reads = tuple(n for n in names if n not in written)
        writes = tuple(n for n in names if n in written)
        return reads, writes, _sum(self._bytes(self.tensors[n]) for n in names)

    def _bytes(self, tensor: TensorFacts) -> Bytes:
        return bytes_of(tensor.extents, self._size(tensor.element))

    def _size(self, element: ElementType) -> int:
        return {ElementType.FLOAT: self.size, ElementType.BOOL: 1}.get(element, INTEGER_BYTES)

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
    yield from (pack.name for pack in packs(phase.body) if pack.made is Made.TOGETHER)


def _packs_of_threads(phase: Fused) -> Iterator[Pack]:
    """Those that each thread may make for itself."""
    return (pack for pack in packs(phase.body) if pack.made is not Made.TOGETHER)


def _extents(pack: Pack) -> Iterator[Expression]:
    if pack.made is Made.BEFORE:
        yield Conditional(pack.large, ZERO, room(pack))
        return
    for d in (*pack.n, *pack.k):
        yield d.upper if d.lower == ZERO else apply("-", d.upper, d.lower)


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
            case Pack(n=(*_, last), made=Made.TOGETHER):
                return last.index
    return None
