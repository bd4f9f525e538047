"""Steps of optimisers; `tests/lib/test_optimizers.py` has several, beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.lib.cases import Case, uniform

POSITIVE = uniform(0.5, 2)
STATE = {"s": POSITIVE, "u": POSITIVE, "t": lambda rng, shape: np.array(3)}


def mixed(a: float, old: Any, new: Any) -> Any:
    return a * old + (1 - a) * new


def momentum(v: Any) -> Any:
    w = 0.8 * v.v + v.g + 0.1 * v["θ"]
    return v["θ"] - 0.1 * w, w


def nesterov(v: Any) -> Any:
    d = v.g + 0.1 * v["θ"]
    w = 0.8 * v.v + d
    return v["θ"] - 0.1 * (d + 0.8 * w), w


def adagrad(v: Any) -> Any:
    s = v.s + v.g * v.g
    return v["θ"] - 0.1 * v.g * s**-0.5, s


def rmsprop(v: Any) -> Any:
    s = mixed(0.9, v.s, v.g * v.g)
    return v["θ"] - 0.1 * v.g / np.sqrt(s), s


def adadelta(v: Any) -> Any:
    s = mixed(0.9, v.s, v.g**2)
    d = v.g * np.sqrt((v.u + 1e-6) / (s + 1e-6))
    return v["θ"] - d, s, mixed(0.9, v.u, d**2)


def adam(decay: float, v: Any) -> Any:
    m, s = mixed(0.9, v.m, v.g), mixed(0.99, v.s, v.g**2)
    step = m / (1 - 0.9**3) / (np.sqrt(s / (1 - 0.99**3)) + 1e-8)
    return v["θ"] * (1 - 0.1 * decay) - 0.1 * step, m, s


def nadam(v: Any) -> Any:
    m, s = mixed(0.9, v.m, v.g), mixed(0.99, v.s, v.g**2)
    ahead = 0.9 * m / (1 - 0.9**4) + 0.1 * v.g / (1 - 0.9**3)
    return v["θ"] - 0.1 * ahead / (np.sqrt(s / (1 - 0.99**3)) + 1e-8), m, s


def lion(v: Any) -> Any:
    step = np.sign(mixed(0.9, v.m, v.g))
    return v["θ"] - 0.1 * (step + 0.2 * v["θ"]), mixed(0.99, v.m, v.g)


RATE = {"rate": 0.1}
MOMENTUM = {**RATE, "momentum": 0.8, "decay": 0.1}
BETAS = {**RATE, "beta1": 0.9, "beta2": 0.99}

CASES = {
    "sgd": Case(lambda v: 0.98 * v["θ"] - 0.1 * v.g, constants={**RATE, "decay": 0.2}),
    "momentum_sgd": Case(momentum, constants=MOMENTUM),
    "nesterov_sgd": Case(nesterov, constants=MOMENTUM),
    "adagrad": Case(adagrad, constants={**RATE, "eps": 0.0}, draws=STATE),
    "rmsprop": Case(rmsprop, constants={**RATE, "alpha": 0.9, "eps": 0.0}, draws=STATE),
    "adadelta": Case(adadelta, draws=STATE),
    "adam": Case(lambda v: adam(0.0, v), constants=BETAS, draws=STATE),
    "adamw": Case(lambda v: adam(0.2, v), constants={**BETAS, "decay": 0.2}, draws=STATE),
    "nadam": Case(nadam, constants=BETAS, draws=STATE),
    "lion": Case(lion, constants={**RATE, "decay": 0.2}),
    "squared_norm": Case(lambda v: v.g @ v.g),
    "clip_by_norm": Case(lambda v: v.g / v.norm, draws={"norm": lambda rng, shape: np.array(2.5)}),
    "clip_by_norm: within the limit": Case(
        lambda v: v.g, constants={"limit": 3.0}, draws={"norm": lambda rng, shape: np.array(2.5)}
    ),
    "clip_by_own_norm": Case(
        lambda v: (v.g / np.linalg.norm(v.g) / 2, np.linalg.norm(v.g)), constants={"limit": 0.5}
    ),
    "clip_by_value": Case(lambda v: np.clip(v.g, -0.7, 0.7), constants={"limit": 0.7}),
    "moving_average": Case(lambda v: mixed(0.9, v.a, v["θ"]), constants={"decay": 0.9}),
}
