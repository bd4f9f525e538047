"""Losses, one number a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, log_softmax

from tests.lib.cases import Case, uniform


def picked(s: Any, label: Any) -> Any:
    return s[np.arange(len(label)), label]


POSITIVE = {"P": uniform(0.5, 1.5), "Q": uniform(0.5, 1.5)}  # need not sum to 1

CASES = {
    "softmax_cross_entropy": Case(
        lambda v: -picked(log_softmax(v.s, axis=1), v.label),
        lambda F, v: F.cross_entropy(v.s, v.label, reduction="none"),
    ),
    "softmax_cross_entropy_with": Case(
        lambda v: -(v.P * log_softmax(v.s, axis=1)).sum(1),
        lambda F, v: F.cross_entropy(v.s, v.P, reduction="none"),
        draws=POSITIVE,
    ),
    "binary_cross_entropy": Case(
        lambda v: -(v.y * np.log(expit(v.s)) + (1 - v.y) * np.log(expit(-v.s))).sum(1)
    ),
    "squared_error": Case(lambda v: ((v.x - v.y) ** 2).mean(1)),
    "absolute_error": Case(lambda v: abs(v.x - v.y).mean(1)),
    "huber": Case(
        lambda v: np.where((d := abs(v.x - v.y)) <= 0.7, d**2 / 2, 0.7 * (d - 0.35)).sum(1),
        constants={"delta": 0.7},
    ),
    "hinge": Case(
        lambda v: np.maximum(1.5 + v.s - picked(v.s, v.label)[:, None], 0).sum(1) - 1.5,
        constants={"margin": 1.5},
    ),
    "entropy": Case(lambda v: -(v.P * np.log(v.P)).sum(1), draws=POSITIVE),
    "cross_entropy": Case(lambda v: -(v.P * np.log(v.Q)).sum(1), draws=POSITIVE),
    "kl_divergence": Case(lambda v: (v.P * np.log(v.P / v.Q)).sum(1), draws=POSITIVE),
}
