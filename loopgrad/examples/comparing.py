"""The same training here and in PyTorch, step by step in turn: losses and times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends.thread_count import get_num_threads
from loopgrad.examples.digits import DigitsJob
from loopgrad.examples.text import TextJob

STEPS = 100

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """Losses of each step, and the medians of the steps' times."""

    ours: Array
    theirs: Array
    our_seconds: float
    their_seconds: float
    threads: int
    version: str

    @property
    def largest(self) -> float:
        """The largest difference of two losses."""
        return float(np.max(np.abs(self.ours - self.theirs)))

    @property
    def ratio(self) -> float:
        """How many of our steps PyTorch's takes."""
        return self.their_seconds / self.our_seconds


def beside_torch(job: TextJob | DigitsJob, steps: int = STEPS) -> Comparison:
    """Takes up to `steps` steps of the job and of its twin, the one and the other first in turn.

    Raises ImportError without PyTorch.
    """
    import torch

    from loopgrad.examples.torch_twins import twin

    threads = get_num_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _compared(job, twin(job), min(steps, job.steps), threads, str(torch.__version__))
    finally:
        torch.set_num_threads(before)


def _compared(job: Any, twin: Any, steps: int, threads: int, version: str) -> Comparison:
    losses, seconds = np.zeros((2, steps)), np.zeros((2, steps))
    both: tuple[Callable[[int], float], ...] = (job.step, twin.step)
    for step in range(steps):
        for who in (0, 1) if step % 2 else (1, 0):
            begun = time.perf_counter()
            losses[who, step] = both[who](step)
            seconds[who, step] = time.perf_counter() - begun
    ours, theirs = np.median(seconds, axis=1).tolist()
    return Comparison(losses[0], losses[1], ours, theirs, threads, version)
