"""Recurrences over a few short rows: what a turn hands to the next stays in a register."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.fused.turns import handed, inside
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import optimized
from loopgrad.schedule.tree import Blocks, Fused, Node, Over

LINEAR = """
linear(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
    for t:
        for b, j:  h[b,t,j] = a[b,t,j] * (h[b,t-1,j] if t > 0 else 0) + x[b,t,j]
"""

PROGRAMS = {
    "linear": LINEAR,
    "time first, from a state": """
        f(a[T,B,J], x[T,B,J], h0[B,J]) -> h[T,B,J]:
            for t:
                for b, j:  h[t,b,j] = a[t,b,j] * (h[t-1,b,j] if t > 0 else h0[b,j]) + x[t,b,j]
    """,
    "downwards": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for t descending:
                for b, j:  h[b,t,j] = a[b,t,j] * (h[b,t+1,j] if t < T - 1 else 0) + x[b,t,j]
    """,
    "to the next turn": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for b, t, j:  h[b,t,j] = x[b,t,j]
            for t:
                for b, j:  h[b,t+1,j] += h[b,t,j] * a[b,t,j]   if t < T - 1
    """,
    "two turns away": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for t:
                for b, j:  h[b,t,j] = x[b,t,j] + a[b,t,j] * (h[b,t-2,j] if t > 1 else 0)
    """,
    "both turns before": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for t:
                for b, j:  h[b,t,j] = x[b,t,j] + (a[b,t,j] * h[b,t-1,j] if t > 0 else 0)
                for b, j:  h[b,t,j] -= h[b,t-2,j] / 2   if t > 1
    """,
    "where data say so": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for b, t, j:  h[b,t,j] = x[b,t,j]
            for 1 <= t < T:
                for b, j:  h[b,t,j] += h[b,t-1,j]   if a[b,t,j] > 0
    """,
    "at some turns only": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for b, t, j:  h[b,t,j] = x[b,t,j]
            for 1 <= t < T:
                for b, j:  h[b,t,j] += h[b,t-1,j] * a[b,t,j]   if t % 3 > 0
    """,
    "a maximum": """
        f(a[B,T,J], x[B,T,J]) -> h[B,T,J]:
            for t:
                for b, j:  h[b,t,j] = max(x[b,t,j], h[b,t-1,j] + a[b,t,j]) if t > 0 else x[b,t,j]
    """,
    "without lanes": """
        f(a[B,T], x[B,T]) -> h[B,T]:
            for t:
                for b:  h[b,t] = tanh(x[b,t] + (a[b,t] * h[b,t-1] if t > 0 else 0))
    """,
}  # fmt: skip

# Rows that a register holds and some that it does not; one row and many; turns that only begin and end. By
# turns for float64 and float32, of which twice as many fit.
SIZES = [
    (1, 9, 3),
    (1, 5, 16),
    (1, 7, 8),
    (3, 8, 11),
    (9, 6, 9),
    (12, 5, 13),
    (1, 0, 9),
    (1, 1, 12),
]


@pytest.mark.parametrize(("dtype", "threads"), [("float64", 1), ("float32", 2)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_and_gradients(name: str, dtype: str, threads: int) -> None:
    program = lg.program(textwrap.dedent(PROGRAMS[name]))
    backward = program.backward(recompute=True)
    rng = np.random.default_rng(1)
    before = lg.get_num_threads()
    near = {"rtol": 1e-11, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-5, "atol": 1e-5}
    lg.set_num_threads(threads)
    try:
        for B, T, J in SIZES[threads - 1 :: 2]:
            extents = {"B": B, "T": T, "J": J}
            shapes = [[extents[show_expression(e)] for e in i.extents] for i in program.inputs]
            exact = [rng.normal(size=shape).astype(dtype).astype("float64") for shape in shapes]
            arrays = [array.astype(dtype) for array in exact]
            h, pullback = lg.vjp(program, *arrays)
            slow = lg.compile(program, backend="interpret")(*exact)
            np.testing.assert_allclose(h, slow, **near)
            seed = rng.normal(size=h.shape).astype(dtype)
            gradients = lg.compile(backward, backend="interpret")(*exact, seed.astype("float64"))
            for gradient, slow in zip(pullback(seed), gradients, strict=True):
                np.testing.assert_allclose(gradient, slow, **near)
    finally:
        lg.set_num_threads(before)


def _turns(text: str) -> Over:
    """The loop over time of the program as it is scheduled."""
    program = lg.program(text)
    scheduled = optimized(infer(program), validate(program))
    loops = [
        node
        for phase in scheduled.phases
        if isinstance(phase, Fused)
        for node in _all(phase.body)
        if isinstance(node, Over) and node.index == "t" and isinstance(node.body[0], Over)
    ]
    return loops[0]


def _all(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Over | Blocks):
            yield from _all(node.body)


def test_turns_go_inside_of_rows_and_hand_on_the_state() -> None:
    found = inside(_turns(LINEAR))
    assert found is not None
    assert [row.index for row in found.rows] == ["b"]
    (turns,) = found.lanes.body
    assert isinstance(turns, Over)
    assert [show_expression(each.now) for each in handed(turns, lambda read, axis: True)] == [
        "h[b,t-1,j]"
    ]
    assert not handed(turns, lambda read, axis: False)


def test_rows_that_read_each_other_stay_inside_of_turns() -> None:
    text = """
shifted(a[B,T,J], x[B,T,J+1]) -> h[B,T,J+1]:
    for t:
        for b, j < J:  h[b,t,j] = a[b,t,j] * (h[b,t-1,j+1] if t > 0 else 0) + x[b,t,j]
"""
    assert inside(_turns(text)) is None
