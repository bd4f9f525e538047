"""Memory of PyTorch's for large results, used again when nobody holds it any more.

PyTorch's allocator gives large memory back to the system as soon as a tensor dies, and the first
touch of fresh pages costs more than most loops. So the storages of large results are remembered
here, and a later result of the same size gets one of which this is the only holder. They are
storages like any other: they may be resized, shared between processes, or saved; what was resized or
shared, and what NumPy has seen, is not used again.

Bounded as loopgrad's own pages are (`backends/recycling.py`), and given up with them.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import time
from collections import defaultdict, deque
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from loopgrad.backends import recycling

MOST_ASKED = 16  # of a size, whether they are idle

# How many hold a storage; PyTorch 2.6 does not say, and has fresh memory for each result.
_holders = getattr(torch._C, "_storage_Use_Count", None)


class Known:
    """A storage of ours. since: when it was first seen without another holder, None before."""

    __slots__ = ("since", "storage")

    def __init__(self, storage: torch.UntypedStorage):
        self.storage = storage
        self.since: float | None = None

    def is_idle(self) -> bool:
        """Is this the only holder, of Python's object too?"""
        return _count(self) == _alone() and _holders(self.storage._cdata) == 1  # type: ignore[misc]

    def fits(self, size: int) -> bool:
        storage = self.storage
        return storage.nbytes() == size and storage.resizable() and not storage.is_shared()


# By size. Whoever takes one out of its queue has it alone: that step Python makes whole.
_known: defaultdict[int, deque[Known]] = defaultdict(deque)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A new tensor of PyTorch's, not initialised."""
    size = math.prod(shape) * dtype.itemsize
    if size < recycling.LEAST or _holders is None:
        return torch.empty(shape, dtype=dtype)
    known = _idle(size)
    if known is not None:
        made = torch.empty(0, dtype=dtype).set_(known.storage, 0, shape)  # type: ignore[call-overload]
    else:
        made = torch.empty(shape, dtype=dtype)
        _advise(made.data_ptr(), size)
        known = Known(made.untyped_storage())
        _give_up(recycling.limit() - size, time.monotonic() - recycling.IDLE_SECONDS)
    known.since = None
    _known[size].append(known)
    return made  # type: ignore[no-any-return]


def forget() -> None:
    """Leaves PyTorch all that is not in use, to free it, and what is to whoever uses it."""
    _known.clear()


def _idle(size: int) -> Known | None:
    """One that is idle, out of its queue, the last used first; of the others only so many are asked."""
    queue = _known[size]
    for _ in range(min(len(queue), MOST_ASKED)):
        try:
            known = queue.pop()
        except IndexError:  # other threads have taken them
            return None
        if not known.is_idle():
            queue.appendleft(known)
        elif known.fits(size):
            return known
    return None


def _give_up(limit: float, before: float) -> None:
    """Forgets what has been idle for long, and where all is above the limit, what comes first."""
    now, total = time.monotonic(), 0
    for size, queue in list(_known.items()):
        for known in list(queue):
            if known.since is None and known.is_idle():
                known.since = now
            total += size
            if total > limit or (known.since is not None and known.since < before):
                with suppress(ValueError):  # another thread has it
                    queue.remove(known)
                    total -= size


def _count(known: Known) -> int:
    return sys.getrefcount(known.storage)


@cache
def _alone() -> int:
    """What that says of a storage that nobody else holds."""
    return _count(Known(torch.UntypedStorage(1)))


@cache
def _madvise() -> Any:
    """The system's function, None where there is none."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def _advise(address: int, size: int) -> None:
    """Asks for huge pages, which are many times quicker to get."""
    first = -(-address // recycling.HUGE_PAGE) * recycling.HUGE_PAGE
    last = (address + size) // recycling.HUGE_PAGE * recycling.HUGE_PAGE
    madvise = _madvise()
    if first < last and madvise is not None:
        madvise(first, last - first, mmap.MADV_HUGEPAGE)


recycling.others.append(forget)
