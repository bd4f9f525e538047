"""Floating operations alone, compiled at any width: what tests and benchmarks call on arrays."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.writing import functions
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import I64, RARE, Body

ENTRY = "elementwise"


def elementwise(operation: str, dtype: Any, lanes: int, arity: int = 1) -> Callable[..., None]:
    """A function of `arity` arrays and one for the result, of a multiple of `lanes` elements.

    It takes `repeats`, how often to do it, for those who measure times.
    """
    module = engine.new_module("double" if dtype == np.float64 else "float")
    body = Body(module, ENTRY)
    byte, pointer = module.pointer("i8"), module.pointer
    body.head = (
        f"i32 @{ENTRY}({pointer(byte)} %arrays, {pointer(I64)} %integers, "
        f"{byte} %reals, {byte} %record)"
    )
    w = Lanes(body, lanes)
    arrays = []
    for i in range(arity + 1):
        raw = body.load(byte, body.element(byte, "%arrays", i))
        arrays.append(body.value(f"bitcast {byte} {raw} to {pointer(w.real)}"))
    count = body.load(I64, "%integers")
    repeats = body.load(I64, body.element(I64, "%integers", 1))
    body.jump("again")
    body.start("again")
    done, again = body.phi_later(I64)
    body.jump("loop")
    body.start("loop")
    n, complete = body.phi_later(I64)
    operands = [body.load(w.real, body.element(w.real, a, n)) for a in arrays[:-1]]
    body.store(w.real, functions.call(w, operation, *operands), body.element(w.real, arrays[-1], n))
    after, end = body.value(f"add i64 {n}, 1"), body.block
    body.branch(body.value(f"icmp slt i64 {after}, {count}"), "loop", "next", RARE)
    complete(("0", "again"), (after, end))
    body.start("next")
    further = body.value(f"add i64 {done}, 1")
    body.branch(body.value(f"icmp slt i64 {further}, {repeats}"), "again", "end", RARE)
    again(("0", "entry"), (further, "next"))
    body.start("end")
    body.do("ret i32 0")
    body.finish()
    loaded = engine.load(module.text())
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_char_p] * 3, ctypes.c_void_p)
    code = kind(loaded.address(ENTRY))

    def run(*arrays: Any, repeats: int = 1, keep: Any = loaded) -> None:
        addresses = struct.pack(f"{len(arrays)}P", *(a.ctypes.data for a in arrays))
        code(addresses, struct.pack("=2q", arrays[0].size // lanes, repeats), b"", None)

    return run


def aligned(count: int, dtype: Any) -> Any:
    """Zeros from an address on that vectors may be loaded from."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(count * itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * itemsize].view(dtype)


def apply(operation: str, *operands: Any, lanes: int = 1) -> Any:
    """The operation on arrays of any length, one dtype."""
    dtype, size = operands[0].dtype, operands[0].size
    padded = [aligned(size + -size % lanes, dtype) for _ in range(len(operands) + 1)]
    for array, operand in zip(padded, operands, strict=False):
        array[:size] = operand
    elementwise(operation, dtype, lanes, len(operands))(*padded)
    return padded[-1][:size]
