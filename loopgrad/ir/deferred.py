"""Records from the disk, a part of which is unpacked when first asked for.

A call whose code is there asks for what a program takes and returns, never for its statements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

PACKED = "_packed"  # on a record: what gives the field that is not there yet


class Deferred:
    """A record that may have been read without one of its fields, which has no default."""

    deferred: ClassVar[str]  # the field

    def __init_subclass__(cls, deferred: str) -> None:
        cls.deferred = deferred

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            packed: Callable[[], Mapping[str, Any]] | None = self.__dict__.get(PACKED)
            if packed is None or name != self.deferred:
                raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
            # Another thread may have been first.
            return self.__dict__.setdefault(name, packed()[name])
