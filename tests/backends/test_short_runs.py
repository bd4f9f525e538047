"""Products whose columns lie in short runs: they are packed, or put, run by run; all of them in one product."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.calling.images import images
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

# The text, of each input its axes, the subscripts as `einsum` has them, and sizes: of rows, of runs, of the columns in
# one, and of sums.
PROGRAMS = {
    "runs apart on the right": (
        "f(W[J,I,E,D], s[B,J,E]) -> u[B,I,D]:\n"
        "    for b, j, i, e, d:  u[b,i,d] += W[j,i,e,d] * s[b,j,e]\n",
        "jied,bje->bid",
        [
            {"B": 33, "I": 9, "D": 8, "J": 10, "E": 7},
            {"B": 2, "I": 65, "D": 3, "J": 60, "E": 19},
            {"B": 70, "I": 3, "D": 12, "J": 1, "E": 31},
        ],
    ),
    "rows and columns in turns": (
        "f(s[B,J,E], u[B,I,D]) -> W[J,I,E,D]:\n"
        "    for b, j, i, e, d:  W[j,i,e,d] -= u[b,i,d] * s[b,j,e]\n",
        "bje,bid->jied",
        [
            {"B": 33, "I": 20, "D": 8, "J": 10, "E": 16},
            {"B": 7, "I": 5, "D": 1, "J": 9, "E": 37},
            {"B": 300, "I": 17, "D": 11, "J": 3, "E": 5},
        ],
    ),
    "small heads": (
        "f(x[B,T,I], W[H,D,I], z[B,H,T,D]) -> y[B,H,T,D]:\n"
        "    for b, h, t, d:     y[b,h,t,d] += z[b,h,t,d] * z[b,h,t,d]\n"
        "    for b, h, t, d, i:  y[b,h,t,d] += W[h,d,i] * x[b,t,i]\n",
        "bti,hdi->bhtd",
        [
            {"B": 3, "T": 33, "H": 6, "D": 5, "I": 48},
            {"B": 50, "T": 7, "H": 9, "D": 12, "I": 20},
            {"B": 1, "T": 99, "H": 30, "D": 1, "I": 70},
        ],
    ),
    "what is there before": (
        "f(x[T,I], W[H,D,I], z[H,T,D]) -> y[H,T,D]:\n"
        "    for h, t, d:     y[h,t,d] += z[h,t,d] * z[h,t,d]\n"
        "    for h, t, d, i:  y[h,t,d] += W[h,d,i] * x[t,i]\n",
        "ti,hdi->htd",
        [{"T": 50, "H": 6, "D": 5, "I": 48}, {"T": 99, "H": 31, "D": 12, "I": 70}],
    ),
}


@pytest.mark.parametrize("element", ["f4", "f8"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_einsum(name: str, element: str) -> None:
    text, subscripts, several = PROGRAMS[name]
    program, rng, before = lg.program(text), np.random.default_rng(3), lg.get_num_threads()
    kernel, exact = lg.compile(program), 1e-4 if element == "f4" else 1e-11
    try:
        for sizes in several:
            inputs = [
                rng.standard_normal([sizes[e.name] for e in p.extents]).astype(element)
                for p in program.inputs
            ]
            expected = np.einsum(subscripts, *(a.astype(float) for a in inputs[:2]))
            expected = inputs[2] ** 2 + expected if inputs[2:] else expected
            expected = -expected if "-=" in text else expected
            for threads in (1, 2):
                lg.set_num_threads(threads)
                np.testing.assert_allclose(kernel(*inputs), expected, rtol=exact, atol=20 * exact)
    finally:
        lg.set_num_threads(before)


def test_where_rows_and_columns_come_in_turns_they_are_put_there_behind_the_product() -> None:
    for name, moved in (("rows and columns in turns", "W"), ("small heads", "y")):
        program = lg.program(PROGRAMS[name][0])
        choices = Choices(together=(moved,))
        assert "whole[" in show(optimized(infer(program), validate(program), choices))


def test_products_of_longer_runs_stay_in_loops() -> None:
    program = lg.program(PROGRAMS["runs apart on the right"][0])
    (found,) = images(infer(program))
    sizes = {"B": 33, "I": 9, "J": 10, "E": 7}
    assert found.are_small({**sizes, "D": 12}) and not found.are_small({**sizes, "D": 13})
    window = lg.program(
        "f(y[B,O,M], x[B,C,X], size P) -> k[O,C,P]:\n"
        "    for b, o, i, m, p:  k[o,i,p] += y[b,o,m] * x[b,i,m+p]\n"
    )
    assert not list(images(infer(window)))  # windows are packed place by place in any case
