"""Activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf, expit

from tests.lib.cases import Case, Draw


def away_from(*kinks: float, scale: float = 1.0) -> dict[str, Draw]:
    """Inputs at least 0.05 from the kinks."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        x = scale * rng.normal(size=shape)
        for kink in kinks:
            x = np.where(abs(x - kink) < 0.05, kink + 0.05 * np.where(x < kink, -1, 1), x)
        return x

    return {"x": draw}


def gated(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda v: act(v.x @ v.W.T) * (v.x @ v.V.T)


def gelu(x: Any) -> Any:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


CASES = {
    "relu_layer": Case(lambda v: relu(v.x), lambda F, v: F.relu(v.x), draws=away_from(0)),
    "tanh_layer": Case(lambda v: np.tanh(v.x), lambda F, v: F.tanh(v.x)),
    "sigmoid_layer": Case(lambda v: expit(v.x), lambda F, v: F.sigmoid(v.x)),
    "softplus_layer": Case(lambda v: np.log1p(np.exp(v.x)), lambda F, v: F.softplus(v.x)),
    "leaky_relu": Case(
        lambda v: np.where(v.x > 0, v.x, 0.1 * v.x),
        lambda F, v: F.leaky_relu(v.x, v.slope),
        constants={"slope": 0.1},
        draws=away_from(0),
    ),
    "prelu": Case(
        lambda v: np.where(v.x > 0, v.x, v.slope * v.x),
        lambda F, v: F.prelu(v.x, v.slope),
        draws=away_from(0),
    ),
    "relu6": Case(
        lambda v: np.clip(v.x, 0, 6), lambda F, v: F.relu6(v.x), draws=away_from(0, 6, scale=5)
    ),
    "elu": Case(
        lambda v: np.where(v.x > 0, v.x, 0.6 * (np.exp(v.x) - 1)),
        lambda F, v: F.elu(v.x, v.alpha),
        constants={"alpha": 0.6},
        draws=away_from(0),
    ),
    "selu": Case(
        lambda v: (
            1.0507009873554805 * np.where(v.x > 0, v.x, 1.6732632423543772 * (np.exp(v.x) - 1))
        ),
        lambda F, v: F.selu(v.x),
        draws=away_from(0),
    ),
    "celu": Case(
        lambda v: np.maximum(v.x, 0) + np.minimum(0.5 * (np.exp(v.x / 0.5) - 1), 0),
        lambda F, v: F.celu(v.x, v.alpha),
        constants={"alpha": 0.5},  # theirs rounds 1 / alpha to float32
        draws=away_from(0),
    ),
    "gelu": Case(lambda v: gelu(v.x), lambda F, v: F.gelu(v.x)),
    "gelu_tanh": Case(
        lambda v: v.x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v.x + 0.044715 * v.x**3))),
        lambda F, v: F.gelu(v.x, approximate="tanh"),
    ),
    "swish": Case(lambda v: v.x * expit(1.3 * v.x), constants={"beta": 1.3}),
    "silu": Case(lambda v: v.x * expit(v.x), lambda F, v: F.silu(v.x)),
    "mish": Case(lambda v: v.x * np.tanh(np.log1p(np.exp(v.x))), lambda F, v: F.mish(v.x)),
    "hard_sigmoid": Case(
        lambda v: np.clip(v.x / 6 + 0.5, 0, 1),
        lambda F, v: F.relu6(v.x + 3) / 6,  # the gradient of `hardsigmoid` has a 1 / 6 of float32
        draws=away_from(-3, 3, scale=4),
    ),
    "hard_swish": Case(
        lambda v: v.x * np.clip(v.x + 3, 0, 6) / 6,
        lambda F, v: F.hardswish(v.x),
        draws=away_from(-3, 3, scale=4),
    ),
    "hard_tanh": Case(
        lambda v: np.clip(v.x, -0.8, 1.1),
        lambda F, v: F.hardtanh(v.x, v.low, v.high),
        constants={"low": -0.8, "high": 1.1},
        draws=away_from(-0.8, 1.1),
    ),
    "softsign": Case(
        lambda v: v.x / (1 + abs(v.x)), lambda F, v: F.softsign(v.x), draws=away_from(0)
    ),
    "log_sigmoid": Case(lambda v: np.log(expit(v.x)), lambda F, v: F.logsigmoid(v.x)),
    "tanh_shrink": Case(lambda v: v.x - np.tanh(v.x), lambda F, v: F.tanhshrink(v.x)),
    "soft_shrink": Case(
        lambda v: np.sign(v.x) * relu(abs(v.x) - 0.4),
        lambda F, v: F.softshrink(v.x, v.threshold),
        constants={"threshold": 0.4},
        draws=away_from(-0.4, 0.4),
    ),
    "hard_shrink": Case(
        lambda v: v.x * (abs(v.x) > 0.4),
        lambda F, v: F.hardshrink(v.x, v.threshold),
        constants={"threshold": 0.4},
        draws=away_from(-0.4, 0.4),
    ),
    "thresholded": Case(
        lambda v: np.where(v.x > 0.3, v.x, -1.5),
        lambda F, v: F.threshold(v.x, v.threshold, v.value),
        constants={"threshold": 0.3, "value": -1.5},
        draws=away_from(0.3),
    ),
    "maxout": Case(lambda v: v.x.max(2), lambda F, v: v.x.max(2).values),
    "glu": Case(lambda v: v.x[:, 0] * expit(v.x[:, 1]), lambda F, v: F.glu(v.x.flatten(1), dim=1)),
    "swiglu": Case(gated(lambda g: g * expit(g)), lambda F, v: F.silu(v.x @ v.W.T) * (v.x @ v.V.T)),
    "geglu": Case(gated(gelu), lambda F, v: F.gelu(v.x @ v.W.T) * (v.x @ v.V.T)),
    "reglu": Case(gated(relu), lambda F, v: F.relu(v.x @ v.W.T) * (v.x @ v.V.T)),
}
