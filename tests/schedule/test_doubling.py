"""Winners of windows that move by one place, in steps: the schedule, and that it comes to the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from tests.effort import sample
from tests.literal import literally
from tests.schedule import walking
from tests.schedule.test_pools import drawn
from tests.schedule.test_separating import scheduled
from tests.schedule.test_walking import interpreted


def windows(header: str, statement: str, update: str = "max=") -> lg.Program:
    return lg.program(f"windows({header}:\n    for {statement.replace('max=', update)}\n")


ROWS = "x[B,X]) -> y[B,X]", "b, n, d < 11:  y[b,n] max= x[b,n+d-4]   if 0 <= n + d - 4 < X"
KINDS = {
    "rows": ROWS,
    "rows, no edges": ("x[B,X]) -> y[B,X-9]", "b, n, d < 10:  y[b,n] max= x[b,n+d]"),
    "squares": (
        "x[B,X,Y]) -> y[B,X,Y-4]",
        "b, m, n, dx < 7, dy < 5:  y[b,m,n] max= x[b,m+dx-3,n+dy]   if 0 <= m + dx - 3 < X",
    ),
    "another order": (
        "x[C,Y,B,X]) -> y[X-6,B,Y-4,C]",
        "b, c, m, n, dy < 5, 1 <= dx < 8:  y[m,b,n,c] max= x[c,n+dy,b,m+dx-1]",
    ),
    "cubes": (
        "x[X,Y,Z]) -> y[X,Y-3,Z]",
        "l, m, n, dx < 3, dy < 4, dz < 5:  y[l,m,n] max= x[l+dx-1,m+dy,n+dz-2]"
        "   if 0 <= l + dx - 1 < X and 0 <= n + dz - 2 < Z",
    ),
    "not all places": ("x[X], size N) -> y[N]", "n < N, d < 12:  y[n] max= x[n+d]"),
    "a map": (
        "x[B,X]) -> y[B,X]",
        "b, n, d < 12:  y[b,n] max= max(x[b,n+d-5], 0.0)   if 0 <= n + d - 5 < X",
    ),
    "a choice": (
        "x[B,X]) -> y[B,X-11]",
        "b, n, d < 12:  y[b,n] max= x[b,n+d] if x[b,n+d] > 1 else 0.5",
    ),
    "a mask": (
        "x[B,X], bool k[X]) -> y[B,X]",
        "b, n, d < 12:  y[b,n] max= x[b,n+d-5]   if 0 <= n + d - 5 < X and k[n+d-5]",
    ),
    "weights": (  # hang on more than a place: no steps
        "x[B,X], w[12]) -> y[B,X-11]",
        "b, n, d < 12:  y[b,n] max= x[b,n+d] * w[d]",
    ),
}
LEAST = {
    "rows, no edges": 10,
    "a choice": 12,
    "squares": 5,
    "another order": 7,
    "cubes": 4,
    "not all places": 15,
}


def test_each_step_is_a_loop_over_all_places() -> None:
    text = scheduled(windows(*ROWS).backward())
    assert (
        "for y.place < X+8 vector:\n" in text
    )  # of three places, the largest of two in a register
    assert "for y.place < X+5 vector:  y.most4[b,y.place] = " in text
    assert "for y.place < X vector:  y.most5[b,y.place] = " in text
    back = text[text.index("x.grad.part2[b,y.place] = ") :].splitlines()[0]
    assert back.startswith(
        "x.grad.part2[b,y.place] = (x.grad.part[b,y.place] if y.place < X and "
        "y.most4[b,y.place] >= y.most4[b,y.place+5] else 0.0) + (x.grad.part[b,y.place-5] if "
        "y.place - 5 >= 0 and not y.most4[b,y.place-5] >= y.most4[b,y.place] else 0.0)"
    )
    assert "x.grad[b,x.grad.n] = 0.0" not in text  # stored, not added


@pytest.mark.parametrize(
    ("extent", "width", "value"),
    [
        ("X-8", 9, "x[b,n+d]"),  # narrow
        ("(X-11)//2+1", 11, "x[b,2*n+d]"),  # steps
        ("X-20", 11, "x[b,n+2*d]"),  # gaps
        ("X-10", 11, "x[b,n+d] * (d + 1)"),
        ("X-10", 11, "x[b,n+d]   if d > n"),
    ],
)
def test_other_windows_have_no_steps(extent: str, width: int, value: str) -> None:
    program = windows(f"x[B,X]) -> y[B,{extent}]", f"b, n, d < {width}:  y[b,n] max= {value}")
    assert "most" not in scheduled(program.backward())


def given(name: str, program: lg.Program, size: int, seed: int) -> dict[str, Any]:
    """Arguments of the program. Seeds differ in what is to be found: ties, no numbers, infinities."""
    rng = np.random.default_rng(seed)
    axes = program.inputs[0].extents
    lengths = [max(LEAST.get(name, 1), size - axis) for axis in range(len(axes))]
    x = drawn((*lengths,), seed) if seed else rng.normal(size=lengths)
    values: dict[str, Any] = {"x": x}
    if name == "a mask":
        values["k"] = rng.random(lengths[-1]) < 0.5
    if name == "weights":
        values["x"], values["w"] = np.zeros((2, 20)) + x[0, 0], rng.normal(size=12)
    return values | ({"N": lengths[0] - 14} if name == "not all places" else {})


CASES = [(name, update) for name in KINDS for update in ("max=", "min=")]


@pytest.mark.parametrize(("name", "update"), sample(CASES, 10))
def test_they_come_to_the_same(name: str, update: str) -> None:
    program = windows(*KINDS[name], update)
    backward = program.backward()
    steps, loops = lg.compile(backward), literally(backward)
    forward = literally(program)
    for size in (1, 4, 18):
        for seed in range(4):
            values = given(name, program, size, seed)
            y = forward(**values)
            rng = np.random.default_rng(seed)
            if seed == 3:  # what is given as the maximum is none
                y = np.where(rng.random(y.shape) < 0.2, rng.integers(-3, 4, y.shape), y)
            known = {**values, "y": y, "y.grad": rng.normal(size=y.shape)}
            arrays = {i.name: known[i.name] for i in backward.inputs}
            expected, found = loops(**arrays), steps(**arrays)
            pairs = zip(found, expected, strict=True) if name == "weights" else [(found, expected)]
            for one, other in pairs:
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_empty_axes() -> None:
    program = windows(*KINDS["squares"])
    backward = lg.compile(program.backward())
    for shape in ((0, 9, 9), (2, 0, 9), (2, 9, 4)):
        x = np.ones(shape)
        y = program(x)
        assert np.array_equal(backward(x, y, np.ones(y.shape)), np.zeros(shape))


def test_the_lowest_of_all_wins_where_there_is_nothing_else() -> None:
    """A place that is left out is as low as that, and has no gradient."""
    backward = windows(*ROWS).backward()
    x = np.full((2, 17), -np.inf)
    x[1, 12:] = 3
    y = lg.compile(windows(*ROWS))(x)
    g = np.random.default_rng(0).normal(size=y.shape)
    expected = literally(backward)(x, y, g)
    np.testing.assert_allclose(lg.compile(backward)(x, y, g), expected, rtol=1e-12, atol=1e-12)
    assert np.count_nonzero(expected[0]) > 1


@pytest.mark.parametrize("name", sample([n for n in KINDS if n not in ("weights", "a mask")], 3))
def test_trees_by_the_letter(name: str) -> None:
    program = windows(*KINDS[name])
    values = given(name, program, 8, 1)
    if name == "another order":  # a walk is slow, and windows move along two of the axes alone
        values["x"] = values["x"][:2, :, :3]
    x = np.nan_to_num(values["x"], neginf=-2)
    y = program(**{**values, "x": x})
    backward = program.backward()
    seed = np.random.default_rng(3).normal(size=y.shape)
    known = {"x": x, "y": y, "y.grad": seed}
    call = interpreted(backward, {i.name: known[i.name] for i in backward.inputs})
    found = walking.run(optimized(infer(backward), validate(backward)), call, 2)
    np.testing.assert_allclose(found["x.grad"], call.arrays["x.grad"], rtol=1e-12, atol=1e-12)
