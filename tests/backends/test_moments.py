"""Means and variances down columns in one pass, where the values are not ordinary ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg

MOMENTS = """f(x[B,J]) -> m[J], v[J]:
    for b, j:  m[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - m[j])**2 / B"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [7, 200])
@pytest.mark.parametrize(
    "special",
    [
        [np.inf],
        [-np.inf],
        [np.inf, np.inf],
        [np.inf, -np.inf],
        [np.nan],
        [np.inf, np.nan],
    ],
)
def test_what_is_not_finite(special: list[float], rows: int, dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 19)).astype(dtype)
    for row in (0, rows // 2, rows - len(special)):
        x[row : row + len(special), rng.integers(19)] = special
    with np.errstate(all="ignore"):
        wanted = lg.compile(lg.program(MOMENTS), optimize=False)(x)
    for found, right in zip(lg.program(MOMENTS)(x), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_squares_that_are_too_large_before_they_are_divided(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.8, 0.8, (300, 19)) * np.sqrt(float(np.finfo(dtype).max))
    x = x.astype(dtype)
    wanted = lg.compile(lg.program(MOMENTS), optimize=False)(x)
    assert np.isfinite(wanted[1]).all()
    for found, right in zip(lg.program(MOMENTS)(x), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=float(np.abs(x).max()) * 1e-6)
