"""The threads of compiled code: `loopgrad_parallel`, made from threads.ll when first a module needs it.

    void @loopgrad_parallel(void (i8*, i64, i64)* function, i8* context, i64 threads)
    i64  @loopgrad_num_threads()

The first runs `function(context, thread, threads)` for every thread below `threads` and returns when
all have ended; who runs which is not said. The second is the number that the user wants.

Where the process has an OpenMP runtime, that one's threads are used, so that two pools do not
stand in each other's way; else a pool of our own. docs/decisions/0010-threads.md says how and why.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loopgrad.backends import thread_count
from loopgrad.backends.llvm.compiling import engine, system
from loopgrad.backends.llvm.compiling.passes import AS_WRITTEN

# How long a thread that waits stays awake, in nanoseconds. At first it does nothing else; then it
# lets others have the processor again and again. Few programs make pauses of that length between two
# kernels, and waking a thread takes 20 to 200 microseconds.
AWAKE = {"eager": 5_000, "worker_awake": 200_000, "caller_awake": 200_000}

# What a processor is told meanwhile: a function of LLVM's, and what it is called with.
PAUSES = {
    "x86_64": ("@llvm.x86.sse2.pause", ""),
    "aarch64": ("@llvm.aarch64.hint", "i32 1"),
}

# What an OpenMP runtime has to have, in the order in which the code keeps them.
OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")

# The files of GNU's, LLVM's and Intel's runtime: "libgomp-a34b3233.so.1", "libomp.so.5".
_RUNTIME = r"/lib(gomp|omp|iomp5)[-.\w]*\.so[.\d]*$"
_IN_ALL = b"omp"
# Of several, the one whose threads are busiest beside ours.
_PREFERRED = "/torch"

_LOOK = ctypes.CFUNCTYPE(None)
_TABLE = ctypes.c_void_p * len(OPENMP)

_tables: dict[
    str, ctypes.Array[ctypes.c_void_p]
] = {}  # by file. For good: compiled code reads them
_callbacks: list[object] = []  # for good, for the same reason


def provide() -> None:
    """Makes the functions known to LLVM."""
    if system.available():
        _provide_pool()
    else:
        _provide_loop()


def begin() -> None:
    """Begins to compile the pool, in a thread of its own."""
    if system.available():
        engine.begin_library(lambda: _text("threads.ll"), _asked("threads.ll", ()))


def _provide_pool() -> None:
    names = ("setup", "share", "close", "open", "forked")
    setup, share, *at_fork = _functions("threads.ll", *names)
    use = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(share)
    look = _LOOK(lambda: _look(use))
    _callbacks.append(look)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, _LOOK)(setup)(thread_count.address(), look)
    before, after, in_child = map(ctypes.CFUNCTYPE(None), at_fork)
    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


def _provide_loop() -> None:
    (setup,) = _functions("one_thread.ll", "setup")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(setup)(thread_count.address())


def _functions(file: str, *names: str) -> list[int]:
    """The addresses of functions that Python calls; those for compiled code are given to LLVM."""
    ours = [f"loopgrad_threads_{name}" for name in names]
    known = ["loopgrad_parallel", "loopgrad_num_threads", *ours]
    addresses = engine.library(lambda: _text(file), *_asked(file, known))
    return [addresses[name] for name in ours]


def _asked(file: str, names: Sequence[str]) -> engine.Asked:
    return names, AS_WRITTEN, repr((file, AWAKE))


# ------------------------------------------------------------------------------------------- OpenMP


def _look(use: Callable[[int], Any]) -> None:
    """Uses an OpenMP runtime, if there is one in memory. Called by compiled code."""
    for path in sorted(runtimes(), key=lambda path: _PREFERRED not in path):
        table = _table(path)
        if table is not None:
            use(ctypes.addressof(table))
            return


def runtimes() -> list[str]:
    """The files of the OpenMP runtimes in memory, in no particular order."""
    try:
        with open("/proc/self/maps", "rb") as file:
            maps = file.read()
    except OSError:
        return []
    if _IN_ALL not in maps:
        return []
    paths = {
        os.fsdecode(line).split(maxsplit=5)[-1] for line in maps.splitlines() if _IN_ALL in line
    }
    return sorted(path for path in paths if re.search(_RUNTIME, path))


def _table(path: str) -> ctypes.Array[ctypes.c_void_p] | None:
    """The functions of a runtime; None where it lacks one, or has been unloaded meanwhile."""
    if path not in _tables:
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            functions = [getattr(library, name) for name in OPENMP]
        except (OSError, AttributeError):
            return None
        _tables[path] = _TABLE(*(ctypes.cast(f, ctypes.c_void_p).value for f in functions))
    return _tables[path]


# --------------------------------------------------------------------------------------------- text


def _text(file: str) -> str:
    """A module's text for this processor and this LLVM."""
    # In an encoding that Python has at hand: another's first use imports it, and a child that is
    # forked just then waits for ever.
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    declare_pause, pause = _pause(platform.machine())
    words = {**AWAKE, "declare_pause": declare_pause, "pause": pause}
    for word, meaning in words.items():
        text = text.replace(f"${word}", str(meaning))
    return without_types(text) if engine.new_module("double").opaque_pointers else text


def _pause(processor: str) -> tuple[str, str]:
    if processor not in PAUSES:
        return "", ""
    function, operand = PAUSES[processor]
    kind = operand.partition(" ")[0]
    return f"declare void {function}({kind})", f"call void {function}({operand})"


# The pointers of our modules, each before what is a part of it.
_POINTERS = (
    "void (void (i8*)*, i8*, i32, i32)*",
    "void (i8*, i64, i64)*",
    "i32 (i8*, i64, i8*)*",
    "i8* (i8*)*",
    "void (i8*)*",
    *("void ()**", "void ()*", "i32 ()**", "i32 ()*", "%body**", "%body*", "%job*"),
    *("[1024 x [64 x i8]]*", "[1024 x i8]*", "[1024 x i32]*", "[128 x i8]*", "[2 x i64]*"),
    *("i8***", "i8**", "i8*", "i64**", "i64*", "i32*"),
)


def without_types(text: str) -> str:
    """The text with opaque pointers for those with types.

    >>> from loopgrad.backends.llvm.threading.threads import without_types
    >>> without_types("%f = load void ()*, void ()** @look")
    '%f = load ptr, ptr @look'
    """
    for pointer in _POINTERS:
        text = text.replace(pointer, "ptr")
    return text
