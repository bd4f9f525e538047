"""How much work the algebra may do before it gives up: counted in terms closed, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TooLarge(Exception):
    """More than the algebra takes on."""


_left: int | None = None


@contextmanager
def limited(work: int) -> Iterator[None]:
    """Within, at most so many terms are closed; then TooLarge is raised. Under `normal_form.WORKING`."""
    global _left
    before, _left = _left, work
    try:
        yield
    finally:
        _left = before


def spend() -> None:
    """Counts one term."""
    global _left
    if _left is not None:
        _left -= 1
        if _left < 0:
            raise TooLarge
