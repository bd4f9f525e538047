"""The iterations of a statement as axes of arrays, for several worlds at once.

A *world* is one choice of inputs; all worlds of a run share sizes and constants, and go the same way
through the program, each on its own tensors. Axis 0 of every array is the world's. Each loop whose
bounds hang on no index adds an axis of its own, so that what does not read an index has extent 1
there, and is computed once. Loops with other bounds flatten the axes before them into one; guards those
along which they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Loop: TypeAlias = tuple[str, int, int]  # index, first value, end

WORLD = ""  # the world among the indices


@dataclass(frozen=True, eq=False, slots=True)
class Space:
    """Iterations: their axes, and the world and each index's value in each, broadcast along the axes."""

    shape: tuple[int, ...]
    world: Integers
    indices: Mapping[str, Integers]
    # Indices, the world among them, that differ along an axis of their own: all values once.
    ranges: frozenset[str]
    # What follows from the space alone, for statements that share it.
    memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def axes(self) -> int:
        return len(self.shape)

    def looped(self, loops: Sequence[Loop]) -> Space:
        """With an axis more for each loop."""
        if not loops:
            return self
        key = tuple(loops)
        found: Space | None = self.memory.get(key)
        if found is None:
            found = self.memory[key] = self._looped(loops)
        return found

    def _looped(self, loops: Sequence[Loop]) -> Space:
        more = (1,) * len(loops)
        indices = {name: v.reshape(v.shape + more) for name, v in self.indices.items()}
        shape = self.shape
        for at, (name, first, end) in enumerate(loops):
            extent = max(end - first, 0)
            axes = (1,) * (self.axes + at) + (extent,) + more[at + 1 :]
            indices[name] = np.arange(first, first + extent, dtype=np.int64).reshape(axes)
            shape += (extent,)
        world = self.world.reshape(self.world.shape + more)
        return Space(shape, world, indices, self.ranges | {name for name, _, _ in loops})

    def within(self, index: str, lower: Integers, upper: Integers) -> Space:
        """With a loop whose bounds are others in each iteration; all in one axis."""
        flat = self.flattened()
        lower = spread(lower, self.shape).reshape(-1)
        lengths = np.maximum(spread(upper, self.shape).reshape(-1) - lower, 0)
        total = int(lengths.sum())
        turn = np.repeat(np.arange(len(lengths)), lengths)
        first = np.repeat(np.cumsum(lengths) - lengths, lengths)
        indices = {name: values[turn] for name, values in flat.indices.items()}
        indices[index] = lower[turn] + np.arange(total) - first
        return Space((total,), flat.world[turn], indices, frozenset())

    def flattened(self) -> Space:
        def full(values: Integers) -> Integers:
            return spread(values, self.shape).reshape(-1)

        indices = {name: full(values) for name, values in self.indices.items()}
        return Space((self.count,), full(self.world), indices, frozenset())

    def where(self, mask: Mask) -> Space:
        """The iterations in which the mask holds. The axes along which it differs become one, the last."""
        along, chosen = self._parted(mask)
        shape = tuple([n for a, n in enumerate(self.shape) if a not in along])
        count = int(np.count_nonzero(chosen))

        def kept(values: Integers) -> Integers:
            moved = _last(values, along)
            if count and all(values.shape[a] == 1 for a in along):
                return moved.reshape((*moved.shape[: len(shape)], 1))
            found: Integers = spread(moved, (*moved.shape[: len(shape)], *chosen.shape))[
                ..., chosen
            ]
            return found

        indices = {name: kept(values) for name, values in self.indices.items()}
        every = {WORLD: self.world, **self.indices}
        ranges = [n for n in self.ranges if all(every[n].shape[a] == 1 for a in along)]
        return Space((*shape, count), kept(self.world), indices, frozenset(ranges))

    def put(self, whole: NDArray[Any], mask: Mask, values: NDArray[Any]) -> None:
        """Values of the iterations in which the mask holds, as `where` has them, into an array of all.

        The array may have axes before those of the space.
        """
        along, chosen = self._parted(mask)
        more = whole.ndim - self.axes
        _last(whole, [a + more for a in along])[..., chosen] = values

    def _parted(self, mask: Mask) -> tuple[tuple[int, ...], Mask]:
        """The axes along which the mask differs (all, where none), and the mask along these alone."""
        along = tuple([a for a, n in enumerate(mask.shape) if n != 1])
        if not along:
            along, mask = tuple(range(self.axes)), spread(mask, self.shape)
        return along, mask.reshape([self.shape[a] for a in along])

    def turn(self, index: str, value: int) -> Space:
        """As `at`; the same one again for whoever asks."""
        key = (index, value)
        found: Space | None = self.memory.get(key)
        if found is None:
            found = self.memory[key] = self.at(index, value)
        return found

    def at(self, index: str, value: int) -> Space:
        """With an index that has one value."""
        one = np.full((1,) * self.axes, value, np.int64)
        indices = {**self.indices, index: one}
        return Space(self.shape, self.world, indices, self.ranges | {index})


def _last(values: NDArray[Any], along: Sequence[int]) -> NDArray[Any]:
    """With these axes moved behind the others."""
    return values.transpose([*(a for a in range(values.ndim) if a not in along), *along])


def spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Broadcast to the shape."""
    return values if values.shape == shape else np.broadcast_to(values, shape)


def worlds(count: int) -> Space:
    """One iteration in each world."""
    return Space((count,), np.arange(count, dtype=np.int64), {}, frozenset({WORLD}))
