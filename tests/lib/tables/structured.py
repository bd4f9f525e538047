"""Sums over paths, by counting all the paths."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
from scipy.special import logsumexp

from tests.lib.cases import Case, distributions


def crf_path(v: Any, b: int, path: tuple[int, ...]) -> float:
    inner = sum(v.A[i, j] for i, j in pairwise(path))
    emitted = sum(v.e[t, b, j] for t, j in enumerate(path))
    return float(v.start[path[0]] + emitted + inner + v.end[path[-1]])


def crf_log_partition(v: Any, length: Any = None) -> Any:
    T, B, J = v.e.shape
    lengths = [T] * B if length is None else length
    return np.array(
        [
            logsumexp([crf_path(v, b, path) for path in product(range(J), repeat=n)])
            for b, n in enumerate(lengths)
        ]
    )


def crf_score(v: Any, length: Any = None) -> Any:
    T, B = v.label.shape
    lengths = [T] * B if length is None else length
    return np.array([crf_path(v, b, tuple(v.label[:n, b])) for b, n in enumerate(lengths)])


def crf_loss(v: Any, length: Any = None) -> Any:
    return crf_log_partition(v, length) - crf_score(v, length)


def torch_crf_log_partition(F: Any, v: Any) -> Any:
    log = v.start + v.e[0]
    for e in v.e[1:]:
        log = (log[:, :, None] + v.A).logsumexp(1) + e
    return (log + v.end).logsumexp(1)


def torch_crf_loss(F: Any, v: Any) -> Any:
    score = v.start[v.label[0]] + v.end[v.label[-1]] + v.A[v.label[:-1], v.label[1:]].sum(0)
    score = score + v.e.gather(2, v.label[:, :, None]).sum((0, 2))
    return torch_crf_log_partition(F, v) - score


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    kept = [c for k, c in enumerate(path) if k == 0 or c != path[k - 1]]
    return [c for c in kept if c != blank]


def ctc_loss(v: Any) -> Any:
    """Every sequence of classes that collapses to the target."""
    losses = []
    for b in range(v.lp.shape[1]):
        wanted = list(v.target[b, : v.target_length[b]])
        paths = product(range(v.lp.shape[2]), repeat=int(v.length[b]))
        found = [
            sum(v.lp[t, b, c] for t, c in enumerate(path))
            for path in paths
            if collapsed(path, v.blank) == wanted
        ]
        losses.append(-logsumexp(found) if found else np.inf)
    return np.array(losses)


def torch_ctc_loss(F: Any, v: Any) -> Any:
    """Of logits: PyTorch's gradient is right where its inputs are normalised, and not otherwise."""
    lp = F.log_softmax(v.lp, 2)
    given = (v.target, v.length, v.target_length)
    loss = F.ctc_loss(lp, *given, blank=v.blank, reduction="none")
    # A sum over paths that are `length` long: what normalising took off each.
    off = v.lp.logsumexp(2)
    import torch

    inside = torch.arange(len(off))[:, None] < v.length
    return loss - (off * inside).sum(0)


def alignments(N: int, M: int) -> Iterator[list[tuple[int, int]]]:
    """All paths from (0, 0) to (N-1, M-1) by steps down, right, and both."""
    if N == 1 and M == 1:
        yield [(0, 0)]
        return
    for dn, dm in ((1, 0), (0, 1), (1, 1)):
        if dn < N and dm < M:
            for path in alignments(N - dn, M - dm):
                yield [*path, (N - 1, M - 1)]


def soft_dtw(v: Any) -> Any:
    cost = ((v.x[:, :, None] - v.y[:, None]) ** 2).sum(3)
    _, N, M = cost.shape
    paths = list(alignments(N, M))
    return np.array(
        [-v.γ * logsumexp([-sum(c[n, m] for n, m in path) / v.γ for path in paths]) for c in cost]
    )


def soft_edit_distance(v: Any) -> Any:
    """What is put for what: as many of each, in order; the gaps between two pairs in any order."""
    from math import comb

    _, N, M = v.c.shape
    found = []
    for c in v.c:
        terms, ways = [], []
        for k in range(min(N, M) + 1):
            for rows, columns in product(combinations(range(N), k), combinations(range(M), k)):
                ends = zip((*rows, N), (*columns, M), (-1, *rows), (-1, *columns), strict=True)
                ways.append(
                    np.prod([comb(n - p - 1 + m - q - 1, n - p - 1) for n, m, p, q in ends])
                )
                pairs = sum(c[n, m] for n, m in zip(rows, columns, strict=True))
                terms.append(-(pairs + v.gap * (N + M - 2 * k)) / v.γ)
        found.append(-v.γ * logsumexp(terms, b=ways))
    return np.array(found)


def sinkhorn(v: Any) -> Any:
    """Without logarithms: rows and columns scaled in turn."""
    K = np.exp(-v.C / v.ε)
    u, w = np.ones(len(v.p)), np.ones(len(v.q))
    for _ in range(v.steps):
        u = v.p / (K @ w)
        w = v.q / (K.T @ u)
    P = u[:, None] * K * w
    return P, (P * v.C).sum()


def log_probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return np.log(distributions(rng, shape))


def fixed(*values: Any) -> Any:
    """Those, again and again, in the shape asked for."""
    return lambda rng, shape: np.resize(np.array(values), shape)


LABELS = {"I": 3, "J": 3, "B": 3, "T": 4}
CTC = {"T": 5, "B": 4, "C": 3, "S": 2}

CASES = {
    "crf_log_partition": Case(crf_log_partition, torch_crf_log_partition, extents=LABELS),
    "crf_log_partition: one step": Case(crf_log_partition, extents=LABELS | {"T": 1}),
    "crf_score": Case(crf_score, extents=LABELS),
    "crf_loss": Case(crf_loss, torch_crf_loss, extents=LABELS),
    "crf_loss_packed": Case(
        lambda v: crf_loss(v, v.length), extents=LABELS, draws={"length": fixed(4, 1, 3)}
    ),
    "ctc_loss": Case(
        ctc_loss,
        extents=CTC,
        draws={
            "lp": log_probabilities,
            "target": fixed(1, 2, 2, 2, 1, 1, 2, 1),
            "length": fixed(5, 4, 3, 5),
            "target_length": fixed(2, 2, 1, 0),
        },
    ),
    "ctc_loss: the blank is the last class": Case(
        ctc_loss,
        torch_ctc_loss,
        extents=CTC,
        constants={"blank": 2},
        draws={
            "target": fixed(0, 1, 1, 1),
            "length": fixed(5),
            "target_length": fixed(2),
        },
    ),
    "soft_dtw": Case(soft_dtw, constants={"γ": 0.7}, extents={"N": 3, "M": 4, "B": 2}),
    "soft_edit_distance": Case(
        soft_edit_distance, constants={"γ": 0.5, "gap": 0.8}, extents={"N": 3, "M": 4, "B": 2}
    ),
    "sinkhorn": Case(
        sinkhorn,
        constants={"steps": 4, "ε": 0.6},
        draws={"p": distributions, "q": distributions},
    ),
}
