"""Functions of the operating system that code of ours calls, under names of our own."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import llvmlite.binding as llvm

PREFIX = "loopgrad_system_"
NAMES = (
    "dl_iterate_phdr clock_gettime sched_getaffinity sched_getcpu sched_setaffinity sched_yield "
    "sem_init sem_post sem_wait sigdelset sigfillset pthread_sigmask pthread_create "
    "pthread_detach pthread_getcpuclockid pthread_self"
).split()


def available() -> bool:
    """Whether this system has all of them, and the layouts that the code relies on."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    return all(hasattr(_process(), name) for name in NAMES)


def provide() -> None:
    """Gives LLVM their addresses."""
    process = _process()
    for name in NAMES:
        address = ctypes.cast(getattr(process, name), ctypes.c_void_p).value
        llvm.add_symbol(PREFIX + name, address)


@cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)
