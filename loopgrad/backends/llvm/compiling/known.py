"""A program's code, without writing its text where an earlier process has done that.

    task, variant --key--> name of the object code --> code
    task, variant --emit--> text --> code                    else

On disk are two files: the first tells the name of the second, which programs that differ in names alone
have in common. A third tells it by where the program comes from, so that nobody has to look at it. So a
program is scheduled and written only where its code is not there, or where it fails and its places that
may fail have to be known.
"""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm.compiling import engine, objects
from loopgrad.backends.llvm.compiling.ahead import Ahead
from loopgrad.backends.llvm.compiling.passes import Passes
from loopgrad.backends.llvm.writing.layout import Variant
from loopgrad.cache import files, keys
from loopgrad.ir.printer import show, show_expression

KIND, ORIGIN = "code", "origin"


def code(
    task: Task, variant: Variant, emit: Callable[[], tuple[str, Passes, Ahead]]
) -> engine.Code:
    """The code of one variant. `emit` writes its text, says what passes it is for, and begins with it."""
    if files.folder() is None:
        return engine.compile_text(*emit())
    origin = _origin(task, variant)
    found = _read(ORIGIN, origin) if origin else None
    if found is not None:
        return found[1]
    key = key_of(task, variant)
    found = _read(KIND, key)
    if found is None:
        text, passes, ahead = emit()
        found = objects.key_of(text, passes), engine.compile_text(text, passes, ahead)
        files.write(KIND, key, found[0].encode())
    if origin:
        files.write(ORIGIN, origin, found[0].encode())
    return found[1]


def is_kept(task: Task, variant: Variant) -> bool:
    """Is the code of a variant there, or its name?"""
    return files.folder() is not None and files.read(KIND, key_of(task, variant)) is not None


def _read(kind: str, key: str) -> tuple[str, engine.Code] | None:
    """The name of the object code that is kept under the key, and the code."""
    contents = files.read(kind, key)
    name = "" if contents is None else contents.decode()
    found = engine.compiled(name) if name else None
    return None if found is None else (name, found)


def _origin(task: Task, variant: Variant) -> str:
    """A shorter name for the same, where the program has one: its statements are not looked at."""
    if not task.origin:
        return ""
    roles = [(t.name, t.role) for t in task.facts.tensors.values()]
    return keys.key(
        objects.environment(), ORIGIN, task.origin, repr((*_made_for(task, variant), roles))
    )


def _made_for(task: Task, variant: Variant) -> tuple[object, ...]:
    return engine.new_module(variant.real), variant, task.optimize, task.schedule


def key_of(task: Task, variant: Variant) -> str:
    """A name for all that the text depends on. Programs that only stand at other places share it."""
    return keys.key(objects.environment(), KIND, repr(_made_for(task, variant)), *_described(task))


def _described(task: Task) -> tuple[str, str]:
    """The program, and what is known of it; kept with the task, as it is asked for more than once."""
    memory = task.__dict__
    if "_described" not in memory:
        facts, safety = task.facts, task.safety
        tensors = [
            (t.name, t.role, t.element.value, [show_expression(e) for e in t.extents])
            for t in facts.tensors.values()
        ]
        constants = [(name, element.value) for name, element in facts.constants.items()]
        proved = sorted((number, show_expression(read)) for number, read in safety.in_range)
        assumed = sorted(safety.tracked), sorted(safety.positive)
        rest = (tensors, facts.extents, constants, proved, assumed)
        memory["_described"] = show(facts.program), repr(rest)
    found: tuple[str, str] = memory["_described"]
    return found
