"""Who trains together: one process alone. `distributed.py` has the other case, several."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Group(Protocol):
    """What a training asks of the processes that share its batch. Each has the same parameters."""

    rank: int
    size: int

    def rows(self, count: int) -> slice:
        """Those of `count` rows that are this process's."""

    def mean(self, vector: Array, loss: float, count: int) -> tuple[Array, float]:
        """The average over all rows of what are averages over the `count` rows of each process."""

    def gathered(self, rows: Array) -> Array:
        """The rows of all processes, along the first axis."""

    def agreed(self, wish: int) -> int:
        """The largest of what the processes wish, at the same step in all of them."""

    def same(self, what: str, array: Array) -> None:
        """Raises RuntimeError where an array that has to be the same in all processes is not."""

    def shared(self, value: Any) -> Any:
        """The first process's value."""


class Alone:
    """One process, which has all rows."""

    rank, size = 0, 1

    def rows(self, count: int) -> slice:
        return slice(0, count)

    def mean(self, vector: Array, loss: float, count: int) -> tuple[Array, float]:
        return vector, loss

    def gathered(self, rows: Array) -> Array:
        return rows

    def agreed(self, wish: int) -> int:
        return wish

    def same(self, what: str, array: Array) -> None:
        pass

    def shared(self, value: Any) -> Any:
        return value
