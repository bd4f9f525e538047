"""Distances and similarities, by SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from tests.lib.cases import Case


def cosines(x: Any, y: Any) -> Any:
    return 1 - cdist(x, y, "cosine")


def contrastive_loss(v: Any) -> Any:
    d = np.linalg.norm(v.x - v.y, axis=1)
    return np.where(v.same, d**2, np.maximum(v.margin - d, 0) ** 2) / 2


def torch_info_nce(F: Any, v: Any) -> Any:
    import torch

    scores = F.normalize(v.x) @ F.normalize(v.y).T / v.temperature
    return F.cross_entropy(scores, torch.arange(len(v.x)), reduction="none")


def near_and_far(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.normal(size=shape) * 0.5


CASES = {
    "cosine_similarity": Case(
        lambda v: np.diag(cosines(v.x, v.y)), lambda F, v: F.cosine_similarity(v.x, v.y)
    ),
    "pairwise_squared_distance": Case(
        lambda v: cdist(v.x, v.y, "sqeuclidean"),
        lambda F, v: ((v.x[:, None] - v.y) ** 2).sum(2),
    ),
    "pairwise_absolute_distance": Case(
        lambda v: cdist(v.x, v.y, "cityblock"), lambda F, v: (v.x[:, None] - v.y).abs().sum(2)
    ),
    "pairwise_cosine": Case(
        lambda v: cosines(v.x, v.y),
        lambda F, v: F.cosine_similarity(v.x[:, None], v.y, dim=2),
    ),
    "cosine_info_nce": Case(
        lambda v: -np.diag(log_softmax(cosines(v.x, v.y) / v.temperature, axis=1)),
        torch_info_nce,
        constants={"temperature": 0.5},
    ),
    "contrastive_loss": Case(
        contrastive_loss,
        constants={"margin": 1.2},
        draws={"x": near_and_far, "y": near_and_far},
        extents={"B": 6},
    ),
}
