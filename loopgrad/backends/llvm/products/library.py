"""The compiled products of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from loopgrad.backends.llvm import engine
from loopgrad.backends.llvm.machine import this_machine
from loopgrad.backends.llvm.passes import FINAL
from loopgrad.backends.llvm.products import emit
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling, tiling

_INTEGER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_PACK = ctypes.CFUNCTYPE(
    None, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2
)
_PACK_AT = ctypes.CFUNCTYPE(None, *[_INTEGER] * 2, *[_ADDRESS] * 4)


def _product(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 3, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 3, _ADDRESS)
    return ctypes.CFUNCTYPE(None, *matrices, _INTEGER, scale, ctypes.c_bool)


NAMES = ("pack", "pack_at", "product")  # after `loopgrad_`


@dataclass(frozen=True)
class Functions:
    """For callers in Python, by address."""

    pack: Callable[..., None]
    pack_at: Callable[..., None]
    product: Callable[..., None]
    tiling: Tiling


def tiling_here(real: str) -> Tiling:
    """The tiles that suit this machine."""
    machine = this_machine()
    return tiling(real, machine.vector_bytes, machine.vector_registers)


@cache
def functions(real: str, tile: Tiling | None = None) -> Functions:
    """Compiles them for "float" or "double" and makes them known to LLVM."""
    tile = tile or tiling_here(real)
    names = [f"loopgrad_{name}_{SUFFIX[real]}" for name in NAMES]
    module = engine.new_module(real)
    what = repr(("products", module, tile))
    found = engine.library(lambda: emit(module, tile), names, FINAL, what)
    return callable_from(real, tile, *found.values())


def callable_from(real: str, tile: Tiling, pack: int, pack_at: int, product: int) -> Functions:
    """The functions at these addresses."""
    return Functions(_PACK(pack), _PACK_AT(pack_at), _product(real)(product), tile)
