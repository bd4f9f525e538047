"""Guards that say which values an index takes, as its range."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.extents import difference
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import Accumulate, Apply, Extent, Number, Range
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.lines import Line
from loopgrad.schedule.loops.narrowing import narrowed
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.specializing import made_for

GUARDS = [  # what is said of n < N, and whether the range says all of it
    ("n < 5", True),
    ("n < N", True),
    ("2 * n < N", True),
    ("3 <= 2*n + 1 < N", True),
    ("7 - n > 2", True),
    ("N - 2*n >= 3", True),
    ("3 * n <= N + 4 and n >= 1", True),
    ("n // 2 < 3", False),
    ("2 * n == 6", False),
    ("n * n < N", False),
    ("n < m", False),
    ("n < a", False),
]


@pytest.mark.parametrize(("guard", "whole"), GUARDS)
def test_ranges_are_those_values_of_which_a_guard_holds(guard: str, whole: bool) -> None:
    text = f"""f(x[N], w[M], a) -> y[N], z[N]:
        for n, m:  y[n] += a * x[n] * w[m]   if {guard}
        for n:  z[n] = y[n]"""
    program = lg.program(text)
    statement = infer(program).program.statements[0]
    assert isinstance(statement, Accumulate)
    assert (narrowed(Line(statement)).statement.guard is None) == whole
    rng = np.random.default_rng(0)
    for size in range(12):
        given = rng.normal(size=size), rng.normal(size=4), 3.5
        wanted = lg.compile(program, backend="interpret")(*given)
        for one, other in zip(lg.compile(program)(*given), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_guard_that_says_nothing_more_leaves_the_range_as_it_is() -> None:
    program = lg.program("f(x[N]) -> y[N]:\n    for n < (N+1)//2:  y[n] += x[2*n]   if 2*n < N")
    statement = infer(program).program.statements[0]
    assert isinstance(statement, Accumulate)
    line = narrowed(Line(statement))
    upper = Apply("//", (Apply("+", (Extent("N"), Number(1))), Number(2)))
    assert line.statement.ranges == (Range("n", Number(0), upper),)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_convolution_of_single_taps_is_one_product_on_top_of_its_bias(stride: int) -> None:
    program = lg.lib["conv2d"]
    constants = {"stride": stride, "padding": 0, "dilation": 1, "DX": 1, "DY": 1}
    shown = show(made_for(infer(program), validate(program), constants, set(), Choices()))
    assert "product:  y[b,o,m,n] += k[o,i] * x[" in shown
    assert "whole" not in shown


@pytest.mark.parametrize("divisor", [1, 2, 3, 7])
@pytest.mark.parametrize("number", range(-9, 10))
def test_whole_multiples_leave_a_division(number: int, divisor: int) -> None:
    def divided(first: int) -> Apply:
        sums = Apply("+", (Extent("N"), Number(first)))
        return Apply("//", (sums, Number(divisor)))

    moved = difference(divided(number), divided(number % divisor))
    assert moved == number // divisor
    assert all(
        (n + number) // divisor - (n + number % divisor) // divisor == moved for n in range(20)
    )


@pytest.mark.parametrize("place", ["2*n", "2*n + 1", "3*n - 2*n"])
def test_what_is_written_in_steps_is_a_product_first(place: str) -> None:
    text = f"""f(W[O,I], g[B,O,N], x[B,I,M]) -> y[B,I,M]:
        for b, i, m:  y[b,i,m] = x[b,i,m]
        for b, i, n, o:  y[b,i,{place}] += W[o,i] * g[b,o,n]"""
    program = lg.program(text)
    shown = show(made_for(infer(program), validate(program), {}, set(), Choices()))
    assert "product:  whole[" in shown
    rng = np.random.default_rng(0)
    for rows, columns in ((7, 9), (1, 3), (20, 17), (5, 0)):
        shapes = (rows, 6), (3, rows, columns), (3, 6, 2 * columns)
        given = [rng.normal(size=shape) for shape in shapes]
        wanted = lg.compile(program, backend="interpret")(*given)
        np.testing.assert_allclose(lg.compile(program)(*given), wanted, rtol=1e-10, atol=1e-12)
