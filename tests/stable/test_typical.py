"""A constant is taken off an input only where runs at small sizes show all that it does, or algebra proves it.

Each program computes a variance, which a constant does not change, and something that it changes only at larger sizes,
or only for larger numbers, than the runs that look for such constants have.
"""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.stable import stabilize

VARIANCE = """f(x[B,J]{more}) -> v[J], y[J]:
    for b, j:  s[j] += x[b,j]
    for b, j:  q[j] += x[b,j]**2
    for j:  v[j] = q[j] / B - (s[j] / B)**2
    {rest}"""
LATER = {
    "from a place on": ("", "for j, 7 <= b < B:  y[j] += x[b,j]"),
    "at one place": ("", "for j, b:  y[j] += x[b,j]  if b == 6"),
    "at a place within a turn": ("", "for j, b:  y[j] += x[b,j]  if b % 11 == 6"),
    "within a conditional": ("", "for j, b:  y[j] += x[b,j] * (1 if b > 8 else 0)"),
    "by a difference": ("", "for j, b:  y[j] += max(b - 7, 0) * x[b,j]"),
    "by a quotient": ("", "for j, b:  y[j] += (b // 7) * x[b,j]"),
    "by a product": ("", "for j, b:  y[j] += x[b,j]  if b**2 > 50"),
    "at large numbers": ("", "for j:  y[j] = x[0,j]  if x[1,j] > 40"),
    "kept above a number": ("", "for j:  y[j] = max(x[0,j], 40)"),
    "kept above it by all": ("", "for j, b:  y[j] max= x[b,j] if x[b,j] > 40 else 0"),
    "kept above what is computed": (
        "",
        "for j:  c[j] = x[0,j] / 100 + 40\n    for j:  y[j] = max(x[1,j], c[j])",
    ),
    "the largest, above a number": (
        "",
        "for j, b:  m[j] max= x[b,j]\n    for j:  y[j] = x[0,j]  if m[j] > 60",
    ),
    "where another is large": (", z[J]", "for j:  y[j] = x[0,j]  if z[j] > 40"),
    "times what is large": (", z[J]", "for j:  y[j] = x[0,j] * relu(z[j] - 40)"),
    "rounded": ("", "for j, b:  y[j] += floor(x[b,j] / 40)"),
    "by a function flat where runs come": ("", "for j:  y[j] = erf(x[0,j] - 30)"),
    "by such a one of a branch": ("", "for j:  y[j] = erf(x[0,j] - (30 if j > 1 else 0))"),
    "by such a one of what is computed": (
        "",
        "for j:  c[j] = x[0,j] / 100 + 30\n    for j:  y[j] = erf(x[1,j] - c[j])",
    ),
    "by such a one from what a call gives": (", k = 100.0", "for j:  y[j] = erf(x[0,j] - k)"),
    "at places that data give": (", int w[B]", "for j, b:  y[j] += x[b,j]  if w[b] > 7"),
    "at a place that a call gives": (", k = 100", "for j, b:  y[j] += x[b,j]  if b > k"),
}


@pytest.mark.parametrize("name", LATER)
def test_nothing_is_taken_off_for_what_small_runs_do_not_show(name: str) -> None:
    more, rest = LATER[name]
    program = lg.program(VARIANCE.format(more=more, rest=rest))
    rng = np.random.default_rng(0)
    inputs = {"x": 30 * rng.normal(size=(12, 5)) + 20}
    inputs |= {"z": np.linspace(0, 80, 5)} if "z[J]" in more else {}
    inputs |= {"w": np.arange(12)} if "w[B]" in more else {}
    constants = {"k": 25 if "k = 100.0" in more else 5} if "k =" in more else {}
    expected = lg.compile(program, backend="interpret")(**inputs, **constants)
    assert np.any(expected[1])
    found = lg.compile(program)(**inputs, **constants)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("rest", ["if b >= 0", "if b > 0", "- x[0,j]", "* (1 if b < j else 0.5)"])
def test_numbers_that_small_runs_come_near_are_no_reason(rest: str) -> None:
    """The variance stays accurate where the data have something large in common."""
    program = lg.program(
        VARIANCE.format(more="", rest=f"for j, b:  y[j] += (x[b,j] - x[B-1,j]) {rest}")
    )
    assert "shift" in str(stabilize(program))


def test_algebra_decides_where_runs_do_not() -> None:
    rest = "for j, b:  y[j] += x[b,j] - x[B-1,j]  if b == 6"
    assert "shift" in str(stabilize(lg.program(VARIANCE.format(more="", rest=rest))))


def test_data_may_be_put_in_order_among_themselves() -> None:
    """A loss of huge scores: the gradient looks for the largest, and is no reason against the shift."""
    program = lg.lib.softmax_cross_entropy
    assert "s.shift" in str(stabilize(program))
    scores = np.array([[3e4, 3e4 + 1, 3e4 + 2], [-3e4, -3e4, -3e4 + 3]], np.float32)
    values, _ = lg.vjp(program, s=scores, label=np.array([0, 2]))
    exact = np.log(np.exp(scores - scores[:, [0, 2]].diagonal()[:, None], dtype=float).sum(1))
    np.testing.assert_allclose(values, exact, rtol=2e-6)
