"""x ** y = exp(y log|x|): the logarithm has to be as exact as a large y makes its error large.

For float32 it is computed in float64; for float64 as the sum of two numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from loopgrad.backends.llvm.mathematics.exponential import (
    reduced,
    scaled,
)
from loopgrad.backends.llvm.mathematics.formats import DOUBLE, format_of
from loopgrad.backends.llvm.mathematics.logarithm import parts
from loopgrad.backends.llvm.writing.lanes import Lanes


def power(w: Lanes, x: str, y: str) -> str:
    magnitude = _single(w, x, y) if w.element == "float" else _double(w, x, y)
    return _special(w, x, y, magnitude)


def _special(w: Lanes, x: str, y: str, magnitude: str) -> str:
    """As C99 has it. `magnitude` is |x| ** y, right for all but |x| = 1, y = 0 and NaN."""
    zero, one, nan = w.number(0.0), w.number(1.0), w.number(math.nan)
    half = w.multiply(y, w.number(0.5))
    whole = w.compare("oeq", w.intrinsic("floor", y), y)
    odd = w.both(whole, w.compare("one", w.intrinsic("floor", half), half))
    result = w.select(w.compare("oeq", w.absolute(x), one), one, magnitude)
    result = w.select(odd, w.with_sign(result, x), result)
    negative = w.both(w.compare("olt", x, zero), w.compare("ogt", x, w.number(-math.inf)))
    result = w.select(w.both(negative, w.compare("une", w.intrinsic("floor", y), y)), nan, result)
    result = w.select(w.compare("uno", x, y), nan, result)
    return w.select(w.either(w.compare("oeq", y, zero), w.compare("oeq", x, one)), one, result)


# -------------------------------------------------------------------------------------- float32

# log2((1+s)/(1-s)) = s LOG(s**2), with 37 bits; 2**f = 1 + f EXP(f), with 34.
_LOG = (
    2.8853900817900855,
    0.961796673343292,
    0.5770835846382243,
    0.41167274010421895,
    0.340729696992402,
)
_EXP = (
    0.6931471807068516,
    0.24022651070990456,
    0.05550410359992741,
    0.009618037407014954,
    0.001333393805169255,
    0.00015467008285941094,
    1.5195936127608004e-05,
)


def _single(w: Lanes, x: str, y: str) -> str:
    wide = Lanes(w.body, w.count, element="double")

    def widened(value: str) -> str:
        return w.body.value(f"fpext {w.real} {value} to {wide.real}")

    magnitude = wide.absolute(widened(x))
    one = wide.number(1.0)
    k, m = parts(wide, magnitude)
    s = wide.divide(wide.subtract(m, one), wide.add(m, one))
    logarithm = wide.fused(s, wide.polynomial(wide.multiply(s, s), _LOG), wide.small_to_real(k))
    logarithm = _limits(wide, magnitude, logarithm)
    exponent = wide.clamp(wide.multiply(widened(y), logarithm), -200.0, 200.0)
    magic = wide.number(DOUBLE.magic + DOUBLE.bias)
    shifted = wide.add(exponent, magic)
    f = wide.subtract(exponent, wide.subtract(shifted, magic))
    p = wide.polynomial(f, (1.0, *_EXP))
    scale = wide.from_bits(wide.whole("shl", wide.bits(shifted), DOUBLE.mantissa))
    return w.body.value(f"fptrunc {wide.real} {wide.multiply(p, scale)} to {w.real}")


def _limits(w: Lanes, x: str, logarithm: str) -> str:
    """The logarithm where x is finite and above 0, also where it is 0 or inf."""
    infinite = w.compare("oeq", x, w.number(math.inf))
    logarithm = w.select(infinite, x, logarithm)
    return w.select(w.compare("oeq", x, w.number(0.0)), w.number(-math.inf), logarithm)


# -------------------------------------------------------------------------------------- float64

# 2 atanh(s) = 2s + s**3 (2/3 + s**2 TAIL(s**2)), with 66 bits; log(2) is exact times an exponent.
_TAIL = (
    0.40000000000002256,
    0.2857142857009958,
    0.22222222519924045,
    0.18181784366999054,
    0.15386757335576187,
    0.13256817701320553,
    0.13196328525467527,
)
_LN2 = (0.693147180559663, 2.8235290563031577e-13)


class Two(NamedTuple):
    """A number as the sum of two: the nearest float, and what is missing."""

    high: str
    low: str


def _sum(w: Lanes, a: str, b: str) -> Two:
    """a + b exactly, where a is 0 or not the smaller."""
    high = w.add(a, b)
    return Two(high, w.add(w.subtract(a, high), b))


def _product(w: Lanes, a: Two, b: Two) -> Two:
    high = w.multiply(a.high, b.high)
    low = w.fused(a.high, b.high, w.negative(high))
    return Two(high, w.fused(a.low, b.high, w.fused(a.high, b.low, low)))


def _double(w: Lanes, x: str, y: str) -> str:
    f = format_of(w)
    magnitude = w.absolute(x)
    logarithm = _logarithm(w, magnitude)
    high = w.multiply(y, _limits(w, magnitude, logarithm.high))
    low = w.fused(y, logarithm.low, w.fused(y, logarithm.high, w.negative(high)))
    exponent = w.clamp(high, *f.exp_range)
    # What is clamped is 0 or inf, and has no low part to speak of.
    low = w.select(w.compare("oeq", exponent, high), low, w.number(0.0))
    n, r = reduced(w, exponent, 2 * f.bias)
    # exp(r + low) = 1 + r + (r**2 Q(r) + low exp(r)): only the last sum's rounding counts
    p = _sum(w, w.number(1.0), r)
    tail = w.multiply(w.multiply(r, r), w.polynomial(r, f.exp))
    tail = w.fused(low, w.add(p.high, tail), tail)
    return scaled(w, w.add(p.high, w.add(p.low, tail)), n)


def _logarithm(w: Lanes, x: str) -> Two:
    f = format_of(w)
    one = w.number(1.0)
    small = w.compare("olt", x, w.number(f.least_normal))
    shift = f.mantissa + 2
    normal = w.select(small, w.multiply(x, w.number(2.0**shift)), x)
    exponent, m = parts(w, normal)
    shifted = w.select_whole(small, w.whole_number(shift), w.whole_number(0))
    k = w.small_to_real(w.whole("sub", exponent, shifted))
    s = _quotient(w, w.subtract(m, one), _sum_of_one(w, m))
    z = _product(w, s, s)
    tail = w.multiply(z.high, w.polynomial(z.high, _TAIL))
    two_thirds = Two(w.number(2 / 3), w.number(3.700743415417188e-17))
    inner = _sum(w, two_thirds.high, tail)
    inner = Two(inner.high, w.add(inner.low, two_thirds.low))
    cube = _product(w, s, _product(w, z, inner))
    log_m = _sum(w, w.add(s.high, s.high), cube.high)
    low = w.add(log_m.low, w.add(cube.low, w.add(s.low, s.low)))
    whole = _sum(w, w.multiply(k, w.number(_LN2[0])), log_m.high)
    return Two(whole.high, w.add(whole.low, w.fused(k, w.number(_LN2[1]), low)))


def _sum_of_one(w: Lanes, m: str) -> Two:
    """m + 1; m is from 1/2 to 2."""
    one = w.number(1.0)
    high = w.add(m, one)
    return Two(high, w.subtract(m, w.subtract(high, one)))


def _quotient(w: Lanes, a: str, b: Two) -> Two:
    inverse = w.divide(w.number(1.0), b.high)
    high = w.multiply(a, inverse)
    rest = w.fused(w.negative(high), b.high, a)
    rest = w.fused(w.negative(high), b.low, rest)
    return Two(high, w.multiply(rest, inverse))
