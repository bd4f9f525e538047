"""Windows over several axes go over one axis after the other, and come to the same, winners included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.effort import sample
from tests.literal import literally
from tests.schedule import walking
from tests.schedule.test_pools import drawn
from tests.schedule.test_walking import interpreted


def pool(
    width: int, step: int = 1, around: int = 0, update: str = "max=", apart: int = 1
) -> lg.Program:
    """Of squares, `around` places beyond the edges; `apart`: the distance of places in a window."""
    reach = (width - 1) * apart
    places = [f"{step}*{n}+{apart}*{d}-{around}" for n, d in (("m", "dx"), ("n", "dy"))]
    inside = " and ".join(f"0 <= {p} < {e}" for p, e in zip(places, "XY", strict=True))
    extents = ", ".join(f"({e} + {2 * around} - {reach} - 1) // {step} + 1" for e in "XY")
    return lg.program(
        f"pool(x[B,X,Y]) -> y[B, {extents}]:\n"
        f"    for b, m, n, dx < {width}, dy < {width}:  y[b,m,n] {update} x[b, {', '.join(places)}]   if {inside}\n"
    )


SQUARES = lg.program(
    "squares(x[B,X,Y]) -> y[B,X-4,Y-4]:\n"
    "    for b, m, n, dx < 5, dy < 5:  y[b,m,n] max= x[b,m+dx,n+dy]\n"
)
CUBES = lg.program(
    "cubes(x[X,Y,Z]) -> y[X-3,Y-3,Z-3]:\n"
    "    for l, m, n, dx < 4, dy < 4, dz < 4:  y[l,m,n] max= x[l+dx,m+dy,n+dz]\n"
)
OTHERS = {
    "cubes": CUBES,
    "channels": lg.program(  # a sum over all channels, then over windows
        "channels(x[C,X]) -> y[X-4]:\n    for n, c, d < 5:  y[n] += x[c,n+d]**2\n"
    ),
    "weights of one axis": lg.program(
        "weights(x[X,Y], k[5]) -> y[X-4,Y-4]:\n    for m, n, p < 5, q < 5:  y[m,n] += x[m+p,n+q] * k[q]\n"
    ),
    "of both": lg.program(  # no stages: the weight hangs on both
        "both(x[X,Y], k[5,5]) -> y[X-4,Y-4]:\n    for m, n, p < 5, q < 5:  y[m,n] += x[m+p,n+q] * k[p,q]\n"
    ),
    "places as numbers": lg.program(
        "numbers(x[X,Y]) -> y[X-4,Y-4]:\n    for m, n, p < 5, q < 5:  y[m,n] max= x[m+p,n+q] * (p + 1)\n"
    ),
    "coupled": lg.program(
        "coupled(x[X,Y]) -> y[X-4,Y-4]:\n    for m, n, p < 5, q < 5:  y[m,n] max= x[m+p,n+q]   if p + q < 6\n"
    ),
    "spread": lg.program(
        "spread(g[M,N]) -> x[M+5,N+4]:\n    local x[M+5,N+4]\n"
        "    for m, n, p < 6, q < 5:  x[m+p,n+q] -= g[m,n] / 3   if m + p > 1\n"
    ),
}


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = lg.get_num_threads()
    yield
    lg.set_num_threads(before)


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def slow(program: lg.Program) -> Any:
    return literally(program)


def test_a_maximum_over_squares_is_one_over_rows_then_one_over_columns() -> None:
    assert scheduled(SQUARES).splitlines() == [
        "for b < B parallel:",
        "    for y.place < X:  for n < Y-4 vector:  for dy < 5:  "
        "y.part[b,y.place,n] max= x[b, y.place, n+dy]",
        "    for m < X-4:  for n < Y-4 vector:  for dx < 5:  y[b,m,n] max= y.part[b, m+dx, n]",
        "  # y.part[X,Y - 4] in a row of each thread",
    ]


def test_windows_that_overlap_little_are_left_alone() -> None:
    for program in (pool(2), pool(3), pool(5, step=3), OTHERS["of both"], OTHERS["coupled"]):
        assert "part" not in scheduled(program)


def test_winners_are_looked_for_along_one_axis_after_the_other() -> None:
    text = scheduled(pool(7, step=2).backward())
    assert "y.winner[b,y.found.place,n] min= dy   if " in text
    assert "y.winner2[b,m,n] min= dx   if " in text


SHAPES = [(4, 1, 0, 1), (5, 1, 2, 1), (7, 2, 3, 1), (5, 1, 3, 2), (9, 1, 4, 1), (5, 2, 5, 1)]
KINDS = [
    (*shape, update, dtype)
    for shape in SHAPES
    for update in ("max=", "min=", "+=")
    for dtype in (np.float32, np.float64)
]


@pytest.mark.parametrize(("width", "step", "around", "apart", "update", "dtype"), sample(KINDS, 9))
def test_squares(width: int, step: int, around: int, apart: int, update: str, dtype: Any) -> None:
    program = pool(width, step, around, update, apart)
    backward = program.backward()
    compiled, gradient = lg.compile(program), lg.compile(backward)
    least = max(1, (width - 1) * apart + 1 - 2 * around)
    for seed, more in enumerate([(0, 0), (1, 4), (16, 17), (3, 33)]):
        x = drawn((2, least + more[0], least + more[1]), seed)
        if update == "+=":
            x[~np.isfinite(x)] = 0.3
        if update == "min=":
            x = -x
        if seed == 2:
            x[0] = -np.inf if update == "max=" else 0.5  # ties everywhere
        x = x.astype(dtype)
        y = slow(program)(x)
        g = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
        known = {"x": x, "y": y, "y.grad": g, "X": x.shape[1], "Y": x.shape[2]}
        given = {i.name: known[i.name] for i in backward.inputs}
        given |= {name: known[name] for name in "XY" if update == "+="}
        expected = slow(backward)(**given)
        for threads in (1, 2):
            lg.set_num_threads(threads)
            near = 1e-5 if dtype is np.float32 else 1e-12
            np.testing.assert_allclose(compiled(x), y, rtol=near, atol=near)
            np.testing.assert_allclose(gradient(**given), expected, rtol=near, atol=near)


@pytest.mark.parametrize("update", ["max=", "min="])
def test_what_is_no_maximum_has_the_winners_of_the_literal_loops(update: str) -> None:
    program = pool(5, around=2, update=update)
    backward = program.backward()
    rng = np.random.default_rng(5)
    x = rng.integers(-2, 3, (2, 13, 18)).astype(float)
    for y in (
        rng.integers(-2, 3, x.shape).astype(float),
        np.full(x.shape, 9.0),
        np.full(x.shape, np.nan),
        np.where(rng.random(x.shape) < 0.1, 0.0, slow(program)(x)),
    ):
        g = rng.normal(size=y.shape)
        expected = slow(backward)(x, y, g)
        np.testing.assert_allclose(lg.compile(backward)(x, y, g), expected, rtol=1e-12, atol=1e-12)


def test_no_number_where_a_maximum_is_claimed() -> None:
    backward = pool(5).backward()
    x, g = np.zeros((1, 9, 21)), np.random.default_rng(0).normal(size=(1, 5, 17))
    x[0, 4, 7] = np.nan
    y = np.zeros((1, 5, 17))  # where a window has no number, its maximum is none
    expected = slow(backward)(x, y, g)
    np.testing.assert_allclose(lg.compile(backward)(x, y, g), expected, rtol=1e-12)


@pytest.mark.parametrize("program", OTHERS.values(), ids=OTHERS)
def test_windows_of_other_kinds(program: lg.Program) -> None:
    rng = np.random.default_rng(2)
    given = {
        "x": rng.integers(-3, 4, (9, 11, 21)[3 - len(program.inputs[0].extents) :]).astype(float),
        "k": rng.normal(size=(5, 5)[: len(program.inputs[-1].extents)]),
        "g": rng.normal(size=(6, 19)),
    }
    values = {i.name: given[i.name] for i in program.inputs}
    y = slow(program)(**values)
    np.testing.assert_allclose(lg.compile(program)(**values), y, rtol=1e-12, atol=1e-12)
    backward = program.backward()
    seed = rng.normal(size=y.shape)
    known = {**values, program.results[0].name: y, f"{program.results[0].name}.grad": seed}
    given = {i.name: known[i.name] for i in backward.inputs}
    sizes = {"X": 11, "Y": 21, "M": 6, "N": 19}
    given |= {n: s for n, s in sizes.items() if f"size {n}" in str(backward)}
    expected = slow(backward)(**given)
    found = lg.compile(backward)(**given)
    for one, other in zip(
        *(f if isinstance(f, tuple) else (f,) for f in (found, expected)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


TREES = [pool(4), pool(5, 2, 2), pool(4, around=1, update="min="), OTHERS["spread"], CUBES]


@pytest.mark.parametrize("program", sample(TREES, 3))
def test_trees_by_the_letter(program: lg.Program) -> None:
    rng = np.random.default_rng(3)
    shape = (2, 6, 7) if program is not CUBES else (5, 4, 6)
    x = rng.integers(-2, 3, shape).astype(float)
    values: dict[str, Any] = {"x": x} if program.inputs[0].name == "x" else {"g": x[0]}
    call = interpreted(program, values)
    for threads in (1, 2):
        found = walking.run(optimized(infer(program), validate(program)), call, threads)
        for name, array in found.items():
            np.testing.assert_allclose(array, call.arrays[name], rtol=1e-12, atol=1e-12)
    if program.inputs[0].name == "g":
        return
    backward = program.backward()
    y = call.arrays["y"]
    call = interpreted(backward, {"x": x, "y": y, "y.grad": rng.normal(size=y.shape)})
    found = walking.run(optimized(infer(backward), validate(backward)), call, 2)
    np.testing.assert_allclose(found["x.grad"], call.arrays["x.grad"], rtol=1e-12, atol=1e-12)
