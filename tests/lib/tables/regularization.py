"""Regularisation."""

from __future__ import annotations

import numpy as np

from tests.lib.cases import Case, uniform

CASES = {
    "dropout": Case(lambda v: v.x * v.keep / 0.7, constants={"rate": 0.3}),
    "channel_dropout": Case(lambda v: v.x * v.keep[:, :, None] / 0.7, constants={"rate": 0.3}),
    "alpha_dropout": Case(
        lambda v: (
            (np.where(v.keep, v.x, v.low) - 0.3 * v.low) / np.sqrt(0.7 + 0.3 * 0.7 * v.low**2)
        ),
        constants={"rate": 0.3},
    ),
    "stochastic_depth": Case(
        lambda v: v.x + np.where(v.keep[:, None], v.f / 0.7, 0), constants={"rate": 0.3}
    ),
    "l2_penalty": Case(lambda v: 0.3 / 2 * (v.w @ v.w), constants={"weight": 0.3}),
    "l1_penalty": Case(lambda v: 0.3 * np.linalg.norm(v.w, 1), constants={"weight": 0.3}),
    "smoothness_penalty": Case(lambda v: (np.diff(v.x, axis=1) ** 2).sum(1)),
    "mixup": Case(
        lambda v: v["λ"][:, None] * v.x + (1 - v["λ"])[:, None] * v.x[v.other],
        draws={"λ": uniform(0, 1)},
    ),
}
