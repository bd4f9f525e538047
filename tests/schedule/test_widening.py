"""Ranges that keep a window inside of what it goes over are guards to a schedule; those of bands stay."""

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

INSIDE = "i < X, max(1-i, 0) <= p < min(3, X+1-i)"
WINDOWS = {
    "convolution": f"""\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, {INSIDE}:  y[b,o,i] += w[o,c,p] * x[b,c,i+p-1]
""",
    "the other way round": """\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, p < 3, max(1-p, 0) <= i < min(X, X+1-p):  y[b,o,i] += w[o,c,p] * x[b,c,i+p-1]
""",
    "spread": f"""\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, {INSIDE}:  y[b,o,i+p-1] += w[o,c,p] * x[b,c,i]
""",
    "two axes": """\
f(x[B,X,C], w[O,X], k[3,2]) -> y[B,X,C]:
    for b, i < X, j < C, max(1-i, 0) <= p < min(3, X+1-i), q < 2, o:  \
y[b,i,j] += k[p,q] * x[b,i+p-1,j+q-1] * w[o,i]   if 0 <= j + q - 1 < C
""",
    "extremum": f"""\
f(x[B,C,X], w[O,C,3]) -> y[B,O,X]:
    for b, o, c, {INSIDE}:  y[b,o,i] max= w[o,c,p] * x[b,c,i+p-1]
""",
    "in a recurrence": f"""\
f(x[T,B,X], w[3], u[3]) -> h[T,B,X]:
    for t:
        for b, {INSIDE}:  a[t,b,i] += w[p] * x[t,b,i+p-1]
        for b, {INSIDE}:  a[t,b,i] += u[p] * h[t-1,b,i+p-1]   if t > 0
        for b, i:  h[t,b,i] = tanh(a[t,b,i])
""",
}


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def given(program: lg.Program, X: int) -> dict[str, Any]:
    rng, sizes = np.random.default_rng(0), {"B": 2, "C": 3, "O": 4, "T": 5, "X": X}
    shapes = {
        i.name: [sizes[t] if (t := show_expression(e)) in sizes else int(t) for e in i.extents]
        for i in program.inputs
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", ["convolution", "the other way round", "spread"])
def test_a_convolution_is_one(name: str) -> None:
    assert "product" in scheduled(lg.program(WINDOWS[name]))


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 17, 40])
def test_it_comes_to_the_same(name: str, size: int) -> None:
    forward = lg.program(WINDOWS[name])
    for program in (forward, forward.backward()):
        inputs = given(program, size)
        found, wanted = program(**inputs), literally(program)(**inputs)
        for one, other in zip(all_of(found), all_of(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_a_band_stays_one() -> None:
    shown = scheduled(
        lg.program(
            "f(x[T], w[T]) -> y[T]:\n"
            "    for t, max(t-16, 0) <= u < min(t+17, T):  y[t] += exp(x[t] * w[u])"
        )
    )
    assert "max(t-16, 0) <= u < min(t+17, T)" in shown
