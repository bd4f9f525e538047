"""Normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.lib.cases import Case, uniform


def normalised(x: Any, axis: Any, eps: float = 1e-5) -> Any:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def group_norm(v: Any) -> Any:
    B, C, N = v.x.shape
    x = normalised(v.x.reshape(B, 2, C // 2, N), (2, 3)).reshape(B, C, N)
    return v["γ"][:, None] * x + v["β"][:, None]


CASES = {
    "batchnorm": Case(lambda v: (v.x - v.x.mean(0)) / v.x.std(0, ddof=1)),
    "batchnorm_with": Case(lambda v: (v.x - v["μ"]) / np.sqrt(v.s), draws={"s": uniform(0.5, 2)}),
    "scale_shift": Case(lambda v: v["γ"] * v.x + v["β"]),
    "layer_norm": Case(lambda v: v["γ"] * normalised(v.x, 1) + v["β"]),
    "rms_norm": Case(lambda v: v["γ"] * v.x / np.sqrt((v.x**2).mean(1, keepdims=True) + 1e-5)),
    "group_norm": Case(group_norm, constants={"G": 2}),
    "instance_norm": Case(lambda v: normalised(v.x, 2)),
}
