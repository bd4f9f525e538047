"""Records that remember what is asked of them most: a tree would otherwise be walked again and again."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class HashedOnce:
    """A base of frozen records with slots, which say `__hash__ = HashedOnce.__hash__`."""

    __slots__ = ("_hash", "_indices", "_tensors")

    _hash: int
    _indices: frozenset[str]  # see `ir/walk.py`
    _tensors: frozenset[str]

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            found = hash(self._compared())
            object.__setattr__(self, "_hash", found)
            return found

    def _compared(self) -> tuple[Any, ...]:
        """What equal records have in common."""
        kind = type(self)
        names = _names.get(kind)
        if names is None:
            names = _names[kind] = tuple(f.name for f in fields(kind) if f.compare)  # type: ignore[arg-type]
        return kind, *[getattr(self, name) for name in names]


_names: dict[type, tuple[str, ...]] = {}
