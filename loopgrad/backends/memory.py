"""The arrays that a call returns, and the refusal, before anything is computed, of what cannot fit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends import recycling

# Below this many bytes nobody is asked how much there is.
ALWAYS_FITS = 1 << 26

LARGEST_AXIS = 2**63 - 1


def allocate(
    purpose: str,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype[Any]],
) -> dict[str, NDArray[Any]]:
    """Arrays, not initialised, of the shapes and types given by name.

    Large ones are in recycled memory. purpose: what they are for, in words.
    Raises MemoryError, naming the largest tensor and the bytes needed, where they cannot be had.
    """

    def arrays() -> dict[str, NDArray[Any]]:
        return {name: recycling.empty(shape, dtypes[name]) for name, shape in shapes.items()}

    with suppress(MemoryError, ValueError):
        return arrays()
    recycling.trim_memory()
    try:
        return arrays()
    except (MemoryError, ValueError):
        sizes = {name: dtypes[name].itemsize for name in shapes}
        raise _too_much(purpose, shapes, sizes) from None


def refuse_what_cannot_fit(
    purpose: str,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    needed: Callable[[], int | None] = lambda: None,
) -> None:
    """Raises MemoryError where the tensors need more bytes than there are.

    purpose: what they are for, in words. sizes: the bytes of an element.
    needed: asked only where they would not fit: the bytes that are really taken, since not every
        tensor may be kept whole; None where each is.
    """
    total = sum(_bytes(shape, sizes[name]) for name, shape in shapes.items())
    if any(extent > LARGEST_AXIS for shape in shapes.values() for extent in shape):
        raise _too_much(purpose, shapes, sizes)
    if total > ALWAYS_FITS and not _is_plenty_for(total) and total > available():
        really = needed()
        if really is None or really > available():
            raise _too_much(purpose, shapes, sizes, really)


def _too_much(
    purpose: str,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    really: int | None = None,
) -> MemoryError:
    needed = {name: _bytes(shape, sizes[name]) for name, shape in shapes.items()}
    total = sum(needed.values()) if really is None else really
    largest = max(needed, key=lambda name: (needed[name], max(shapes[name], default=0)))
    shape = ", ".join(map(_plain, shapes[largest])) + ("," if len(shapes[largest]) == 1 else "")
    return MemoryError(
        f"{purpose} takes {_shown(total)} bytes, and {available():,} are available; "
        f"the largest tensor is `{largest}`, of shape ({shape}), with {_shown(needed[largest])}"
    )


def _shown(count: int) -> str:
    """In full where that can be read."""
    return f"{count:,}" if count < 10**30 else f"about 2**{count.bit_length() - 1}"


def _plain(extent: int) -> str:
    return str(extent) if extent < 10**30 else _shown(extent)


def _bytes(shape: tuple[int, ...], size: int) -> int:
    for extent in shape:  # Python's integers: no overflow
        size *= extent
    return size


_seen = (0, 0.0)  # how much was available, and until when that is news


def _is_plenty_for(total: int) -> bool:
    """Whether there was four times as much a moment ago: to look takes a while, a large call's part."""
    global _seen
    amount, until = _seen
    now = time.monotonic()
    if now > until:
        amount = available()
        _seen = amount, now + 1.0
    return amount >= 4 * total


def available() -> int:
    """The bytes of memory that can still be had: what the system and the container allow.

    Where the system does not say, all there is of it; where it says nothing, no limit.
    """
    limits = [_system(), _container()]
    known = [limit + recycling.idle_bytes() for limit in limits if limit is not None]
    return min(known, default=LARGEST_AXIS)


def _system() -> int | None:
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _container() -> int | None:
    """What the control group that a container runs in allows; file caches can be given up."""
    root = "/sys/fs/cgroup/"
    try:
        with open(root + "memory.max", encoding="utf-8") as file:
            limit = int(file.read())
        with open(root + "memory.current", encoding="utf-8") as file:
            used = int(file.read())
        with open(root + "memory.stat", encoding="utf-8") as file:
            stat = dict(line.split() for line in file)
        return max(0, limit - used + int(stat["inactive_file"]) + int(stat["active_file"]))
    except (OSError, KeyError, ValueError):
        return None
