"""The compiled products for callers in Python: tests and benchmarks."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from loopgrad.backends.llvm.products.library import PARTS, tiling_here, whole
from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling

NAMES = (
    "pack",
    "pack_at",
    "product",
    "product_at",
    "dots",
    "product_turned",
    "put_turned",
    "product_boxes",
    "boxes",
)

_INTEGER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_PACK = ctypes.CFUNCTYPE(
    None, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2
)
_PACK_AT = ctypes.CFUNCTYPE(None, *[_INTEGER] * 2, *[_ADDRESS] * 4)


_PRODUCT_TURNED = ctypes.CFUNCTYPE(
    None, *[_INTEGER] * 3, _ADDRESS, *[_INTEGER] * 2, *[_ADDRESS] * 6, _INTEGER, ctypes.c_bool
)
_BOXES = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 6)
_PRODUCT_BOXES = ctypes.CFUNCTYPE(
    None, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 2, *[_ADDRESS] * 7, _INTEGER, ctypes.c_bool
)


def _put_turned(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 2, _ADDRESS, _INTEGER, _ADDRESS, _INTEGER)
    return ctypes.CFUNCTYPE(None, *matrices, scale, ctypes.c_bool)


def _product_at(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 3, _ADDRESS, *[_INTEGER] * 2, *[_ADDRESS] * 4, _INTEGER, _ADDRESS)
    return ctypes.CFUNCTYPE(None, *matrices, _INTEGER, scale, ctypes.c_bool)


def _dots(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 3, *[_ADDRESS, _INTEGER] * 3)
    return ctypes.CFUNCTYPE(None, *matrices, scale, ctypes.c_bool)


def _product(real: str) -> Any:
    scale = ctypes.c_float if real == "float" else ctypes.c_double
    matrices = (*[_INTEGER] * 3, _ADDRESS, *[_INTEGER] * 2, _ADDRESS, *[_INTEGER] * 4, _ADDRESS)
    return ctypes.CFUNCTYPE(None, *matrices, _INTEGER, scale, ctypes.c_bool)


@dataclass(frozen=True)
class Functions:
    """By address."""

    pack: Callable[..., None]
    pack_at: Callable[..., None]
    product: Callable[..., None]
    product_at: Callable[..., None]
    dots: Callable[..., None]
    product_turned: Callable[..., None]
    put_turned: Callable[..., None]
    product_boxes: Callable[..., None]
    boxes: Callable[..., None]
    tiling: Tiling


@cache
def functions(real: str) -> Functions:
    """All of them."""
    found = {name: address for part in PARTS for name, address in whole(real, part).items()}
    addresses = [found[f"loopgrad_{name}_{SUFFIX[real]}"] for name in NAMES]
    return callable_from(real, tiling_here(real), *addresses)


def callable_from(real: str, tile: Tiling, *addresses: int) -> Functions:
    """The functions at these addresses, in the order of `NAMES`."""
    products = _product(real), _product_at(real), _dots(real), _PRODUCT_TURNED, _put_turned(real)
    kinds = _PACK, _PACK_AT, *products, _PRODUCT_BOXES, _BOXES
    made = (kind(address) for kind, address in zip(kinds, addresses, strict=True))
    return Functions(**dict(zip(NAMES, made, strict=True)), tiling=tile)
