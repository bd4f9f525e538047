"""The values that computed tensors start with."""

from __future__ import annotations

from loopgrad.backends.llvm.literal.integers import GREATEST, LEAST
from loopgrad.backends.llvm.writing.layout import Layout
from loopgrad.backends.llvm.writing.text import Body, Module
from loopgrad.ir import walk
from loopgrad.ir.nodes import Reduction
from loopgrad.ir.operations import ElementType


def identity(layout: Layout, tensor: str, module: Module) -> str:
    """What an element holds before anything is written to it, by the tensor's operation."""
    program = layout.task.facts.program
    reductions = (
        statement.reduction
        for _, statement in walk.accumulates(program.statements)
        if statement.target.tensor == tensor and statement.reduction is not Reduction.SET
    )
    is_integer = layout.tensor_types[tensor] is ElementType.INT
    match next(reductions, Reduction.SET):
        case Reduction.MULTIPLY:
            return "1" if is_integer else module.number(1.0)
        case Reduction.MAXIMUM:
            return str(LEAST) if is_integer else module.number(float("-inf"))
        case Reduction.MINIMUM:
            return str(GREATEST) if is_integer else module.number(float("inf"))
    return "0" if is_integer else module.number(0.0)


def fill(module: Module, element: str) -> str:
    """The name of the function that sets `n` elements of one LLVM type to a value."""
    name, pointer = f"fill_{element}", module.pointer(element)
    if name in module.functions:
        return name
    parameters = f"{pointer} %p, i64 %n, {element} %value"
    body = Body(module, name, f"internal void @{name}({parameters}) noinline nounwind")
    body.branch(body.value("icmp sgt i64 %n, 0"), "loop", "end")
    body.start("loop")
    i, complete = body.phi_later("i64")
    body.store(element, "%value", body.element(element, "%p", i))
    following = body.value(f"add nsw i64 {i}, 1")
    complete(("0", "entry"), (following, "loop"))
    body.branch(body.value(f"icmp slt i64 {following}, %n"), "loop", "end")
    body.start("end")
    body.do("ret void")
    body.finish()
    return name
