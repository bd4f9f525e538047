"""Which sums share loops, and which have their own."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

PAIRS = """pairs(x[N,D], y[M,D], c[N,M]) -> u[N,D], v[M,D]:
    for n, m, d:  u[n,d] += c[n,m] * abs(x[n,d] - y[m,d])
    for n, m, d:  v[m,d] += c[n,m] * abs(x[n,d] - y[m,d])"""

# What both read is made first, and is no larger than what it is made of.
SCALED = """scaled(x[N,D], y[M,D], c[N,M]) -> u[N,D], v[M,D]:
    for m, d:     z[m,d] = exp(y[m,d])
    for n, m, d:  u[n,d] += c[n,m] * abs(x[n,d] - z[m,d])
    for n, m, d:  v[m,d] += c[n,m] * abs(x[n,d] - z[m,d])"""

# The exponential is computed once for both.
DEAR = PAIRS.replace("abs(", "exp(")

# Each reads a tensor with all three indices, which is too large to be read twice.
LARGE = """large(x[N,D,M], y[M,D], c[N,M]) -> u[N,D], v[M,D]:
    for n, m, d:  u[n,d] += c[n,m] * x[n,d,m]
    for n, m, d:  v[m,d] += y[m,d] * x[n,d,m]"""

# Products that have nothing to do with each other: one keeps the channels that the other sums over.
UNRELATED = """unrelated(x[B,I,X], k[O,I], g[B,O,X], c[O]) -> y[B,O,X], z[B,I,X]:
    for b, o, n:     y[b,o,n] += c[o]
    for b, o, n, i:  y[b,o,n] += k[o,i] * x[b,i,n]
    for b, i, n, o:  z[b,i,n] += k[o,i] * g[b,o,n]"""

# These keep the same.
GATES = """gates(x[B,I], W[J,I], V[J,I]) -> z[B,J]:
    for b, j, i:  u[b,j] += W[j,i] * x[b,i]
    for b, j, i:  v[b,j] += V[j,i] * x[b,i]
    for b, j:     z[b,j] = tanh(u[b,j]) * sigmoid(v[b,j])"""


def shown(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


def test_sums_that_keep_other_indices_and_read_little_have_loops_of_their_own() -> None:
    assert shown(PAIRS) == (
        """\
for n < N parallel:
    for d < D vector:  u[n,d] = 0.0
    for m < M:  for d < D vector:  u[n,d] += c[n,m] * abs(x[n,d] - y[m,d])
for m < M parallel:
    for d < D vector:  v[m,d] = 0.0
    for n < N:  for d < D vector:  v[m,d] += c[n,m] * abs(x[n,d] - y[m,d])"""
    )


def test_what_both_need_stands_before_them() -> None:
    made, first, second = shown(SCALED).split("\nfor ")
    assert "exp(" in made
    assert first.startswith("n < N parallel") and second.startswith("m < M parallel")


def test_products_that_use_nothing_of_each_other_have_phases_of_their_own() -> None:
    first, second = shown(UNRELATED).split("\nfor b")
    assert "product:  y[b,o,n] += " in first and "c[o]" in first and "z[" not in first
    assert "product:  z[b,i,n] = " in second


def test_products_that_keep_the_same_share_their_loops() -> None:
    assert shown(GATES).count("for b < B in blocks parallel") == 1


@pytest.mark.parametrize("text", (DEAR, LARGE))
def test_sums_that_share_much_share_their_loops(text: str) -> None:
    assert shown(text).count(" parallel:") == 1


@pytest.mark.parametrize("sizes", ((5, 37, 18), (1, 1, 1), (0, 3, 4), (33, 0, 16), (7, 7, 7)))
@pytest.mark.parametrize("text", (PAIRS, SCALED, DEAR))
def test_values(text: str, sizes: tuple[int, int, int]) -> None:
    n, m, d = sizes
    rng = np.random.default_rng(0)
    program = lg.program(text)
    inputs = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=(n, m))
    right = literally(program)(*inputs)
    for got, wanted in zip(program(*inputs), right, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sizes", ((3, 5, 7, 18), (1, 1, 1, 1), (2, 0, 3, 4), (2, 33, 31, 47)))
def test_unrelated_products(sizes: tuple[int, int, int, int]) -> None:
    b, i, o, n = sizes
    rng = np.random.default_rng(1)
    program = lg.program(UNRELATED)
    inputs = [rng.normal(size=s) for s in ((b, i, n), (o, i), (b, o, n), (o,))]
    right = literally(program)(*inputs)
    for got, wanted in zip(program(*inputs), right, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
