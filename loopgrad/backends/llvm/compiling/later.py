"""Code that calls can do without for a while: it is made in a thread, behind them. A fork waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from loopgrad import forks

BEHIND = 0.02  # seconds: the call at hand goes first


class Later:
    """What is being made. As a lock, which its holder may take again, it is free when nothing is."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._going = 0

    def begin(self, make: Callable[[], object]) -> None:
        """Begins to make it. Where that fails, all goes on without."""
        with self._changed:
            self._going += 1
        try:
            threading.Thread(target=self._run, args=(make,), name="loopgrad-later").start()
        except RuntimeError:  # there may be no more threads
            self._run(make)

    def _run(self, make: Callable[[], object]) -> None:
        time.sleep(BEHIND)
        with suppress(Exception):
            make()
        with self._changed:
            self._going -= 1
            self._changed.notify_all()

    def __enter__(self) -> None:
        self._changed.acquire()
        while self._going:
            self._changed.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._changed.release()


LATER = Later()
forks.hold("later", LATER)
