"""Elements added where their rows are written, and what has to stay apart."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.schedule.test_walking import check

HEAD = "f(x[B,J], w[B], int i[B]) -> y[B,J]:\n"
DENSE = "    for b, j:  y[b,j] += x[b,j] * 2\n"


def scheduled(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


def test_an_element_that_data_choose() -> None:
    assert (
        scheduled(HEAD + DENSE + "    for b:     y[b,i[b]] -= w[b]")
        == """for b < B parallel:
    hot[b] = i[b]
    for j < J vector:  y[b,j] = x[b,j] * 2 - (w[b] if j == hot[b] else 0.0)
  # hot in registers"""
    )


def test_an_element_that_is_known() -> None:
    assert (
        scheduled("f(x[B,B], w[B]) -> y[B,B]:\n    for b, j:  y[b,j] = x[b,j]\n    for b:  y[b,b] += w[b]")
        == "for b < B parallel:  for j < B vector:  y[b,j] = x[b,j] + (w[b] if j == b else -0.0)"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dense", "single"),
    [
        ("y[b,j] += x[b,j]", "y[b,i[b]] += w[b]"),
        ("y[b,j] += x[b,j]", "y[b,i[b]] -= w[b]"),
        ("y[b,j] -= x[b,j]", "y[b,i[b]] += w[b]"),
        ("y[b,j] -= x[b,j]", "y[b,i[b]] -= w[b]"),
        ("y[b,j] = x[b,j]", "y[b,i[b]] += w[b]"),
        ("y[b,j] = x[b,j]", "y[b,i[b]] -= w[b]"),
    ],
)
def test_signs(dense: str, single: str) -> None:
    """Zeros keep theirs too: those of `y` and, beside them, those of the element that is added to."""
    program = lg.program(HEAD + f"    for b, j:  {dense}\n    for b:  {single}")
    x = np.array([[0.0, -0.0, 2.5], [-0.0, -1.5, 0.0], [0.0, 0.0, -0.0]])
    given = {"x": x, "w": np.array([-0.0, 0.5, 0.0]), "i": np.array([1, 1, 2])}
    assert "hot" in show(optimized(infer(program), validate(program)))
    wanted = lg.compile(program, backend="interpret")(**given)
    found = lg.compile(program)(**given)
    assert found.tobytes() == wanted.tobytes()
    check(program, given, 2, Choices())


@pytest.mark.parametrize("columns", [0, 1, 5, 37])
def test_what_is_out_of_range_is_found(columns: int) -> None:
    """Also where a row has no elements, so that no loop goes over it."""
    program = lg.program(HEAD + DENSE + "    for b:     y[b,i[b]] -= w[b]")
    for wrong in (columns, -1):
        given = {"x": np.ones((3, columns)), "w": np.ones(3), "i": np.array([0, wrong, 0])}
        with pytest.raises(IndexError) as wanted:
            lg.compile(program, backend="interpret")(**given)
        with pytest.raises(IndexError) as found:
            program(**given)
        assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize(
    "lines",
    [
        DENSE + "    for b:  y[b,i[b]] += w[b]   if w[b] > 0",
        DENSE + "    for b, k < 2:  y[b,i[b]] += w[b] * k",
        DENSE + "    for b:  y[i[b],0] += w[b]",
        "    for b, j:  y[b,j] max= x[b,j]\n    for b:  y[b,i[b]] max= w[b]",
    ],
)
def test_what_stays_apart(lines: str) -> None:
    program = lg.program(HEAD + lines)
    assert "hot" not in show(optimized(infer(program), validate(program)))
    given = {"x": np.arange(12.0).reshape(3, 4), "w": np.array([1.0, -1, 2]), "i": np.array([1, 2, 0])}  # fmt: skip
    np.testing.assert_allclose(
        program(**given), lg.compile(program, backend="interpret")(**given), rtol=1e-14
    )


def test_what_is_computed_once_over_two_indices_that_became_one() -> None:
    """`h[0,b.n]` has as many elements as both: a row of n elements was written over its end."""
    program = lg.program(
        "f(p[B,N], q[B,N]) -> g[B,N,2], d[B,N]:\n"
        "    for b, n:  s[b,n]   += exp(q[b,n])\n    for b, n:  r[b,n]   += exp(p[b,n])\n"
        "    for b, n:  d[b,n]   = s[b,n] - r[b,n]\n"
        "    for b, n:  g[b,n,0] += s[b,n]\n    for b, n:  g[b,n,1] += r[b,n]"
    )
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 40, 5))
    for got, wanted in zip(
        program(p, q), lg.compile(program, backend="interpret")(p, q), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    assert "in a row" not in scheduled(str(program))
