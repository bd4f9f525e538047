"""Graphs, by matrices; segments, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import softmax

from tests.lib.cases import Case


def by_segment(combine: Callable[[Any], Any], empty: float) -> Callable[[Any], Any]:
    def run(v: Any) -> Any:
        rows = [v.x[v.segment == g] for g in range(v.G)]
        return np.stack([combine(r) if len(r) else np.full(v.x.shape[1], empty) for r in rows])

    return run


def segment_softmax(v: Any) -> Any:
    p = np.zeros_like(v.s)
    for g in range(v.G):
        if (v.segment == g).any():
            p[v.segment == g] = softmax(v.s[v.segment == g])
    return p


def adjacency(v: Any, weights: Any) -> Any:
    """[to, from]"""
    A = np.zeros((len(v.x), len(v.x)))
    np.add.at(A, (v.dst, v.src), weights)
    return A


def gcn_layer(v: Any) -> Any:
    A = adjacency(v, 1) + np.eye(len(v.x))
    d = A.sum(1) ** -0.5
    return d[:, None] * A * d @ v.x @ v.W.T + v.c


def gat_layer(v: Any) -> Any:
    z = np.einsum("hjk,vk->vhj", v.W, v.x)
    y = np.zeros_like(z)
    for node in range(len(v.x)):
        edges = v.dst == node
        if edges.any():
            l = (z[v.src[edges]] * v.a).sum(2) + (z[node] * v.c).sum(1)
            p = softmax(np.where(l > 0, l, v.slope * l), axis=0)
            y[node] = (p[:, :, None] * z[v.src[edges]]).sum(0)
    return y


def torch_gat_layer(F: Any, v: Any) -> Any:
    import torch

    z = torch.einsum("hjk,vk->vhj", v.W, v.x)
    l = F.leaky_relu((z * v.a).sum(2)[v.src] + (z * v.c).sum(2)[v.dst], v.slope)
    w = l.exp()
    Z = torch.zeros(z.shape[:2], dtype=z.dtype).index_add(0, v.dst, w)
    return torch.zeros_like(z).index_add(0, v.dst, (w / Z[v.dst])[:, :, None] * z[v.src])


GROUPS = {"G": 4}  # segments are drawn below 3: the last one is empty
EDGES = {"V": 4, "E": 9, "K": 3, "J": 2}

CASES = {
    "segment_sum": Case(by_segment(lambda r: r.sum(0), 0), constants=GROUPS),
    "segment_mean": Case(by_segment(lambda r: r.mean(0), 0), constants=GROUPS),
    "segment_max": Case(by_segment(lambda r: r.max(0), -np.inf), constants={"G": 3}),
    "segment_softmax": Case(segment_softmax, constants=GROUPS),
    "message_passing": Case(lambda v: adjacency(v, v.w) @ v.x, extents=EDGES),
    "gcn_layer": Case(gcn_layer, extents=EDGES),
    "gat_layer": Case(gat_layer, torch_gat_layer, extents=EDGES),
}
