"""What Python's own settings are while programs are derived and compiled.

Collections of cycles are rare: many small records are made, few of which are in a cycle; a collection every
700 of them, as is usual, takes a twentieth of the time and finds nothing. And a thread that comes back from
LLVM has Python soon: there it only asks for what LLVM does next, and would wait for up to 5 ms.
"""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakSet

RARELY = 100_000  # records between two collections
SOON = 0.0005  # seconds for which another thread may go on

_guard = threading.Lock()  # taken by those alone who hold a lock for which a fork waits


@dataclass(frozen=True)
class Settings:
    """Of Python. collections: the records between two, of each age. switch: seconds."""

    collections: tuple[int, int, int]
    switch: float

    def tuned(self) -> Settings:
        """The same for building programs. Who has fewer collections keeps them."""
        young, *others = self.collections
        rarely = (RARELY, *others) if 0 < young < RARELY else self.collections
        return Settings(rarely, min(self.switch, SOON))  # type: ignore[arg-type]

    def change(self, into: Settings) -> None:
        """From these to others, as far as they still are what they were."""
        if gc.get_threshold() == self.collections != into.collections:
            gc.set_threshold(*into.collections)
        if sys.getswitchinterval() == self.switch != into.switch:
            sys.setswitchinterval(into.switch)


_before: Settings | None = None  # what they were, where we have changed them


class Tuned:
    """Within it they are as they should be; made anew for each use.

    It is no lock: an interrupt from the keyboard may come between any two lines of Python, also of those
    that enter or leave something. Python's own locks are entered and left at once. What is never left here is
    forgotten with whoever entered it.
    """

    def __enter__(self) -> None:
        global _before
        with _guard:
            if _before is None:
                _before = Settings(gc.get_threshold(), sys.getswitchinterval())
                _before.change(_before.tuned())
            _inside.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        global _before
        with _guard:
            _inside.discard(self)
            if _inside or _before is None:
                return
            _before.tuned().change(_before)
            _before = None


_inside: WeakSet[Tuned] = WeakSet()


def is_building() -> bool:
    """Is a program being derived or compiled?"""
    return bool(_inside)
