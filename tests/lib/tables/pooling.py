"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.lib.cases import Case, uniform
from tests.lib.tables.convolution import windows


def pooled(reduce: Any, rank: int, strided: bool = True, fill: float = 0.0) -> Any:
    """All windows of `width`, reduced; `fill` stands in the padding."""

    def reference(v: Any) -> Any:
        padding = v.get("padding", 0)
        around = [(0, 0), (0, 0)] + [(padding, padding)] * rank
        x = np.pad(v.x, around, constant_values=fill)
        seen = windows(x, [v.width] * rank, {"stride": v.stride if strided else v.width})
        return reduce(seen, tuple(range(-rank, 0)))

    return reference


def adaptive(reduce: Any) -> Any:
    """By the rule of PyTorch's documentation, one window after the other."""

    def reference(v: Any) -> Any:
        X = v.x.shape[2]
        bounds = [(int(np.floor(n * X / v.N)), int(np.ceil((n + 1) * X / v.N))) for n in range(v.N)]
        return np.stack([reduce(v.x[:, :, a:b], 2) for a, b in bounds], axis=2)

    return reference


def adaptive_mean2d(v: Any) -> Any:
    rows = np.stack([p.mean(0) for p in _parts(np.moveaxis(v.x, 2, 0), v.M)])
    columns = np.stack([p.mean(0) for p in _parts(np.moveaxis(rows, 3, 0), v.N)])
    return columns.transpose(2, 3, 1, 0)


def _parts(x: Any, n: int) -> Any:
    return [x[i * len(x) // n : -(-(i + 1) * len(x) // n)] for i in range(n)]


def apart(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """No two near each other, so that a step changes no maximum."""
    return 0.1 * rng.permutation(int(np.prod(shape))).reshape(shape)


APART = {"x": apart}
SIDE = {"width": 3}
WIDE = {"width": 3, "stride": 2, "padding": 1}

CASES = {
    "max_pool1d": Case(
        pooled(np.max, 1, strided=False),
        lambda F, v: F.max_pool1d(v.x, v.width),
        constants=SIDE,
        draws=APART,
    ),
    "max_pool2d": Case(
        pooled(np.max, 2, strided=False),
        lambda F, v: F.max_pool2d(v.x, v.width),
        constants=SIDE,
        draws=APART,
    ),
    "mean_pool1d": Case(
        pooled(np.mean, 1, strided=False), lambda F, v: F.avg_pool1d(v.x, v.width), constants=SIDE
    ),
    "mean_pool2d": Case(pooled(np.mean, 2, strided=False), lambda F, v: F.avg_pool2d(v.x, v.width)),
    "strided_max_pool1d": Case(
        pooled(np.max, 1, fill=-np.inf),
        lambda F, v: F.max_pool1d(v.x, v.width, v.stride, v.padding),
        constants=WIDE,
        draws=APART,
    ),
    "strided_max_pool2d": Case(
        pooled(np.max, 2, fill=-np.inf),
        lambda F, v: F.max_pool2d(v.x, v.width, v.stride, v.padding),
        constants=WIDE,
        draws=APART,
    ),
    "strided_max_pool2d: with gaps": Case(
        pooled(np.max, 2),
        lambda F, v: F.max_pool2d(v.x, v.width, v.stride, v.padding),
        constants={"width": 2, "stride": 3},
        draws=APART,
    ),
    "strided_mean_pool1d": Case(
        pooled(np.mean, 1),
        lambda F, v: F.avg_pool1d(v.x, v.width, v.stride, v.padding),
        constants=WIDE,
    ),
    "strided_mean_pool2d": Case(
        pooled(np.mean, 2),
        lambda F, v: F.avg_pool2d(v.x, v.width, v.stride, v.padding),
        constants=WIDE,
    ),
    "global_mean_pool": Case(
        lambda v: v.x.mean(2), lambda F, v: F.adaptive_avg_pool1d(v.x, 1)[..., 0]
    ),
    "global_max_pool": Case(
        lambda v: v.x.max(2), lambda F, v: F.adaptive_max_pool1d(v.x, 1)[..., 0], draws=APART
    ),
    "global_power_pool": Case(
        lambda v: np.linalg.norm(v.x, 3, axis=2),
        lambda F, v: F.lp_pool1d(v.x, v.p, v.x.shape[2])[..., 0],
        constants={"p": 3.0},
        draws={"x": uniform(0.2, 2)},
    ),
    "adaptive_mean_pool1d": Case(
        adaptive(np.mean), lambda F, v: F.adaptive_avg_pool1d(v.x, v.N), constants={"N": 3}
    ),
    "adaptive_mean_pool1d: more than there are": Case(
        adaptive(np.mean), lambda F, v: F.adaptive_avg_pool1d(v.x, v.N), constants={"N": 11}
    ),
    "adaptive_max_pool1d": Case(
        adaptive(np.max),
        lambda F, v: F.adaptive_max_pool1d(v.x, v.N),
        constants={"N": 5},
        draws=APART,
    ),
    "adaptive_mean_pool2d": Case(
        adaptive_mean2d,
        lambda F, v: F.adaptive_avg_pool2d(v.x, (v.M, v.N)),
        constants={"M": 3, "N": 2},
    ),
    "upsample_nearest2d": Case(
        lambda v: np.kron(v.x, np.ones((1, 1, 3, 3))),
        lambda F, v: F.interpolate(v.x, scale_factor=3),
        constants={"factor": 3},
        extents={"X": 2, "Y": 3},
    ),
    "pixel_shuffle": Case(
        lambda v: v.x.transpose(0, 1, 4, 2, 5, 3).reshape(4, 4, 6, 4),
        lambda F, v: F.pixel_shuffle(v.x.flatten(1, 3), 2),
        extents={"X": 3, "Y": 2},
    ),
}
