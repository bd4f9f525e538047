"""LLVM itself, through llvmlite: text to code in memory."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import llvmlite.binding as llvm

from loopgrad import forks
from loopgrad.backends.llvm.compiling import objects, symbols
from loopgrad.backends.llvm.compiling.ahead import Ahead
from loopgrad.backends.llvm.compiling.generating import APART, Aside, aside, generating
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import LITERAL, Passes
from loopgrad.backends.llvm.writing.layout import ENTRY
from loopgrad.backends.llvm.writing.scratch import SIZE
from loopgrad.backends.llvm.writing.text import Module
from loopgrad.backends.thread_count import get_num_threads

MOST_CODES = 256

# Functions' names, the passes for them, and what their text is made of: see `library`.
Asked: TypeAlias = tuple[Sequence[str], Passes, str]

_lock = threading.RLock()  # LLVM's global context is for one thread at a time
lock = _lock  # for others that have LLVM do things
forks.hold("llvm", _lock)
forks.hold("llvmlite", llvm.ffi.lib._lock)
_codes: OrderedDict[str, Code] = OrderedDict()  # those used last
_libraries: dict[str, Loaded] = {}  # for good: others hold their addresses
_begun: dict[str, Aside[objects.Object]] = {}  # libraries that are being made


@dataclass(frozen=True)
class Loaded:
    """A module's code in memory, for as long as this object lives."""

    engine: Any

    def address(self, name: str) -> int:
        """Where a function begins."""
        found = int(self.engine.get_function_address(name))
        if not found:
            raise LookupError(f"the compiled module has no function `{name}`")
        return found


@dataclass(frozen=True)
class Code:
    """A compiled entry function: `run` takes what layout.py says, `scratch` says how much of it.

    `run` is at `address`. Calling it releases the GIL. `keep` owns the memory that its code is in.
    """

    run: Any
    address: int
    scratch: Callable[[bytes, int], int]
    keep: Loaded


def new_module(real: str) -> Module:
    """An empty module for this machine, computing in "double" or "float"."""
    version = llvm.llvm_version_info[0]
    machine = this_machine()
    return Module(
        real,
        version,
        version >= 17,
        machine.has_fma,
        machine.attributes,
        machine.vector_bytes,
        machine.looks_up,
    )


def compile_text(text: str, passes: Passes = LITERAL, ahead: Ahead | None = None) -> Code:
    """Machine code of a program's module. ahead: what has been begun of it.

    Kept, since the same program is often made again, and many differ in names alone.
    """
    name = objects.key_of(text, passes)
    return _kept(name) or _keep(name, load(text, passes, ahead))


def compiled(name: str) -> Code | None:
    """The code of that name (`objects.key_of`), from memory or the disk; None where there is none."""
    known = _kept(name)
    if known is None:
        found = objects.read(name)
        known = None if found is None else _keep(name, in_memory(found))
    return known


def forget() -> None:
    """Lets go of what is kept in memory: what is compiled next is read from the disk, or made."""
    with _lock:
        _codes.clear()


def _kept(name: str) -> Code | None:
    with _lock:
        found = _codes.get(name)
        if found is not None:
            _codes.move_to_end(name)
        return found


def _keep(name: str, loaded: Loaded) -> Code:
    begin = loaded.address(ENTRY)
    numbers, address, count = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
    run = ctypes.CFUNCTYPE(ctypes.c_int32, numbers, numbers, numbers, address, address, count)
    scratch = ctypes.CFUNCTYPE(count, numbers, count)(loaded.address(SIZE))
    with _lock:
        _codes[name] = found = Code(run(begin), begin, scratch, loaded)
        if len(_codes) > MOST_CODES:
            _codes.popitem(last=False)
    return found


def library(
    text: str | Callable[[], str], names: Sequence[str], passes: Passes = LITERAL, what: str = ""
) -> Mapping[str, int]:
    """Compiles functions that other modules call by name, once for a process; their addresses.

    text: a whole module, as `Module.text()` writes it, in which the functions named are defined
        with external linkage. Or a function that writes it: then `what` says all that the text is
        made of, beside loopgrad itself, and the code is found on disk without writing it.

    Modules that are loaded afterwards may `declare` and call them. They stay in memory. Write a
    module with a function `provide()` that calls this, and put the beginning of the names and that
    module into `symbols.PROVIDERS`: it is then called when first a module is loaded that needs it.
    The code is kept on disk like all code.

    >>> import ctypes
    >>> from loopgrad.backends.llvm.compiling import engine
    >>> text = "define i64 @loopgrad_doc_twice(i64 %n) { %m = add i64 %n, %n\\n ret i64 %m }"
    >>> found = engine.library(text, ["loopgrad_doc_twice"])
    >>> ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(found["loopgrad_doc_twice"])(21)
    42
    """
    key = (
        objects.key_of(text, passes) if isinstance(text, str) else objects.key_of_made(what, passes)
    )
    if key not in _libraries:
        begun = _begun.pop(key, None)
        if begun is not None:
            found = begun.result()
        else:
            with _lock:
                found = objects.of_text(
                    key, lambda: text if isinstance(text, str) else text(), passes
                )
        _stay(found, key)
    return _addresses(key, names)


def kept_libraries(asked: Sequence[Asked]) -> list[int]:
    """Makes those known whose code is there; the numbers of the others.

    Those that are read from the disk are linked at once: one by one that takes several times as long.
    """
    keys = [objects.key_of_made(what, passes) for _, passes, what in asked]
    found = {key: objects.read(key) for key in keys if key not in _libraries}
    there = {key: code for key, code in found.items() if code is not None}
    if there:
        codes = [code for each in there.values() for code in each.codes]
        calls = [name for each in there.values() for name in each.calls]
        _stay(objects.Object(tuple(codes), tuple(calls)), *there)
    for key, (names, *_) in zip(keys, asked, strict=True):
        if key in _libraries:
            _addresses(key, names)
    return [number for number, key in enumerate(keys) if key not in _libraries]


def is_kept(asked: Asked) -> bool:
    """Is its code there?"""
    _, passes, what = asked
    key = objects.key_of_made(what, passes)
    return key in _libraries or objects.read(key) is not None


def _stay(found: objects.Object, *keys: str) -> None:
    """Its code is in memory for good, under these keys."""
    loaded = in_memory(found)
    for key in keys:
        _libraries.setdefault(key, loaded)  # another thread may have been first
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))  # also when Python takes itself apart


def _addresses(key: str, names: Sequence[str]) -> Mapping[str, int]:
    """Of functions, which modules that are loaded afterwards may call."""
    addresses = {name: _libraries[key].address(name) for name in names}
    for name, address in addresses.items():
        llvm.add_symbol(name, address)
    return addresses


def begin_library(text: Callable[[], str], asked: Asked) -> None:
    """Begins what `library` then finishes, if the code is not there: LLVM generates it in a thread of
    its own, while this one goes on."""
    _, passes, what = asked
    key = objects.key_of_made(what, passes)
    with _lock:
        if key in _libraries or key in _begun or objects.read(key) is not None:
            return
        ready = objects.ready(text(), passes)

    def make() -> objects.Object:
        with nullcontext() if APART else _lock:
            return objects.keep(key, ready.object())

    _begun[key] = aside(make)


def load(text: str, passes: Passes = LITERAL, ahead: Ahead | None = None) -> Loaded:
    """The code of a module's text in memory, with all that it calls. ahead: what has been begun of it."""
    if ahead is None and get_num_threads() > 1:
        symbols.begin(symbols.declared(text))
    key = objects.key_of(text, passes)
    with _lock:
        found = objects.read(key)
        if found is None:
            found = objects.keep(key, (ahead or Ahead(passes)).made(text))
    return in_memory(found)


def optimized(text: str, passes: Passes = LITERAL) -> Any:
    """The module after LLVM's passes."""
    with _lock:
        return objects.optimized(text, passes)


def assembly(text: str, passes: Passes = LITERAL) -> str:
    """The instructions that a module becomes."""
    with _lock:
        machine = this_machine().create(passes.level)
        module = objects.optimized(text, passes, machine)
        with generating(passes):
            return str(machine.emit_assembly(module))


def in_memory(found: objects.Object) -> Loaded:
    """Object code, linked to what it calls.

    Nothing is compiled: to the engine it is what its module, which is empty, was compiled to before.
    """
    symbols.require(found.calls)
    with _lock:
        machine = this_machine().loader()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        code, *others = found.codes
        codes = [code]  # which the engine asks for once
        engine.set_object_cache(None, lambda _: codes.pop())
        for other in others:
            engine.add_object_file(llvm.ObjectFileRef.from_data(other))
        engine.finalize_object()
    return Loaded(engine)
