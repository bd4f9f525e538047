"""A sum over an index of which data pick one value."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from tests.schedule.test_separating import scheduled


def picked(statement: str, more: str = "") -> lg.Program:
    return lg.program(f"picked(s[B,J], int w[B]{more}) -> y[B]:\n    for b, j:  {statement}\n")


def test_it_is_the_element_that_they_pick() -> None:
    assert scheduled(picked("y[b] -= s[b,j]   if j == w[b]")).splitlines() == [
        "for b < B in blocks parallel:",
        "    for b.from <= b < b.to vector:  "
        "y[b] = -(s[b,w[b]] if w[b] < J and w[b] >= 0 else 0.0)",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "y[b] += s[b,j]   if j == w[b]",
        "y[b] -= s[b,j]   if w[b] == j and s[b,j] > 0",
        "y[b] *= s[b,j]   if j == w[b]",
        "y[b] max= s[b,j]   if j == w[b]",
        "y[b] min= s[b,j] + j   if j == w[b]",
        "y[b] += s[b,j] if j == w[b] else 0.5",
    ],
)
def test_it_comes_to_the_same(statement: str) -> None:
    program = picked(statement)
    s = np.random.default_rng(0).normal(size=(7, 19))
    w = np.array([0, 18, 19, -1, 5, 2**62, -(2**63)])  # of some there is none
    expected = lg.compile(program, backend="interpret")(s, w)
    np.testing.assert_allclose(program(s, w), expected, rtol=1e-12)


def test_indices_that_stay_beside_it() -> None:
    program = lg.program(
        "rows(s[B,J,K], int w[B]) -> y[B], z[B]:\n"
        "    for b, j, k:  y[b] += s[b,j,k]   if j == w[b]\n"
        "    for b, k, j <= k:  z[b] += s[b,j,k]   if j == w[b]\n"
    )
    text = scheduled(program)
    assert "for j" not in text
    s = np.random.default_rng(1).normal(size=(5, 6, 6))
    w = np.array([0, 5, 6, -1, 3])
    expected = lg.compile(program, backend="interpret")(s, w)
    for one, other in zip(program(s, w), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_real_number_picks_none() -> None:
    program = lg.program(
        "real(s[B,J], w[B]) -> y[B]:\n    for b, j:  y[b] += s[b,j]   if j == w[b]\n"
    )
    assert "for j < J" in scheduled(program)
    s, w = np.random.default_rng(2).normal(size=(3, 9)), np.array([2.0, 2.5, np.nan])
    np.testing.assert_allclose(program(s, w), [s[0, 2], 0, 0])


def test_a_place_that_is_read_out_of_range_is_still_an_error() -> None:
    program = lg.program(
        "out(s[B,J], int w[B]) -> y[B]:\n    for b, j < J:  y[b] += s[b,j+1]   if j == w[b]\n"
    )
    s = np.ones((2, 4))
    np.testing.assert_allclose(program(s, np.array([0, 9])), [1, 0])
    with pytest.raises(IndexError):
        program(s, np.array([0, 3]))


SPREAD = {
    "sum": "for n, n <= i < min(n+3, X):  x[i] += g[n,0]   if i == w[n]",
    "several": "for n, n-2 <= i < n+2, k:  x[i] -= g[n,k] * i   if w[n] == i and 0 <= i < X",
    "greatest": "for n, n // 2 <= i < X:  x[i] max= g[n,0]   if i == w[n] and g[n,1] > 0",
    "whole": "for n, i < X:  x[i] -= g[n,0]   if i == w[n]",
    "whole, greatest": "for n, i < X, k:  x[i] max= g[n,k]   if w[n] == i and g[n,k] > 0",
    "whole, twice": "for n, i < X:  x[i] += 1   if i == w[n]\n    for n, i < X:  x[i] += g[n,1] if i == w[n] else 2",
}


@pytest.mark.parametrize("name", SPREAD)
def test_what_a_loop_would_go_over_again_and_again_is_written_at_its_place(name: str) -> None:
    program = lg.program(
        f"spread(g[N,K], int w[N], size X) -> x[X]:\n    local x[X]\n    {SPREAD[name]}\n"
    )
    assert "x[w[n]]" in scheduled(program)
    g = np.random.default_rng(0).normal(size=(9, 4))
    w = np.array([0, 1, 8, 9, -1, 5, 6, 2**62, -(2**63)])  # of some there is none
    expected = lg.compile(program, backend="interpret")(g, w, X=9)
    np.testing.assert_allclose(program(g, w, X=9), expected, rtol=1e-12)
