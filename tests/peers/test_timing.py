"""Contenders called in turn."""

from __future__ import annotations

import time

from loopgrad.peers.timing import interleaved


def test_every_call_has_its_turn_in_every_round() -> None:
    order: list[str] = []
    calls = {name: lambda n=name: (order.append(n), time.sleep(0.004)) for name in "ab"}
    taken = interleaved(calls, 3)
    assert all(len(found.seconds) == 3 for found in taken.values())
    turns = [name for k, name in enumerate(order) if k == 0 or order[k - 1] != name]
    assert turns[:5] == ["a", "b", "a", "b", "a"]


def test_who_is_far_behind_leaves() -> None:
    calls = {"quick": lambda: None, "slow": lambda: time.sleep(0.005)}
    taken = interleaved(calls, 6)
    assert (len(taken["quick"].seconds), len(taken["slow"].seconds)) == (6, 2)


def test_no_further_rounds_after_the_limit() -> None:
    taken = interleaved({"one": lambda: time.sleep(0.01)}, 1000, limit=0.05)
    assert 2 <= len(taken["one"].seconds) < 20
    assert taken["one"].least <= taken["one"].median < 0.1
