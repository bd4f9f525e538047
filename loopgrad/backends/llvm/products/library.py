"""The compiled products of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from loopgrad.backends.llvm import engine
from loopgrad.backends.llvm.machine import this_machine
from loopgrad.backends.llvm.passes import FINAL
from loopgrad.backends.llvm.products import emit_product_and_pack, emit_scattered
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling, tiling
from loopgrad.backends.llvm.text import Module

_INTEGER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_PACK = ctypes.CFUNCTYPE(
    None, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2
)
_PACK_AT = ctypes.CFUNCTYPE(None, *[_INTEGER] * 2, *[_ADDRESS] * 4)


def _product(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 3, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 3, _ADDRESS)
    return ctypes.CFUNCTYPE(None, *matrices, _INTEGER, scale, ctypes.c_bool)


Part: TypeAlias = Callable[[Module, Tiling], str]

# After `loopgrad_`, by the module that they are compiled in, when first one of them is called.
PARTS: Mapping[Part, tuple[str, ...]] = {
    emit_product_and_pack: ("pack", "product"),
    emit_scattered: ("pack_at",),
}
NAMES = ("pack", "pack_at", "product")


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


def provide(real: str, emit: Part) -> Mapping[str, int]:
    """Compiles a part for "float" or "double" and makes it known to LLVM; its functions' addresses."""
    tile, module = tiling_here(real), engine.new_module(real)
    names = [f"loopgrad_{name}_{SUFFIX[real]}" for name in PARTS[emit]]
    what = repr(("products", emit.__name__, module, tile))
    return engine.library(lambda: emit(module, tile), names, FINAL, what)


@cache
def functions(real: str) -> Functions:
    """All of them."""
    found = {name: address for part in PARTS for name, address in provide(real, part).items()}
    addresses = [found[f"loopgrad_{name}_{SUFFIX[real]}"] for name in NAMES]
    return callable_from(real, tiling_here(real), *addresses)


def callable_from(real: str, tile: Tiling, pack: int, pack_at: int, product: int) -> Functions:
    """The functions at these addresses."""
    return Functions(_PACK(pack), _PACK_AT(pack_at), _product(real)(product), tile)
