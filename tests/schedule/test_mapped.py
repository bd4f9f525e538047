"""What windows read is computed once for each place, where that makes a convolution of a sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally
from tests.schedule.several import all_of

MAPPED = {
    "activation": """\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X-2]:
    for b, o, c, i < X-2, p < 3:  y[b,o,i] += w[o,c,p] * relu(x[b,c,i+p])
""",
    "guarded": """\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, i < X, p < 3:  y[b,o,i] += w[o,c,p] * tanh(x[b,c,i+2*p-2])   if 0 <= i+2*p-2 < X
""",
    "several tensors": """\
f(x[B,C,X], g[C], m[B,X], w[O,C,3], v[O,C,3]) -> y[B,O,X], z[B,O,X]:
    for b, o, c, i < X, p < 3:  y[b,o,i] += w[o,c,p] * (x[b,c,i+p-1] - m[b,i+p-1]) * g[c]   if 0 <= i+p-1 < X
    for b, o, c, i < X, p < 3:  z[b,o,i] += v[o,c,p] * (x[b,c,i+p-1] - m[b,i+p-1]) * g[c]   if 0 <= i+p-1 < X
""",
    "two axes": """\
f(x[B,C,X,Y], w[O,C,3,2]) -> y[B,O,X-2,Y]:
    for b, o, c, i < X-2, j < Y, p < 3, q < 2:  \
y[b,o,i,j] -= w[o,c,p,q] * exp(x[b,c,i+p,j+q])   if j+q < Y
""",
    "around a ring": """\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, i < X, p < 3:  y[b,o,i] += w[o,c,p] * x[b,c,(i+p-1) % X]
""",
    "around two, activated": """\
f(x[B,C,X,Y], w[O,C,3,4]) -> y[B,O,X,Y]:
    for b, o, c, i < X, j < Y, p < 3, q < 4:  \
y[b,o,i,j] += w[o,c,p,q] * relu(x[b,c,(i+2*p-3) % X,(j-q) % Y])
""",
    "computed before": """\
f(x[B,C,X], u[C,C], w[O,C,3]) -> y[B,O,X]:
    for b, d < C, c, i:  a[b,d,i] += u[d,c] * x[b,c,i]
    for b, o, c, i < X, p < 3:  y[b,o,i] += w[o,c,p] * relu(a[b,c,i+p-1])   if 0 <= i+p-1 < X
""",
}  # fmt: skip
# The place is in the value besides; the two places are of axes that may not be equally long; a condition
# may keep out places that there are not.
OTHERWISE = {
    "weighted": """\
f(x[B,C,X], w[O,C,3], d[3]) -> y[B,O,X-2]:
    for b, o, c, i < X-2, p < 3:  y[b,o,i] += w[o,c,p] * relu(x[b,c,i+p] - d[p])
""",
    "two extents": """\
f(x[B,C,X], v[B,C,Z], w[O,C,3]) -> y[B,O,X-2]:
    for b, o, c, i < X-2, p < 3:  y[b,o,i] += w[o,c,p] * max(x[b,c,i+p], v[b,c,i+p])   if i+p < Z
""",
    "padded in the value": """\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, i < X, p < 3:  y[b,o,i] += w[o,c,p] * (x[b,c,i+p-1] if 0 <= i+p-1 < X else 0.0)
""",
    "a pool": """\
f(x[B,C,X]) -> y[B,C,X-2]:
    for b, c, i < X-2, p < 3:  y[b,c,i] += relu(x[b,c,i+p])
""",
}  # fmt: skip
SIZES = {"B": 2, "C": 5, "O": 4, "Y": 7, "Z": 6}


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def given(program: lg.Program, size: int) -> list[Any]:
    sizes, rng = {**SIZES, "X": size}, np.random.default_rng(size)
    shapes = ([eval(show_expression(e), dict(sizes)) for e in i.extents] for i in program.inputs)
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("name", [*MAPPED, *OTHERWISE])
def test_the_schedule_has_them(name: str) -> None:
    shown = scheduled(lg.program({**MAPPED, **OTHERWISE}[name]))
    assert ("mapped" in shown) is (name in MAPPED)
    assert shown.count("mapped[b,c,s0] =") <= 1


@pytest.mark.parametrize("name", ["around a ring", "around two, activated"])
def test_gradients_around_rings_are_convolutions(name: str) -> None:
    shown = scheduled(lg.program(MAPPED[name]).backward())
    assert shown.count("product") == 2 and shown.count(".mapped") >= 2


@pytest.mark.parametrize("name", [*MAPPED, *OTHERWISE])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 17, 40])
def test_it_comes_to_the_same(name: str, size: int) -> None:
    text = {**MAPPED, **OTHERWISE}[name]
    if size < 2 and "X-2" in text:
        pytest.skip("there are no such results")
    forward = lg.program(text)
    for program in (forward, forward.backward()):
        inputs = given(program, size)
        found, wanted = lg.compile(program)(*inputs), literally(program)(*inputs)
        for one, other in zip(all_of(found), all_of(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
