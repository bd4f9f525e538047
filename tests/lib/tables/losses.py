"""Losses, one number a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, huber, log_softmax, logsumexp
from scipy.stats import norm, poisson
from sklearn.metrics import mean_pinball_loss

from tests.lib.cases import Case, bits, lengths, signs, uniform

UNIT = uniform(0.05, 0.95)


def picked(s: Any, label: Any) -> Any:
    return s[np.arange(len(label)), label]


def each(v: Any, loss: Any, *names: str) -> Any:
    """A loss of scikit-learn, which takes means over rows, of one row after the other."""
    return np.array([loss(*rows) for rows in zip(*(v[n] for n in names), strict=True)])


def smoothed(v: Any) -> Any:
    J = v.s.shape[1]
    target = np.full(v.s.shape, v.smoothing / J)
    target[np.arange(len(v.label)), v.label] += 1 - v.smoothing
    return -(target * log_softmax(v.s, axis=1)).sum(1)


def mean_of_all(v: Any) -> Any:
    """Of each row that counts its weighted part; over the sum of their weights."""
    q, J, total, n = log_softmax(v.s, axis=1), v.s.shape[1], 0.0, 0.0
    for row, label in zip(q, v.label, strict=True):
        if label != v.ignore:
            target = np.full(J, v.smoothing / J) + (1 - v.smoothing) * (np.arange(J) == label)
            total -= (v.w * target * row).sum()
            n += v.w[label]
    return np.array(total / n)


def sequences(v: Any) -> Any:
    q = log_softmax(v.s, axis=2)
    rows = zip(q, v.label, v.length, strict=True)
    return np.array([-picked(a, b)[:n].sum() / max(n, 1) for a, b, n in rows])


def hinges(v: Any) -> Any:
    relus = np.maximum(v.margin + v.s - picked(v.s, v.label)[:, None], 0)
    relus[np.arange(len(v.label)), v.label] = 0
    return relus


def focal(v: Any) -> Any:
    q = picked(log_softmax(v.s, axis=1), v.label)
    return -((1 - np.exp(q)) ** v.gamma) * q


def binary_focal(v: Any) -> Any:
    p = expit(v.s)
    sure = p * v.y + (1 - p) * (1 - v.y)
    weight = v.alpha * v.y + (1 - v.alpha) * (1 - v.y)
    return -(weight * (1 - sure) ** v.gamma * np.log(sure)).sum(1)


def distance(x: Any, y: Any) -> Any:
    return np.linalg.norm(x - y, axis=1)


def cosine(v: Any) -> Any:
    cos = (v.u * v.v).sum(1) / np.linalg.norm(v.u, axis=1) / np.linalg.norm(v.v, axis=1)
    return np.where(v.y > 0, 1 - cos, np.maximum(cos - v.margin, 0))


def info_nce(v: Any) -> Any:
    s = v.u @ v.v.T / v.temperature
    return logsumexp(s, axis=1) - np.diag(s)


def some_ignored(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return np.resize(np.array([2, -7, 0, 1]), shape)


CASES = {
    "softmax_cross_entropy": Case(
        lambda v: -picked(log_softmax(v.s, axis=1), v.label),
        lambda F, v: F.cross_entropy(v.s, v.label, reduction="none"),
    ),
    "softmax_cross_entropy_with": Case(
        lambda v: -(v.P * log_softmax(v.s, axis=1)).sum(1),
        lambda F, v: F.cross_entropy(v.s, v.P, reduction="none"),
        draws={"P": uniform(0.5, 1.5)},
    ),
    "softmax_cross_entropy_smoothed": Case(
        smoothed,
        lambda F, v: F.cross_entropy(v.s, v.label, reduction="none", label_smoothing=v.smoothing),
        constants={"smoothing": 0.3},
    ),
    "softmax_cross_entropy_weighted": Case(
        lambda v: -v.w[v.label] * picked(log_softmax(v.s, axis=1), v.label),
        lambda F, v: F.cross_entropy(v.s, v.label, v.w, reduction="none"),
        fixed=("w",),
    ),
    "softmax_cross_entropy_ignoring": Case(
        lambda v: np.where(v.label == v.ignore, 0, -picked(log_softmax(v.s, axis=1), v.label % 3)),
        lambda F, v: F.cross_entropy(v.s, v.label, reduction="none", ignore_index=v.ignore),
        constants={"ignore": -7},
        draws={"label": some_ignored},
    ),
    "softmax_cross_entropy_mean": Case(
        mean_of_all,
        lambda F, v: F.cross_entropy(
            v.s, v.label, v.w, ignore_index=v.ignore, label_smoothing=v.smoothing
        ),
        constants={"ignore": -7, "smoothing": 0.2},
        draws={"label": some_ignored, "w": uniform(0.5, 2)},
        fixed=("w",),
    ),
    "sequence_cross_entropy": Case(sequences, draws={"length": lengths(5)}),
    "negative_log_likelihood": Case(
        lambda v: -picked(v.q, v.label), lambda F, v: F.nll_loss(v.q, v.label, reduction="none")
    ),
    "binary_cross_entropy": Case(
        lambda v: -(v.y * np.log(v.p) + (1 - v.y) * np.log(1 - v.p)).sum(1),
        lambda F, v: F.binary_cross_entropy(v.p, v.y, reduction="none").sum(1),
        draws={"p": UNIT, "y": UNIT},
    ),
    "binary_cross_entropy_with_logits": Case(
        lambda v: -(v.y * np.log(expit(v.s)) + (1 - v.y) * np.log(expit(-v.s))).sum(1),
        lambda F, v: F.binary_cross_entropy_with_logits(v.s, v.y, reduction="none").sum(1),
        draws={"y": UNIT},
    ),
    "binary_cross_entropy_weighted": Case(
        lambda v: -(v.w * v.y * np.log(expit(v.s)) + (1 - v.y) * np.log(expit(-v.s))).sum(1),
        lambda F, v: F.binary_cross_entropy_with_logits(
            v.s, v.y, reduction="none", pos_weight=v.w
        ).sum(1),
        draws={"y": UNIT, "w": uniform(0.5, 3)},
        fixed=("w",),
    ),
    "focal": Case(focal, constants={"gamma": 1.7}),
    "binary_focal": Case(binary_focal, constants={"alpha": 0.3, "gamma": 1.7}, draws={"y": bits}),
    "dice": Case(
        lambda v: 1 - (2 * (v.p * v.y).sum(1) + 0.5) / ((v.p + v.y).sum(1) + 0.5),
        constants={"smooth": 0.5},
        draws={"p": UNIT, "y": UNIT},
    ),
    "squared_error": Case(
        lambda v: ((v.x - v.y) ** 2).mean(1),
        lambda F, v: F.mse_loss(v.x, v.y, reduction="none").mean(1),
    ),
    "absolute_error": Case(
        lambda v: abs(v.x - v.y).mean(1),
        lambda F, v: F.l1_loss(v.x, v.y, reduction="none").mean(1),
    ),
    "huber": Case(
        lambda v: huber(0.7, v.x - v.y).sum(1),
        lambda F, v: F.huber_loss(v.x, v.y, reduction="none", delta=v.delta).sum(1),
        constants={"delta": 0.7},
    ),
    "smooth_l1": Case(
        lambda v: huber(0.7, v.x - v.y).sum(1) / 0.7,
        lambda F, v: F.smooth_l1_loss(v.x, v.y, reduction="none", beta=v.beta).sum(1),
        constants={"beta": 0.7},
    ),
    "log_cosh": Case(lambda v: np.log(np.cosh(v.x - v.y)).sum(1)),
    "pinball": Case(
        lambda v: v.x.shape[1] * each(v, lambda y, x: mean_pinball_loss(y, x, alpha=0.8), "y", "x"),
        constants={"quantile": 0.8},
    ),
    "poisson_nll": Case(
        # logpmf(1) has no log y!
        lambda v: -(poisson(np.exp(v.s)).logpmf(1) + (v.y - 1) * v.s).sum(1),
        lambda F, v: F.poisson_nll_loss(v.s, v.y, reduction="none").sum(1),
    ),
    "gaussian_nll": Case(
        lambda v: -(norm(v["μ"], np.sqrt(v.v)).logpdf(v.x) + np.log(2 * np.pi) / 2).sum(1),
        lambda F, v: F.gaussian_nll_loss(v.x, v["μ"], v.v, reduction="none").sum(1),
        draws={"v": uniform(0.3, 2)},
    ),
    "gaussian_nll_with_log_variance": Case(
        lambda v: -(norm(v["μ"], np.exp(v.r / 2)).logpdf(v.x) + np.log(2 * np.pi) / 2).sum(1),
        lambda F, v: F.gaussian_nll_loss(v.x, v["μ"], v.r.exp(), reduction="none").sum(1),
    ),
    "hinge": Case(
        lambda v: hinges(v).sum(1),
        lambda F, v: (
            v.s.shape[1] * F.multi_margin_loss(v.s, v.label, margin=v.margin, reduction="none")
        ),
        constants={"margin": 1.5},
    ),
    "hinge_of_worst": Case(lambda v: hinges(v).max(1), constants={"margin": 1.5}),
    "binary_hinge": Case(
        lambda v: np.maximum(1.5 - v.y * v.s, 0), constants={"margin": 1.5}, draws={"y": signs}
    ),
    "squared_hinge": Case(
        lambda v: np.maximum(1.5 - v.y * v.s, 0) ** 2, constants={"margin": 1.5}, draws={"y": signs}
    ),
    "margin_ranking": Case(
        lambda v: np.maximum(0.3 - v.y * (v.x1 - v.x2), 0),
        lambda F, v: F.margin_ranking_loss(v.x1, v.x2, v.y, margin=v.margin, reduction="none"),
        constants={"margin": 0.3},
        draws={"y": signs},
    ),
    "triplet": Case(
        lambda v: np.maximum(2.5 + distance(v.a + v.eps, v.p) - distance(v.a + v.eps, v.n), 0),
        lambda F, v: F.triplet_margin_loss(v.a, v.p, v.n, margin=v.margin, reduction="none"),
        constants={"margin": 2.5},
    ),
    "triplet_of_squares": Case(
        lambda v: np.maximum(2.5 + distance(v.a, v.p) ** 2 - distance(v.a, v.n) ** 2, 0),
        constants={"margin": 2.5},
    ),
    "contrastive": Case(
        lambda v: (
            v.y * distance(v.u, v.v) ** 2 / 2
            + (1 - v.y) * np.maximum(2.5 - np.sqrt(distance(v.u, v.v) ** 2 + 1e-12), 0) ** 2 / 2
        ),
        constants={"margin": 2.5},
        draws={"y": bits},
    ),
    "cosine_embedding": Case(
        cosine,
        lambda F, v: F.cosine_embedding_loss(v.u, v.v, v.y, margin=v.margin, reduction="none"),
        constants={"margin": -0.2},
        draws={"y": signs},
    ),
    "info_nce": Case(
        info_nce,
        lambda F, v: F.cross_entropy(
            v.u @ v.v.T / v.temperature, v.u.new_tensor(range(len(v.u))).long(), reduction="none"
        ),
        constants={"temperature": 0.6},
    ),
}
