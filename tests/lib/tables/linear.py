"""Layers that are linear in their input."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from tests.lib.cases import Case, lengths


def bags(v: Any) -> Any:
    """The sum over each bag."""
    return np.array([v.E[w[:n]].sum(0) for w, n in zip(v.w, v.length, strict=True)])


def highway(v: Any) -> Any:
    gate = expit(v.x @ v.WT.T + v.cT)
    return gate * np.maximum(v.x @ v.W.T + v.c, 0) + (1 - gate) * v.x


LENGTHS = {"length": lengths(5)}

CASES = {
    "linear": Case(lambda v: v.x @ v.W.T, lambda F, v: F.linear(v.x, v.W)),
    "affine": Case(lambda v: v.x @ v.W.T + v.c, lambda F, v: F.linear(v.x, v.W, v.c)),
    "bilinear": Case(
        lambda v: np.einsum("bi,kij,bj->bk", v.u, v.A, v.v),
        lambda F, v: F.bilinear(v.u, v.v, v.A),
    ),
    "matmul": Case(lambda v: v.A @ v.B, lambda F, v: v.A @ v.B),
    "embedding": Case(lambda v: v.E[v.w], lambda F, v: F.embedding(v.w, v.E)),
    "mlp": Case(
        lambda v: np.maximum(v.x @ v.W1.T + v.c1, 0) @ v.W2.T + v.c2,
        lambda F, v: F.linear(F.linear(v.x, v.W1, v.c1).relu(), v.W2, v.c2),
    ),
    "batched_matmul": Case(lambda v: v.A @ v.B, lambda F, v: v.A.bmm(v.B)),
    "outer": Case(lambda v: v.u[:, :, None] * v.v[:, None, :]),
    "embedding_bag_sum": Case(bags, draws=LENGTHS),
    "embedding_bag": Case(
        lambda v: bags(v) / np.maximum(v.length, 1)[:, None],
        lambda F, v: F.embedding_bag(v.w, v.E, mode="mean"),
        draws={"length": lambda rng, shape: np.full(shape, 5)},
    ),
    "embedding_bag: of lengths": Case(
        lambda v: bags(v) / np.maximum(v.length, 1)[:, None], draws=LENGTHS
    ),
    "low_rank_linear": Case(
        lambda v: v.x @ (v.W + 0.7 / 2 * v.U @ v.V).T, constants={"alpha": 0.7}
    ),
    "highway": Case(highway),
}
