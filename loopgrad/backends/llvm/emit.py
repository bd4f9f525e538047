"""A scheduled program -> the text of an LLVM module: a function for each kind of phase, and the entry."""

from __future__ import annotations

from collections.abc import Iterable

from loopgrad.backends.llvm.function import PhaseFunction
from loopgrad.backends.llvm.identities import fill, identity
from loopgrad.backends.llvm.layout import ARRAY_HEAD, ENTRY, Layout
from loopgrad.backends.llvm.scratch import Placed, offsets, size_function
from loopgrad.backends.llvm.statements import PhaseWriter
from loopgrad.backends.llvm.text import I64, Body, Module
from loopgrad.ir.nodes import Expression, Number
from loopgrad.schedule import Nest, Scheduled


def emit(scheduled: Scheduled, layout: Layout, module: Module) -> str:
    """The module's text; `layout` is filled with the places that may fail."""
    entry = _Entry(layout, module)
    started = {
        phase.statement.target.tensor
        for phase in scheduled.phases
        if isinstance(phase, Nest) and phase.starts
    }
    entry.fill(started)
    for phase in scheduled.phases:
        function = PhaseFunction(module, layout)
        PhaseWriter(function).write(phase)
        entry.call(function.finish(), function)
    entry.finish()
    return module.text()


class _Entry:
    """`i32 (arrays, integers, reals, record, scratch, threads)`, as layout.py has it.

    Fills the computed tensors, runs the phases; returns 0, or 1 with the record filled.
    """

    def __init__(self, layout: Layout, module: Module):
        self.layout, self.module = layout, module
        pointer = module.pointer
        byte = pointer("i8")
        head = (
            f"i32 @{ENTRY}({pointer(byte)} %arrays, {pointer(I64)} %integers, "
            f"{pointer('double')} %reals, {pointer(I64)} %record, {byte} %scratch, i64 %threads) "
            "nounwind"
        )
        self.body = Body(module, ENTRY, head)
        self._integers: dict[int, str] = {}
        self._reals: dict[int, str] = {}
        self._pointers: dict[tuple[str, str], str] = {}
        for i, tensor in enumerate(layout.passed):
            array = self.body.load(byte, self.body.element(byte, "%arrays", i))
            raw = self.body.load(byte, self._field(byte, array))
            self._points("tensor", tensor, layout.element(tensor), raw)
        self._place_scratch()

    def _points(self, role: str, tensor: str, kind: str, raw: str) -> None:
        pointer = self.module.pointer
        typed = self.body.value(f"bitcast {pointer('i8')} {raw} to {pointer(kind)}")
        self._pointers[role, tensor] = f"{pointer(kind)} {typed}"

    def _place_scratch(self) -> None:
        """Divides the scratch block; the states begin as zeros."""
        layout, body = self.layout, self.body
        wanted = [Placed("tensor", t, layout.element(t)) for t in layout.temporaries]
        wanted += [Placed("state", t, I64) for t in layout.tracked]
        size_function(self.module, layout, wanted)
        places, _ = offsets(body, layout, wanted, self._extent)
        for each, offset in zip(wanted, places, strict=True):
            self._points(each.role, each.tensor, each.kind, body.element("i8", "%scratch", offset))
        for tensor in layout.tracked:
            count = self._count(layout.task.facts.tensors[tensor].extents)
            states = self._pointers["state", tensor]
            body.do(f"call void @{fill(self.module, I64)}({states}, i64 {count}, i64 0)")

    def _field(self, kind: str, array: str) -> str:
        """The address of the field of an array object that points at its elements."""
        pointer = self.module.pointer
        field = self.body.element("i8", array, ARRAY_HEAD)
        return self.body.value(f"bitcast {pointer('i8')} {field} to {pointer(kind)}")

    def fill(self, started: set[str]) -> None:
        """Gives computed tensors their identities, but for those that a phase starts."""
        body, layout = self.body, self.layout
        for tensor in layout.task.facts.tensors.values():
            if tensor.role == "input" or tensor.name in started:
                continue
            count = self._count(tensor.extents)
            element = layout.element(tensor.name)
            value = f"{element} {identity(layout, tensor.name, self.module)}"
            destination = self._pointers["tensor", tensor.name]
            body.do(f"call void @{fill(self.module, element)}({destination}, i64 {count}, {value})")

    def call(self, name: str, function: PhaseFunction) -> None:
        """Runs a phase, with what its function takes; leaves where it fails."""
        body = self.body
        given = [f"{self.module.pointer(I64)} %record"]
        given.append(f"i64 {self.layout.add_sites(function.sites)}")
        given += [f"i64 {self._integer(slot)}" for slot in function.integers]
        given += [f"{self.module.real} {self._real(slot)}" for slot in function.reals]
        given += [self._pointers["tensor", t] for t in function.tensors]
        given += [self._pointers["state", t] for t in function.states]
        failed = body.value(f"call i32 @{name}({', '.join(given)})")
        fine = body.value(f"icmp eq i32 {failed}, 0")
        label = body.fresh("phase")
        body.branch(fine, label, "failed")
        body.start(label)

    def finish(self) -> None:
        self.body.do("ret i32 0")
        self.body.at_end("failed", ["ret i32 1"])
        self.body.finish()

    def _count(self, extents: Iterable[Expression]) -> str:
        count = "1"
        for extent in extents:
            count = self.body.value(f"mul i64 {count}, {self._extent(extent)}")
        return count

    def _extent(self, extent: Expression) -> str:
        if isinstance(extent, Number):
            return str(extent.value)
        return self._integer(self.layout.slots[self.layout.axis_key(extent)])

    # Loaded once, where first needed: later blocks all come after.

    def _integer(self, slot: int) -> str:
        if slot not in self._integers:
            self._integers[slot] = self.body.load(I64, self.body.element(I64, "%integers", slot))
        return self._integers[slot]

    def _real(self, slot: int) -> str:
        if slot not in self._reals:
            value = self.body.load("double", self.body.element("double", "%reals", slot))
            if self.module.real == "float":
                value = self.body.value(f"fptrunc double {value} to float")
            self._reals[slot] = value
        return self._reals[slot]
