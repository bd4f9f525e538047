"""Sums that are spread at fixed distances are taken at each place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

STENCIL = """stencil(u[X,Y]) -> v[X-2,Y-2]:
    for x < X-2, y < Y-2:  v[x,y] = u[x,y+1] + u[x+2,y+1] * u[x+1,y+2] - 4 * u[x+1,y+1]"""

PROGRAMS = {
    "a stencil's backward": lg.program(STENCIL).backward(),
    "an edge": lg.program("f(v[X,Y]) -> g[X+3,Y+1]:\n    for x, y < Y:  g[x+2,y] += exp(v[x,y])"),
    "beside what is written whole": lg.program(
        "f(v[X,Y], w[X,Y]) -> g[X,Y]:\n"
        "    for 1 <= x < X, y:  g[x-1,y] += v[x,y] * w[x-1,y]\n"
        "    for x, y:           g[x,y]   -= v[x,y]\n"
        "    for x < X-1, y:     g[x+1,y] += w[x+1,y]"
    ),
    "with guards and places as numbers": lg.program(
        "f(v[X,Y]) -> g[X+1,Y+1]:\n"
        "    for x, y < Y:  g[x+1,y] += x * v[x,y]   if v[x,y] > 0 and x > y\n"
        "    for x < X, y:  g[x,y+1] -= v[x,y] if y < 2 else x"
    ),
    "turned": lg.program(
        "f(v[X,Y]) -> g[Y+1,X+1]:\n"
        "    for x < X, y:  g[y+1,x] += v[x,y]\n"
        "    for x, y < Y:  g[y,x+1] += 2 * v[x,y]"
    ),
    "a temporary that is read some way off": lg.program(
        "f(v[X,Y]) -> s[X,Y]:\n"
        "    local g[X+1,Y]\n"
        "    for x, y:  g[x+1,y] += v[x,y]\n"
        "    for x < X, y:  g[x,y] -= v[x,y]**2\n"
        "    for x < X, y:  s[x,y] = g[x,y] * g[x+1,y]"
    ),
}


def shown(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_the_backward_of_a_stencil_is_one() -> None:
    program = lg.program(STENCIL).backward()
    text = shown(program)
    assert text.count("for ") == 2 and "u.grad[x,y] = (" in text


def test_parts_that_are_no_edges_stay_as_they_are() -> None:
    """A triangle, and a part of another extent, may be little of all."""
    triangle = "f(v[X,X]) -> g[X,X+1]:\n    for x, y <= x:  g[x,y+1] += v[x,y]"
    part = "f(v[X,X], size Z) -> g[X,Z]:\n    for x, y < X:  g[x,y+1] += v[x,y]   if y < Z - 1"
    for text in (triangle, part):
        assert "= 0.0" in shown(lg.program(text))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (2, 19), (17, 16), (5, 40)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_the_interpreter(name: str, sizes: tuple[int, int], dtype: str) -> None:
    program = PROGRAMS[name]
    rng = np.random.default_rng(sum(sizes))
    x, y = sizes
    shapes = {"v.grad": (x - 2, y - 2)}
    given: dict[str, Any] = {}
    for i in program.inputs:
        a = rng.normal(size=shapes.get(i.name, sizes)).astype(dtype)
        if a.size > 4 and i.name in ("v", "v.grad"):
            a.flat[a.size // 2] = np.nan
            a.flat[a.size // 3] = np.inf
        given[i.name] = a
    own = {s.name: n for s, n in zip(program.sizes, sizes, strict=False)}
    found = lg.compile(program)(**given, **own)
    wanted = lg.compile(program, backend="interpret")(**given, **own)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
