"""Layers that are linear in their input."""

from __future__ import annotations

import numpy as np

from tests.lib.cases import Case

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
}
