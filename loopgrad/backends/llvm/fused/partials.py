"""The threads' copies of a tensor added to what the first of them has made of it, in their order."""

from __future__ import annotations

from collections.abc import Mapping

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.fused.accesses import Place, behind, load, positions, splat, store
from loopgrad.backends.llvm.fused.contributions import Contributions, joining
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.layout import Layout
from loopgrad.backends.llvm.writing.repeat import counted, where
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.backends.llvm.writing.text import I64, Module, vector
from loopgrad.ir.nodes import Accumulate


def combine(
    module: Module,
    layout: Layout,
    statement: Accumulate,
    tensors: Mapping[str, TensorFacts],
) -> str:
    """The name of `void (failed, target, copies, stride, threads, count)`; `stride` is in bytes.

    `copies` is where the first thread's would be, if it had one.
    """
    frame = Frame(module, layout, tensors, {})
    element, how = frame.types[statement.target.tensor], joining(statement.reduction)
    kind, byte = layout.memory_type(element), module.pointer("i8")
    name = f"combine_{kind}_{how.name.lower()}"
    if name in module.functions:
        return name
    pointer = module.pointer(kind)
    lanes = module.vector_bytes // BYTES[kind]
    contributions, body = Contributions(Vectors(frame)), frame.body
    full = vector(kind, lanes)

    def one(index: str) -> None:
        left = body.value(f"sub i64 %count, {index}")
        fewer = body.value(f"icmp slt i64 {left}, {lanes}")
        left = body.value(f"trunc i64 {body.select(fewer, I64, left, str(lanes))} to i32")
        numbers = f"{vector('i32', lanes)} {positions(lanes, 'i32')}"
        mask = body.value(f"icmp slt {numbers}, {splat(body, 'i32', left, lanes)}")
        target = Place(kind, behind(body, kind, "%target", index), 1)
        body.store(full, load(body, target, lanes, mask), "%total")

        def add(thread: str) -> None:
            offset = body.value(f"mul i64 {thread}, %stride")
            raw = body.element("i8", copies, offset)
            own = behind(body, kind, body.value(f"bitcast {byte} {raw} to {pointer}"), index)
            before = Value(body.load(full, "%total"), element, lanes, 63)
            value = Value(load(body, Place(kind, own, 1), lanes, mask), element, lanes, 63)
            body.store(full, contributions.combined(how, before, value).text, "%total")

        counted(body, "1", "%threads", 1, add)
        store(body, target, body.load(full, "%total"), lanes, mask)

    body.do(f"%total = alloca {full}")
    copies = body.value(f"bitcast {pointer} %copies to {byte}")
    where(
        body, body.value("icmp sgt i64 %count, 0"), lambda: counted(body, "0", "%count", lanes, one)
    )
    body.do("ret void")
    body.head = (
        f"internal void @{name}({module.pointer(I64)} %failed, {pointer} noalias %target, "
        f"{pointer} noalias %copies, i64 %stride, i64 %threads, i64 %count) noinline"
    )
    module.functions[name] = body.text()
    return name
