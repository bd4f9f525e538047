"""What sizes have to satisfy for all that a factor reads to be in range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import Apply, Extent, Number
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import optimized
from loopgrad.schedule.limits import is_natural
from loopgrad.schedule.showing.show import show

# Fewer channels than the weights have; and what the guard alone keeps within them.
FEWER = """f(x[B,C,X], k[O,I,3]) -> y[B,O,X]:
    for b, o, n < X, i < C, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X
"""
GUARDED = """f(x[B,C,X], k[O,C,3]) -> y[B,O,X]:
    for b, o, n < X, i, p < 5:  y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X and p < 3
"""


def test_channels_may_be_fewer_than_the_weights_have() -> None:
    program = lg.program(FEWER)
    scheduled = optimized(infer(program), validate(program))
    assert "product, zeros left out:" in show(scheduled)
    assert "C <= I" in [show_expression(e) for e in scheduled.requires]
    rng = np.random.default_rng(1)
    for channels, there in ((3, 3), (3, 5), (0, 2), (1, 9)):
        x, k = rng.normal(size=(2, channels, 7)), rng.normal(size=(5, there, 3))
        k[:, channels:] = np.nan  # nobody reads them
        wanted = lg.compile(program, backend="interpret")(x, k)
        np.testing.assert_allclose(program(x, k), wanted, rtol=1e-12, atol=1e-13)
    with pytest.raises(IndexError, match="axis 1 of `k`"):
        program(rng.normal(size=(2, 4, 7)), rng.normal(size=(5, 3, 3)))


def test_what_a_guard_keeps_in_range_is_not_looked_at_without_it() -> None:
    program = lg.program(GUARDED)
    scheduled = optimized(infer(program), validate(program))
    assert not [e for e in scheduled.requires if "<= 3" in show_expression(e)]
    rng = np.random.default_rng(2)
    x, k = rng.normal(size=(2, 4, 9)), rng.normal(size=(5, 4, 3))
    wanted = lg.compile(program, backend="interpret")(x, k)
    np.testing.assert_allclose(program(x, k), wanted, rtol=1e-12, atol=1e-13)


def _quotient(plus: int, divisor: int) -> Apply:
    return Apply("//", (Apply("+", (Extent("X"), Number(plus))), Number(divisor)))


@pytest.mark.parametrize(
    ("plus", "divisor", "other", "by", "is_evident"),
    [
        (0, 2, 1, 2, lambda least: least >= 1),  # X//2 - (X+1)//2 is -1 or 0
        (1, 2, 0, 2, lambda least: least >= 0),
        (0, 3, 2, 3, lambda least: least >= 1),
        (0, 3, 7, 3, lambda least: least >= 3),
        (0, 2, 0, 3, lambda least: False),  # what is left of X may be negative
        (5, 4, 5, 4, lambda least: least >= 0),
    ],
)
def test_differences_of_quotients(
    plus: int, divisor: int, other: int, by: int, is_evident: Callable[[int], bool]
) -> None:
    one, two = _quotient(plus, divisor), _quotient(other, by)
    for least in range(-2, 4):
        value = polynomial(Apply("+", (Apply("-", (one, two)), Number(least))))
        assert is_natural(value) == is_evident(least)
        if is_natural(value):
            for x in range(-50, 50):
                assert (x + plus) // divisor - (x + other) // by + least >= 0
