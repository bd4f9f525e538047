"""Lanes that read, or write, where data tell, with loops inside of them over what the data are the same for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

# Between two rows of a picture, where both are there; weighted, at places that are given.
BETWEEN = """between(v[B,C,Y], int i[B,N], p[B,N]) -> y[B,C,N]:
    for b, c, n:  y[b,c,n] += (1 - p[b,n]) * v[b,c,i[b,n]]   if 0 <= i[b,n] < Y
    for b, c, n:  y[b,c,n] += p[b,n] * v[b,c,i[b,n]+1]       if 0 <= i[b,n] + 1 < Y"""

# In range always, or the call is an error.
WEIGHTED = """weighted(v[B,C,Y], int i[B,N], p[B,N], q[B,N]) -> y[B,C,N]:
    for b, c, n:  y[b,c,n] += v[b,c,i[b,n]] if p[b,n] * q[b,n] > p[b,n] + q[b,n] - 1 else 0.0"""

# Each place takes what comes to it, from several lanes at once.
SPREAD = """spread(g[B,C,N], int i[B,N], p[B,N], size Y) -> v[B,C,Y]:
    local v[B,C,Y]
    for b, c, n:  v[b,c,i[b,n]] += (1 - p[b,n]) * g[b,c,n]   if 0 <= i[b,n] < Y
    for b, c, n:  v[b,c,i[b,n]+1] -= p[b,n] * g[b,c,n]       if 0 <= i[b,n] + 1 < Y"""

# Beside it what runs as well in the order of memory.
MIXED = """mixed(g[B,C,N], int i[B,N], p[B,N], size Y) -> v[B,C,Y], s[B,N], m[B,N]:
    local v[B,C,Y]
    for b, c, n:  v[b,c,i[b,n]] += (1 - p[b,n]) * g[b,c,n]    if 0 <= i[b,n] < Y
    for b, c, n:  s[b,n] += p[b,n] * (p[b,n] + 1) * g[b,c,n]  if 0 <= i[b,n] < Y
    for b, c, n:  m[b,n] max= g[b,c,n]
    for b, c, n:  v[b,c,i[b,n]+1] -= p[b,n] * g[b,c,n]        if 0 <= i[b,n] + 1 < Y
    for b, c, n:  s[b,n] -= g[b,c,n]                          if 0 <= i[b,n] + 1 < Y"""

SIZES = [(2, 3, 5, 33), (1, 17, 4, 16), (3, 1, 7, 7), (2, 2, 1, 50), (2, 0, 3, 20), (1, 4, 0, 18), (2, 5, 6, 0),
         (6, 6, 6, 6), (0, 2, 3, 4)]  # fmt: skip


def drawn(B: int, C: int, Y: int, N: int, dtype: str) -> dict[str, Any]:
    """Some places are outside, by one and by far; many are the same."""
    rng = np.random.default_rng(C + Y + N)
    places = rng.integers(-2, Y + 2, (B, N))
    places[:, ::7] = -(2**40)
    return {
        "v": rng.normal(size=(B, C, Y)).astype(dtype),
        "g": rng.normal(size=(B, C, N)).astype(dtype),
        "i": places,
        "p": rng.random((B, N)).astype(dtype),
        "Y": Y,
    }


def given(program: lg.Program, values: dict[str, Any]) -> dict[str, Any]:
    return {
        n: values[n] for n in [*(i.name for i in program.inputs), *(s.name for s in program.sizes)]
    }


def same(program: lg.Program, inputs: dict[str, Any], tolerance: float) -> None:
    found = lg.compile(program)(**inputs)
    wanted = lg.compile(program, backend="interpret")(**inputs)
    several = isinstance(wanted, tuple)
    for got, right in zip(*((found, wanted) if several else ([found], [wanted])), strict=True):
        np.testing.assert_allclose(got, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", [BETWEEN, SPREAD, MIXED], ids=["between", "spread", "mixed"])
def test_as_the_interpreter(text: str, dtype: str) -> None:
    program = lg.program(text)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for B, C, Y, N in SIZES:
        same(program, given(program, drawn(B, C, Y, N, dtype)), tolerance)


def test_gradients() -> None:
    program = lg.program(BETWEEN)
    backward = program.backward()
    for B, C, Y, N in SIZES:
        values = drawn(B, C, Y, N, "float64")
        values["y.grad"] = values["g"]
        same(backward, given(backward, values), 1e-12)


def test_what_is_not_there_is_not_read() -> None:
    """Times zero, it would be no number."""
    v = np.full((2, 3, 4), np.nan, np.float32)
    v[:, :, 1:3] = 1
    places = np.array([-9, -1, 1, 2, 4, 9])
    i = np.tile(places, (2, 6))
    y = lg.compile(lg.program(BETWEEN))(v, i, np.full(i.shape, 0.25, np.float32))
    wanted = [0, np.nan, 1, np.nan, 0, 0]
    assert np.array_equal(y[1, 2], np.tile(np.float32(wanted), 6), equal_nan=True)


@pytest.mark.parametrize("where", [0, 5, 16, 36])
@pytest.mark.parametrize("place", [-1, 4, 2**40])
def test_one_lane_out_of_range_is_an_error(where: int, place: int) -> None:
    program = lg.compile(lg.program(WEIGHTED))
    i, p = np.tile(np.arange(37) % 4, (2, 1)), np.full((2, 37), 0.5, np.float32)
    i[1, where] = place
    v = np.ones((2, 3, 4), np.float32)
    with pytest.raises(IndexError, match=str(place)):
        program(v, i, p, p)
    assert program(v[:, :0], i, p, p).shape == (2, 0, 37)  # nothing is read
    p[1, where] = 1  # nor there
    assert np.array_equal(program(v, i, p, p) == 0, np.broadcast_to((p == 1)[:, None], (2, 3, 37)))


def shown(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_what_all_channels_have_in_common_is_outside_of_their_loop() -> None:
    assert "for n < N vector:\n        for c < C:\n            y[b,c,n]" in shown(
        lg.program(BETWEEN)
    )
    assert "for n < N vector:\n        for c < C:\n            v[b, c, i[b,n]]" in shown(
        lg.program(SPREAD)
    )


def test_where_little_is_common_rows_are_read_one_after_the_other() -> None:
    taken = "taken(v[B,C,Y], int i[B,N]) -> y[B,C,N]:\n    for b, c, n:  y[b,c,n] = v[b,c,i[b,n]]"
    assert "for c < C parallel:  for n < N vector:" in shown(lg.program(taken))


def test_sums_of_one_tensor_share_loops_with_the_first_that_stores() -> None:
    text = shown(
        lg.program(
            "sums(x[B,J,K], y[B,J]) -> s[B], t[B,J]:\n"
            "    for b, j, k:  s[b] += x[b,j,k]\n"
            "    for b, j, k:  t[b,j] += x[b,j,k] * x[b,j,k]\n"
            "    for b, j, k:  s[b] -= x[b,j,k] * y[b,j]"
        )
    )
    assert text.count("for k < K vector") == 1
