"""Memory for large arrays and for scratch, used again when nobody holds it any more.

A fresh array of 100 MB costs more in page faults than most loops cost to run over it. So a large
array that a call returns lies in a `Block`, which goes back to the idle ones when the array, and
every view of it, has died; a later call of about the same size gets it. Idle blocks are bounded
(`IDLE_SHARE` of the machine's memory), and those that have been so for long (`IDLE_SECONDS`) are
given up when the next becomes idle.

Nothing here waits for a lock: each step is one operation on a list, which Python makes whole. So
threads, a garbage collection in the middle of anything, and a fork may come at any time.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 1 << 20  # bytes of a block; smaller arrays are left to NumPy, which recycles them itself
ALIGNMENT = 64  # of scratch, and at least that of a block
LONG = 1 << 14  # bytes of an array that is worth to begin at an aligned address; NumPy's need not
HUGE_PAGE = 1 << 21
IDLE_SHARE = 1 / 8
IDLE_SECONDS = 30.0
CONTROL_GROUP = "/sys/fs/cgroup/"


class Block:
    """Pages of the process' own, not initialised. `address` is aligned; behind it are `size` bytes."""

    __slots__ = ("_pages", "address", "since", "size", "view")

    def __init__(self, size: int):
        self.size = size
        self.since = 0.0  # when it became idle
        # As what array it was lent last, mostly as it will be next: type, shape, the array's interface.
        self.view: tuple[np.dtype[Any] | None, tuple[int, ...], dict[str, Any]] = None, (), {}
        # Huge pages are many times quicker to get: for all but a small rest, or for that too.
        huge = (size + HUGE_PAGE // 4) // HUGE_PAGE * HUGE_PAGE
        slack = HUGE_PAGE if huge else 0  # what is never touched costs nothing
        self._pages = _pages(max(size, huge) + slack)
        start = np.frombuffer(self._pages, np.uint8).ctypes.data
        self.address = -(-start // HUGE_PAGE) * HUGE_PAGE if huge else start
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a system without them
                self._pages.madvise(mmap.MADV_HUGEPAGE, self.address - start, huge)


_idle: list[Block] = []  # the last used last
others: list[Callable[[], None]] = []  # what else gives memory up: other frameworks' that is kept


def take(size: int) -> Block:
    """A block of at least `size` bytes, which is the caller's until it is given back.

    Raises MemoryError where there is none to be had.
    """
    wanted = _rounded(size)
    try:
        last = _idle.pop()
    except IndexError:
        pass
    else:  # mostly it is the one
        if last.size == wanted:
            return last
        _idle.append(last)
    for block in reversed(list(_idle)):
        if block.size == wanted:
            try:
                _idle.remove(block)
            except ValueError:  # another thread was first
                continue
            return block
    limit()  # is found out now: when Python ends, and gives the last blocks back, no file can be read
    try:
        return Block(wanted)
    except (MemoryError, OSError, ValueError, OverflowError):
        trim_memory()
    try:
        return Block(wanted)
    except (OSError, ValueError, OverflowError):
        raise MemoryError(f"no block of {wanted:,} bytes") from None


def give(block: Block) -> None:
    """Makes a block idle; whoever gives it has no use of it any more."""
    block.since = time.monotonic()
    _idle.append(block)
    if len(_idle) > 1 or block.size > limit():
        _give_up(limit(), block.since - IDLE_SECONDS)


def idle_bytes() -> int:
    """What `trim_memory` would free."""
    return sum(block.size for block in list(_idle))


def trim_memory() -> None:
    """Gives the system back the memory that no array uses and that is kept for later calls.

    Needed by nobody but those who count: it is bounded, and given back by itself after a while.

    >>> import loopgrad as lg
    >>> lg.trim_memory()
    """
    _give_up(0, float("inf"))
    for forget in others:
        forget()


def _give_up(limit: float, before: float) -> None:
    """Frees idle blocks, the longest idle first, until they fit the limit and none is older."""
    idle = list(_idle)
    excess = sum(block.size for block in idle) - limit
    for block in idle:
        if excess <= 0 and block.since >= before:
            break
        excess -= block.size
        try:
            _idle.remove(block)
        except ValueError:  # in use again
            continue


def limit() -> float:
    """How many bytes may be kept idle."""
    global _bound
    if _bound is None:
        _bound = IDLE_SHARE * _memory()
    return _bound


_bound: float | None = None


def _memory() -> int:
    """The machine's, or what the container that this runs in may have of it."""
    found = []
    with suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups, version 2 and 1
        with (
            suppress(OSError, ValueError),  # no such group, or "max"
            open(CONTROL_GROUP + name, encoding="utf-8") as file,
        ):
            found.append(int(file.read()))
    return min(found, default=1 << 32)


@lru_cache(4096)
def _rounded(size: int) -> int:
    """Up to one of four sizes an octave, so that a block fits again when sizes vary a little."""
    step = max(1 << 12, 1 << (max(size, LEAST) - 1).bit_length() - 3)
    return -(-max(size, LEAST) // step) * step


def _pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


# --------------------------------------------------------------------------------------- arrays


class Lease:
    """What owns the elements of an array in a block: its base. Gives the block back at its end."""

    def __init__(self, block: Block, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._block, self._give = block, give
        last = block.view
        if last[0] is not dtype or last[1] != shape:
            data = {"shape": shape, "typestr": dtype.str, "data": (block.address, False)}
            block.view = last = dtype, shape, {**data, "version": 3}
        self.__array_interface__ = last[2]

    def __del__(self) -> None:
        self._give(self._block)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `np.empty`, aligned where it is not small, and in recycled memory where it is large.

    >>> import numpy as np
    >>> array = empty((1000, 1000), np.dtype(np.float32))
    >>> array.shape, array.flags.c_contiguous, array.ctypes.data % 64
    ((1000, 1000), True, 0)
    """
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < LONG:
        return np.empty(shape, dtype)
    if size < LEAST:
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = aligned(memory) - memory.ctypes.data
        return memory[start : start + size].view(dtype).reshape(shape)
    return np.asarray(Lease(take(size), shape, dtype))


def copy(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A copy in C order, of that type, in recycled memory where it is large."""
    if dtype.itemsize * array.size < LEAST:
        return array.astype(dtype, order="C")
    made = empty(array.shape, dtype)
    np.copyto(made, array, casting="unsafe")
    return made


# -------------------------------------------------------------------------------------- scratch


class Scratch:
    """Where calls of one program keep what they compute on the way. For several threads."""

    def __init__(self) -> None:
        self._small: list[NDArray[np.uint8]] = []

    @contextmanager
    def of(self, size: int) -> Iterator[int]:
        """The address of `size` bytes, aligned, not initialised, for the length of a `with`."""
        if size >= LEAST:
            block = take(size)
            try:
                yield block.address
            finally:
                give(block)
            return
        try:
            memory = self._small.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size + ALIGNMENT:
            memory = np.empty(size + ALIGNMENT, np.uint8)
        try:
            yield aligned(memory)
        finally:
            self._small.append(memory)


def aligned(memory: NDArray[np.uint8]) -> int:
    """The first aligned address in it."""
    return -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
