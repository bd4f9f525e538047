"""A program proved anew for the constants of a call that break what was taken of them.

`padding = 1` is taken to be at least 1 wherever a proof needs it. A call with `padding = 0` would have each
subscript checked, and its loops run as they are written: so what is wanted is proved once more, for 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.backends.kernel import BoundCall, Task

Constants = tuple[tuple[str, int], ...]


def constants_of(task: Task, call: BoundCall) -> Constants:
    """The values of the constants that code would be made for."""
    from loopgrad.backends.llvm.calling.shaping import shaping

    return tuple((name, int(call.constants[name])) for name in shaping(task.facts))


def proved_for(task: Task, constants: Constants) -> Task | None:
    """The task with these values; None where loops would have to run as they are written all the same,
    as those name places that may fail, which have to be the program's own.
    """
    from loopgrad.schedule import default
    from loopgrad.schedule.choices import choices_of
    from loopgrad.schedule.specializing import specialized
    from loopgrad.schedule.tree import Fused

    facts, safety = specialized(task.facts, task.safety, dict(constants))
    if facts is task.facts:
        return None
    phases = default.optimized(facts, safety, choices_of(task.schedule)).phases
    if not all(isinstance(phase, Fused) for phase in phases):
        return None
    return replace(task, facts=facts, safety=safety, origin="")


def unchecked(task: Task, call: BoundCall) -> BoundCall | None:
    """The call, for a task that was proved for its constants; None where other constants break what that
    takes of them, or tensors would have other shapes.
    """
    if any(call.constants[name] < 1 for name in task.safety.positive):
        return None
    values: Mapping[str, int | float] = {**call.constants, **call.extents}
    try:
        same = all(
            tuple(evaluate(extent, values) for extent in tensor.extents) == call.shapes[name]
            for name, tensor in task.facts.tensors.items()
        )
    except (FormulaError, KeyError):
        return None
    return replace(call, bound=replace(call.bound, checked=False), checked=False) if same else None
