"""A program's code, without writing its text where an earlier process has done that.

    task, variant --key--> name of the object code --> code
    task, variant --emit--> text --> code                    else

On disk are two files: the first tells the name of the second, which programs that differ in names alone
have in common. So a program is scheduled and written only where its code is not there, or where it fails
and its places that may fail have to be known.
"""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm import engine, objects
from loopgrad.backends.llvm.layout import Variant
from loopgrad.backends.llvm.passes import Passes
from loopgrad.cache import files, keys
from loopgrad.ir.printer import show, show_expression

KIND = "code"


def code(task: Task, variant: Variant, emit: Callable[[], tuple[str, Passes]]) -> engine.Code:
    """The code of one variant. `emit` writes its text, and says what passes it is for."""
    if files.folder() is None:
        return engine.compile_text(*emit())
    key = key_of(task, variant)
    name = files.read(KIND, key)
    found = None if name is None else engine.compiled(name.decode())
    if found is None:
        text, passes = emit()
        found = engine.compile_text(text, passes)
        files.write(KIND, key, objects.key_of(text, passes).encode())
    return found


def key_of(task: Task, variant: Variant) -> str:
    """A name for all that the text depends on. Programs that only stand at other places share it."""
    facts, safety = task.facts, task.safety
    tensors = [
        (t.name, t.role, t.element.value, [show_expression(e) for e in t.extents])
        for t in facts.tensors.values()
    ]
    constants = [(name, element.value) for name, element in facts.constants.items()]
    proved = sorted((number, show_expression(read)) for number, read in safety.in_range)
    assumed = sorted(safety.tracked), sorted(safety.positive)
    rest = (tensors, facts.extents, constants, proved, assumed)
    return keys.key(
        objects.environment(),
        KIND,
        repr((engine.new_module(variant.real), variant, task.optimize, task.schedule)),
        show(facts.program),
        repr(rest),
    )
