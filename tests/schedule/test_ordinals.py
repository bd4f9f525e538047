"""Winners of windows of few places: one number for each, where nothing else asks for their indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from tests.literal import literally
from tests.schedule.test_pools import drawn, scheduled

SQUARES = """squares(x[X,Y]) -> y[(X+2-{w})//{s}+1,(Y+2-{w})//{s}+1]:
    for m, n, p < {w}, q < {w}:  y[m,n] {op} x[{s}*m+p-1,{s}*n+q-1]   if 0 <= {s}*m+p-1 < X and 0 <= {s}*n+q-1 < Y
"""


def squares(width: int, stride: int, operation: str = "max=") -> lg.Program:
    return lg.program(SQUARES.format(w=width, s=stride, op=operation))


def test_two_indices_are_one_number() -> None:
    found = scheduled(squares(3, 2).backward())
    assert "y.winner[m,n] min= 3 * p + q   if" in found
    assert found.count("min=") == 1
    assert "y.p[" not in found and "y.q[" not in found
    assert "4 == y.winner[x.grad.0,x.grad.1]" in found


def test_a_number_for_up_to_32_places() -> None:
    assert "winner" in scheduled(squares(5, 4).backward())
    assert "winner" not in scheduled(squares(6, 4).backward())


@pytest.mark.parametrize(
    "uses",
    [
        "for n, p < 3:  z[2*n+p] += g[n]   if p == w[n] and w[n] > 0",  # its value counts
        "for n, p < 4:  z[2*n+p] += g[n]   if p == w[n]",  # another range
    ],
)
def test_other_uses_keep_the_index(uses: str) -> None:
    program = lg.program(
        "uses(x[X], y[N], g[N]) -> z[2*N+2]:\n"
        "    local int w[N]\n"
        "    for n, p < 3:  w[n] min= p   if 2*n + p < X and x[2*n+p] == y[n]\n"
        f"    {uses}\n"
    )
    assert "winner" not in scheduled(program)
    x, g = drawn((23,), 0), np.random.default_rng(1).normal(size=11)
    y = np.array([x[2 * n : 2 * n + 3].max() for n in range(11)])
    expected = lg.compile(program, backend="interpret")(x, y, g)
    np.testing.assert_allclose(program(x, y, g), expected, rtol=1e-12)


def test_a_result_keeps_its_index() -> None:
    program = lg.program(
        "first(x[X], y[N]) -> w[N], z[2*N+2]:\n"
        "    for n, p < 3:  w[n] min= p   if 2*n + p < X and x[2*n+p] == y[n]\n"
        "    for n, p < 3:  z[2*n+p] += y[n]   if p == w[n]\n"
    )
    assert "winner" not in scheduled(program)


@pytest.mark.parametrize(
    ("width", "stride", "dtype"),
    [
        (2, 2, np.float64),
        (3, 2, np.float32),
        (3, 1, np.float64),
        (2, 3, np.float32),
        (4, 3, np.float64),
        (3, 3, np.float32),
    ],
)
def test_gradients_of_squares(width: int, stride: int, dtype: Any) -> None:
    """Ties, NaN, infinities; windows that overlap, that leave gaps, that lie over an edge."""
    for operation in ("max=", "min="):
        program = squares(width, stride, operation)
        backward = program.backward()
        for seed, shape in enumerate([(width, 3), (5, 37), (3, 68), (0, 19), (8, 1), (18, 16)]):
            if min(shape) + 2 < width:
                continue
            x = drawn(shape, seed).astype(dtype)
            y = literally(program)(x)
            np.testing.assert_array_equal(program(x), y)
            g = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
            expected = literally(backward)(x, y, g)
            found = lg.compile(backward)(x, y, g)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_read_behind_a_block_keeps_its_index() -> None:
    program = lg.program(
        """f(x[B,J], c[B], d[B,N]) -> y[B,N], s[B,J]:
            local int w[B,N]
            for b, n < N, p < 3:  m[b,n] max= x[b,2*n+p]   if 2*n+p < J
            for b, n < N, p < 3:  w[b,n] min= p   if 2*n+p < J and x[b,2*n+p] == m[b,n]
            for j:
                for b:  s[b,j] = tanh(c[b] + (s[b,j-1] if j > 0 else 0))
            for b, n < N, p < 3:  y[b,n] += d[b,n] * s[b,2*n+p]   if 2*n+p < J and p == w[b,n]"""
    )
    rng = np.random.default_rng(5)
    x, c, d = rng.integers(-2, 3, (3, 9)).astype(float), rng.normal(size=3), rng.normal(size=(3, 4))
    wanted = literally(program)(x, c, d)
    for found, right in zip(program(x, c, d), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-13)


def test_winners_whose_range_hangs_on_what_is_searched() -> None:
    program = lg.program(
        """f(c[J], W[J,K], g[K,J]) -> y[K]:
            local t[K,J], int s[K,J], int w[K,J]
            for k < K, j < J, j <= i < J:  t[k,i] min= c[j] * W[j,k]
            for k < K, j < J, j <= i < J:  s[k,i] min= 0   if c[j] * W[j,k] == t[k,i]
            for k < K, i < J:              s[k,i] min= 1   if 0 == t[k,i]
            for k < K, j < J, j <= i < J:  w[k,i] min= j   if c[j] * W[j,k] == t[k,i] and s[k,i] == 0
            for k < K, j < J, j <= i < J:  y[k] += g[k,i]   if s[k,i] == 0 and j == w[k,i]"""
    )
    rng = np.random.default_rng(6)
    c, W, g = rng.normal(size=7), rng.normal(size=(7, 5)), rng.normal(size=(5, 7))
    wanted = literally(program)(c, W, g)
    np.testing.assert_allclose(program(c, W, g), wanted, rtol=1e-13)


@pytest.mark.parametrize(
    "loops", ["i < 3, n < N, j < 3", "i < 3, j < 3, n < N", "n < N, i < 3, j < 3"]
)
@pytest.mark.parametrize("value", ["u[n] * k[i,j]", "tanh(u[n]) * k[n%3,j]"])
def test_a_winner_among_many_places_between_few(loops: str, value: str) -> None:
    """The search for j reads what that for i has found: what is made of that one changes its line, too."""
    program = lg.program(f"f(u[N], k[3,3]) -> y:\n    for {loops}:  y max= {value}")
    backward = program.backward(recompute=True)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        given = {"u": rng.normal(size=15), "k": rng.normal(size=(3, 3)), "y.grad": rng.normal()}
        wanted = literally(backward)(**given)
        for found, right in zip(backward(**given), wanted, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-13)
