"""Convolutions at sizes around vectors and panels, against sums in float64."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import loopgrad as lg

Arrays = tuple[np.ndarray[Any, Any], ...]


def correlation(x: Any, k: Any, stride: int, padding: int) -> Any:
    """y[b,o,m,n], and what gives its gradients: x with zeros around it, and windows of that."""
    around = np.pad(x.astype(float), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = np.lib.stride_tricks.sliding_window_view(around, k.shape[2:], (2, 3))
    return around, windows[:, :, ::stride, ::stride]


def gradients(x: Any, k: Any, g: Any, stride: int, padding: int) -> tuple[Any, Any]:
    around, windows = correlation(x, k, stride, padding)
    of_k = np.einsum("bomn,bimnpq->oipq", g.astype(float), windows)
    spread, total = np.einsum("bomn,oipq->bimnpq", g.astype(float), k.astype(float)), 0 * around
    M, N = g.shape[2:]
    for p, q in product(range(k.shape[2]), range(k.shape[3])):
        total[:, :, p : p + stride * M : stride, q : q + stride * N : stride] += spread[..., p, q]
    X, Y = x.shape[2:]
    return total[:, :, padding : padding + X, padding : padding + Y], of_k


def close(found: Any, wanted: Any, dtype: str) -> None:
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * 10)


# Rows of whole vectors, of fewer and of more; all places of an image in one panel, and in several.
IMAGES = [(4, 16), (3, 32), (2, 64), (5, 48), (1, 128), (4, 20), (7, 7), (3, 15), (16, 16), (2, 17)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("taps", "stride", "padding"), [((3, 3), 1, 1), ((1, 1), 1, 0), ((2, 3), 2, 1)]
)
def test_convolutions_and_their_gradients(taps: Any, stride: int, padding: int, dtype: str) -> None:
    program = lg.lib.conv2d
    kernel, backward = lg.compile(program), lg.compile(program.backward(batch=False).simplify())
    rng = np.random.default_rng(stride)
    for (X, Y), (B, C, O) in zip(
        IMAGES, [(2, 3, 5), (1, 1, 7), (3, 4, 1), (1, 5, 14)] * 3, strict=False
    ):
        if min(X + 2 * padding - taps[0], Y + 2 * padding - taps[1]) < 0:
            continue
        x, k = (rng.normal(size=s).astype(dtype) for s in ((B, C, X, Y), (O, C, *taps)))
        given = {"stride": stride, "padding": padding}
        y = kernel(x, k, np.zeros(O, dtype), **given)
        _, windows = correlation(x, k, stride, padding)
        close(y, np.einsum("bimnpq,oipq->bomn", windows, k), dtype)
        g = rng.normal(size=y.shape).astype(dtype)
        of_x, of_k, of_c = backward(x, k, g, **given)
        for found, wanted in zip((of_x, of_k), gradients(x, k, g, stride, padding), strict=True):
            close(found, wanted, dtype)
        close(of_c, g.sum((0, 2, 3), dtype=float), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transposed_convolutions(dtype: str) -> None:
    """Whose packed sides have two indices of columns: they count as one, or do not."""
    program = lg.compile(lg.lib.conv_transpose2d)
    rng = np.random.default_rng(3)
    for (X, Y), stride in product(IMAGES, (1, 2)):
        x, k = (
            rng.normal(size=(2, 3, X, Y)).astype(dtype),
            rng.normal(size=(3, 5, 4, 3)).astype(dtype),
        )
        y = program(x, k, np.ones(5, dtype), stride=stride, padding=1)
        plain = np.zeros((2, 5, *(e + 2 for e in y.shape[2:])))
        around, _ = gradients(plain, k, x, stride, 0)
        close(y, 1 + around[:, :, 1:-1, 1:-1], dtype)
