"""Normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import normalize

from tests.lib.cases import Case, uniform

POSITIVE = uniform(0.5, 2)


def normalised(x: Any, axis: Any, eps: float = 1e-5) -> Any:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def affine(x: Any, v: Any, *axes: None) -> Any:
    return v["γ"][(..., *axes)] * x + v["β"][(..., *axes)]


def running(v: Any) -> Any:
    mean, variance = v.x.mean(0), v.x.var(0, ddof=1)
    return 0.7 * v["μ"] + 0.3 * mean, 0.7 * v.v + 0.3 * variance


def local_response(v: Any) -> Any:
    q = np.zeros_like(v.x)
    for c in range(v.x.shape[1]):
        first = max(c - v.width // 2, 0)
        q[:, c] = (v.x[:, first : c + (v.width - 1) // 2 + 1] ** 2).sum(1)
    return v.x / (v.k + v.alpha / v.width * q) ** v.beta


def power_step(v: Any) -> Any:
    right = normalize((v.W.T @ v.u)[None])[0]
    return normalize((v.W @ right)[None])[0], right


CASES = {
    "batchnorm": Case(lambda v: (v.x - v.x.mean(0)) / v.x.std(0, ddof=1)),
    "batchnorm_with": Case(lambda v: (v.x - v["μ"]) / np.sqrt(v.s), draws={"s": POSITIVE}),
    "scale_shift": Case(lambda v: affine(v.x, v)),
    "batch_norm": Case(
        lambda v: affine(normalised(v.x, 0), v),
        lambda F, v: F.batch_norm(v.x, None, None, v["γ"], v["β"], training=True),
    ),
    "batch_norm_with": Case(
        lambda v: affine((v.x - v["μ"]) / np.sqrt(v.v + 1e-5), v),
        lambda F, v: F.batch_norm(v.x, v["μ"], v.v, v["γ"], v["β"]),
        draws={"v": POSITIVE},
        fixed=("μ", "v"),
    ),
    "batch_norm_of_channels": Case(
        lambda v: affine(normalised(v.x, (0, 2)), v, None),
        lambda F, v: F.batch_norm(v.x, None, None, v["γ"], v["β"], training=True),
    ),
    "running_moments": Case(running, constants={"momentum": 0.3}, draws={"v": POSITIVE}),
    "layer_norm": Case(
        lambda v: affine(normalised(v.x, 1), v),
        lambda F, v: F.layer_norm(v.x, v["γ"].shape, v["γ"], v["β"]),
    ),
    "rms_norm": Case(
        lambda v: v["γ"] * v.x / np.sqrt((v.x**2).mean(1, keepdims=True) + 1e-5),
        lambda F, v: F.rms_norm(v.x, v["γ"].shape, v["γ"], v.eps),
    ),
    "group_norm": Case(
        lambda v: affine(normalised(v.x, (2, 3)), v, None),
        lambda F, v: F.group_norm(v.x.flatten(1, 2), 2, v["γ"].flatten(), v["β"].flatten()).view_as(
            v.x
        ),
    ),
    "instance_norm": Case(lambda v: normalised(v.x, 2), lambda F, v: F.instance_norm(v.x)),
    "local_response_norm": Case(
        local_response,
        lambda F, v: F.local_response_norm(v.x, v.width, v.alpha, v.beta, v.k),
        constants={"width": 3, "alpha": 0.7, "beta": 0.6},
    ),
    "local_response_norm: even width": Case(
        local_response,
        lambda F, v: F.local_response_norm(v.x, v.width, v.alpha, v.beta, v.k),
        constants={"width": 4, "alpha": 0.7},
    ),
    "l2_normalize": Case(lambda v: normalize(v.x), lambda F, v: F.normalize(v.x)),
    "weight_norm": Case(
        lambda v: v.g[:, None] * normalize(v.v),
        lambda F, v: v.g[:, None] * v.v / v.v.norm(dim=1, keepdim=True),
    ),
    "power_step": Case(power_step),
    "spectral_norm": Case(lambda v: v.W / (v.u @ v.W @ v.v)),
}
