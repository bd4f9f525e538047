"""The C library's functions, under names of our own (`c_functions.c_symbol`)."""

from __future__ import annotations

import ctypes
import sys

import llvmlite.binding as llvm

from loopgrad.backends.llvm.writing.c_functions import C_LIBRARY, c_symbol


def provide() -> None:
    """Gives LLVM their addresses."""
    library = _c_library()
    for operation in C_LIBRARY:
        for real, name in (("double", operation), ("float", operation + "f")):
            function = getattr(library, name)
            address = ctypes.cast(function, ctypes.c_void_p).value
            llvm.add_symbol(c_symbol(operation, real), address)


def _c_library() -> ctypes.CDLL:
    if sys.platform == "win32":
        return ctypes.CDLL("ucrtbase")
    process = ctypes.CDLL(None)
    if all(hasattr(process, name) for name in C_LIBRARY):
        return process
    from ctypes.util import find_library  # slow: may start a compiler to ask it

    return ctypes.CDLL(find_library("m"))
