"""Sums that are a product of matrices for each value of the target's last index: products into a temporary
whose axes lie as they want it."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally
from tests.schedule.test_walking import Choices, check

PROGRAMS = {
    "weights of each place": """f(w[P,O,C], x[B,C,P]) -> y[B,O,P]:
    for b, o, p, c:  y[b,o,p] += w[p,o,c] * x[b,c,p]
""",
    "windows": """f(w[P,O,C,S], x[B,C,P+S-1]) -> y[B,O,P]:
    for b, o, p, c, s:  y[b,o,p] -= w[p,o,c,s] * x[b,c,p+s]
""",
    "what windows spread": """f(w[P,O,C,S], g[B,O,P]) -> x[B,C,P+S-1]:
    for b, o, p, c, s:  x[b,c,p+s] += w[p,o,c,s] * g[b,o,p]
""",
    "heads behind times": """f(q[B,T,H,D], k[B,U,H,D], z[B,T,U,H]) -> s[B,T,U,H]:
    for b, t, u, h:     s[b,t,u,h] += z[b,t,u,h] * z[b,t,u,h]
    for b, t, u, h, d:  s[b,t,u,h] += q[b,t,h,d] * k[b,u,h,d]
""",
    "rows that nothing else has": """f(w[P,C,O], x[C,P]) -> y[O,P]:
    for o, p, c:  y[o,p] += w[p,c,o] * x[c,p]
""",
}
SIZES = [
    {"B": 1, "O": 1, "P": 1, "C": 1, "S": 1, "T": 1, "U": 1, "H": 1, "D": 1},
    {"B": 5, "O": 17, "P": 15, "C": 9, "S": 3, "T": 9, "U": 17, "H": 3, "D": 11},
    {"B": 49, "O": 6, "P": 33, "C": 13, "S": 2, "T": 50, "U": 7, "H": 2, "D": 8},
    {"B": 3, "O": 40, "P": 0, "C": 5, "S": 4, "T": 3, "U": 5, "H": 0, "D": 4},
    {"B": 7, "O": 10, "P": 18, "C": 0, "S": 4, "T": 3, "U": 9, "H": 5, "D": 0},
]


def _inputs(program: lg.Program, sizes: dict[str, int], element: str) -> list[np.ndarray]:
    rng = np.random.default_rng(len(sizes) + sizes["B"])
    shapes = [
        [sizes[e.name] if hasattr(e, "name") else sizes["P"] + sizes["S"] - 1 for e in p.extents]
        for p in program.inputs
    ]
    return [rng.standard_normal([max(n, 0) for n in shape]).astype(element) for shape in shapes]


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_literal_loops(name: str) -> None:
    program, before = lg.program(PROGRAMS[name]), lg.get_num_threads()
    kernel, literal = lg.compile(program), literally(program)
    try:
        for sizes in SIZES:
            for threads, element, exact in ((1, "f8", 1e-11), (2, "f4", 1e-4)):
                lg.set_num_threads(threads)
                inputs = _inputs(program, sizes, element)
                expected = literal(*(a.astype("f8") for a in inputs))
                np.testing.assert_allclose(kernel(*inputs), expected, rtol=exact, atol=20 * exact)
    finally:
        lg.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_schedules_come_to_what_programs_say(name: str, threads: int) -> None:
    program = lg.program(PROGRAMS[name])
    sizes = {"B": 3, "O": 2, "P": 4, "C": 3, "S": 2, "T": 3, "U": 2, "H": 2, "D": 3}
    inputs = _inputs(program, sizes, "f8")
    for choices in (Choices(), Choices(fuse=False)):
        check(
            program,
            dict(zip((p.name for p in program.inputs), inputs, strict=True)),
            threads,
            choices,
        )


def test_gradients_of_such_a_layer_are_those_of_the_literal_loops() -> None:
    program, sizes = lg.program(PROGRAMS["windows"]), SIZES[1]
    inputs = _inputs(program, sizes, "f8")
    result, pullback = lg.vjp(program, *inputs)
    seed = np.random.default_rng(8).standard_normal(result.shape)
    backward = literally(program.backward())
    for one, other in zip(pullback(seed), backward(*inputs, seed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", list(PROGRAMS)[:4])
def test_they_are_products(name: str) -> None:
    assert "product:" in _schedule(PROGRAMS[name])


def test_sides_that_lie_along_the_last_index_are_read_in_lanes() -> None:
    text = (
        "f(w[O,C,P], x[B,C,P]) -> y[B,O,P]:\n    for b, o, p, c:  y[b,o,p] += w[o,c,p] * x[b,c,p]\n"
    )
    assert "product:" not in _schedule(text)


def _schedule(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))
