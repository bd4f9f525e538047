"""Which programs have loops over single values, for which LLVM does more."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm import prepare
from loopgrad.schedule.default import optimized
from loopgrad.schedule.loops.singles import has_no_lanes, runs_singly
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.tree import Fused
from loopgrad.stable import stabilize

VECTORS = "f(x[B,J]) -> m[B]:\n    for b, j:  m[b] max= exp(x[b,j])"
SCATTER = (
    "f(int i[B,N], x[B,N], size V) -> y[B,V]:\n    for b, n:  y[b,i[b,n]] += x[b,n]   if x[b,n] > 0"
)
HISTOGRAM = "f(int i[N], w[N], size V) -> y[V]:\n    for n:  y[i[n]] += w[n]"
PARTS = (
    "f(x[B,X], size N) -> y[B,N]:\n"
    "    for b, n, n*X//N <= i < ((n+1)*X + N-1) // N:  y[b,n] += x[b,i]"
)
PAIRS = "f(x[B]) -> y[B,2]:\n    for b, c < 2:  y[b,c] = c * x[b]"
WINDOWS = "f(x[B,X]) -> y[B,X//2]:\n    for b, n, p < 2:  y[b,n] += x[b,2*n+p]"


@pytest.mark.parametrize(
    ("text", "singly", "no_lanes"),
    [
        (VECTORS, False, False),
        (WINDOWS, False, False),
        (SCATTER, True, False),
        (HISTOGRAM, True, True),
        (PARTS, True, False),
        (PAIRS, True, True),
        # Moments go by parts of the rows, whose bounds are divided for, with lanes over the columns inside.
        (str(stabilize(lg.lib.batchnorm)), False, False),
    ],
)
def test_loops_over_single_values(text: str, singly: bool, no_lanes: bool) -> None:
    program = lg.program(text)
    phases = optimized(infer(program), validate(program)).phases
    bodies = [p.body for p in phases if isinstance(p, Fused)]
    assert any(map(runs_singly, bodies)) is singly
    assert any(map(has_no_lanes, bodies)) is no_lanes


def test_llvm_finds_vectors_where_the_schedule_has_none() -> None:
    program = lg.program(PAIRS)
    runner = prepare(Task(infer(program), validate(program), True))
    assert "x float>" in runner.text("float", optimized=True)


SQUARES = "f(g[B,K,D], h[K,D]) -> y[K,D,D]:\n    for b, k, d:  y[k,d,d] += g[b,k,d] * h[k,d]"


def test_no_lanes_write_apart_in_each_turn_of_a_loop_around() -> None:
    """They would read what the turn before has just written apart."""
    program = lg.program(SQUARES)
    lines = show(optimized(infer(program), validate(program))).splitlines()
    assert not any("vector" in line and "y[k,d,d]" in line for line in lines), lines


def test_a_scatter_is_in_no_lanes_and_takes_nobody_out_of_theirs() -> None:
    program = lg.program(
        "f(int i[B,N], g[B,N], x[B,V]) -> y[B,V], z[B,N]:\n"
        "    for b, n:  y[b,i[b,n]] += g[b,n]\n"
        "    for b, n:  z[b,n] = g[b,n] * g[b,n]"
    )
    lines = show(optimized(infer(program), validate(program))).splitlines()
    assert any("n < N:  y[b, i[b,n]]" in line for line in lines)
    assert any("n < N vector:  z[b,n]" in line for line in lines)
