"""`exp` and `log` of Decimals to 60 digits, several times as fast as those of `decimal`.

By tables in fixed point: `exp(r) = exp(i / 2**8) * exp(j / 2**16) * exp(k / 2**24) * exp(rest)`, of which the
last is a short Taylor series. Python's integers of 250 bits cost a fifth of Decimals of as many digits. What
comes out is good to 65 digits and rounded once, in the context it is asked in, of 60 digits at most.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache

BITS = 232  # of a fraction: 69 digits
STEPS = 8  # bits that a table takes off
TERMS = 9  # of the series, for which the rest is less than 2**-24
WIDE = Context(prec=95, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
LEAST, GREATEST = -8, 9  # exponents of ten of what the tables are for; others are few, or soon done
NEAR = Decimal("1e-3")  # of 1: there a logarithm needs more digits

ONE = 1 << BITS
MASK = (1 << STEPS) - 1
LN10 = WIDE.ln(Decimal(10))
PER_LN10 = Decimal("0.43429448190325182765")
SCALE = Decimal(ONE)
UNIT = WIDE.divide(Decimal(1), SCALE)
ODD = tuple(ONE // odd for odd in range(15, 0, -2))
SERIES = tuple(ONE // math.factorial(n) for n in range(TERMS, -1, -1))


def exp(a: Decimal) -> Decimal:
    """e**a, rounded in the current context."""
    if not a.is_finite() or not LEAST <= a.adjusted() <= GREATEST:
        return a.exp()
    tens = int(a * PER_LN10)
    if a < 0:
        tens -= 1
    rest = int(WIDE.multiply(WIDE.fma(LN10, -tens, a), SCALE))
    if rest < 0:  # by a rounding
        return a.exp()
    return (Decimal(_raised(rest)) * UNIT).scaleb(tens)


def log(a: Decimal) -> Decimal:
    """The logarithm, rounded in the current context."""
    if not a.is_finite() or a <= 0 or abs(a - 1) < NEAR:
        return a.ln()
    tens = a.adjusted()
    mantissa = a.scaleb(-tens)
    guess = math.log(mantissa)
    near = int(guess * 2**STEPS * 2**STEPS) << (BITS - 2 * STEPS)  # a few bits, which are exact
    raised = _raised(near)
    given = int(WIDE.multiply(mantissa, SCALE))
    # ln(given / raised) by atanh, whose argument is less than 2**-17.
    ratio = ((given - raised) << BITS) // (given + raised)
    square = ratio * ratio >> BITS
    series = 0
    for term in ODD:
        series = term + (series * square >> BITS)
    total = near + (2 * ratio * series >> BITS)
    return +WIDE.fma(LN10, tens, WIDE.multiply(Decimal(total), UNIT))


def _raised(a: int) -> int:
    """exp(a / ONE) * ONE, of 0 or more."""
    first, second, third = _tables()
    value = first[a >> (BITS - STEPS)]
    value = value * second[a >> (BITS - 2 * STEPS) & MASK] >> BITS
    value = value * third[a >> (BITS - 3 * STEPS) & MASK] >> BITS
    rest = a & ((1 << (BITS - 3 * STEPS)) - 1)
    series = 0
    for term in SERIES:
        series = term + (series * rest >> BITS)
    return value * series >> BITS


@lru_cache(maxsize=1)
def _tables() -> tuple[list[int], ...]:
    """exp of the multiples of 1/2**8 below ln(10), and of those of 1/2**16 and 1/2**24."""
    counts = int(LN10 * 2**STEPS) + 2, 2**STEPS, 2**STEPS
    found = []
    for level, count in enumerate(counts, 1):
        exact = WIDE.exp(WIDE.power(Decimal(2), -STEPS * level))
        step = int(WIDE.multiply(exact, SCALE))
        values = [ONE]
        for _ in range(count - 1):
            values.append(values[-1] * step >> BITS)
        found.append(values)
    return tuple(found)
