"""Rings are cut open: neighbours around them are read side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

RING = """ring(u[Y,X]) -> v[Y,X]:
    for y, x:  v[y,x] = u[y,x] * (u[y,(x+1)%X] - u[y,(x+X-1)%X])"""

PROGRAMS = {
    "one ring": lg.program(RING),
    "one ring's backward": lg.program(RING).backward(),
    "two rings, some places away": lg.program(
        "f(u[Y,X]) -> v[Y,X]:\n    for y, x:  v[y,x] += u[(y+2)%Y,(x-3)%X] * exp(u[(y-1)%Y,x])"
    ),
    "its backward": lg.program(
        "f(u[Y,X]) -> v[Y,X]:\n    for y, x:  v[y,x] += u[(y+2)%Y,(x-3)%X] * exp(u[(y-1)%Y,x])"
    ).backward(),
    "added around a ring": lg.program(
        "f(u[Y,X]) -> v[Y,X]:\n"
        "    for y, x:  v[y,(x+2)%X] -= u[y,x] * u[y,(x-1)%X]   if u[y,(x+1)%X] > 0\n"
        "    for y, x:  v[(y-1)%Y,x] += u[y,x]"
    ),
    "an index that is a number too": lg.program(
        "f(u[Y,X]) -> v[Y,X]:\n    for y, x:  v[y,(x+2)%X] += x * u[y,x]"
    ),
    "a sum around a ring": lg.program(
        "f(u[Y,X]) -> v[Y]:\n    for y, x:  v[y] += u[y,x] * u[y,(x+1)%X] * u[(y+1)%Y,x]"
    ),
    "the same place twice": lg.program(
        "f(u[Y,X]) -> v[X,X]:\n    for y, x:  v[(x+1)%X,(x+2)%X] += u[y,x]"
    ),
    "turn after turn": lg.program(
        "f(u[Y,X]) -> w[Y,X]:\n"
        "    for y:\n"
        "        for x:  w[y,x] = u[y,x] + (0.5 * w[y-1,(x+1)%X] * w[y-1,(x-1)%X] if y > 0 else 0)"
    ),
    "back, turn after turn": lg.program(
        "f(u[Y,X]) -> w[Y,X]:\n"
        "    for y:\n"
        "        for x:  w[y,x] = u[y,x] + (0.5 * w[y-1,(x+1)%X] * w[y-1,(x-1)%X] if y > 0 else 0)"
    ).backward(),
}


def shown(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_rings_are_cut_open() -> None:
    for program in (lg.program(RING), lg.program(RING).backward()):
        text = shown(program)
        assert "%" not in text and "for x < X vector" in text


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 2), (3, 3), (2, 16), (4, 33)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_the_interpreter(name: str, sizes: tuple[int, int], dtype: str) -> None:
    program = PROGRAMS[name]
    rng = np.random.default_rng(sum(sizes))
    given: dict[str, Any] = {i.name: rng.normal(size=sizes).astype(dtype) for i in program.inputs}
    if sizes[1] > 3 and "turn" not in name:
        given[program.inputs[0].name][0, 1] = np.inf
    own = {s.name: dict(zip("YX", sizes, strict=True))[s.name] for s in program.sizes}
    found = lg.compile(program)(**given, **own)
    wanted = lg.compile(program, backend="interpret")(**given, **own)
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
