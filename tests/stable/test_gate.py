"""What the gate lets through: equal programs that are better somewhere and worse nowhere."""

from __future__ import annotations

from decimal import localcontext

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.stable.gate import Gate

SOFTMAX = """f(s[B,J]) -> p[B,J]:
    for b, j:  Z[b] += exp(s[b,j])
    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]"""
SHIFTED = """f(s[B,J]) -> p[B,J]:
    for b, j:  m[b] max= s[b,j]
    for b, j:  Z[b] += exp(s[b,j] - m[b])
    for b, j:  p[b,j] = exp(s[b,j] - m[b]) / Z[b]"""


def passes(before: str, after: str) -> bool:
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        return Gate(infer(lg.program(before))).passes(lg.program(after))


def test_a_better_form_passes() -> None:
    assert passes(SOFTMAX, SHIFTED)


def test_the_same_form_is_not_better() -> None:
    assert not passes(SOFTMAX, SOFTMAX)
    assert not passes(SHIFTED, SHIFTED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m[b] max= s[b,j]", "m[b] max= 2 * s[b,j]"),  # equal, and overflows less, and cancels
        ("s[b,j] - m[b]) / Z[b]", "s[b,j] - m[b]) / (Z[b] + 1e-9)"),  # nearly equal
        ("/ Z[b]", "/ Z[b] / 3 * J"),  # equal at J = 3 alone
    ],
)
def test_what_is_worse_or_not_equal_does_not_pass(old: str, new: str) -> None:
    assert old in SHIFTED
    assert not passes(SOFTMAX, SHIFTED.replace(old, new))


def test_a_form_that_loses_digits_does_not_pass() -> None:
    written = """f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - μ[j])**2 / B"""
    one_pass = """f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  q[j] += x[b,j]**2 / B
    for j:     v[j] = q[j] - μ[j]**2"""
    assert not passes(written, one_pass)


def test_a_move_that_hangs_on_a_size_is_none() -> None:
    """The sum of all logs moves by as many constants as there are rows."""
    from loopgrad.stable import stabilize

    program = lg.program("""f(s[B,J], int y[B]) -> L:
    for b, j:  Z[b] += exp(s[b,j])
    for b:     L += log(Z[b])
    for b:     l -= s[b,y[b]]
    L += l / 2""")
    s = np.random.default_rng(0).normal(size=(7, 3))
    stable = stabilize(program)
    y = np.arange(7) % 3
    expected = lg.compile(program, optimize=False)(s, y)
    np.testing.assert_allclose(lg.compile(stable, optimize=False)(s, y), expected, rtol=1e-12)
