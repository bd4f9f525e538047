"""Code that calls can do without for a while: it is made in a thread, behind them. A fork waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from loopgrad import forks

BEHIND = 0.02  # seconds: the call at hand goes first


class Later(forks.Working):
    """What is being made."""

    def make(self, make: Callable[[], object]) -> None:
        """Begins to make it. Where that fails, all goes on without."""
        self.begin()
        try:
            threading.Thread(target=self._run, args=(make,), name="loopgrad-later").start()
        except RuntimeError:  # there may be no more threads
            self._run(make)

    def _run(self, make: Callable[[], object]) -> None:
        time.sleep(BEHIND)
        with suppress(Exception):
            make()
        self.end()


LATER = Later()
forks.hold("later", LATER)
