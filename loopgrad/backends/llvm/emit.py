"""A scheduled program -> the text of an LLVM module: a function for each kind of phase, and the entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.backends.llvm.fused.phase import EntryFrame, FusedPhase, Given
from loopgrad.backends.llvm.fused.sizes import length
from loopgrad.backends.llvm.literal.function import PhaseFunction
from loopgrad.backends.llvm.literal.identities import fill, identity
from loopgrad.backends.llvm.literal.statements import PhaseWriter
from loopgrad.backends.llvm.writing import scratch
from loopgrad.backends.llvm.writing.layout import ARRAY_HEAD, ASLEEP, ENTRY, GAVE_UP, Layout
from loopgrad.backends.llvm.writing.scratch import Placed, offsets, size_function
from loopgrad.backends.llvm.writing.text import I64, ONCE, Body, Module
from loopgrad.ir.nodes import Expression
from loopgrad.schedule import Nest, Phase, Scheduled, in_memory
from loopgrad.schedule.loops.idle import busy
from loopgrad.schedule.tree import Fused


def emit(
    scheduled: Scheduled,
    layout: Layout,
    module: Module,
    wrote: Callable[[Module, Phase, Collection[str]], None] = lambda *_: None,
) -> str:
    """The module's text; `layout` is filled with the places that may fail. wrote: told after each phase, with
    the functions that it brought."""
    tensors = {**scheduled.facts.tensors, **scheduled.tensors}
    # The longest first, for others to make code of while the rest is written.
    written: dict[int, PhaseFunction | FusedPhase] = {}
    for number, phase in sorted(enumerate(scheduled.phases), key=lambda each: -length(each[1])):
        before = set(module.functions)
        written[number] = _function(phase, module, layout, tensors)
        wrote(module, phase, module.functions.keys() - before)
    functions = [written[number] for number in range(len(written))]
    entry = _Entry(scheduled, layout, module)
    entry.require(scheduled.requires)
    entry.place_scratch([f.buffers if isinstance(f, FusedPhase) else () for f in functions])
    entry.fill()
    for phase, function in zip(scheduled.phases, functions, strict=True):
        if isinstance(function, FusedPhase):
            fused.call(function, entry.body, entry.given())
            if scratch.GAP:
                entry.leave(function.buffers)
        else:
            entry.call(function.finish(), function, busy(phase))
    entry.finish()
    return module.text()


def _function(
    phase: Phase, module: Module, layout: Layout, tensors: Mapping[str, TensorFacts]
) -> PhaseFunction | FusedPhase:
    if isinstance(phase, Fused):
        return fused.lower(phase, module, layout, tensors)
    function = PhaseFunction(module, layout)
    PhaseWriter(function).write(phase)
    return function


class _Entry:
    """`i32 (arrays, integers, reals, record, scratch, threads)`, as layout.py has it.

    Fills the computed tensors, runs the phases; returns 0, or 1 with the record filled, or GAVE_UP
    where a `Fused` phase has found something wrong: the literal code then has to be run. ASLEEP where
    there are no threads for one that could use some (pool.py).
    """

    def __init__(self, scheduled: Scheduled, layout: Layout, module: Module):
        self.layout, self.module = layout, module
        self.tensors = {**scheduled.facts.tensors, **scheduled.tensors}
        self.scheduled, self.used = scheduled, in_memory(scheduled)
        pointer = module.pointer
        byte = pointer("i8")
        head = (
            f"i32 @{ENTRY}({pointer(byte)} %arrays, {pointer(I64)} %integers, "
            f"{pointer('double')} %reals, {pointer(I64)} %record, {byte} %scratch, i64 %threads) {ONCE}"
        )
        self.body = Body(module, ENTRY, head)
        self._integers: dict[int, str] = {}
        self._frame = EntryFrame(layout, self.body, self._integer)
        self._reals: dict[int, str] = {}
        self._pointers: dict[tuple[str, str], str] = {}
        for i, tensor in enumerate(layout.passed):
            array = self.body.load(byte, self.body.element(byte, "%arrays", i))
            raw = self.body.load(byte, self._field(byte, array))
            self._points("tensor", tensor, layout.element(tensor), raw)

    def _points(self, role: str, tensor: str, kind: str, raw: str) -> None:
        pointer = self.module.pointer
        typed = self.body.value(f"bitcast {pointer('i8')} {raw} to {pointer(kind)}")
        self._pointers[role, tensor] = f"{pointer(kind)} {typed}"

    def require(self, conditions: Iterable[Expression]) -> None:
        """Gives up where one does not hold."""
        for condition in conditions:
            holds = self._frame.condition(condition)
            label = self.body.fresh("required")
            self.body.branch(holds, label, "gave_up")
            self.body.start(label)

    def place_scratch(self, phases: Sequence[Sequence[Placed]]) -> None:
        """Divides the scratch block; the states begin as zeros. `phases`: what each needs."""
        layout, body = self.layout, self.body
        wanted = [
            Placed("tensor", t.name, layout.memory_type(t.element), t.extents)
            for t in self.tensors.values()
            if t.name in self.used and t.name not in layout.passed
        ]
        wanted += [Placed("state", t, I64, self.tensors[t].extents) for t in layout.tracked]
        layout.placed = (tuple(wanted), *map(tuple, phases))
        size_function(self.module, wanted, phases, self._extents)
        places, size = offsets(body, wanted, self._extent)
        for each, offset in zip(wanted, places, strict=True):
            self._points(each.role, each.tensor, each.kind, body.element("i8", "%scratch", offset))
        self._phases_scratch = body.element("i8", "%scratch", size)
        for tensor in layout.tracked:
            count = self._count(self.tensors[tensor].extents)
            states = self._pointers["state", tensor]
            body.do(f"call void @{fill(self.module, I64)}({states}, i64 {count}, i64 0)")

    def leave(self, used: Sequence[Placed]) -> None:
        """Gives the next phase memory behind that of the last one."""
        size = scratch.of_threads(self.body, used, self._extent)
        self._phases_scratch = self.body.element("i8", self._phases_scratch, size)

    def _extents(self, body: Body) -> Callable[[Expression], str]:
        """Values of extents, in another function that is given the integers."""

        loaded: dict[int, str] = {}
        return EntryFrame(self.layout, body, lambda slot: _integer(body, slot, loaded)).extent

    def _field(self, kind: str, array: str) -> str:
        """The address of the field of an array object that points at its elements."""
        pointer = self.module.pointer
        field = self.body.element("i8", array, ARRAY_HEAD)
        return self.body.value(f"bitcast {pointer('i8')} {field} to {pointer(kind)}")

    def fill(self) -> None:
        """Gives computed tensors their identities, but for those that a phase starts.

        A schedule's own tensors are all of this kind.
        """
        body, layout, started = self.body, self.layout, set(self.scheduled.started)
        for phase in self.scheduled.phases:
            if isinstance(phase, Nest) and phase.starts:
                started.add(phase.statement.target.tensor)
        for tensor in layout.task.facts.tensors.values():
            passed = tensor.name in layout.passed
            if tensor.role == "input" or tensor.name in started:
                continue
            if not passed and tensor.name not in self.used:
                continue
            count = self._count(tensor.extents)
            element = layout.memory_type(tensor.element)
            value = f"{element} {identity(layout, tensor.name, self.module)}"
            destination = self._pointers["tensor", tensor.name]
            body.do(f"call void @{fill(self.module, element)}({destination}, i64 {count}, {value})")

    def given(self) -> Given:
        """What the call of a `Fused` phase is made of."""
        return Given(
            integer=self._integer,
            real=self._real,
            pointer=lambda tensor: self._pointers["tensor", tensor],
            scratch=self._phases_scratch,
            failed="gave_up",
            asleep="asleep",
        )

    def call(self, name: str, function: PhaseFunction, needed: Expression | None) -> None:
        """Runs a phase, with what its function takes; leaves where it fails. needed: see `busy`."""
        body = self.body
        given = [f"{self.module.pointer(I64)} %record"]
        given.append(f"i64 {self.layout.add_sites(function.sites)}")
        given += [f"i64 {self._integer(slot)}" for slot in function.integers]
        given += [f"{self.module.real} {self._real(slot)}" for slot in function.reals]
        given += [self._pointers["tensor", t] for t in function.tensors]
        given += [self._pointers["state", t] for t in function.states]
        label = body.fresh("phase")
        if needed is not None:
            some = EntryFrame(self.layout, body, self._integer).condition(needed)
            body.branch(some, f"{label}.busy", label)
            body.start(f"{label}.busy")
        failed = body.value(f"call i32 @{name}({', '.join(given)})")
        fine = body.value(f"icmp eq i32 {failed}, 0")
        body.branch(fine, label, "failed")
        body.start(label)

    def finish(self) -> None:
        self.body.do("ret i32 0")
        self.body.at_end("failed", ["ret i32 1"])
        self.body.at_end("gave_up", [f"ret i32 {GAVE_UP}"])
        self.body.at_end("asleep", [f"ret i32 {ASLEEP}"])
        self.body.finish()

    def _count(self, extents: Iterable[Expression]) -> str:
        count = "1"
        for extent in extents:
            count = self.body.value(f"mul i64 {count}, {self._extent(extent)}")
        return count

    def _extent(self, extent: Expression) -> str:
        return self._frame.extent(extent)

    # Loaded once, where first needed: later blocks all come after.

    def _integer(self, slot: int) -> str:
        return _integer(self.body, slot, self._integers)

    def _real(self, slot: int) -> str:
        if slot not in self._reals:
            value = self.body.load("double", self.body.element("double", "%reals", slot))
            if self.module.real == "float":
                value = self.body.value(f"fptrunc double {value} to float")
            self._reals[slot] = value
        return self._reals[slot]


def _integer(body: Body, slot: int, loaded: dict[int, str]) -> str:
    """One of the `%integers`; `loaded` has those that are there already."""
    if slot not in loaded:
        pointer = body.module.pointer(I64)
        place = body.at_begin(f"getelementptr inbounds {I64}, {pointer} %integers, i64 {slot}")
        loaded[slot] = body.at_begin(f"load {I64}, {pointer} {place}")
    return loaded[slot]
