"""Convolutions, as sums over windows of NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.lib.cases import Case


def windows(x: Any, taps: Sequence[int], v: Any) -> Any:
    """[B, C, positions..., taps...] of x[B,C,...], padded, dilated, strided."""
    axes = tuple(range(2, 2 + len(taps)))
    padding, dilation, stride = v.get("padding", 0), v.get("dilation", 1), v.get("stride", 1)
    x = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * len(taps))
    seen = sliding_window_view(x, tuple(dilation * (t - 1) + 1 for t in taps), axis=axes)
    strided = (slice(None), slice(None), *[slice(None, None, stride)] * len(taps))
    return seen[(*strided, *[slice(None, None, dilation)] * len(taps))]


def convolved(x: Any, k: Any, v: Any) -> Any:
    offsets = "pqr"[: k.ndim - 2]
    seen = windows(x, k.shape[2:], v)
    return np.einsum(f"bc...{offsets},oc{offsets}->bo...", seen, k)


def biased(y: Any, c: Any) -> Any:
    return y + c[(..., *[None] * (y.ndim - 2))]


def conv(v: Any) -> Any:
    return biased(convolved(v.x, v.k, v), v.c)


def grouped(v: Any) -> Any:
    each = [convolved(v.x[:, g], v.k[g], v) for g in range(len(v.k))]
    return np.stack(each, axis=1) + v.c[:, :, None, None]


def depthwise(v: Any) -> Any:
    seen = windows(v.x, v.k.shape[1:], v)
    return np.einsum("bcmnpq,cpq->bcmn", seen, v.k)


def causal(v: Any) -> Any:
    before = v.get("dilation", 1) * (v.k.shape[-1] - 1)
    x = np.pad(v.x, [(0, 0), (0, 0), (before, 0)])
    if v.k.ndim == 3:
        return biased(convolved(x, v.k, v), v.c)
    return biased(np.einsum("bcnp,cp->bcn", windows(x, v.k.shape[1:], v), v.k), v.c)


def transposed1d(v: Any) -> Any:
    B, _, X = v.x.shape
    _, O, DX = v.k.shape
    y = np.zeros((B, O, (X - 1) * v.stride + DX))
    for n in range(X):
        y[:, :, v.stride * n : v.stride * n + DX] += np.einsum("bc,cod->bod", v.x[:, :, n], v.k)
    return y


def transposed2d(v: Any) -> Any:
    """All that each position spreads, and then the margins cut off."""
    B, _, X, Y = v.x.shape
    _, O, DX, DY = v.k.shape
    reach = [v.dilation * (d - 1) + 1 for d in (DX, DY)]
    more = v.output_padding + v.padding
    y = np.zeros((B, O, (X - 1) * v.stride + reach[0] + more, (Y - 1) * v.stride + reach[1] + more))
    for m in range(X):
        for n in range(Y):
            rows = slice(v.stride * m, v.stride * m + reach[0], v.dilation)
            columns = slice(v.stride * n, v.stride * n + reach[1], v.dilation)
            y[:, :, rows, columns] += np.einsum("bc,copq->bopq", v.x[:, :, m, n], v.k)
    height, width = (
        (L - 1) * v.stride - 2 * v.padding + r + v.output_padding
        for L, r in zip((X, Y), reach, strict=True)
    )
    cut = y[:, :, v.padding : v.padding + height, v.padding : v.padding + width]
    return cut + v.c[:, None, None]


ALL = {"stride": 2, "padding": 1, "dilation": 2}
SMALL = {"B": 2, "C": 3, "X": 6, "Y": 5, "Z": 4, "O": 2, "DX": 2, "DY": 3, "DZ": 2}

CASES = {
    "conv1d": Case(conv, lambda F, v: F.conv1d(v.x, v.k, v.c, v.stride), constants={"stride": 2}),
    "conv1d_padded": Case(
        conv,
        lambda F, v: F.conv1d(v.x, v.k, v.c, v.stride, v.padding, v.dilation),
        constants=ALL,
    ),
    "causal_conv1d": Case(
        causal,
        lambda F, v: F.conv1d(F.pad(v.x, (4, 0)), v.k, v.c, dilation=v.dilation),
        constants={"dilation": 2},
    ),
    "conv2d": Case(conv, lambda F, v: F.conv2d(v.x, v.k, v.c), extents=SMALL),
    "conv2d: strided": Case(
        conv,
        lambda F, v: F.conv2d(v.x, v.k, v.c, v.stride, v.padding, v.dilation),
        constants=ALL,
        extents=SMALL,
    ),
    "conv3d": Case(
        conv,
        lambda F, v: F.conv3d(v.x, v.k, v.c, v.stride, v.padding, v.dilation),
        constants={"stride": 2, "padding": 2, "dilation": 3},
        extents=SMALL,
    ),
    "grouped_conv2d": Case(
        grouped,
        lambda F, v: F.conv2d(
            v.x.flatten(1, 2), v.k.flatten(0, 1), v.c.flatten(), *ALL.values(), groups=2
        ).unflatten(1, (2, 2)),
        constants=ALL,
        extents=SMALL,
    ),
    "depthwise_conv2d": Case(
        depthwise, lambda F, v: F.conv2d(v.x, v.k[:, None], groups=v.x.shape[1])
    ),
    "depthwise_conv2d_padded": Case(
        lambda v: biased(depthwise(v), v.c),
        lambda F, v: F.conv2d(v.x, v.k[:, None], v.c, *ALL.values(), groups=v.x.shape[1]),
        constants=ALL,
    ),
    "causal_depthwise_conv1d": Case(
        causal,
        lambda F, v: F.conv1d(F.pad(v.x, (2, 0)), v.k[:, None], v.c, groups=v.x.shape[1]),
    ),
    "separable_conv2d": Case(
        lambda v: biased(np.einsum("oc,bcmn->bomn", v.W, depthwise(v)), v.c),
        lambda F, v: F.conv2d(
            F.conv2d(v.x, v.k[:, None], groups=v.x.shape[1]), v.W[:, :, None, None], v.c
        ),
        extents=SMALL,
    ),
    "conv_transpose1d": Case(
        transposed1d,
        lambda F, v: F.conv_transpose1d(v.x, v.k, stride=v.stride),
        constants={"stride": 3},
    ),
    "conv_transpose2d": Case(
        transposed2d,
        lambda F, v: F.conv_transpose2d(
            v.x, v.k, v.c, v.stride, v.padding, v.output_padding, 1, v.dilation
        ),
        constants={"stride": 3, "padding": 2, "dilation": 2, "output_padding": 1},
        extents=SMALL,
    ),
}
