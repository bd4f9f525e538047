"""The laws that make `exp` and `log` exist in a chain of finite fields."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from loopgrad.simplify.numbers.fields import (
    CHAIN,
    UNKNOWN,
    Fields,
    Residues,
    _discrete_log,
    generator,
)

LEVELS, COPIES, COUNT = 4, 3, 12


@pytest.fixture(params=[1, 2])
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


@pytest.fixture
def field() -> Fields:
    return Fields(LEVELS, COPIES)


def is_prime(n: int) -> bool:
    return all(n % k for k in range(2, int(n**0.5) + 1))


def known(*arrays: Residues) -> np.ndarray:
    return np.logical_and.reduce([a >= 0 for a in arrays])


def agree(a: Residues, b: Residues, at_least: float) -> bool:
    """Equal wherever both are known, which they are for that share of the residues."""
    both = known(a, b)
    return bool(np.all(a[both] == b[both])) and both.mean() >= at_least


def numbers(field: Fields, rng: np.random.Generator, squares: bool = False) -> Residues:
    return field.random((COUNT,), rng, squares)


def test_each_prime_is_twice_the_next_and_one() -> None:
    assert all(is_prime(p) for p in CHAIN)
    assert all(p == 2 * q + 1 for p, q in itertools.pairwise(CHAIN))
    # The last one's squares are a group of no prime order; no exponent lives there.
    assert all(pow(generator(p), (p - 1) // 2, p) == 1 != generator(p) for p in CHAIN)


def test_products_need_no_more_than_64_bits() -> None:
    assert max(CHAIN) ** 2 < 2**63


def test_exp_of_a_sum_is_the_product(field: Fields, rng: np.random.Generator) -> None:
    x, y = numbers(field, rng), numbers(field, rng)
    product = field.multiply(field.exp(x), field.exp(y))
    assert agree(field.exp(field.add(x, y)), product, at_least=0.75)
    assert not agree(field.exp(field.subtract(x, y)), product, at_least=0)


def test_exp_loses_the_last_level_and_log_the_first(
    field: Fields, rng: np.random.Generator
) -> None:
    x = numbers(field, rng, squares=True)
    lost = slice(-COPIES, None)
    assert np.all(field.exp(x)[lost] == UNKNOWN) and np.all(field.exp(x)[:-COPIES] >= 0)
    assert np.all(field.log(x)[:COPIES] == UNKNOWN) and np.all(field.log(x)[COPIES:] >= 0)


def test_log_and_exp_are_inverse(field: Fields, rng: np.random.Generator) -> None:
    x = numbers(field, rng)
    assert agree(field.log(field.exp(x)), x, at_least=0.75)
    square = numbers(field, rng, squares=True)
    assert agree(field.exp(field.log(square)), square, at_least=0.75)


@pytest.mark.parametrize("p", CHAIN[:-1])
def test_every_power_is_found(p: int, rng: np.random.Generator) -> None:
    # Baby steps that share a slot are found by the next one, also at both ends of the powers.
    order = (p - 1) // 2
    wanted = [*range(300), *range(order - 300, order), *rng.integers(0, order, 300).tolist()]
    powers = np.array([pow(generator(p), n, p) for n in wanted], np.int64)
    assert _discrete_log(p, powers).tolist() == wanted
    assert (_discrete_log(p, p - powers) == UNKNOWN).all()  # no squares


def test_log_of_a_product_is_the_sum(field: Fields, rng: np.random.Generator) -> None:
    x, y = numbers(field, rng, squares=True), numbers(field, rng, squares=True)
    total = field.add(field.log(x), field.log(y))
    assert agree(field.log(field.multiply(x, y)), total, at_least=0.75)


def test_only_squares_have_logarithms_and_roots(field: Fields, rng: np.random.Generator) -> None:
    square = numbers(field, rng, squares=True)
    for negative in (field.negate(square), np.zeros_like(square)):
        assert np.all(field.log(negative) == UNKNOWN)
    assert np.all(field.root(field.negate(square)) == UNKNOWN)
    assert np.all(field.root(np.zeros_like(square)) == 0)


@pytest.mark.parametrize("power", [Fraction(1, 2), Fraction(-1, 2), Fraction(3, 2), Fraction(2, 7)])
def test_rational_powers_are_exact(
    field: Fields, rng: np.random.Generator, power: Fraction
) -> None:
    x, y = numbers(field, rng, squares=True), numbers(field, rng, squares=True)
    raised = field.rational_power(x, power)
    back = field.rational_power(raised, 1 / power)
    assert agree(back, x, at_least=1)
    product = field.multiply(raised, field.rational_power(y, power))
    assert agree(field.rational_power(field.multiply(x, y), power), product, at_least=1)
    whole = field.integer_power(raised, np.array([power.denominator]))
    assert agree(whole, field.integer_power(x, np.array([power.numerator])), at_least=1)


def test_any_power_is_exp_of_a_multiple_of_log(field: Fields, rng: np.random.Generator) -> None:
    x, y = numbers(field, rng, squares=True), numbers(field, rng)
    power = field.power(x, field.shifted(y))
    assert agree(power, field.exp(field.multiply(y, field.log(x))), at_least=0.75)


def test_integer_powers(field: Fields, rng: np.random.Generator) -> None:
    x = numbers(field, rng)
    n = rng.integers(-5, 6, COUNT)
    expected = field.number(1) + 0 * x
    for k in range(COUNT):
        for _ in range(abs(n[k])):
            column = field.multiply(expected[:, [k]], x[:, [k]])
            expected[:, [k]] = column if n[k] > 0 else field.divide(expected[:, [k]], x[:, [k]])
    for k in np.flatnonzero(n < 0):
        start = np.ones((field.rows, 1), np.int64)
        for _ in range(-n[k]):
            start = field.divide(start, x[:, [k]])
        expected[:, [k]] = start
    assert agree(field.integer_power(x, n), expected, at_least=1)
    zero = np.zeros((field.rows, 3), np.int64)
    powers = field.integer_power(zero, np.array([0, 2, -1]))
    assert powers[0].tolist() == [1, 0, UNKNOWN]


@pytest.mark.parametrize("count", [3, 100])  # inverted one by one, and all at once
def test_division(field: Fields, rng: np.random.Generator, count: int) -> None:
    x, y = field.random((count,), rng), field.random((count,), rng)
    assert agree(field.multiply(field.divide(x, y), y), x, at_least=1)
    y[:, 0] = 0
    assert np.all(field.divide(x, y)[:, 0] == UNKNOWN)


def test_what_is_made_of_the_unknown_is_unknown(field: Fields, rng: np.random.Generator) -> None:
    x = numbers(field, rng)
    x[1, 2] = UNKNOWN
    y = numbers(field, rng)
    for result in (
        field.add(x, y),
        field.subtract(y, x),
        field.multiply(x, 0 * y),
        field.divide(y, x),
        field.negate(x),
        field.integer_power(x, np.array([2])),
        field.opaque("sin", x),
    ):
        assert result[1, 2] == UNKNOWN
        assert np.count_nonzero(result == UNKNOWN) == 1


def test_the_quadratic_character_is_a_sign(field: Fields, rng: np.random.Generator) -> None:
    x, y = numbers(field, rng), numbers(field, rng)
    sign = field.character
    assert set(sign(x).flat) == {-1, 1}
    assert np.all(sign(field.negate(x)) == -sign(x))
    assert np.all(sign(field.multiply(x, y)) == sign(x) * sign(y))
    assert np.all(sign(0 * x) == 0)
    root = field.root(field.multiply(x, x))
    absolute = np.where(sign(x) > 0, x, field.negate(x))
    assert np.all(root == absolute)


def test_rational_numbers(field: Fields) -> None:
    third = field.number(Fraction(1, 3))
    assert np.all(field.multiply(third, field.number(3)) == 1)
    assert np.all(field.number(-2) == field.modulus - 2)


def test_opaque_functions_keep_equal_operands_equal(
    field: Fields, rng: np.random.Generator
) -> None:
    x = numbers(field, rng)
    assert np.all(field.opaque("sin", x) == field.opaque("sin", x.copy()))
    assert not np.any(field.opaque("sin", x) == field.opaque("cos", x))
    assert np.all(field.character(field.constant("pi")) == 1)


def test_a_chain_has_no_more_levels_than_primes() -> None:
    with pytest.raises(ValueError, match="1 to 7 levels, got 8"):
        Fields(8)
