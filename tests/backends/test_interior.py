"""Conditions that fail at the ends of a vector loop alone: looked at there, and nowhere else."""

from __future__ import annotations

import re

import numpy as np
import pytest

import loopgrad as lg
from tests.effort import sample
from tests.literal import literally

PROGRAMS = {
    "both ends": "for b, n, p < 3:  y[b,n] max= x[b,2*n+p-1]   if 0 <= 2*n+p-1 < X",
    "conditional": "for b, n:  y[b,n] = (x[b,n-2] if n >= 2 else 0) + (x[b,n+1] if n + 1 < X else x[b,n])",
    "chain": "for b, n:  y[b,n] = x[b,n-3] if 0 <= n-3 < X-5 else 1",
    "rows": "for b, n:  y[b,n] = x[b-1,n+1]   if b > 0 and n + 1 < X",
    "never": "for b, n:  y[b,n] = x[b,n+9]   if n + 9 < X and n - 9 >= 0",
    "backwards": "for b, n:  y[b,n] = x[b,X-n]   if X - n < X and 4 - n < 3",
    "a sum": "for b, n < X:  y[b,0] += x[b,n+2]   if n + 2 < X",
    "not a few": "for b, n:  y[b,n] = x[b,n]   if 2*n < X",
    "of data": "for b, n:  y[b,n] = x[b,n+1]   if n + 1 < X and x[b,n] > 0",
    "equal": "for b, n:  y[b,n] = x[b,n]   if n == X - 2",
    "or": "for b, n:  y[b,n] = x[b,n]   if n < 2 or n > X - 3",
}
LENGTHS = [1, 2, 8, 15, 16, 17, 18, 31, 32, 33, 34, 47, 48, 49, 50, 64, 65, 66, 100]


@pytest.mark.parametrize("statement", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_at_all_lengths(statement: str) -> None:
    program = lg.program(f"f(x[B,X]) -> y[B,X]:\n    {statement}\n")
    literal = literally(program)
    for length in sample(LENGTHS, 12):
        for dtype in (np.float32, np.float64):
            x = np.random.default_rng(length).normal(size=(3, length)).astype(dtype)
            np.testing.assert_allclose(program(x), literal(x), rtol=1e-5, atol=1e-6)


def test_whole_vectors_do_not_look() -> None:
    program = lg.program(f"f(x[B,X]) -> y[B,X]:\n    {PROGRAMS['conditional']}\n")
    text = lg.compile(program).runner.text("float")
    blocks = re.split(r"\n(?=[\w.]+:\n)", text)
    whole = [block for block in blocks if re.search(r"= fadd <\d+ x float>", block)]
    assert any(not re.search(r"icmp \w+ <|masked", block) for block in whole)


def test_windows_of_an_odd_axis_do_not_look_either() -> None:
    # (X+1)//2 pairs of elements, and X//2 windows: one more at most.
    program = lg.program(
        "f(x[B,X], m[B,X//2], g[B,X//2]) -> d[B,X]:\n"
        "    for b, n < X//2, k < 2:  d[b,2*n+k] += g[b,n]   if x[b,2*n+k] == m[b,n]\n"
    )
    text = lg.compile(program).runner.text("double")
    pairs = [b for b in re.split(r"\n(?=[\w.]+:\n)", text) if re.search(r"store <\d+ x double>", b)]
    assert any("icmp" not in block for block in pairs)
    literal = lg.compile(program, optimize=False)
    for length in sample(LENGTHS, 12):
        x = np.random.default_rng(length).integers(-1, 2, (3, length)).astype(float)
        m, g = np.random.default_rng(length).integers(-1, 2, (2, 3, length // 2)).astype(float)
        assert np.array_equal(program(x, m, g), literal(x, m, g))


def test_places_side_by_side_are_stored_as_whole_vectors() -> None:
    program = lg.program(
        "spread(x[X], z[X]) -> y[3*X]:\n"
        "    y[3*n] = x[n]\n    y[3*n+1] = z[n]\n    y[3*n+2] = x[n] + z[n]\n"
    )
    text = lg.compile(program).runner.text("double")
    loaded = {int(lanes) for lanes in re.findall(r"load <(\d+) x double>", text)}
    assert {f"store <{3 * lanes} x double> %" in text for lanes in loaded} == {True}
    for length in (0, 1, 7, 8, 9, 16, 33):
        x, z = np.random.default_rng(length).normal(size=(2, length))
        assert np.array_equal(program(x, z), np.stack([x, z, x + z], axis=1).ravel())
