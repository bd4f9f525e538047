"""A classifier of scikit-learn's 1,797 handwritten digits, trained with gradients derived here.

The network is `digits.loops`. Its backward pass is nowhere written down: it is derived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.frontend.library import Module, load
from loopgrad.functions import value_and_grad

PROGRAMS = Path(__file__).with_name("digits.loops")
LAYERS = ("affine", "batchnorm", "scale_shift", "relu_layer", "softmax_cross_entropy")

HIDDEN = 128
CLASSES = 10
BATCH = 32
RATE, MOMENTUM = 0.1, 0.9
TEST_IMAGES = 360

Array = NDArray[Any]
Parameters = dict[str, Array]


@dataclass(frozen=True)
class Images:
    """Images x[B,I] with values in 0 .. 1, and the digit that each shows."""

    x: Array
    label: Array


@dataclass(frozen=True)
class Report:
    """What came of a training; losses in nats per image, accuracies as fractions.

    `seconds` are those of deriving, compiling and training; reading the images does not count.
    """

    train_loss: float
    test_loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@cache
def _programs() -> Module:
    return load(PROGRAMS)


def data(dtype: Any) -> tuple[Images, Images]:
    """Training and test images; always the same split. Raises ImportError without scikit-learn."""
    from sklearn.datasets import load_digits

    x, label = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, label = (x[order] / 16).astype(dtype), label[order].astype(np.int64)
    train, test = slice(TEST_IMAGES, None), slice(0, TEST_IMAGES)
    return Images(x[train], label[train]), Images(x[test], label[test])


def initial(rng: np.random.Generator, inputs: int, dtype: Any) -> Parameters:
    """Weights of variance 2 / fan-in (He et al. 2015)."""
    weights = {
        "W1": rng.normal(0, np.sqrt(2 / inputs), (HIDDEN, inputs)),
        "c1": np.zeros(HIDDEN),
        "γ": np.ones(HIDDEN),
        "β": np.zeros(HIDDEN),
        "W2": rng.normal(0, np.sqrt(2 / HIDDEN), (CLASSES, HIDDEN)),
        "c2": np.zeros(CLASSES),
    }
    return {name: value.astype(dtype) for name, value in weights.items()}


def train(
    epochs: int = 20,
    seed: int = 0,
    dtype: Any = np.float32,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Report:
    """Trains by stochastic gradient descent with momentum; deterministic for a seed.

    `after_epoch` is called with the number of the epoch, from 1, and its mean training loss.

    >>> report = train(epochs=2)
    >>> report.test_accuracy > 0.9
    True
    """
    train_images, test_images = data(dtype)
    begun = time.perf_counter()
    programs = _programs()
    rng = np.random.default_rng(seed)
    parameters = initial(rng, train_images.x.shape[1], dtype)
    # `classifier` names its batch: gradients of parameters are averages over the rows given.
    loss_and_gradients = value_and_grad(programs.classifier, wrt=list(parameters))
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    count = len(train_images.label)
    for epoch in range(1, epochs + 1):
        total = 0.0
        rate = RATE * 0.5 * (1 + np.cos(np.pi * (epoch - 1) / epochs))
        for rows in np.array_split(rng.permutation(count), -(-count // BATCH)):
            x, label = train_images.x[rows], train_images.label[rows]
            loss, gradients = loss_and_gradients(x, label, *parameters.values())
            for name, gradient in zip(parameters, gradients, strict=True):
                velocity[name] = MOMENTUM * velocity[name] - rate * gradient
                parameters[name] = (parameters[name] + velocity[name]).astype(dtype)
            total += float(loss.sum())
        after_epoch(epoch, total / count)
    seconds = time.perf_counter() - begun

    moments = programs.hidden_moments(train_images.x, parameters["W1"], parameters["c1"])

    def judge(images: Images) -> tuple[float, float]:
        loss, s = programs.trained(images.x, images.label, *moments, *parameters.values())
        return float(loss.mean()), float(np.mean(s.argmax(1) == images.label))

    train_loss, train_accuracy = judge(train_images)
    test_loss, test_accuracy = judge(test_images)
    return Report(train_loss, test_loss, train_accuracy, test_accuracy, seconds)
