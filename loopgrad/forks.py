"""Locks that a fork waits for, so that no child finds one held by a thread that it does not have.

What such a lock guards is whole, too, in the child: nobody was in the midst of changing it. A fork
waits for imports as well: a module that another thread has begun is never finished in the child, and
whoever wants it there waits for ever.
"""

from __future__ import annotations

import _imp
import _thread
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import call
from types import TracebackType
from typing import Any
from weakref import WeakSet

# Whoever holds one of them takes only those that stand behind it.
ORDER = (
    "defining",  # interop/torch/registry.py: an operator is made known to PyTorch
    "reversing",  # interop/torch/differentiating.py: its backward is derived
    "building",  # pipeline.py: a program is derived or compiled
    "working",  # simplify/algebra/normal_form.py: an expression is brought to its normal form
    "compiling",  # backends/llvm: a program's code is made
    "learning",  # backends/llvm/calling/calls.py: a call is learnt
    "later",  # backends/llvm/compiling/later.py: code is made that no call waits for
    "llvm",  # backends/llvm/compiling/engine.py
    "aside",  # backends/llvm/compiling/generating.py: code is made in a thread of its own
    "cache",  # cache/files.py
    "generating",  # backends/llvm/compiling/generating.py
    "llvmlite",  # its own
)

MOST_WAITING = 10.0  # seconds, for imports
BEHIND = 0.01  # seconds behind a fork that an interrupt comes, which came while it waited

_held: dict[str, Any] = {}
_taken: list[Callable[[], object]] = []  # what gives back each lock that this fork has taken
_interrupted = False
_endless: WeakSet[Any] = WeakSet()  # locks of imports that were waited for in vain


def hold(place: str, lock: Any) -> None:
    """From now on a fork waits for the lock, which stands at that place of the order.

    lock: one that its holder may take again, as the holder may fork.
    """
    if place not in ORDER:
        raise ValueError(f"{place!r} has no place in the order of locks")
    _held[place] = lock


class Working:
    """Threads at work that a fork waits for, each between `begin` and `end`.

    As a lock, which its holder may take again, it is free when there are none; then none begins.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._count = 0
        self._wanted = 0  # by how many threads it is to be free

    @property
    def count(self) -> int:
        """How many are at work."""
        return self._count

    @property
    def is_wanted(self) -> bool:
        """Does a fork wait?"""
        return self._wanted > 0

    def begin(self) -> int:
        """One more is at work; how many are."""
        with self._changed:
            self._count += 1
            return self._count

    def end(self) -> int:
        """One of them has done; how many are left."""
        with self._changed:
            self._count -= 1
            self._changed.notify_all()
            return self._count

    def wait_unless_wanted(self, seconds: float) -> None:
        """For so long, or until a fork waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted, seconds)

    def __enter__(self) -> None:
        self._changed.acquire()
        self._wanted += 1
        self._changed.notify_all()
        while self._count:
            self._changed.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._wanted -= 1
        self._changed.release()


def _acquire() -> None:
    """Takes all locks while no other thread imports, and lets none begin to.

    An interrupt from the keyboard comes when the fork is over: Python would leave it out here.
    """
    global _interrupted
    _interrupted = False
    end = time.monotonic() + MOST_WAITING
    while True:
        try:
            _give_back()
            if _take(late=time.monotonic() > end):
                return
            _give_back()  # an import may need one of them
            time.sleep(0.001)
        except KeyboardInterrupt:
            _interrupted = True


def _take(late: bool) -> bool:
    """Takes all locks; whether no other thread imports, which it may if it is late."""
    for place in ORDER:
        if place in _held:
            lock = _held[place]
            give = partial(lock.__exit__, None, None, None)
            _at_once(lock.__enter__, partial(_taken.append, give))
    if not _keep_imports_out(whatever=late):
        return False
    found = _imports_of_others()
    if late:
        _endless.update(found)
    return late or not found


def _at_once(*steps: Callable[[], object]) -> None:
    """One step after the other, and no interrupt between them: it comes between two lines of Python."""
    tuple(map(call, steps))


def _keep_imports_out(whatever: bool) -> bool:
    """Takes the lock without which nobody begins an import, unless somebody has it, maybe this thread.

    Nobody is waited for: its holder may want a lock that is taken by now. While it has it, Python may
    collect garbage, and what is collected may be LLVM's. Asked and taken at once, by `any`: between two
    calls of Python's own another thread may come. whatever: waits all the same.
    """
    asked = () if whatever else (_imp.lock_held,)
    noted = partial(_taken.append, _imp.release_lock)
    return not any(map(call, (*asked, _imp.acquire_lock, noted)))


def _give_back() -> None:
    while _taken:
        _at_once(_taken[-1], _taken.pop)


def _release() -> None:
    _give_back()
    if _interrupted:
        # A little later: others have something to give back, in lines of Python.
        threading.Timer(BEHIND, _thread.interrupt_main).start()


def _imports_of_others() -> list[Any]:
    """The locks of imports that other threads are in the midst of, but for those that take for ever.

    A program may run within an import from its beginning to its end.
    """
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    found = [reference() for reference in list(locks.values())]
    here = (None, threading.get_ident())
    return [m for m in found if getattr(m, "owner", None) not in here and m not in _endless]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_give_back)
