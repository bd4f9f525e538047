"""The generation of code, most of LLVM's work: of several modules at a time, each in a thread.

llvmlite lets one thread at a time into LLVM. Modules that share no context have nothing in common, so that
for this alone it is not asked. What an option says is said to the whole process: modules that want it
otherwise take turns. A fork waits until no other thread generates code.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

import llvmlite.binding as llvm

from loopgrad import forks
from loopgrad.backends.llvm.compiling.passes import TAKES_OPTIONS, Passes

Answer = TypeVar("Answer")

# Older ones have one context for all modules.
APART = llvm.llvm_version_info[0] >= 17


# LLVM's searches that a thorough generation has: option -> what it is where there is none.
SEARCHES = {"-disable-lsr": True, "-enable-misched": False}


def _say(searches: Mapping[str, bool], on: bool) -> None:
    for option, value in searches.items():
        llvm.set_option("", f"{option}={str(value != on).lower()}")


class Turns:
    """Who generates code. As a lock, which its holder may take again, it is free when no other does."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self.inside: list[int] = []  # threads
        self._thorough = True  # what they all want

    @contextmanager
    def taken(self, thorough: bool) -> Iterator[None]:
        """Together with others that want the same. thorough: as in `Passes`."""
        me = threading.get_ident()
        with self._changed:
            while self.inside and self._thorough != thorough:
                self._changed.wait()
            if not self.inside and not thorough:
                _say(SEARCHES, False)
            self._thorough = thorough
            self.inside.append(me)
        try:
            yield
        finally:
            with self._changed:
                self.inside.remove(me)
                if not self.inside and not thorough:
                    _say(SEARCHES, True)
                self._changed.notify_all()

    def __enter__(self) -> None:
        me = threading.get_ident()
        self._changed.acquire()
        while any(thread != me for thread in self.inside):
            self._changed.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._changed.notify_all()
        self._changed.release()


_turns = Turns()
forks.hold("generating", _turns)
# Some of what they do needs no lock, such as reading LLVM's text.
_asides = forks.Working()
forks.hold("aside", _asides)


def is_idle() -> bool:
    """Does no thread generate code?"""
    return not _turns.inside


@contextmanager
def generating(passes: Passes) -> Iterator[None]:
    """Around the generation of code, which is done as the passes say."""
    with _turns.taken(passes.thorough or not TAKES_OPTIONS):
        yield


def parsed(text: str, context: Any) -> Any:
    """The module of a text. `context`: LLVM's, in which no other thread has a module."""
    parse = getattr(llvm.ffi.lib.LLVMPY_ParseAssembly, "_cfn", None)
    if parse is not None and APART:
        # As `parse_assembly`, without llvmlite's lock, and one call: after each a thread waits for Python.
        mistake = ctypes.c_char_p()
        found = parse(context, text.encode(), ctypes.byref(mistake))
        if found and not mistake:
            return llvm.ModuleRef(found, context)
    return llvm.parse_assembly(text, context)


def object_code(machine: Any, module: Any, passes: Passes) -> bytes:
    """The object file that a module becomes. `machine`: LLVM's target machine, of this module alone."""
    with generating(passes):
        emit = getattr(llvm.ffi.lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
        if emit is None or not APART:
            code: bytes = machine.emit_object(module)
            return code
        mistake = llvm.ffi.OutputString()
        found = emit(machine, module, 1, mistake)  # as `emit_object`, without llvmlite's lock
        if not found:
            raise RuntimeError(str(mistake))
    library = llvm.ffi.lib
    try:
        return ctypes.string_at(
            library.LLVMPY_GetBufferStart(found), library.LLVMPY_GetBufferSize(found)
        )
    finally:
        library.LLVMPY_DisposeMemoryBuffer(found)


class Aside(threading.Thread, Generic[Answer]):
    """Makes something while others go on. Where that failed, who needs it tries again, and is told why."""

    def __init__(self, make: Callable[[], Answer]):
        super().__init__(name="loopgrad-llvm")
        self._make = make
        self._found: list[Answer] = []

    def run(self) -> None:
        if not APART:  # who makes it holds the lock of the one context, for which a fork waits too
            self._try()
            return
        _asides.begin()
        try:
            self._try()
        finally:
            _asides.end()

    def _try(self) -> None:
        with suppress(Exception):
            self._found.append(self._make())

    def result(self) -> Answer:
        """What was made."""
        if self.ident is not None:  # there may have been no more threads
            self.join()
        return self._found[0] if self._found else self._make()


def aside(make: Callable[[], Answer]) -> Aside[Answer]:
    """Begins to make it."""
    begun = Aside(make)
    with suppress(RuntimeError):
        begun.start()
    return begun


def asides() -> int:
    """How many things are being made."""
    return _asides.count
