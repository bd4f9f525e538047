"""Memory between pages that may not be touched: who reads or writes beside it is killed on the spot."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from loopgrad.backends import recycling

PAGE = mmap.PAGESIZE
POSSIBLE = hasattr(mmap, "MAP_PRIVATE")  # and so there is mprotect


def region(size: int, at_end: bool) -> tuple[mmap.mmap, int]:
    """Pages with room for `size` bytes, and where these begin: they end, or begin, at a guard."""
    room = -(-max(size, 1) // PAGE) * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = mmap.mmap(-1, room + 2 * PAGE, flags=flags)
    start = np.frombuffer(pages, np.uint8).ctypes.data
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for guard in (start, start + PAGE + room):
        assert protect(guard, PAGE, 0) == 0
    return pages, PAGE + (room - size if at_end else 0)


def empty(shape: tuple[int, ...], dtype: Any, at_end: bool) -> np.ndarray:
    """An array whose last, or first, element is beside a guard."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    pages, start = region(count * kind.itemsize, at_end)
    if not count:
        return np.empty(shape, kind)
    return np.frombuffer(pages, kind, count, start).reshape(shape)


def copy(array: np.ndarray, at_end: bool) -> np.ndarray:
    made = empty(array.shape, array.dtype, at_end)
    made[...] = array
    return made


class Scratch(recycling.Scratch):
    """Between guards, and filled with what nobody may take for a number."""

    def __init__(self, at_end: bool):
        super().__init__()
        self.at_end = at_end

    @contextmanager
    def of(self, size: int) -> Iterator[int]:
        array = empty((size,), np.uint8, self.at_end)
        array.fill(0xFF)
        yield array.ctypes.data
