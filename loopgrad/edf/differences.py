"""Is an array the derivative of a function? Numerical derivatives say so, or which entry is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loopgrad.edf.graph import Array

STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # in sizes of x
TOLERANCE = 1e-6
FEW = 100  # entries that are all tried, each on its own
VAGUE = 1e-4  # what rounding may do to a derivative, of its size
SAMPLE = 200  # entries of more, where a random direction disagrees
EPSILON = float(np.finfo(np.float64).eps)

Function = Callable[[Array], float]


@dataclass(frozen=True)
class Verdict:
    """What came out: the largest relative difference; for what is wrong, an entry and its values.

    The values are of that entry, or along a direction where `entry` is None.
    """

    status: Literal["right", "wrong", "not judged"]
    difference: float = 0.0
    entry: tuple[int, ...] | None = None
    claimed: float = 0.0
    numerical: float = 0.0


class Judge:
    """Whether `gradient` is the derivative of a function at x.

    size: of the terms that the function adds up, for what rounding does to them. At a kink a claim has
    to lie between the derivatives on its two sides.
    """

    def __init__(
        self,
        function: Function,
        x: Array,
        gradient: Array,
        size: float,
        rng: np.random.Generator,
    ):
        self.function, self.x, self.gradient, self.rng = function, x, gradient, rng
        finite = np.abs(x[np.isfinite(x)])
        self.scale = float(np.sqrt(np.mean(finite**2))) if finite.any() else 1.0
        self.noise = 8 * EPSILON * size
        self.value = function(x)
        self.kinks = False  # whether any was met

    def verdict(self) -> Verdict:
        """Few entries are tried each on its own; more along random directions, and by halves where
        these disagree."""
        if self.x.size <= FEW:
            return self._of_entries(np.arange(self.x.size))
        worst = max((self.overall() for _ in range(2)), key=lambda verdict: verdict.difference)
        if worst.status != "wrong":
            return worst
        found = self._of_entries(np.fromiter(self._suspects(), int))
        return found if found.status == "wrong" or self.kinks else worst

    def overall(self) -> Verdict:
        """Along one random direction."""
        return self._along(self._random(np.arange(self.x.size)))

    def _random(self, entries: Array) -> Array:
        """A direction along some of the entries (flat indices)."""
        direction = np.zeros(self.x.size)
        direction[entries] = self.rng.choice((-1.0, 1.0), size=len(entries))
        return direction.reshape(self.x.shape)

    def _along(self, direction: Array) -> Verdict:
        """With the best of several steps."""
        if not np.isfinite(self.value):
            return Verdict("not judged")
        products = self.gradient * direction
        claimed, size = float(np.sum(products)), float(np.sum(np.abs(products)))
        best = Verdict("wrong", np.inf, None, claimed, np.nan)
        for number, h in enumerate(step * self.scale for step in STEPS):
            if number > 1 and 0 < VAGUE * size < self.noise / h:
                break  # rounding would allow any claim
            near, far = self._slopes(direction, h / 2), self._slopes(direction, h)
            numerical = (4 * sum(near) - sum(far)) / 6  # exact to the fourth power of h
            off = max(abs(claimed - numerical) - self.noise / h, 0.0)
            difference = off / max(size, abs(numerical)) if off else 0.0
            if difference < best.difference:
                best = Verdict("wrong", difference, None, claimed, numerical)
            if best.difference < TOLERANCE / 100:
                break
        if best.difference <= TOLERANCE:
            return replace(best, status="right")
        return self._at_a_kink(direction, claimed) or best

    def _slopes(self, direction: Array, h: float) -> tuple[float, float]:
        """To the right and to the left."""
        right = (self.function(self.x + h * direction) - self.value) / h
        left = (self.value - self.function(self.x - h * direction)) / h
        return right, left

    def _at_a_kink(self, direction: Array, claimed: float) -> Verdict | None:
        """The verdict where both sides allow the claim; None where they do not, or agree."""
        h = STEPS[-2] * self.scale
        low, high = sorted(self._slopes(direction, h))
        if high - low <= 1e-2 * max(abs(low), abs(high)) + 4 * self.noise / h:
            return None
        self.kinks = True
        margin = 1e-3 * (high - low) + self.noise / h
        return Verdict("right") if low - margin <= claimed <= high + margin else None

    def _of_entries(self, entries: Array) -> Verdict:
        """The worst of some entries, each on its own."""
        worst = Verdict("right")
        for flat in entries:
            direction = np.zeros(self.x.size)
            direction[flat] = 1.0
            found = self._along(direction.reshape(self.x.shape))
            if found.status == "not judged":
                return found
            if _badness(found) > _badness(worst):
                where = tuple(int(i) for i in np.unravel_index(flat, self.x.shape))
                worst = replace(found, entry=where)
        return worst

    def _suspects(self) -> Iterator[int]:
        """A sample of all entries, and the one to which halves lead, each time into the worse."""
        entries = self.rng.permutation(self.x.size)
        yield from entries[:SAMPLE]
        while len(entries) > 1:
            halves = np.array_split(entries, 2)
            seen = [self._along(self._random(half)) for half in halves]
            entries = halves[int(np.argmax([abs(v.claimed - v.numerical) for v in seen]))]
        yield int(entries[0])


def _badness(verdict: Verdict) -> tuple[bool, float]:
    return verdict.status == "wrong", verdict.difference
