"""A program and its backward as one."""

from __future__ import annotations

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Local, Program


def joined(program: Program, backward: Program) -> Program:
    """One program that returns what both return, of the inputs and the seeds; named as the backward.

    With every range written, and all extents of what both compute: what a bare index goes over in the one, it
    need not in the other.
    """
    facts = infer(program)
    given = {i.name for i in program.inputs}
    seeds = [i for i in backward.inputs if i.name not in facts.tensors]
    results = (*program.results, *backward.results)
    declared = {local.name: local for local in (*facts.program.locals, *backward.locals)}
    for name, tensor in facts.tensors.items():
        if name not in given and name not in declared and tensor.role == "temporary":
            declared[name] = Local(name, tensor.extents, tensor.element)
    return Program(
        backward.name,
        (*program.inputs, *seeds, *program.sizes, *program.constants),
        results,
        (*facts.program.statements, *infer(backward).program.statements),
        tuple(declared.values()),
    )
