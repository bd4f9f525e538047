"""Convolutions and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.lib.cases import Case


def windows(x: Any, width: int) -> Any:
    """[B, C, X // width, Y // width, width * width]"""
    B, C, X, Y = x.shape
    x = x[:, :, : X // width * width, : Y // width * width]
    x = x.reshape(B, C, X // width, width, Y // width, width).swapaxes(3, 4)
    return x.reshape(*x.shape[:4], width * width)


def conv2d(v: Any) -> Any:
    x = np.pad(v.x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    O, _, DX, DY = v.k.shape
    rows, columns = (
        (x.shape[2] - 2 * (DX - 1) - 1) // 2 + 1,
        (x.shape[3] - 2 * (DY - 1) - 1) // 2 + 1,
    )
    y = np.zeros((len(x), O, rows, columns)) + v.c[:, None, None]
    for m in range(rows):
        for n in range(columns):
            seen = x[:, :, 2 * m : 2 * m + 2 * DX - 1 : 2, 2 * n : 2 * n + 2 * DY - 1 : 2]
            y[:, :, m, n] += np.einsum("bcxy,ocxy->bo", seen, v.k)
    return y


def conv1d(v: Any) -> Any:
    seen = np.lib.stride_tricks.sliding_window_view(v.x, v.k.shape[2], axis=2)[:, :, ::2]
    return np.einsum("bcnd,ocd->bon", seen, v.k) + v.c[:, None]


def conv_transpose1d(v: Any) -> Any:
    B, _, X = v.x.shape
    _, O, DX = v.k.shape
    y = np.zeros((B, O, (X - 1) * 3 + DX))
    for n in range(X):
        y[:, :, 3 * n : 3 * n + DX] += np.einsum("bc,cod->bod", v.x[:, :, n], v.k)
    return y


def depthwise_conv2d(v: Any) -> Any:
    seen = np.lib.stride_tricks.sliding_window_view(v.x, v.k.shape[1:], axis=(2, 3))
    return np.einsum("bcmnxy,cxy->bcmn", seen, v.k)


CASES = {
    "conv1d": Case(conv1d, constants={"stride": 2}),
    "conv2d": Case(conv2d, constants={"stride": 2, "padding": 1, "dilation": 2}),
    "depthwise_conv2d": Case(depthwise_conv2d),
    "conv_transpose1d": Case(conv_transpose1d, constants={"stride": 3}),
    "max_pool2d": Case(lambda v: windows(v.x, 3).max(-1), constants={"width": 3}),
    "mean_pool2d": Case(lambda v: windows(v.x, 2).mean(-1), constants={"width": 2}),
}
