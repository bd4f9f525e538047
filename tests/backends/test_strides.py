"""Every second element, or third: vectors with gaps, of which no lane reaches beyond an array."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends import guarded
from tests.backends.test_forced_schedules import check
from tests.effort import sample

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")

READ = "f(x[B,X]) -> y[B,(X-1)//{s}]:\n    for b, n:  y[b,n] = 3 * x[b,{s}*n+1]"
ADD = """f(g[B,N]) -> x[B,{s}*N]:
    for b, n, d < {s}:  x[b,{s}*n+d] += 2 * g[b,n]"""
WINNER = """f(x[B,X], g[B,X//{s}]) -> d[B,X]:
    for b, n < X//{s}, k < {s}:  m[b,n] max= x[b,{s}*n+k]
    for b, n < X//{s}, k < {s}:  d[b,{s}*n+k] += g[b,n]   if x[b,{s}*n+k] == m[b,n]"""
LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 35]


@pytest.mark.parametrize("stride", [2, 3, 4, 5])
@pytest.mark.parametrize("text", [READ, ADD, WINNER], ids=["read", "add", "winner"])
@pytest.mark.parametrize("end", [False, True])
def test_strides_at_the_ends_of_memory(text: str, stride: int, end: bool) -> None:
    program = lg.program(text.format(s=stride))
    rng = np.random.default_rng(stride)
    for length in sample(LENGTHS, 6):
        extent = stride * length
        x, g = rng.normal(size=(2, extent)), rng.normal(size=(2, length))
        inputs = {
            READ: {"x": x[:, : extent - stride + 2]},
            ADD: {"g": g},
            WINNER: {"x": x, "g": g},
        }[text]
        check(program, inputs, "", 2, end)


def test_windows_are_in_lanes() -> None:
    program = lg.program(WINNER.format(s=2))
    text = show(optimized(infer(program), validate(program)))
    assert "for n < X//2 vector:  for k < 2:  m[b,n] max= x[b, 2*n+k]" in text
    # What windows spread is taken at each place of a step.
    _, loop = text.split("    for d.1 < (X+1)//2 vector:\n")
    first, second, *_ = loop.splitlines()
    assert first.startswith("        d[b, 2*d.1] = g[b,d.1] if")
    assert second.startswith("        d[b, 2*d.1+1] = (g[b,d.1] if")
