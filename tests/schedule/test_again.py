"""What follows a block computes again what the block's core had, rather than keep it."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

SUMS = """sums(l[T,B,J], A[I,J]) -> h[T,B,J], s[I,J], n[B]:
    for t:
        for b, j, i:  e[t,b,j,i] = tanh(A[i,j] + l[t,b,j])
        for b, j, i:  h[t,b,j] += e[t,b,j,i] * (h[t-1,b,j] if t > 0 else 1)
        for b, j, i:  s[i,j] += e[t,b,j,i]
        for b, j, i:  n[b] -= e[t,b,j,i]"""


def shown(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


def test_what_the_core_computes_is_in_registers() -> None:
    text = shown(
        SUMS.replace("tanh(A[i,j] + l[t,b,j])", "tanh(A[i,j] + h[t-1,b,j]) if t > 0 else 0")
    )
    assert "e in registers" in text
    assert "s[i,j] += e[t,b,j,i]" in text.split("for t < T")[-1]  # another `e`, shared by both sums


@pytest.mark.parametrize(
    "change",
    [
        ("-> h[T,B,J],", "-> h[T,B,J], e[T,B,J,I],"),  # somebody wants it
        ("s[i,j] += e[t,b,j,i]", "s[i,j] += e[t,b,j,i] * l[t,b,j]"),  # more than its sum
        ("s[i,j] += e[t,b,j,i]", "s[i,j] += e[t,b,j,i]   if t > 0"),
    ],
)
def test_elsewhere_it_is_kept(change: tuple[str, str]) -> None:
    text = SUMS.replace("tanh(A[i,j] + l[t,b,j])", "tanh(A[i,j] + h[t-1,b,j]) if t > 0 else 0")
    assert "e in registers" not in shown(text.replace(*change))


ONE_SUM = """carried(l[T,B,J], A[J,J]) -> g[T,B,J], s[J,J]:
    for t:
        for b, j:     z[t,b,j] = tanh(g[t-1,b,j]) if t > 0 else l[t,b,j]
        for b, j, i:  e[t,b,j,i] += z[t,b,j] * exp(l[t,b,i] + A[i,j])
        for b, j, i:  g[t,b,i] += e[t,b,j,i]
        for b, j, i:  s[i,j] += e[t,b,j,i]"""


def test_the_axes_of_what_one_line_of_the_core_sums_tell_nothing_of_its_lanes() -> None:
    """`A[i,j]` is contiguous along j, and so lanes run, though `e` is along i."""
    (core,) = (part for part in shown(ONE_SUM).split("\nfor ") if "g[t,b," in part)
    assert "for j < J vector:  g[t,b,i] += z[t,b,j] * exp(l[t,b,i] + A[i,j])" in core
    assert "e[t,b," not in core
    more = ONE_SUM.replace("g[t,b,i] += e[t,b,j,i]", "g[t,b,i] += e[t,b,j,i] * z[t,b,j]")
    assert "e[t,b," in shown(more)  # more than its sum


@pytest.mark.parametrize("sizes", [(0, 2, 3), (1, 0, 3), (4, 2, 17), (3, 3, 1)])
def test_what_one_line_of_the_core_sums(sizes: tuple[int, int, int]) -> None:
    program, rng = lg.program(ONE_SUM), np.random.default_rng(0)
    given = rng.normal(size=sizes) / 9, rng.normal(size=sizes[2:] * 2) / 9
    found, wanted = lg.compile(program)(*given), lg.compile(program, "interpret")(*given)
    for got, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-10, atol=1e-14)


PROGRAMS = {
    "sums": SUMS.replace("tanh(A[i,j] + l[t,b,j])", "tanh(A[i,j] + h[t-1,b,j]) if t > 0 else 0"),
    "other names": SUMS.replace(
        "tanh(A[i,j] + l[t,b,j])", "tanh(A[i,j] + h[t-1,b,j]) if t > 0 else 0"
    ).replace("for b, j, i:  s[i,j] += e[t,b,j,i]", "for c, k, m:  s[m,k] += e[t,c,k,m]"),
    "taken away": SUMS.replace(
        "e[t,b,j,i] = tanh(A[i,j] + l[t,b,j])",
        "e[t,b,j,i] -= A[i,j] + (h[t-1,b,j] if t > 0 else 0)",
    ),
    "descending": SUMS.replace("for t:", "for t descending:")
    .replace("tanh(A[i,j] + l[t,b,j])", "tanh(A[i,j] + h[t+1,b,j]) if t < T-1 else 0")
    .replace("h[t-1,b,j] if t > 0 else 1", "h[t+1,b,j] if t < T-1 else 1"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter(name: str) -> None:
    program = lg.program(PROGRAMS[name])
    rng = np.random.default_rng(0)
    for T, B, J, I in ((0, 2, 3, 4), (1, 0, 3, 4), (5, 2, 17, 20), (4, 3, 1, 33)):
        given = rng.normal(size=(T, B, J)) / 40, rng.normal(size=(I, J)) / 40
        found, wanted = lg.compile(program)(*given), lg.compile(program, "interpret")(*given)
        for got, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-10, atol=1e-14)
