"""A scheduled program -> the text of an LLVM module: one function a phase, and the entry."""

from __future__ import annotations

from loopgrad.backends.llvm.function import PhaseFunction
from loopgrad.backends.llvm.identities import fill, identity
from loopgrad.backends.llvm.layout import Layout
from loopgrad.backends.llvm.statements import PhaseWriter
from loopgrad.backends.llvm.text import I64, Body, Module
from loopgrad.ir.nodes import Expression, Number
from loopgrad.schedule import Nest, Phase, Scheduled, tensors_of

ENTRY = "loopgrad_run"


def emit(scheduled: Scheduled, layout: Layout, module: Module) -> str:
    """The module's text; `layout` is filled with the places that may fail."""
    calls = [_phase(phase, f"phase{i}", layout, module) for i, phase in enumerate(scheduled.phases)]
    started = {
        phase.statement.target.tensor
        for phase in scheduled.phases
        if isinstance(phase, Nest) and phase.starts
    }
    _entry(calls, started, layout, module)
    return module.text()


# ---------------------------------------------------------------------------------------- phases


def _phase(phase: Phase, name: str, layout: Layout, module: Module) -> PhaseFunction:
    tensors = tensors_of(phase)
    ordered = [t for t in layout.task.facts.tensors if t in tensors]
    function = PhaseFunction(module, layout, name, ordered)
    PhaseWriter(function).write(phase)
    function.body.do("ret i32 0")
    function.body.finish()
    return function


# ----------------------------------------------------------------------------------------- entry


def _entry(phases: list[PhaseFunction], started: set[str], layout: Layout, module: Module) -> None:
    """`i32 (pointers, integers, reals, record)`: fills the computed tensors, runs the phases."""
    facts, pointer = layout.task.facts, module.pointer
    byte = pointer("i8")
    head = (
        f"i32 @{ENTRY}({pointer(byte)} %pointers, {pointer(I64)} %integers, "
        f"{pointer('double')} %reals, {pointer(I64)} %record) nounwind"
    )
    body = Body(module, ENTRY, head)
    arguments: dict[tuple[str, str], str] = {}
    kinds = [("tensor", t, layout.element(t)) for t in facts.tensors]
    kinds += [("state", t, I64) for t in layout.tracked]
    for i, (role, tensor, kind) in enumerate(kinds):
        raw = body.load(byte, body.element(byte, "%pointers", i))
        typed = body.value(f"bitcast {byte} {raw} to {pointer(kind)}")
        arguments[role, tensor] = f"{pointer(kind)} {typed}"
    for tensor_facts in facts.tensors.values():
        if tensor_facts.role != "input" and tensor_facts.name not in started:
            count = "1"
            for extent in tensor_facts.extents:
                count = body.value(f"mul i64 {count}, {_entry_extent(body, layout, extent)}")
            name, element = tensor_facts.name, layout.element(tensor_facts.name)
            value = f"{element} {identity(layout, name, module)}"
            destination = arguments["tensor", name]
            body.do(f"call void @{fill(module, element)}({destination}, i64 {count}, {value})")
    common = f"{pointer(I64)} %record, {pointer(I64)} %integers, {pointer('double')} %reals"
    for function in phases:
        given = [common]
        given += [arguments["tensor", t] for t in function.tensors]
        given += [arguments["state", t] for t in function.states]
        failed = body.value(f"call i32 @{function.name}({', '.join(given)})")
        fine = body.value(f"icmp eq i32 {failed}, 0")
        label = body.fresh("phase")
        body.branch(fine, label, "failed")
        body.start(label)
    body.do("ret i32 0")
    body.at_end("failed", ["ret i32 1"])
    body.finish()


def _entry_extent(body: Body, layout: Layout, extent: Expression) -> str:
    if isinstance(extent, Number):
        return str(extent.value)
    slot = layout.slots[layout.axis_key(extent)]
    return body.load(I64, body.element(I64, "%integers", slot))
