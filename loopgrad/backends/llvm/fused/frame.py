"""A function of a `Fused` phase: its parameters, where each tensor lies, its way to fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.writing.layout import Layout
from loopgrad.backends.llvm.writing.text import I64, Body, Module
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Number
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Axis, Buffer, Scope


@dataclass(frozen=True, slots=True)
class Value:
    """An LLVM value, or a vector of `lanes` of them: i1, i64, or the module's real type.

    `bits` bounds an integer: |value| <= 2**bits.
    """

    text: str
    element: ElementType
    lanes: int = 1
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a tensor lies: in memory with the axes that it keeps, or in registers."""

    facts: TensorFacts
    kind: str  # of LLVM, of an element
    axes: tuple[Axis, ...]
    register: bool = False
    lanes: bool = False


def storage(facts: TensorFacts, buffer: Buffer | None, layout: Layout) -> Storage:
    kind = layout.memory_type(facts.element)
    if buffer is None or buffer.scope is Scope.SUMMED:
        axes = tuple(Axis(i, extent) for i, extent in enumerate(facts.extents))
        return Storage(facts, kind, axes)
    if buffer.scope is Scope.REGISTER:
        return Storage(facts, kind, (), register=True, lanes=buffer.lanes)
    return Storage(facts, kind, buffer.axes)


# 1 where a thread goes on with another's row, 0 where it begins one.
GOES_ON = Index("row.goes_on")


def split_axes(facts: TensorFacts, buffer: Buffer) -> tuple[Axis, ...]:
    """Of a SPLIT tensor: a thread that goes on with a row has the values at hand alone."""
    rows = dict(buffer.rows)

    def axis(position: int, extent: Expression) -> Axis:
        if position not in rows:
            return Axis(position, extent)
        more = walk.apply("-", extent, Number(1))
        here = walk.apply("-", extent, walk.apply("*", more, GOES_ON))
        return Axis(position, here, walk.apply("*", Index(rows[position]), GOES_ON))

    return tuple(axis(i, extent) for i, extent in enumerate(facts.extents))


class Frame:
    """Parameters in the order in which the code asks for them; see `phase.py` for who gives them."""

    def __init__(
        self,
        module: Module,
        layout: Layout,
        tensors: Mapping[str, TensorFacts],
        buffers: Mapping[str, Buffer],
    ):
        self.module, self.layout = module, layout
        self.split = {n: b for n, b in buffers.items() if b.scope is Scope.SPLIT}
        self.here: dict[str, str] = {}  # of split tensors: where they are for the row at hand
        self.tensors = dict(tensors)
        self.buffers = {n: b for n, b in buffers.items() if n not in self.split}
        self.body = Body(module, "phase")
        self.types = {name: facts.element for name, facts in tensors.items()}
        self.integers: dict[int, str] = {}  # slots -> parameters
        self.reals: dict[int, str] = {}
        self.pointers: dict[str, str] = {}
        self.fails = False
        self.grid = (
            False  # whether the phase has a grid of threads: `%columns` times `%sums` of them a row
        )
        self._dummies: dict[str, str] = {}
        self._storages: dict[str, Storage] = {}
        for buffer in self.split.values():
            extents = tuple(axis.extent for axis in buffer.axes)
            facts = TensorFacts(buffer.own, "temporary", extents, buffer.element)
            self.add(facts, replace(buffer, tensor=buffer.own))

    def add(self, facts: TensorFacts, buffer: Buffer) -> None:
        """Memory of the thread's own that the phase's code needs for itself."""
        self.tensors[facts.name], self.buffers[facts.name] = facts, buffer
        self._storages.pop(facts.name, None)
        self.types[facts.name] = facts.element

    def storage(self, tensor: str) -> Storage:
        found = self._storages.get(tensor)
        if found is None:
            found = self._storages[tensor] = self._storage(tensor)
        return found

    def _storage(self, tensor: str) -> Storage:
        if tensor in self.split:
            facts = self.tensors[tensor]
            kind = self.layout.memory_type(facts.element)
            return Storage(facts, kind, split_axes(facts, self.split[tensor]))
        return storage(self.tensors[tensor], self.buffers.get(tensor), self.layout)

    def pointer(self, tensor: str) -> str:
        if tensor in self.here:
            return self.here[tensor]
        return self.pointers.setdefault(tensor, f"%T{len(self.pointers)}")

    def integer(self, slot: int) -> str:
        return self.integers.setdefault(slot, f"%N{len(self.integers)}")

    def real(self, slot: int) -> str:
        return self.reals.setdefault(slot, f"%R{len(self.reals)}")

    def slot(self, extent: Expression) -> int | None:
        """The place of an axis' extent among the call's integers, where it has one."""
        return self.layout.slots.get(self.layout.axis_key(extent))

    def dummy(self, kind: str) -> str:
        """Memory on the stack, to read in place of an element that may not be there."""
        if kind not in self._dummies:
            zero = "0" if kind.startswith("i") else "0.0"
            self._dummies[kind] = self.body.variable(kind, zero)
        return self._dummies[kind]

    @property
    def looks(self) -> bool:
        """Does it look whether numbers are too large, and go on only where none is?"""
        return True

    def go_on_where(self, fine: str) -> None:
        """Gives up where the i1 does not hold: the phase has failed."""
        if fine == "true":
            return
        if not self.fails:
            pointer = self.module.pointer(I64)
            self.body.at_end("gave_up", [f"store i64 1, {pointer} %failed", "ret void"])
            self.fails = True
        go_on = self.body.fresh("ok")
        self.body.branch(fine, go_on, "gave_up")
        self.body.start(go_on)
        self.body.holds(fine)
