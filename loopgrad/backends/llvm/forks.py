"""Locks that no child of a fork may find held: the thread that holds it is not there to let it go."""

from __future__ import annotations

import os
from typing import Any

from llvmlite.binding import ffi


def hold(lock: Any) -> None:
    """From now on a fork waits for the lock, and for llvmlite's own behind it.

    lock: one under which llvmlite is called.
    """
    if not hasattr(os, "register_at_fork"):  # no forks
        return
    locks = [lock, ffi.lib._lock]

    def acquire() -> None:
        for each in locks:
            each.__enter__()

    def release() -> None:
        for each in reversed(locks):
            each.__exit__(None, None, None)

    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release)
