"""Object code: what LLVM makes of a module's text, kept on disk with the names that it calls.

    text --key--> key --read--> Object          from an earlier process
    text --generate--> Object --write-->        else

What is kept is executed as it is: `cache/files.py` sees to it that nobody else can have written it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from loopgrad.backends.llvm.compiling import symbols
from loopgrad.backends.llvm.compiling.generating import APART, generating, object_code, parsed
from loopgrad.backends.llvm.compiling.machine import Machine, this_machine
from loopgrad.backends.llvm.compiling.passes import Optimizer, Passes
from loopgrad.cache import files, keys

KIND = "object"


@dataclass(frozen=True)
class Object:
    """codes: object files, which call each other. calls: the functions that they need and do not define."""

    codes: tuple[bytes, ...]
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
    return read(key) or keep(key, made(write(), passes))


def read(key: str) -> Object | None:
    """The code of that name, None where none is kept."""
    contents = files.read(KIND, key)
    if contents is None:
        return None
    calls, sizes, codes = contents.split(b"\n", 2)
    ends = [*accumulate(map(int, sizes.split()))]
    each = tuple(codes[begin:end] for begin, end in pairwise([0, *ends]))
    return Object(each, tuple(calls.decode().split()))


def keep(key: str, made: Object) -> Object:
    """The same; it is under the key from now on."""
    head = f"{' '.join(made.calls)}\n{' '.join(str(len(code)) for code in made.codes)}\n"
    files.write(KIND, key, b"".join([head.encode(), *made.codes]))
    return made


@dataclass(frozen=True)
class Ready:
    """A module's text, and what LLVM needs to make code of it: what is left is its work, with next to no
    Python. So another thread may do it while Python is busy."""

    text: str
    machine: Any
    context: Any
    passes: Passes
    optimizer: Optimizer

    def optimized(self) -> Any:
        """The module after LLVM's passes."""
        module = parsed(self.text, self.context)
        self.optimizer.run(module)
        return module

    def code(self) -> bytes:
        with generating(self.passes):  # for a fork waits until no thread is in LLVM
            return object_code(self.machine, self.optimized(), self.passes)

    def object(self) -> Object:
        return Object((self.code(),), symbols.declared(self.text))


def ready(
    text: str, passes: Passes, machine: Any | None = None, context: Any | None = None
) -> Ready:
    """`machine`: LLVM's target machine for it. `context`: what it shares with modules that are linked with
    it; else it has one of its own."""
    machine = machine or this_machine().create(passes.level)
    target = f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'
    optimizer = Optimizer(machine, passes)
    return Ready(target + text, machine, context or new_context(), passes, optimizer)


def made(text: str, passes: Passes) -> Object:
    """The code of a module."""
    return ready(text, passes).object()


def optimized(
    text: str, passes: Passes, machine: Any | None = None, context: Any | None = None
) -> Any:
    """The module after LLVM's passes, which is made as `ready` says."""
    return ready(text, passes, machine, context).optimized()


def new_context() -> Any:
    """Of LLVM: what it makes unique is there for as long as the context, numbers too."""
    return llvm.create_context() if APART else llvm.get_global_context()
