"""Sums whose bounds rise with a row's index: windows of what is near, what is behind, what is ahead.

A block of rows has in common what all of them sum over, which is a product; on each side of it some rows have
more, one by one. What the product reads is packed once for all blocks, and each begins in a panel of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

ATTENTION = """
f(q[T,D], k[T,D], v[T,E], w = 9) -> y[T,E]:
    for t, {band}, d:  s[t,u] += q[t,d] * k[u,d] / sqrt(D)
    for t, {band}:     m[t]   max= s[t,u]
    for t, {band}:     Z[t]   += exp(s[t,u] - m[t])
    for t, {band}, e:  y[t,e] += exp(s[t,u] - m[t]) / Z[t] * v[u,e]
"""
# Of all pairs, those that a program has.
BANDS = {
    "behind": "max(t-w, 0) <= u <= t",
    "on both sides": "max(0, t-w) <= u < min(T, t+w+1)",
    "ahead, up to": "t <= u < min(t+w+1, T)",
    "not itself": "max(t-w, 0) <= u < t",
    "two limits": "max(max(t-w, t-40), 0) <= u <= t",
}
SHAPES = {"q": "TD", "k": "TD", "v": "TE"}
AHEAD = ATTENTION.replace(", w = 9", "").format(band="t <= u < T")
# What is done within a band, otherwise than in attention.
OTHERS = {
    "the band is the result": (
        "f(q[T,D], k[T,D], w = 9) -> s[T,T]:\n    for t, {band}, d:  s[t,u] += q[t,d] * k[u,d]\n",
        {"q": "TD", "k": "TD"},
    ),
    "and is added to something": (
        "f(q[T,D], k[T,D], w = 9) -> s[T,T]:\n"
        "    for t, u < T:      s[t,u] += q[t,0] * k[u,1]\n"
        "    for t, {band}, d:  s[t,u] += q[t,d] * k[u,d]\n",
        {"q": "TD", "k": "TD"},
    ),
    "what is given to others": (
        "f(q[T,D], k[T,D], v[T,E], w = 9) -> y[T,E]:\n"
        "    for t, {band}, d:  s[t,u] += q[t,d] * k[u,d]\n"
        "    for t, {band}, e:  y[u,e] += tanh(s[t,u]) * v[t,e]\n",
        SHAPES,
    ),
    "a matrix of a band": (
        "f(q[T,T], v[T,E], w = 9) -> y[T,E]:\n    for t, {band}, e:  y[t,e] += q[t,u] * v[u,e]\n",
        {"q": "TT", "v": "TE"},
    ),
    "columns of the other side": (
        "f(q[D,T], v[T,T], w = 9) -> y[D,T]:\n    for t, {band}, d:  y[d,u] += q[d,t] * v[t,u]\n",
        {"q": "DT", "v": "TT"},
    ),
    "heads of a batch": (
        "f(q[B,T,D], k[B,T,D], v[B,T,E], w = 9) -> y[B,T,E]:\n"
        "    for b, t, {band}, d:  s[b,t,u] += q[b,t,d] * k[b,u,d]\n"
        "    for b, t, {band}, e:  y[b,t,e] += tanh(s[b,t,u]) * v[b,u,e]\n",
        {"q": "BTD", "k": "BTD", "v": "BTE"},
    ),
    "of two axes": (
        "f(q[T,D], k[T,C,D], v[T,C,E], w = 9) -> y[T,E]:\n"
        "    for t, {band}, c, d:  s[t,u,c] += q[t,d] * k[u,c,d]\n"
        "    for t, {band}, c, e:  y[t,e]   += tanh(s[t,u,c]) * v[u,c,e]\n",
        {"q": "TD", "k": "TCD", "v": "TCE"},
    ),
}
PROGRAMS = {
    "ahead": (AHEAD, SHAPES),
    **{name: (ATTENTION.format(band=band), SHAPES) for name, band in BANDS.items()},
    **{
        name: (text.format(band=BANDS["behind"]), shapes) for name, (text, shapes) in OTHERS.items()
    },
}


# How wide they are: code is made for a width, so each has one.
WIDTHS = {"on both sides": 129, "not itself": 0, "ahead, up to": 64, "of two axes": 5}
BACKWARD = (
    "behind",
    "on both sides",
    "ahead",
    "what is given to others",
    "of two axes",
    "a matrix of a band",
    "columns of the other side",
)
ROWS = (1, 48, 97, 98, 301)


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_literal_loops(name: str) -> None:
    program, given = lg.program(PROGRAMS[name][0]), width_of(name)
    kernel, literal = lg.compile(program), literally(program)
    for rows in ROWS:
        arrays = drawn(name, rows)
        wanted = literal(*arrays, **given)
        for threads in (1, 3):
            with some_threads(threads):
                found = kernel(*arrays, **given)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_are_those_of_the_literal_loops(name: str) -> None:
    program, given = lg.program(PROGRAMS[name][0]), width_of(name)
    literal = literally(program.backward(recompute=True))
    for rows in ROWS[1:]:
        arrays = drawn(name, rows)
        for threads in (1, 3):
            with some_threads(threads):
                result, pullback = lg.vjp(program, *arrays, **given)
                seed = np.random.default_rng(rows).standard_normal(result.shape)
                gradients = pullback(seed)
            for one, other in zip(gradients, literal(*arrays, seed, **given), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-10)


def width_of(name: str) -> dict[str, int]:
    return {} if name == "ahead" else {"w": WIDTHS.get(name, 20)}


def drawn(name: str, rows: int) -> list[np.ndarray]:
    extents = {"B": 2, "T": rows, "C": 3, "D": 11, "E": 21}
    rng = np.random.default_rng(7)
    return [
        rng.standard_normal([extents[axis] for axis in axes]) for axes in PROGRAMS[name][1].values()
    ]


@contextmanager
def some_threads(number: int) -> Iterator[None]:
    before = lg.get_num_threads()
    lg.set_num_threads(number)
    try:
        yield
    finally:
        lg.set_num_threads(before)


def test_blocks_share_what_all_of_their_rows_sum_over() -> None:
    program = lg.program(PROGRAMS["behind"][0])
    text = show(optimized(infer(program), validate(program)))
    assert (
        """
        product:  y[t,e] = e2[t,u] * h[t] * v[u,e]
        for t.from <= t.step < t.to in blocks of 12:
            product:  y[t,e] += e2[t,u] * h[t] * v[u,e]
            for t.step.from <= t < t.step.to:
                for max(t-w, 0) <= u < min(max(t.step.to-1-w, 0), min(bound, t+1)):  for e < E vector:  y[t,e] += e2[t,u] * h[t] * v[u,e]
                for max(max(t.step.to-1-w, 0), min(bound, t.step.from+1)) <= u < min(bound, t+1):  for e < E vector:  y[t,e] += e2[t,u] * h[t] * v[u,e]
"""
        in text
    ), text
