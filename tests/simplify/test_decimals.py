"""Functions to 50 digits, against Python's floats and each other."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, localcontext

import pytest

from loopgrad.simplify.numbers import decimals
from loopgrad.simplify.numbers.decimals import CONTEXT, FINER


@pytest.fixture(autouse=True)
def fifty_digits() -> Iterator[None]:
    with localcontext(CONTEXT):
        yield


@pytest.mark.parametrize("name", "exp tanh sin cos erf".split())
def test_as_floats(name: str) -> None:
    rng = random.Random(name)
    ours: Callable[[Decimal], Decimal] = getattr(decimals, name)
    for x in [0.0, 1e-9, *(rng.uniform(-9, 9) for _ in range(20)), -100.0]:
        assert float(ours(Decimal(x))) == pytest.approx(getattr(math, name)(x), rel=1e-14)


@pytest.mark.parametrize("context", [CONTEXT, FINER], ids=["50", "60"])
@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e-3, 1.0, 30.0, 1e4, 9e6, 1e9])
def test_exp_and_log_are_those_of_decimal(scale: float, context: Context) -> None:
    rng = random.Random(scale)
    with localcontext(context):
        for _ in range(60):
            a = Decimal(rng.gauss(0, scale)) / 3
            raised, magnitude = a.exp(), abs(a)
            assert decimals.exp(a) == raised
            for positive in (raised, magnitude, 1 + magnitude, raised + 1):
                assert decimals.log(positive) == positive.ln(), positive


def test_exp_and_log_of_what_is_special() -> None:
    for a in map(
        Decimal, ("0", "-0", "1", "-1", "Infinity", "-Infinity", "1e30", "-1e30", "1e-80")
    ):
        assert decimals.exp(a) == a.exp()
    for multiple in range(-30, 31):  # of ln(10), where a power of ten ends
        a = multiple * Decimal(10).ln()
        assert decimals.exp(a) == a.exp()
    for a in map(Decimal, ("0", "1", "10", "Infinity", "1e900000", "1e-900000")):
        assert decimals.log(a) == a.ln()
    assert decimals.log(Decimal(-1)).is_nan() and decimals.exp(Decimal("NaN")).is_nan()


def test_turns_are_counted_as_far_as_floats_go() -> None:
    for a in map(Decimal, (1e15, -7.3e40, 1.7e308)):
        s, c = decimals.sin(a), decimals.cos(a)
        assert abs(s**2 + c**2 - 1) < Decimal("1e-48")
        assert float(s) == pytest.approx(math.sin(float(a)), rel=1e-12)
    assert decimals.sin(Decimal("1e309")).is_nan()
    # That many digits no machine has.
    assert decimals.cos(Decimal("1e999999999")).is_nan()


def test_to_fifty_digits() -> None:
    third = Decimal(1) / 3
    assert abs(decimals.sin(third) ** 2 + decimals.cos(third) ** 2 - 1) < Decimal("1e-48")
    assert abs(decimals.sin(decimals.pi() / 6) - Decimal("0.5")) < Decimal("1e-48")
    # erf(1), from tables.
    one = Decimal("0.84270079294971486934122063508260925929606699796630")
    assert abs(decimals.erf(Decimal(1)) - one) < Decimal("1e-48")
    assert abs(decimals.erf(Decimal("11.99")) - decimals.erf(Decimal("12.01"))) < Decimal("1e-45")


@pytest.mark.parametrize(
    "name, at, limit",
    [
        ("exp", "-Infinity", 0),
        ("tanh", "Infinity", 1),
        ("tanh", "-Infinity", -1),
        ("sigmoid", "-Infinity", 0),
        ("sigmoid", "Infinity", 1),
        ("softplus", "-Infinity", 0),
        ("erf", "-Infinity", -1),
    ],
)
def test_limits(name: str, at: str, limit: int) -> None:
    assert getattr(decimals, name)(Decimal(at)) == limit


def test_not_a_number() -> None:
    assert decimals.log(Decimal(-1)).is_nan()
    assert decimals.root(Decimal(-1)).is_nan()
    assert decimals.power(Decimal(-8), Decimal(1) / 3).is_nan()
    assert decimals.divide(Decimal(0), Decimal(0)).is_nan()
    assert decimals.divide(Decimal(1), Decimal(0)) == Decimal("Infinity")


def test_order_sees_through_rounding() -> None:
    third = Decimal(1) / 3
    assert decimals.order(third * 3, Decimal(1)) == 0
    assert decimals.order(third * 3 - 1, Decimal(0)) == 0
    assert decimals.order(Decimal("1e-30"), Decimal(0)) == 1
    assert decimals.order(Decimal("-Infinity"), Decimal("-Infinity")) == 0
    assert decimals.order(Decimal("NaN"), Decimal(1)) == 2
    assert decimals.floor(third * 3 * 2) == 2
    assert decimals.floor(Decimal("-0.5")) == -1
    assert decimals.floor(Decimal("Infinity")) is None
