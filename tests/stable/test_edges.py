"""Infinities, NaN, masks, empty and single extents: what they mean stays as it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import loopgrad as lg

SOFTMAX = lg.lib.softmax
LOGSUMEXP = lg.program("""f(s[B,J]) -> L[B]:
    for b, j:  Z[b] += exp(s[b,j])
    for b:     L[b] = log(Z[b])""")
BOTH = lg.program("""f(s[B,J]) -> p[B,J], Z[B]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]""")
VARIANCE = lg.program("""f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  v[j] += x[b,j]**2 / B
    for j:     v[j] -= μ[j]**2""")
INF, NAN = np.inf, np.nan


def results(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)


def literal(program: Any, *arrays: Any) -> Any:
    return lg.compile(program, optimize=False)(*arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_masked_by_minus_infinity_get_nothing(dtype: type) -> None:
    s = np.array([[1e4, -INF, 1e4 + 1], [-INF, -1e4, -INF]], dtype)
    e = np.exp(-1.0)
    expected = [[e / (1 + e), 0, 1 / (1 + e)], [0, 1, 0]]
    p, pullback = lg.vjp(SOFTMAX, s)
    assert_allclose(p, expected, rtol=1e-6)
    (ds,) = pullback(np.array([[1, 5, 3], [7, 8, 9]], dtype))
    slope = 2 * e / (1 + e) ** 2
    assert_allclose(ds, [[-slope, 0, slope], [0, 0, 0]], atol=1e-6)
    assert_allclose(LOGSUMEXP(s), [1e4 + np.log1p(np.exp(1.0)), -1e4], rtol=1e-7)


@pytest.mark.parametrize("row", [[-INF, -INF], [INF, 1.0], [NAN, 0.0], [INF, INF], [-INF, NAN]])
@pytest.mark.parametrize("program", [SOFTMAX, LOGSUMEXP, BOTH, VARIANCE], ids=str)
def test_what_is_no_number_is_as_it_is_written(program: Any, row: list[float]) -> None:
    s = np.array([row, [1.0, 2.0]], np.float32)
    for got, expected in zip(results(program(s)), results(literal(program, s)), strict=True):
        assert_allclose(got, expected, rtol=1e-6)


def test_a_row_of_minus_infinities_has_the_log_of_nothing() -> None:
    assert_array_equal(LOGSUMEXP(np.full((1, 3), -INF)), [-INF])
    two = lg.program("f(x[N], y[N]) -> z[N]:\n    z[n] = log(exp(x[n]) + exp(y[n]))")
    x, y = np.array([-INF, -INF, 1e4, -INF, INF]), np.array([-INF, 3.0, -INF, -1e4, 0.0])
    assert_allclose(two(x, y), [-INF, 3, 1e4, -1e4, INF])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1), (0, 0), (3, 1)])
@pytest.mark.parametrize("program", [SOFTMAX, LOGSUMEXP, BOTH, VARIANCE], ids=str)
def test_empty_and_single_extents(program: Any, shape: tuple[int, int]) -> None:
    s = np.arange(float(np.prod(shape))).reshape(shape)
    got = results(program(s))
    for one, other in zip(got, results(literal(program, s)), strict=True):
        assert_allclose(one, other, atol=1e-12)
    _, pullback = lg.vjp(program, s)
    seeds = [np.ones_like(r) for r in got]
    assert pullback(*seeds)[0].shape == shape


@pytest.mark.parametrize("bound", ["n", "w[n]"])
def test_groups_of_what_ends_with_the_row_are_of_no_size(bound: str) -> None:
    """No size tells whether they are alike; a program with such is compiled as others are."""
    program = lg.program(f"""f(x[N], int w[N]) -> d[N]:
        for n:                m += x[n] / N
        for n, i < {bound}:  d[i//2] += (x[n] - m)**2
        for n:                d[n] += w[n]""")
    x, w = np.random.default_rng(0).normal(size=7), np.array([0, 2, 7, 3, 1, 5, 6])
    assert_allclose(program(x, w), literal(program, x, w), rtol=1e-12)


def test_a_sum_that_is_asked_for_overflows_and_the_rest_is_right() -> None:
    s = np.array([[1e4, 1e4 - 1], [-1e4, -1e4], [0.0, 1.0]], np.float32)
    p, Z = BOTH(s)
    assert_array_equal(Z[:2], [INF, 0])
    assert_allclose(Z[2], 1 + np.e, rtol=1e-6)
    e = np.exp(-1.0)
    assert_allclose(
        p, [[1 / (1 + e), e / (1 + e)], [0.5, 0.5], [e / (1 + e), 1 / (1 + e)]], rtol=1e-6
    )
    _, pullback = lg.vjp(BOTH, s)
    seed = np.array([[1.0, 0.0]] * 3)
    (ds,) = pullback(seed, np.zeros(3))  # 0 * inf is no number; nothing is asked of Z
    slopes = e / (1 + e) ** 2
    assert_allclose(ds, [[slopes, -slopes], [0.25, -0.25], [slopes, -slopes]], rtol=1e-5)
    (ds,) = pullback(0 * seed, np.array([0.0, 0.0, 1.0]))
    assert_allclose(ds[2], np.exp(s[2]), rtol=1e-6)


def test_frozen_residuals() -> None:
    s = np.array([[1e4, 1e4 - 1]])
    p, pullback = lg.vjp(SOFTMAX, s)
    first = pullback(np.array([[1.0, 0.0]]))[0].copy()
    p[:], s[:] = 0, 0
    assert_array_equal(pullback(np.array([[1.0, 0.0]]))[0], first)


def test_optimize_false_and_the_interpreter_run_what_is_written() -> None:
    s = np.array([[1e4, 0.0]])
    with np.errstate(all="ignore"):
        assert np.isnan(lg.compile(SOFTMAX, optimize=False)(s)[0, 0])
        assert np.isnan(lg.compile(SOFTMAX, backend="interpret")(s)[0, 0])
    assert_array_equal(SOFTMAX(s), [[1, 0]])


def test_value_and_grad_and_second_derivatives() -> None:
    loss = lg.program("""loss(s[J], int y) -> L:
    for j:  Z += exp(s[j])
    L = log(Z) - s[y]""")
    s = np.array([1e4, 1e4 + 1, 1e4 - 1], np.float32)
    value, gradient = lg.value_and_grad(loss, wrt="s")(s, 0)
    p = np.exp([0.0, 1, -1]) / np.exp([0.0, 1, -1]).sum()
    assert_allclose(value, -np.log(p[0]), rtol=1e-6)
    assert_allclose(gradient, p - [1, 0, 0], rtol=1e-5, atol=1e-7)
    back = loss.backward("s", recompute=True)
    _, pullback = lg.vjp(back, s, 0, np.float32(1.0))
    v = np.array([1.0, 0.0, 0.0], np.float32)
    (second, _, _) = pullback(v)
    assert_allclose(second, p * (v - p @ v), rtol=1e-5, atol=1e-7)


MIXTURE = lg.program("""mixture(y[N], m[N,K], s[N,K], a[N,K]) -> l[N]:
    for n, k:  Z[n] += exp(a[n,k])
    for n, k:  p[n] += exp(a[n,k] - s[n,k] - (y[n] - m[n,k]) * exp(-s[n,k])) / (1 + exp(-(y[n] - m[n,k]) * exp(-s[n,k])))**2
    for n:     l[n] = log(p[n]) - log(Z[n])""")


def test_one_far_component_of_a_mixture_of_logistics() -> None:
    """What is far away adds nothing: its exponential, alone, would be the largest of all."""
    y, m = np.float32([0.0]), np.float32([[2.5, 0.1, -0.3]])
    s, a = np.float32([[-3.2, 0.0, 0.5]]), np.float32([[0.3, 0.2, -0.4]])
    z = (y[:, None] - m).astype(np.float64) * np.exp(-s.astype(np.float64))
    logs = a - s - np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z)))
    expected = np.logaddexp.reduce(logs, 1) - np.logaddexp.reduce(a.astype(np.float64), 1)
    np.testing.assert_allclose(MIXTURE(y, m, s, a), expected, rtol=1e-5)
    _, pullback = lg.vjp(MIXTURE, y, m, s, a)
    assert all(np.isfinite(g).all() for g in pullback(np.float32([1.5])))


def test_a_term_of_a_loss_that_hides_another() -> None:
    """Where inputs are large the divergence of a variational autoencoder is infinite, whatever its other term is."""
    loss = lg.program("""f(x[N], y[N], m[K], s[K]) -> L:
    for n:  L += log(1 + exp(y[n])) - x[n] * y[n]
    for k:  L -= (1 + s[k] - m[k]**2 - exp(s[k])) / 2""")
    x, y, m, s = (np.float32(v) for v in ([0.0, 1.0], [200.0, -3.0], [0.5], [-0.25]))
    expected = 200 + np.log1p(np.exp(-3.0)) + 3 - (1 - 0.25 - 0.25 - np.exp(-0.25)) / 2
    assert_allclose(loss(x, y, m, s), expected, rtol=1e-6)
    _, pullback = lg.vjp(loss, x, y, m, s)
    assert_allclose(pullback(np.float32(2.0))[1], [2.0, 2 / (1 + np.exp(3.0)) - 2], rtol=1e-6)


BY_EXPONENTIALS = {
    "tanh": "(exp(x[n]) - exp(-x[n])) / (exp(x[n]) + exp(-x[n]))",
    "quick gelu": "x[n] / (1 + exp(-1.702 * x[n]))",
    "elu": "x[n] if x[n] > 0 else exp(x[n]) - 1",
    "log cosh": "log((exp(x[n]) + exp(-x[n])) / 2)",
    "softplus, sharper": "log(1 + exp(2 * x[n])) / 2",
    "a cubed sigmoid": "1 / (1 + exp(-x[n]))**3",
    "focal": "-(1 - 1 / (1 + exp(-x[n])))**2 * log(1 / (1 + exp(-x[n])))",
    "of preferences": "-log(1 / (1 + exp(-0.1 * x[n])))",
    "sech": "2 / (exp(x[n]) + exp(-x[n]))",
    "entropy": "-sigmoid(x[n]) * log(sigmoid(x[n])) - (1 - sigmoid(x[n])) * log(1 - sigmoid(x[n]))",
}


@pytest.mark.parametrize("text", BY_EXPONENTIALS.values(), ids=BY_EXPONENTIALS)
def test_functions_spelled_with_exponentials_anywhere(text: str) -> None:
    program = lg.program(f"f(x[N]) -> y[N]:\n    for n:  y[n] = {text}")
    x = np.float32([-900, -120, -60, -30, -3, -0.5, 0, 0.5, 3, 30, 60, 120, 900])
    seed = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    found = [lg.vjp(program, x.astype(dtype)) for dtype in (np.float32, np.float64)]
    for one, other in zip(*([y, pull(seed.astype(y.dtype))[0]] for y, pull in found), strict=True):
        assert np.isfinite(one).all()
        assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "sum_of", ["i <= j < N:  Z[b,i] += exp(s[b,j])", "j < N:  Z[b,i] += exp(s[b,j])   if j >= i"]
)
def test_sums_of_exponentials_from_each_place_on(sum_of: str) -> None:
    """The largest of all may be far in front: what is behind it has a largest of its own."""
    program = lg.program(f"""f(s[B,N]) -> L[B]:
    for b, i < N, {sum_of}
    for b, i < N:  L[b] += log(Z[b,i]) - s[b,i]""")
    s = (200 * np.random.default_rng(4).normal(size=(5, 7))).astype(np.float32)
    found, pullback = lg.vjp(program, s)
    exact = np.logaddexp.accumulate(s[:, ::-1].astype(np.float64), 1)[:, ::-1]
    assert_allclose(found, (exact - s).sum(1), rtol=1e-6)
    seed = np.float32([1.5, -0.25, 2.0, -1.0, 0.5])
    apart = s.astype(np.float64)[:, :, None] - exact[:, None, :]
    share = np.where(np.tril(np.ones((7, 7))), np.exp(np.minimum(apart, 0)), 0)
    expected = seed[:, None] * (share.sum(2) - 1)
    assert_allclose(pullback(seed)[0], expected, rtol=1e-5, atol=1e-5)
