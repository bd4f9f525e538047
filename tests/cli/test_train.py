"""`loopgrad train digits`: the main job, on real images."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Run


def test_without_scikit_learn_it_says_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "sklearn" else found(name, *rest),
    )
    said = run("train", "digits")
    assert said.status == 2
    assert said.err == (
        "error: the images come with scikit-learn, which is missing: "
        'pip install "loopgrad[examples]"\n'
    )


def test_mistakes(run: Run) -> None:
    assert run("train", "digit").status == 2
    assert run("train", "digits", "--epochs", "0").status == 2
    assert run("train", "digits", "--dtype", "float16").status == 2


def test_digits(run: Run) -> None:
    pytest.importorskip("sklearn")
    said = run("train", "digits", "--show")
    assert said.status == 0
    for layer in ("affine", "batchnorm", "scale_shift", "relu_layer", "softmax_cross_entropy"):
        assert f"{layer}.backward(" in said.out
    assert "for b, j:     c.grad[j]" in said.out
    (accuracy,) = re.findall(r"accuracy\D*[\d.]+%\D*([\d.]+)%", said.out)
    assert float(accuracy) >= 97
    for word in ("training", "test", "loss", "seconds"):
        assert word in said.out


def test_a_seed_decides_everything() -> None:
    pytest.importorskip("sklearn")
    from loopgrad.examples import digits

    def numbers(**options: Any) -> tuple[float, ...]:
        report = digits.train(epochs=1, **options)
        return (report.train_loss, report.test_loss, report.train_accuracy, report.test_accuracy)

    assert numbers(seed=1) == numbers(seed=1)
    assert numbers(seed=1) != numbers(seed=2)
    assert numbers(seed=1) != numbers(seed=1, dtype=np.float64)


def test_the_split_is_fixed_and_covers_all_images() -> None:
    pytest.importorskip("sklearn")
    from loopgrad.examples import digits

    train, test = digits.data(np.float64)
    again, _ = digits.data(np.float64)
    assert np.array_equal(train.x, again.x)
    assert (len(train.label), len(test.label)) == (1437, 360)
    assert set(train.label) == set(test.label) == set(range(10))
    assert train.x.min() >= 0 and train.x.max() == 1
