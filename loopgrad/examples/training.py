"""The loop that all examples share: steps, checkpoints, and a clean stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends.thread_count import get_num_threads
from loopgrad.examples.checkpoints import Checkpoint, CheckpointError, save
from loopgrad.examples.workers import Group

Array = NDArray[Any]

LOSSES = "losses"


class Job(Protocol):
    """What is trained. All that decides about a step is in its settings, its data and its arrays."""

    kind: str
    data: str  # a fingerprint of what is trained on
    steps: int
    group: Group

    def settings_as_numbers(self) -> Mapping[str, Any]:
        """What a checkpoint has to agree with."""

    def step(self, number: int) -> float:
        """The step of that number, from 0; returns its loss in nats."""

    def arrays(self) -> dict[str, Array]:
        """All that changes from step to step. The processes of a group call it together."""

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from what `arrays` gave."""


class Stop:
    """Whether the user, or the system, has asked for an end: SIGINT and SIGTERM, taken between steps.

    A second SIGINT ends the process at once.
    """

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        if threading.current_thread() is not threading.main_thread():
            yield self  # signals reach the main thread alone
            return
        before = {one: signal.signal(one, self._heard) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number


class Training:
    """A job on its way through its steps.

    path: where it is kept, every `every` steps and at the end; None for nowhere.
    """

    def __init__(self, job: Job, path: Path | None, every: int):
        self.job, self.path, self.every = job, path, every
        self.done = 0
        self.losses = np.zeros(job.steps)  # of each step, in nats

    def resume(self, found: Checkpoint) -> None:
        """Goes on from a checkpoint. Raises CheckpointError where it is of another training."""
        check(found, self.job, self.path)
        arrays = dict(found.arrays)
        self.losses[:] = arrays.pop(LOSSES)
        self.job.restore(arrays)
        self.done = found.step

    def run(self, after_step: Callable[[int, float], None], stop: Stop) -> int:
        """Takes the steps that are left; returns 0, or the number of the signal that stopped it."""
        if self.done == 0:
            self.save()  # a place that cannot be written is found out now
        while self.done < self.job.steps:
            loss = self.job.step(self.done)
            self.losses[self.done] = loss
            self.done += 1
            after_step(self.done, loss)
            stopped = self.job.group.agreed(stop.signal)
            if stopped or self.done % self.every == 0 or self.done == self.job.steps:
                self.save()
            if stopped:
                return stopped
        return 0

    def save(self) -> None:
        """Keeps the training as it stands."""
        if self.path is None:
            return
        job = self.job
        arrays = {**job.arrays(), LOSSES: self.losses}
        if job.group.rank == 0:
            settings = job.settings_as_numbers()
            by = {"threads": get_num_threads(), "processes": job.group.size}
            save(self.path, Checkpoint(job.kind, settings, job.data, self.done, arrays, by))


def check(found: Checkpoint, job: Job, path: Path | None) -> None:
    """Raises CheckpointError where the checkpoint is not of this job."""
    if found.data != job.data:
        raise CheckpointError(f"{path} was trained on other data than this")
    wanted = job.settings_as_numbers()
    for name in {**wanted, **found.settings}:
        if found.settings.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} was made with {name} = {found.settings.get(name)}, "
                f"this training has {wanted.get(name)}"
            )
    expected = {**job.arrays(), LOSSES: np.zeros(job.steps)}
    for name in {**expected, **found.arrays}:
        shapes = [a[name].shape if name in a else "none" for a in (found.arrays, expected)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(f"{path} has {name} of shape {shapes[0]}, this model {shapes[1]}")
