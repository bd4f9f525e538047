"""How much work the algebra may do before it gives up: counted in terms closed, the same everywhere; and in
the letters that these have, as those of functions of windows within functions have thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TooLarge(Exception):
    """More than the algebra takes on."""


_left: int | None = None
_letters: int | None = None


@contextmanager
def limited(work: int) -> Iterator[None]:
    """Within, at most so many terms are closed; then TooLarge is raised. Under `normal_form.WORKING`."""
    global _left
    before, _left = _left, work
    try:
        yield
    finally:
        _left = before


def spend(terms: int = 1) -> None:
    """Counts one term, or what takes as long as so many."""
    global _left
    if _left is not None:
        _left -= terms
        if _left < 0:
            raise TooLarge


@contextmanager
def spelling(letters: int) -> Iterator[None]:
    """Within, closed terms have at most so many letters together, or what an outer one leaves; beyond that
    TooLarge is raised.
    """
    global _letters
    before = _letters
    start = letters if before is None else min(letters, before)
    _letters = start
    try:
        yield
    finally:
        _letters = None if before is None else before - (start - _letters)


def spell(letters: int) -> None:
    """Counts the letters of one term."""
    global _letters
    if _letters is not None:
        _letters -= letters
        if _letters < 0:
            raise TooLarge
