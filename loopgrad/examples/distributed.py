"""Several processes that share a batch, under `torchrun`: `workers.Group` by `torch.distributed`.

What they exchange lies in ordinary memory, so the backend is gloo.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATIENCE = timedelta(minutes=5)  # to wait for a process that does not answer and is not gone

Array = NDArray[Any]


class WorkerLost(RuntimeError):
    """Another process of the job is gone, or silent."""


def is_launched() -> bool:
    """Has `torchrun`, or what does its work, started this process?"""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def restarts() -> int:
    """How often `torchrun` has started the workers again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


class Workers:
    """The processes of a job.

    Raises WorkerLost, here and from every method, where one of them cannot be reached.
    """

    def __init__(self) -> None:
        import torch
        from torch import distributed

        self._torch, self._distributed = torch, distributed
        with _reached():
            store, rank, size = next(distributed.rendezvous("env://", timeout=PATIENCE))
            # The store outlives a restart, with the addresses of those that are gone.
            own = distributed.PrefixStore(f"start {restarts()}", store)
            distributed.init_process_group(
                "gloo", store=own, rank=rank, world_size=size, timeout=PATIENCE
            )
        self.rank: int = distributed.get_rank()
        self.size: int = distributed.get_world_size()

    def close(self) -> None:
        """Ends the exchange. Others may still be at work."""
        self._distributed.destroy_process_group()

    def rows(self, count: int) -> slice:
        """As even as they get: the first processes have one row more."""
        ends = [0, *np.cumsum([len(p) for p in np.array_split(range(count), self.size)])]
        return slice(int(ends[self.rank]), int(ends[self.rank + 1]))

    def mean(self, vector: Array, loss: float, count: int) -> tuple[Array, float]:
        """An average of averages, each weighted by how many rows it is of."""
        tail = np.array([loss * count, count], vector.dtype)
        sums = self._torch.from_numpy(np.concatenate([vector * vector.dtype.type(count), tail]))
        with _reached():
            self._distributed.all_reduce(sums)
        found: Array = sums.numpy()
        return found[:-2] / found[-1], float(found[-2] / found[-1])

    def gathered(self, rows: Array) -> Array:
        """In the order of the processes."""
        into: list[Any] = [None] * self.size
        with _reached():
            self._distributed.all_gather_object(into, rows)
        return np.concatenate(into)

    def agreed(self, wish: int) -> int:
        found = self._torch.tensor(wish)
        with _reached():
            self._distributed.all_reduce(found, self._distributed.ReduceOp.MAX)
        return int(found)

    def same(self, what: str, array: Array) -> None:
        digest = blake2b(array.tobytes(), digest_size=6).digest()
        number = int.from_bytes(digest, "big")
        if self.agreed(number) != -self.agreed(-number):
            raise RuntimeError(f"the processes of this job hold different {what}")

    def shared(self, value: Any) -> Any:
        box = [value]
        with _reached():
            self._distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WorkerLost(_reason(str(error))) from error


def _reason(message: str) -> str:
    """Without places in the library's sources and advice.

    >>> _reason("[/pytorch/tcp/pair.cc:537] Read error [127.0.0.1]:47289: Connection reset by peer. This is")
    'Read error [127.0.0.1]:47289: Connection reset by peer'
    """
    line = re.sub(r"\[\S+:\d+\] ", "", message.strip().splitlines()[0])
    return re.split(r"\.\s", line)[0].rstrip(".")
