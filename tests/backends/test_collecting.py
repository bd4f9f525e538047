"""Collections are rare while a lock of building is held, and as before afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

import loopgrad as lg
from loopgrad.backends.collecting import RARELY, BuildingLock


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(650, 9, 8)
    yield
    gc.set_threshold(*before)


def test_rarely_within_and_as_before_behind() -> None:
    first, second = BuildingLock(), BuildingLock()
    with first, second, first:
        assert gc.get_threshold() == (RARELY, 9, 8)
    assert gc.get_threshold() == (650, 9, 8)
    with pytest.raises(KeyError), first:
        raise KeyError
    assert gc.get_threshold() == (650, 9, 8)


@pytest.mark.parametrize("own", [(0, 9, 8), (10 * RARELY, 9, 8)])
def test_who_has_fewer_collections_keeps_them(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with BuildingLock():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_what_is_set_meanwhile_stays() -> None:
    with BuildingLock():
        gc.set_threshold(33, 4, 5)
    assert gc.get_threshold() == (33, 4, 5)


def test_two_threads_with_two_locks() -> None:
    """Who comes last restores what the first has found."""
    first, second = BuildingLock(), BuildingLock()
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with second:
            entered.set()
            assert left.wait(10)

    thread = threading.Thread(target=other)
    with first:
        thread.start()
        assert entered.wait(10)
    assert gc.get_threshold() == (RARELY, 9, 8)
    left.set()
    thread.join()
    assert gc.get_threshold() == (650, 9, 8)


def test_compiling_leaves_them_as_they_were() -> None:
    lg.program("double(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")([1.0])
    assert gc.get_threshold() == (650, 9, 8)
