"""The classifiers of digits: data, seeds, accuracy, what a checkpoint holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from loopgrad.examples import checkpoints, digits
from loopgrad.examples.digits import DigitsJob, Settings, shifted
from loopgrad.examples.training import Stop, Training


def trained(settings: Settings, path: Path | None = None) -> DigitsJob:
    job = DigitsJob(settings)
    Training(job, path, 10**6).run(lambda done, loss: None, Stop())
    return job


def test_a_seed_decides_everything() -> None:
    def numbers(**options: object) -> digits.Report:
        return digits.report(trained(Settings(epochs=1, **options)))  # type: ignore[arg-type]

    assert numbers(seed=1) == numbers(seed=1)
    assert numbers(seed=1) != numbers(seed=2)
    assert numbers(seed=1) != numbers(seed=1, dtype="float64")


def test_the_split_is_fixed_and_covers_all_images() -> None:
    train, test = digits.data(np.float64)
    again, _ = digits.data(np.float64)
    assert np.array_equal(train.x, again.x)
    assert (len(train.label), len(test.label)) == (1437, 360)
    assert set(train.label) == set(test.label) == set(range(10))
    assert train.x.min() >= 0
    assert train.x.max() == 1


def test_an_epoch_takes_every_image_once() -> None:
    job = DigitsJob(Settings())
    for epoch in (0, 3):
        steps = range(epoch * job.in_epoch, (epoch + 1) * job.in_epoch)
        x = np.concatenate([job.batch(step)[0] for step in steps])
        assert sorted(x.sum(1)) == sorted(job.train.x.reshape(len(x), -1).sum(1))
    assert not np.array_equal(job.batch(0)[1], job.batch(job.in_epoch)[1])


def test_images_are_moved_and_nothing_else() -> None:
    x = np.arange(1.0, 1 + 50 * 64).reshape(50, 8, 8)
    moved = shifted(x, np.random.default_rng(0), 1)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    seen = set()
    for one, around in zip(moved, wide, strict=True):
        places = [
            (dx, dy)
            for dx in range(3)
            for dy in range(3)
            if np.array_equal(one, around[dx : dx + 8, dy : dy + 8])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_are_floor_plus_gap(smoothing: float, dtype: str) -> None:
    job = trained(Settings(epochs=1, smoothing=smoothing, dtype=dtype))
    report = digits.report(job)
    off = smoothing / 10
    on = 1 - 9 * off
    floor = -on * np.log(on) - (9 * off * np.log(off) if off else 0)
    for one in (report.train, report.test):
        assert one.loss.floor == pytest.approx(floor, rel=1e-14)
        rounding = 64 * np.finfo(np.float64).eps * (1 + one.loss.loss)
        assert abs(one.loss.loss - one.loss.floor - one.loss.gap) <= rounding


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_going_on_gives_the_same_bits(tmp_path: Path, model: str) -> None:
    settings = Settings(model=model, epochs=1, smoothing=0.1)
    trained(settings, tmp_path / "whole")
    job, stop = DigitsJob(settings), Stop()

    def after(done: int, loss: float) -> None:
        stop.signal = 15 if done == 11 else 0

    assert Training(job, tmp_path / "cut", 10**6).run(after, stop) == 15
    second = Training(DigitsJob(settings), tmp_path / "cut", 10**6)
    second.resume(checkpoints.load(tmp_path / "cut", "digits"))
    assert second.done == 11
    second.run(lambda done, loss: None, Stop())
    whole, cut = (checkpoints.load(tmp_path / name, "digits") for name in ("whole", "cut"))
    assert whole.arrays.keys() == cut.arrays.keys()
    for name, array in whole.arrays.items():
        assert array.tobytes() == cut.arrays[name].tobytes(), name


def test_the_default_settings_are_those_of_the_command() -> None:
    from loopgrad.commands.train import command

    made = command.commands["digits"].make_context("digits", []).params
    for field in dataclasses.fields(Settings):
        assert made[field.name] == field.default
