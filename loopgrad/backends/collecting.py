"""Python's collector of cycles runs more rarely while programs are derived and compiled.

They make many small records, few of which are in a cycle: a collection every 700 of them, as is usual,
takes a twentieth of the time and finds nothing.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType

RARELY = 100_000  # records between two collections

_guard = threading.Lock()  # taken by those alone who hold a lock for which a fork waits
_inside = 0
_before = gc.get_threshold()


class BuildingLock:
    """A lock that its holder may take again; while any is held, collections are rare."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        global _inside, _before
        self._lock.acquire()
        with _guard:
            if not _inside:
                _before = gc.get_threshold()
                if 0 < _before[0] < RARELY:
                    gc.set_threshold(RARELY, *_before[1:])
            _inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        global _inside
        with _guard:
            _inside -= 1
            if not _inside and gc.get_threshold() == (RARELY, *_before[1:]):
                gc.set_threshold(*_before)  # unless somebody has set them meanwhile
        self._lock.release()
