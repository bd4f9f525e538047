"""Functions to 50 digits, against Python's floats and each other."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext

import pytest

from loopgrad.simplify import decimals
from loopgrad.simplify.decimals import CONTEXT


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
