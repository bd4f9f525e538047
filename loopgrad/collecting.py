"""Python's collector of cycles runs more rarely while programs are derived and compiled.

They make many small records, few of which are in a cycle: a collection every 700 of them, as is usual,
takes a twentieth of the time and finds nothing.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType
from weakref import WeakSet

RARELY = 100_000  # records between two collections

_guard = threading.Lock()  # taken by those alone who hold a lock for which a fork waits
_before: tuple[int, int, int] | None = None  # what it was, where we have changed it


class Rarely:
    """Within it collections are rare; made anew for each use.

    It is no lock: an interrupt from the keyboard may come between any two lines of Python, also of those
    that enter or leave something. Python's own locks are entered and left at once. What is never left here is
    forgotten with whoever entered it.
    """

    def __enter__(self) -> None:
        global _before
        with _guard:
            now = gc.get_threshold()
            if _before is None and 0 < now[0] < RARELY:
                _before = now
                gc.set_threshold(RARELY, *now[1:])
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
            if gc.get_threshold() == (RARELY, *_before[1:]):
                gc.set_threshold(*_before)  # unless somebody has set them meanwhile
            _before = None


_inside: WeakSet[Rarely] = WeakSet()


def is_building() -> bool:
    """Is a program being derived or compiled?"""
    return bool(_inside)
