"""Means and variances down columns in one pass, where the values are not ordinary ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from tests.literal import literally

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
        wanted = literally(lg.program(MOMENTS))(x)
    for found, right in zip(lg.program(MOMENTS)(x), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_squares_that_are_too_large_before_they_are_divided(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.8, 0.8, (300, 19)) * np.sqrt(float(np.finfo(dtype).max))
    x = x.astype(dtype)
    wanted = literally(lg.program(MOMENTS))(x)
    assert np.isfinite(wanted[1]).all()
    for found, right in zip(lg.program(MOMENTS)(x), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=float(np.abs(x).max()) * 1e-6)


HEAD = "f(x[N,D], w[N], c[D]) -> m[D], r{axes}:\n    for n, d:  m[d] += x[n,d] / N\n"
HALF = "for d: h[d] = 0.5 * m[d]\n    for n, d: k[d] += (x[n,d] - h[d]) / N\n    "
# Sums of squares about the mean that are no variances of columns, and some that are.
SQUARES = {
    "all": ("", "for n, d: r += (x[n,d] - m[d])**2 / N"),
    "all, in two parts": ("", f"{HALF}for n, d: r += (x[n,d] - h[d] - k[d])**2 / N"),
    "rows": ("[N]", "for n, d: r[n] += (x[n,d] - m[d])**2 / N"),
    "rows, in two parts": ("[N]", f"{HALF}for n, d: r[n] += (x[n,d] - h[d] - k[d])**2 / N"),
    "some rows": ("[D]", "for n < N-1, d: r[d] += (x[n,d] - m[d])**2 / N"),
    "some columns": ("[D]", "for n, d < D-1: r[d] += (x[n,d] - m[d])**2 / N"),
    "turned": ("[D]", "for n, d: r[D-1-d] += (x[n,d] - m[d])**2 / N"),
    "again and again": ("[D,D]", "for n, d, e: r[e,d] += (x[n,d] - m[d])**2 / N"),
    "one element": ("[2]", "for n, d: r[1] += (x[n,d] - m[d])**2 / N"),
    "weights of rows": ("[D]", "for n, d: r[d] += (x[n,d] - m[d])**2 / w[n]"),
    "weights of rows, times": ("[D]", "for n, d: r[d] += w[n] * (x[n,d] - m[d])**2"),
    "a row's number": ("[D]", "for n, d: r[d] += (x[n,d] - m[d])**2 / (n + 1)"),
    "weights of columns": ("[D]", "for n, d: r[d] += (x[n,d] - m[d])**2 / c[d]"),
    "weights of columns, times": ("[D]", "for n, d: r[d] += c[d] * (x[n,d] - m[d])**2"),
    "columns": ("[D]", "for n, d: r[d] += (x[n,d] - m[d])**2 / N"),
    "more than the mean": (
        "[D]",
        "for d: m[d] += c[d]   if c[d] > 1.5\n    for n, d: r[d] += (x[n,d] - m[d])**2 / N",
    ),
    "more than the rest of it": (
        "[D]",
        f"{HALF}for 1 <= d < D: k[d] += 1.0\n    for n, d: r[d] += (x[n,d] - h[d] - k[d])**2 / N",
    ),
}


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")  # of weights that are not used
@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (130, 9), (0, 3)])
@pytest.mark.parametrize("name", SQUARES)
def test_squares_about_the_mean(name: str, shape: tuple[int, int]) -> None:
    axes, line = SQUARES[name]
    program = lg.program(f"{HEAD.format(axes=axes)}    {line}")
    rng = np.random.default_rng(shape[0])
    given = rng.normal(size=shape), rng.uniform(1, 2, shape[0]), rng.uniform(1, 2, shape[1])
    wanted = literally(program)(*given)
    for found, right in zip(program(*given), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-12)
