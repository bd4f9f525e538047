"""What tests of code for several threads share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import loopgrad as lg
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.cache import files


@pytest.fixture(autouse=True)
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However little there is to do; no code of others' is taken. Of the modules that import it."""
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(fused, "SMALL_WORK", 0)
    before = lg.get_num_threads()
    yield
    lg.set_num_threads(before)


def all_of(results: Any) -> tuple[Any, ...]:
    """What a call returns, as a tuple."""
    return results if isinstance(results, tuple) else (results,)
