"""Data parallel training: averages compose, and the job outlives its processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from loopgrad.examples import checkpoints
from loopgrad.examples.text import Settings, TextJob
from loopgrad.examples.training import Stop, Training
from loopgrad.examples.workers import Alone
from tests.examples.test_text import CORPUS

SETTINGS = Settings(epochs=3, hidden=6, batch=5, length=20, rate=0.01, dtype="float64")
WORDS = (
    *("train", "text", "--file", "t.txt", "--hidden", "6", "--batch", "5", "--length", "20"),
    *("--rate", "0.01", "--dtype", "float64", "--sample", "0", "--save-every", "5"),
)


class Part(Alone):
    """One of several processes, whose averages are kept instead of sent."""

    def __init__(self, rows: slice):
        self.own = rows
        self.sent: tuple[np.ndarray, float, int] = (np.zeros(0), 0.0, 0)

    def rows(self, count: int) -> slice:
        return self.own

    def mean(self, vector: np.ndarray, loss: float, count: int) -> tuple[np.ndarray, float]:
        self.sent = vector, loss, count
        return vector, loss


@pytest.mark.parametrize("ends", [(0, 3, 5), (0, 1, 2, 3, 4, 5), (0, 5, 5), (0, 4, 5)])
def test_averages_of_unequal_parts_compose(ends: tuple[int, ...]) -> None:
    whole = TextJob(CORPUS, SETTINGS)
    for step in range(whole.in_epoch):  # the last one is shorter
        w = whole.optimiser.w
        groups = [Part(slice(a, b)) for a, b in pairwise(ends)]
        for group in groups:
            job = TextJob(CORPUS, SETTINGS, group)
            job.optimiser.w, job.h = w, whole.h[group.own]
            job._gradient(step)
        gradient, loss = whole._gradient(step)
        rows = sum(group.sent[2] for group in groups)
        assert rows == 5
        assert np.allclose(sum(g * n for g, _, n in (p.sent for p in groups)) / rows, gradient)
        assert np.isclose(sum(one * n for _, one, n in (p.sent for p in groups)) / rows, loss)
        whole.optimiser.update(gradient, 0.01, step + 1)


# ------------------------------------------------------------------------------ several processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    (tmp_path / "t.txt").write_text(CORPUS.text, encoding="utf-8")
    return tmp_path


class Job:
    """torchrun with a command, in a folder; what it says goes into a file."""

    def __init__(self, folder: Path, processes: int, *words: str, restarts: int = 0):
        self.said = folder / "said"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        options = ["--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
        with open(self.said, "w") as out:
            self.process = subprocess.Popen(
                [*launcher, *options, "-m", "loopgrad", *words, "--distributed"],
                cwd=folder,
                stdout=out,
                stderr=out,
                env={**os.environ, "LOOPGRAD_NUM_THREADS": "1"},
            )

    def kill_a_worker(self, path: Path) -> None:
        """Once the checkpoint has grown older by a save."""
        before = step(path)
        while step(path) == before:
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.02)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        os.kill(int(Path(children).read_text().split()[-1]), signal.SIGKILL)

    def wait(self) -> str:
        try:
            self.process.wait(120)
        finally:
            self.process.terminate()
            self.process.wait()
        return self.said.read_text()


def step(path: Path) -> int:
    return checkpoints.load(path, "text").step if path.exists() else -1


def begun(path: Path, settings: Settings, steps: int) -> Training:
    """A checkpoint of one process after so many steps."""
    stop = Stop()

    def after(done: int, loss: float) -> None:
        stop.signal = 2 if done == steps else 0

    training = Training(TextJob(CORPUS, settings), path, 10**6)
    training.run(after, stop)
    training.path = None
    return training


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children")


@needs_proc
def test_more_processes_go_on_and_outlive_one_of_them(folder: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=60)
    alone = begun(folder / "c", settings, 7)
    alone.run(lambda done, loss: None, Stop())
    expected = {**alone.job.arrays(), "losses": alone.losses}
    job = Job(folder, 2, *WORDS, "--checkpoint", "c", "--resume", restarts=1)
    job.kill_a_worker(folder / "c")
    said = job.wait()
    assert job.process.returncode == 0, said
    assert "another process of this job is gone" in said
    assert "note: begun with 1 processes, here there are 2" in said
    found = checkpoints.load(folder / "c", "text")
    assert found.by["processes"] == 2
    assert found.arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert np.allclose(found.arrays[name], array, rtol=1e-9, atol=1e-11), name


@needs_proc
def test_a_worker_that_is_killed_ends_the_job_and_not_the_checkpoint(folder: Path) -> None:
    begun(folder / "c", dataclasses.replace(SETTINGS, epochs=10_000), 7)
    job = Job(folder, 2, *WORDS, "--checkpoint", "c", "--resume")
    job.kill_a_worker(folder / "c")
    said = job.wait()
    assert job.process.returncode == 1
    done = step(folder / "c")
    assert done >= 10
    assert f"c has all up to step {done:,}: --resume goes on from there" in said


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A group of one process."""
    pytest.importorskip("torch")
    import socket

    from loopgrad.examples.distributed import Workers

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (("RANK", 0), ("WORLD_SIZE", 1), ("MASTER_PORT", port)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    workers = Workers()
    yield workers
    workers.close()


def test_what_workers_exchange(one: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopgrad.examples.distributed import Workers

    assert isinstance(one, Workers)
    vector = np.array([1.0, -2.0], np.float32)
    mean, loss = one.mean(vector, 0.5, 3)
    assert np.array_equal(mean, vector)
    assert mean.dtype == np.float32
    assert loss == 0.5
    assert np.array_equal(one.gathered(np.eye(2)), np.eye(2))
    assert (one.agreed(2), one.shared("word")) == (2, "word")
    one.same("weights", vector)
    agreed = iter([5, -4])  # the largest and, negated, the smallest of what processes hold
    monkeypatch.setattr(one, "agreed", lambda wish: next(agreed))
    with pytest.raises(RuntimeError, match="the processes of this job hold different weights"):
        one.same("weights", vector)


def test_rows_are_shared_out_evenly() -> None:
    from loopgrad.examples.distributed import Workers

    def shares(size: int, count: int) -> list[int]:
        workers = object.__new__(Workers)
        workers.size = size
        found = []
        for workers.rank in range(size):
            rows = workers.rows(count)
            assert rows.start == sum(found)
            found.append(rows.stop - rows.start)
        assert sum(found) == count
        return found

    assert shares(2, 5) == [3, 2]
    assert shares(4, 2) == [1, 1, 0, 0]
    assert shares(1, 3) == [3]
