"""Code that calls can do without for a while: it is made in a thread, behind them. A fork waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from loopgrad import forks, tuning
from loopgrad.backends.llvm.compiling.generating import is_idle

BEHIND = 0.02  # seconds: the call at hand goes first
PATIENCE = 1.0  # seconds: so long do others go first that derive programs, or generate code
OFTEN = 0.005  # seconds between two looks whether they still do


class Later(forks.Working):
    """What is being made, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Callable[[], object]] = deque()

    def make(self, make: Callable[[], object]) -> None:
        """Begins to make it. Where that fails, all goes on without."""
        self._waiting.append(make)
        if self.begin() > 1:
            return  # a thread is at it
        try:
            threading.Thread(target=self._run, name="loopgrad-later").start()
        except RuntimeError:  # there may be no more threads
            self._run()

    def _run(self) -> None:
        """Until nothing waits."""
        going = True
        while going:
            self._let_others()
            with suppress(Exception):
                self._waiting.popleft()()
            going = self.end() > 0

    def _let_others(self) -> None:
        """Until no other thread has much to do, or a fork waits for this."""
        end = time.monotonic() + PATIENCE
        self.wait_unless_wanted(BEHIND)
        while not self.is_wanted and time.monotonic() < end:
            if not tuning.is_building() and is_idle():
                break
            self.wait_unless_wanted(OFTEN)


LATER = Later()
forks.hold("later", LATER)
