"""Time: contenders called in turn, in one process, and their medians.

Machines drift (clocks, neighbours), and a library's threads still spin for a while after a call: so
every contender has its turn in every round, in a burst whose first call is not counted, and
medians over the rounds are compared.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]

BURST = 0.01  # seconds; a call that takes longer is made once in a burst
SHORT = 5e-6  # seconds; what is shorter is timed many at once
COLD = 0.2  # seconds: what takes longer is not called once more to warm up
HOPELESS = 8.0  # times the quickest: its turn comes in the first rounds only
TRIALS = 2  # rounds, for those


@dataclass(frozen=True)
class Taken:
    """The seconds of one call, by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    limit: float | None = None,
    hopeless: float = HOPELESS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Taken]:
    """The seconds that each call takes, by round; no further rounds once `limit` seconds are over.

    One that takes more than `hopeless` times as long as the quickest leaves after two rounds.
    clock: what is measured; `time.process_time` leaves out what other processes take.

    >>> from loopgrad.peers.timing import interleaved
    >>> taken = interleaved({"ten": lambda: sum(range(10)), "many": lambda: sum(range(1000))}, 3)
    >>> taken["ten"].median < taken["many"].median
    True
    """
    usual = {name: _usual(call, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + (limit if limit is not None else float("inf"))
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            if turn >= TRIALS and time.perf_counter() > end:
                break
            for name in _in_turn(tuple(calls), turn):
                if turn < TRIALS or not _is_hopeless(name, seconds, hopeless):
                    seconds[name].append(_burst(calls[name], usual[name], clock))
    finally:
        if enabled:
            gc.enable()
    return {name: Taken(tuple(found)) for name, found in seconds.items()}


def _in_turn(names: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """Each round begins with another: nobody always follows the same neighbour."""
    start = turn % max(len(names), 1)
    return names[start:] + names[:start]


def _is_hopeless(name: str, seconds: Mapping[str, list[float]], hopeless: float) -> bool:
    return min(seconds[name]) > hopeless * min(min(found) for found in seconds.values())


def _usual(call: Call, clock: Callable[[], float]) -> float:
    """The seconds of a second call, about."""
    call()
    return max(_one(call, clock), 1e-7)


def _burst(call: Call, usual: float, clock: Callable[[], float]) -> float:
    """The median of some calls; of calls too short for the clock, their mean."""
    repeats = max(1, min(10_000, int(BURST / usual)))
    if usual < COLD:
        call()
    if usual > SHORT:
        return statistics.median(_one(call, clock) for _ in range(repeats))
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _one(call: Call, clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start
