"""A classifier of scikit-learn's 1,797 handwritten digits, trained with gradients derived here.

The networks are in `digits.loops`. Their backward pass is nowhere written down: it is derived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.examples.information import Parts, parts
from loopgrad.examples.optimisers import Momentum
from loopgrad.examples.packing import Layout
from loopgrad.examples.workers import Alone, Group
from loopgrad.frontend.library import Module, load
from loopgrad.functions import value_and_grad

CLASSES = 10
PIXELS = 8  # in a row, and in a column
BATCH = 32
TEST_IMAGES = 360

Array = NDArray[Any]


@dataclass(frozen=True)
class Images:
    """Images x[B,X,Y] with values in 0 .. 1, and the digit that each shows."""

    x: Array
    label: Array


@dataclass(frozen=True)
class Settings:
    """smoothing: how much of a target's mass is spread over all classes."""

    model: str = "mlp"
    epochs: int = 20
    seed: int = 0
    dtype: str = "float32"
    smoothing: float = 0.1


@dataclass(frozen=True)
class Model:
    """A network of `digits.loops`: its weights' shapes, its layers, and how it is trained.

    shifts: by how many pixels an image is moved, at random, when it is trained on.
    """

    shapes: Mapping[str, tuple[int, ...]]
    layers: tuple[str, ...]
    rate: float
    shifts: int = 0


MODELS = {
    "mlp": Model(
        {
            "W1": (128, PIXELS * PIXELS),
            "c1": (128,),
            "γ": (128,),
            "β": (128,),
            "W2": (CLASSES, 128),
            "c2": (CLASSES,),
        },
        ("affine", "batchnorm", "scale_shift", "relu_layer", "softmax_cross_entropy_with"),
        rate=0.1,
    ),
    "conv": Model(
        {
            "k1": (16, 1, 3, 3),
            "c1": (16,),
            "k2": (32, 16, 3, 3),
            "c2": (32,),
            "k3": (64, 32, 3, 3),
            "c3": (64,),
            "W": (CLASSES, 64, PIXELS // 4, PIXELS // 4),
            "c": (CLASSES,),
        },
        ("conv2d", "mean_pool2d", "softmax_cross_entropy_with"),
        rate=0.05,
        shifts=1,
    ),
}


@cache
def programs() -> Module:
    return load(Path(__file__).with_name("digits.loops"))


def data(dtype: Any) -> tuple[Images, Images]:
    """Training and test images; always the same split. Raises ImportError without scikit-learn."""
    from sklearn.datasets import load_digits

    x, label = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, label = (x[order] / 16).astype(dtype), label[order].astype(np.int64)
    x = x.reshape(-1, PIXELS, PIXELS)
    train, test = slice(TEST_IMAGES, None), slice(0, TEST_IMAGES)
    return Images(x[train], label[train]), Images(x[test], label[test])


def initial(settings: Settings) -> Array:
    """The weights in one vector, of variance 2 / fan-in (He et al. 2015); scales 1, the rest 0."""
    rng = np.random.default_rng(settings.seed)
    weights = []
    for name, shape in MODELS[settings.model].shapes.items():
        if len(shape) > 1:
            weights.append(rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape))
        else:
            weights.append(np.full(shape, float(name == "γ")))
    layout = Layout(MODELS[settings.model].shapes)
    return layout.packed(weights).astype(settings.dtype)


class DigitsJob:
    """The training of a classifier, as `training.Job`."""

    kind = "digits"
    data = "load_digits of scikit-learn"

    def __init__(self, settings: Settings, group: Group | None = None):
        self.settings, self.group = settings, group or Alone()
        self.model = MODELS[settings.model]
        self.train, self.test = data(settings.dtype)
        self.in_epoch = -(-len(self.train.label) // BATCH)
        self.steps = settings.epochs * self.in_epoch
        self.accuracy = np.zeros(settings.epochs)  # on the test images, after each epoch
        self.layout = Layout(self.model.shapes)
        self.optimiser = Momentum(initial(settings))
        classifier = getattr(programs(), f"{settings.model}_classifier")
        # It names its batch: gradients of parameters are averages over the rows given.
        self.loss = value_and_grad(classifier, wrt=list(self.model.shapes))

    def settings_as_numbers(self) -> Mapping[str, Any]:
        return asdict(self.settings)

    def step(self, number: int) -> float:
        x, label = self.batch(number)
        weights = self.layout.views(self.optimiser.w).values()
        loss, gradients = self.loss(x, label, *weights, smoothing=self.settings.smoothing)
        self.optimiser.update(self.layout.packed(gradients), self.rate(number), number + 1)
        if (number + 1) % self.in_epoch == 0:
            self.accuracy[number // self.in_epoch] = accuracy(self.scores(self.test), self.test)
        return float(loss.mean())

    def rate(self, number: int) -> float:
        """Of a step: falls to zero over the epochs."""
        done = (number // self.in_epoch) / self.settings.epochs
        return self.model.rate * 0.5 * (1 + math.cos(math.pi * done))

    def batch(self, number: int) -> tuple[Array, Array]:
        """Images and labels of a step; what they are hangs on the seed and the step alone."""
        epoch, place = divmod(number, self.in_epoch)
        rng = np.random.default_rng([self.settings.seed, epoch])
        rows = np.array_split(rng.permutation(len(self.train.label)), self.in_epoch)[place]
        x = self.train.x[rows]
        if self.model.shifts:
            x = shifted(
                x, np.random.default_rng([self.settings.seed, epoch, place]), self.model.shifts
            )
        return self._given(x), self.train.label[rows]

    def _given(self, x: Array) -> Array:
        """As the network takes images: pixels in a row, or one channel of them."""
        return x.reshape(len(x), -1) if self.settings.model == "mlp" else x[:, None]

    def arrays(self) -> dict[str, Array]:
        return {**self.optimiser.arrays(), "accuracy": self.accuracy}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.optimiser.restore(arrays)
        self.accuracy = arrays["accuracy"]

    def curves(self) -> dict[str, Array]:
        """After each epoch."""
        return {"test accuracy": self.accuracy}

    def scores(self, images: Images) -> Array:
        """s[B,J] of the network as trained, each image on its own."""
        weights = self.layout.views(self.optimiser.w)
        if self.settings.model == "conv":
            scores: Array = programs().conv_scores(self._given(images.x), **weights)
            return scores
        moments = programs().hidden_moments(self._given(self.train.x), weights["W1"], weights["c1"])
        found: Array = programs().mlp_scores(self._given(images.x), *moments, **weights)
        return found


def shifted(x: Array, rng: np.random.Generator, most: int) -> Array:
    """Each image moved by up to `most` pixels along each axis; what comes in is black."""
    wide = np.pad(x, ((0, 0), (most, most), (most, most)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, x.shape[1:], axis=(1, 2))
    by = rng.integers(0, 2 * most + 1, (2, len(x)))
    return np.ascontiguousarray(windows[np.arange(len(x)), by[0], by[1]])


# ------------------------------------------------------------------------------------- afterwards


@dataclass(frozen=True)
class Judged:
    """loss: in nats per image, with its floor, the entropy of the targets. accuracy: a fraction."""

    loss: Parts
    accuracy: float


@dataclass(frozen=True)
class Report:
    """What came of a training."""

    train: Judged
    test: Judged


def report(job: DigitsJob) -> Report:
    def judged(images: Images) -> Judged:
        s = job.scores(images)
        P = programs().smoothed(images.label, J=CLASSES, smoothing=job.settings.smoothing)
        return Judged(parts(P, s), accuracy(s, images))

    return Report(judged(job.train), judged(job.test))


def accuracy(s: Array, images: Images) -> float:
    return float(np.mean(s.argmax(1) == images.label))
