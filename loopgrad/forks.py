"""Locks that a fork waits for, so that no child finds one held by a thread that it does not have.

What such a lock guards is whole, too, in the child: nobody was in the midst of changing it. A fork
waits for imports as well: a module that another thread has begun is never finished in the child, and
whoever wants it there waits for ever.
"""

from __future__ import annotations

import _imp
import os
import sys
import threading
import time
from typing import Any

# Whoever holds one of them takes only those that stand behind it.
ORDER = (
    "building",  # pipeline.py: a program is derived or compiled
    "working",  # simplify/algebra/normal_form.py: an expression is brought to its normal form
    "compiling",  # backends/llvm: a program's code is made
    "learning",  # backends/llvm/calling/calls.py: a call is learnt
    "later",  # backends/llvm/compiling/later.py: code is made that no call waits for
    "llvm",  # backends/llvm/compiling/engine.py
    "cache",  # cache/files.py
    "generating",  # backends/llvm/compiling/generating.py
    "llvmlite",  # its own
)

MOST_WAITING = 10.0  # seconds, for imports

_held: dict[str, Any] = {}
_taken: list[Any] = []


def hold(place: str, lock: Any) -> None:
    """From now on a fork waits for the lock, which stands at that place of the order.

    lock: one that its holder may take again, as the holder may fork.
    """
    if place not in ORDER:
        raise ValueError(f"{place!r} has no place in the order of locks")
    _held[place] = lock


def _acquire() -> None:
    """Takes all locks while no other thread imports, and lets none begin to."""
    end = time.monotonic() + MOST_WAITING
    while True:
        _acquire_locks()
        _imp.acquire_lock()  # without it nobody begins an import
        if not _others_import() or time.monotonic() > end:
            return
        _release()  # an import may need one of them
        time.sleep(0.001)


def _acquire_locks() -> None:
    global _taken
    locks = [_held[place] for place in ORDER if place in _held]
    for lock in locks:
        lock.__enter__()
    _taken = locks


def _release() -> None:
    _imp.release_lock()
    for lock in reversed(_taken):
        lock.__exit__(None, None, None)


def _others_import() -> bool:
    """Is a thread other than this one in the midst of an import?"""
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    owners = [getattr(reference(), "owner", None) for reference in list(locks.values())]
    return any(owner not in (None, threading.get_ident()) for owner in owners)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
