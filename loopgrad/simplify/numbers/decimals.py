"""Functions of real numbers to 50 digits, on Python's `decimal`, elementwise on object arrays.

Infinities and NaN behave as in IEEE arithmetic, in `CONTEXT`, in which everything here has to run
(`decimal.localcontext(CONTEXT)`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.numbers.exponentials import exp as exp
from loopgrad.simplify.numbers.exponentials import log as log

Reals: TypeAlias = NDArray[np.object_]  # of Decimals

DIGITS = 50
CONTEXT = Context(prec=DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
FINER = Context(prec=DIGITS + 10, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])  # is it rounding alone?

ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)
NAN, INFINITY = Decimal("NaN"), Decimal("Infinity")

# Powers of ten above which no float64 is.
MOST_OF_TURNS = 308

# Differences below this are rounding: relative to the larger value, or of numbers near 0.
RELATIVE, ABSOLUTE = Decimal("1e-35"), Decimal("1e-40")


def elementwise(function: Callable[..., Any], operands: int = 1) -> Callable[..., Any]:
    """The function on arrays of Decimals; what it gives is an object array again."""
    made: Callable[..., Any] = np.frompyfunc(function, operands, 1)
    return made


def decimal(value: Fraction | int) -> Decimal:
    value = Fraction(value)
    return Decimal(value.numerator) / Decimal(value.denominator)


def order(a: Decimal, b: Decimal) -> int:
    """-1, 0 or 1 as a < b, a = b or a > b, rounding apart; 2 where one is NaN."""
    if a.is_nan() or b.is_nan():
        return 2
    if a == b:
        return 0
    if a.is_finite() and b.is_finite():
        difference = abs(a - b)
        if difference <= ABSOLUTE or difference <= RELATIVE * max(abs(a), abs(b)):
            return 0
    return -1 if a < b else 1


def floor(a: Decimal) -> int | None:
    """The integer below, where rounding may have hidden that a is one; None of what is not finite."""
    if not a.is_finite():
        return None
    nearest = a.to_integral_value()
    if order(a, nearest) == 0:
        return int(nearest)
    return int(a.to_integral_value(rounding="ROUND_FLOOR"))


def divide(a: Decimal, b: Decimal) -> Decimal:
    return a / b


def power(a: Decimal, b: Decimal) -> Decimal:
    if b == 0 or a == 1:
        return ONE
    return a**b


def rational_power(a: Decimal, exponent: Fraction) -> Decimal:
    """a**exponent; half-integers by the square root, which is much faster."""
    if exponent.denominator == 2:
        return power(root(a).copy_abs(), Decimal(exponent.numerator))
    return power(a, decimal(exponent))


def root(a: Decimal) -> Decimal:
    return a.sqrt()


def tanh(a: Decimal) -> Decimal:
    if a.is_infinite():
        return ONE.copy_sign(a)
    square = exp(2 * a)
    if square.is_infinite():
        return ONE
    return (square - 1) / (square + 1)


def sigmoid(a: Decimal) -> Decimal:
    return 1 / (1 + exp(-a))


def softplus(a: Decimal) -> Decimal:
    return max(a, ZERO) + log(1 + exp(-abs(a))) if not a.is_nan() else a


def erf(a: Decimal) -> Decimal:
    """By the series whose terms all have the sign of a, in integers."""
    if a.is_nan():
        return a
    if abs(a) > 12:  # 1 - erf(12) < 1e-63
        return ONE.copy_sign(a)
    one = 10 ** (DIGITS + 10)
    square = int(2 * a * a * one)
    term = total = one
    n = 1
    while term:
        n += 2
        term = term * square // (n * one)
        total += term
    factor = 2 / pi().sqrt() * exp(-a * a) * a
    return Decimal(factor * total / one)


def sin(a: Decimal) -> Decimal:
    return _circular(a, ONE)


def cos(a: Decimal) -> Decimal:
    return _circular(a, ZERO)


def _circular(a: Decimal, first: Decimal) -> Decimal:
    """sin where `first` is 1, its Taylor series' first power, else cos.

    Of what no float64 reaches the turns are not counted: that takes as many digits as there are.
    """
    if not a.is_finite() or a.adjusted() > MOST_OF_TURNS:
        return NAN
    digits = DIGITS + 50 * (1 + max(a.adjusted() + 10, 0) // 50)  # not another pi for each a
    with localcontext(Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])):
        a = a.remainder_near(2 * pi(digits))
    with localcontext(Context(prec=DIGITS + 10, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])):
        a, n = +a, int(first)
        term = total = a if n else ONE
        while term and abs(term) > Decimal(10) ** -(DIGITS + 5):
            term = -term * a * a / ((n + 1) * (n + 2))
            total += term
            n += 2
    return +total


@lru_cache(maxsize=8)
def pi(digits: int = DIGITS + 5) -> Decimal:
    """By Machin's formula, 4 arctan(1/5) - arctan(1/239)."""

    def arctan(inverse: int) -> int:
        term = total = int(10 ** (digits + 10)) // inverse
        n, sign = 3, -1
        while term:
            term //= inverse * inverse
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    with localcontext(Context(prec=digits + 10)):
        return 4 * Decimal(4 * arctan(5) - arctan(239)).scaleb(-(digits + 10))
