"""How much is tried: `LOOPGRAD_EFFORT=20 pytest tests/test_properties.py` is a longer search;
`LOOPGRAD_FULL=1` leaves nothing out of samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar
from zlib import crc32

T = TypeVar("T")

FULL = bool(os.environ.get("LOOPGRAD_FULL"))
EFFORT = int(os.environ.get("LOOPGRAD_EFFORT", "1"))


def _step(every: int) -> int:
    return 1 if FULL else max(1, every // EFFORT)


def sample(cases: Sequence[T], every: int) -> list[T]:
    """One in `every` of the cases, always the same ones; all with an effort of that much."""
    return list(cases[:: _step(every)])


def by_name(names: Sequence[str], every: int) -> list[str]:
    """One in `every` of the names, chosen by the name: a new one changes nothing for the others."""
    return [name for name in names if crc32(name.encode()) % _step(every) == 0]
