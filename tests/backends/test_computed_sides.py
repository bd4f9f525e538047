"""Sides of products that are computed from what the block of rows around keeps for itself.

They are computed some rows at a time, in blocks within those of the rows: of fewer rows than the block has, and
of as many. What the block keeps begins where that begins.
"""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from tests.literal import literally

FIRST = "    for b, n, i:  d[b,n] += W[n,i] * x[b,i]\n"
LAST = "    for b, o:     y[b,o] = tanh(a[b,o]) + x[b,0]\n"
HEAD = "f(x[B,I], W[N,I], L[N,O]) -> y[B,O]:\n"
SHAPES = {"x": "BI", "W": "NI", "L": "NO"}
# What the left side of the second product is, of the rows that the first one made.
LEFTS = {
    "two factors": "d[b,n] * sigmoid(d[b,n])",
    "another element of the row": "d[b,n//2] * d[b,n]",
    "the same element": "d[b,n//2]",
}
PROGRAMS = {
    **{
        f"{name}{', and more of the rows' if more else ''}": (
            HEAD
            + FIRST
            + f"    for b, n, o:  {'a' if more else 'y'}[b,o] += {left} * L[n,o]\n"
            + (LAST if more else ""),
            SHAPES,
        )
        for name, left in LEFTS.items()
        for more in (False, True)
    },
    "what is scaled, then added to": (
        "f(x[B,I], W[N,I], L[I,N]) -> y[B,I]:\n"
        "    for b, i:     m[b]   += x[b,i]**2 / I\n"
        "    for b, n, i:  d[b,n] += W[n,i] * x[b,i] / sqrt(m[b] + 1)\n"
        "    for b, i, n:  y[b,i] += L[i,n] * d[b,n] * sigmoid(d[b,n])\n"
        "    for b, i:     y[b,i] += x[b,i]\n",
        {"x": "BI", "W": "NI", "L": "IN"},
    ),
    "rows of two indices": (
        "f(x[B,T,I], W[N,I], L[N,O]) -> y[B,T,O]:\n"
        "    for b, t, n, i:  d[b,t,n] += W[n,i] * x[b,t,i]\n"
        "    for b, t, n, o:  a[b,t,o] += d[b,t,n//2] * d[b,t,n] * L[n,o]\n"
        "    for b, t, o:     y[b,t,o] = tanh(a[b,t,o]) + x[b,t,0]\n",
        {"x": "BTI", "W": "NI", "L": "NO"},
    ),
    "sums that end at the row": (
        "f(x[B,I], W[N,I], L[B,O]) -> y[B,O]:\n"
        "    for b, n, i:       d[b,n] += W[n,i] * x[b,i]\n"
        "    for b, c <= b, o:  a[b,o] += d[b,c%N] * d[b,c//2%N] * L[c,o]\n"
        "    for b, o:          y[b,o] = tanh(a[b,o]) + x[b,0]\n",
        {"x": "BI", "W": "NI", "L": "BO"},
    ),
    "columns of the second": (
        "f(x[B,I], W[N,I], L[O,N]) -> y[O,B]:\n"
        "    for b, n, i:  d[b,n] += W[n,i] * x[b,i]\n"
        "    for o, b, n:  y[o,b] += L[o,n] * d[b,n//2] * d[b,n]\n",
        {"x": "BI", "W": "NI", "L": "ON"},
    ),
}
ROWS = (0, 1, 9, 47, 48, 49, 96, 97, 100, 193, 301)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_and_gradients_are_those_of_the_literal_loops(name: str, threads: int) -> None:
    text, shapes = PROGRAMS[name]
    program, rng = lg.program(text), np.random.default_rng(7)
    kernel, literal = lg.compile(program), literally(program)
    backward = literally(program.backward(recompute=True))
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    try:
        for rows in ROWS:
            extents = {"B": rows, "T": 3, "I": 13, "N": 22, "O": 18}
            if "T" in shapes["x"]:
                extents |= {"B": 5, "T": rows}
            arrays = {
                tensor: rng.standard_normal([extents[axis] for axis in axes])
                for tensor, axes in shapes.items()
            }
            wanted = literal(**arrays)
            seed = rng.standard_normal(wanted.shape)
            got, pullback = lg.vjp(program, *arrays.values())
            for found in (kernel(**arrays), got):
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)
            gradients = backward(*arrays.values(), seed)
            for one, other in zip(pullback(seed), gradients, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-10)
    finally:
        lg.set_num_threads(before)
