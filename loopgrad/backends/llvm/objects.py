"""Object code: what LLVM makes of a module's text, kept on disk with the names that it calls.

    text --key--> key --read--> Object          from an earlier process
    text --generate--> Object --write-->        else

What is kept is executed as it is: `cache/files.py` sees to it that nobody else can have written it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from loopgrad.backends.llvm import symbols
from loopgrad.backends.llvm.generating import APART, object_code
from loopgrad.backends.llvm.machine import Machine, this_machine
from loopgrad.backends.llvm.passes import Passes, optimize
from loopgrad.cache import files, keys

KIND = "object"


@dataclass(frozen=True)
class Object:
    """code: an object file. calls: the functions that it needs and does not define."""

    code: bytes
    calls: tuple[str, ...]


@cache
def _environment(machine: Machine) -> str:
    version = (llvmlite.__version__, *llvm.llvm_version_info)
    target = (llvm.get_default_triple(), machine.cpu, machine.features)
    return keys.key(keys.program_version(), repr((version, target)))


def environment() -> str:
    """What code depends on beside its text: loopgrad, LLVM and the processor."""
    return _environment(this_machine())


def key_of(text: str, passes: Passes) -> str:
    """A name for the code: of all that it depends on."""
    return keys.key(environment(), repr(passes), text)


def key_of_made(what: str, passes: Passes) -> str:
    """The same, where `what` says all that the text is made of."""
    return keys.key(environment(), repr(passes), "made of", what)


def of_text(key: str, write: Callable[[], str], passes: Passes) -> Object:
    """The code of that name, kept for the next process. `write` gives the text, where it is asked for."""
    return read(key) or ready(write(), passes).finished(key)


def read(key: str) -> Object | None:
    """The code of that name, None where none is kept."""
    contents = files.read(KIND, key)
    if contents is None:
        return None
    calls, _, code = contents.partition(b"\n")
    return Object(code, tuple(calls.decode().split()))


@dataclass(frozen=True)
class Ready:
    """A module after LLVM's passes, of which code is to be generated: most of the work, without Python."""

    module: Any
    machine: Any
    passes: Passes
    calls: tuple[str, ...]

    def finished(self, key: str) -> Object:
        """Its code, which is kept under the key."""
        found = Object(object_code(self.machine, self.module, self.passes), self.calls)
        files.write(KIND, key, " ".join(found.calls).encode() + b"\n" + found.code)
        return found


def ready(text: str, passes: Passes) -> Ready:
    machine = this_machine().create(passes.level)
    return Ready(optimized(text, passes, machine), machine, passes, symbols.declared(text))


def optimized(
    text: str, passes: Passes, machine: Any | None = None, context: Any | None = None
) -> Any:
    """The module after LLVM's passes. `machine`: LLVM's target machine for it. `context`: what it shares with
    modules that are linked with it; else it has one of its own.
    """
    machine = machine or this_machine().create(passes.level)
    module = parsed(text, machine, context or new_context())
    optimize(module, machine, passes)
    return module


def new_context() -> Any:
    """Of LLVM: what it makes unique is there for as long as the context, numbers too."""
    return llvm.create_context() if APART else llvm.get_global_context()


def parsed(text: str, machine: Any, context: Any) -> Any:
    module = llvm.parse_assembly(text, context)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return module
