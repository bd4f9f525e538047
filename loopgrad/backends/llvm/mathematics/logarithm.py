"""log and log1p."""

from __future__ import annotations

import math

from loopgrad.backends.llvm.mathematics.formats import format_of
from loopgrad.backends.llvm.writing.lanes import Lanes


def log(w: Lanes, x: str) -> str:
    f = format_of(w)
    small = w.compare("olt", x, w.number(f.least_normal))
    scaled = w.multiply(x, w.number(2.0 ** (f.mantissa + 2)))
    exponent, m = parts(w, w.select(small, scaled, x))
    shift = w.select_whole(small, w.whole_number(f.mantissa + 2), w.whole_number(0))
    k = w.small_to_real(w.whole("sub", exponent, shift))
    return _special(w, x, _log_of_product(w, k, w.subtract(m, w.number(1.0))))


def log1p(w: Lanes, x: str) -> str:
    """log(u + d), u = 1 + x rounded, d what the rounding lost."""
    f = format_of(w)
    one = w.number(1.0)
    u = w.add(x, one)
    # Of two numbers the larger can be taken from the sum exactly.
    large = w.compare("ogt", x, one)
    d = w.select(large, w.subtract(one, w.subtract(u, x)), w.subtract(x, w.subtract(u, one)))
    exponent, m = parts(w, u)
    # 2**-k; 0 where that is too small, and d does not count
    scale = w.whole("sub", w.bits(one), w.whole("shl", exponent, f.mantissa))
    scale = w.from_bits(w.whole_maximum(scale, w.whole_number(0)))
    m1 = w.fused(d, scale, w.subtract(m, one))
    result = _special(w, u, _log_of_product(w, w.small_to_real(exponent), m1))
    tiny = w.compare("olt", w.absolute(x), w.number(f.negligible))
    return w.select(tiny, x, result)


def parts(w: Lanes, x: str) -> tuple[str, str]:
    """k and m with x = 2**k m, m from sqrt(1/2) to sqrt(2)."""
    bits, mantissa = w.bits(x), format_of(w).mantissa
    above = w.whole("sub", bits, w.bits(w.number(math.sqrt(0.5))))
    exponent = w.whole("ashr", above, mantissa)
    return exponent, w.from_bits(w.whole("sub", bits, w.whole("shl", exponent, mantissa)))


def _special(w: Lanes, x: str, result: str) -> str:
    """The logarithm of x; `result` where x is finite and above 0."""
    result = w.select(w.compare("oeq", x, w.number(math.inf)), x, result)
    result = w.select(w.compare("ult", x, w.number(0.0)), w.number(math.nan), result)
    return w.select(w.compare("oeq", x, w.number(0.0)), w.number(-math.inf), result)


def _log_of_product(w: Lanes, k: str, f: str) -> str:
    """log(2**k (1 + f)).

    log(1 + f) = 2s + s R(s**2) with s = f / (f + 2), and 2s = f - s f: the rounding of s counts little.
    """
    form = format_of(w)
    s = w.divide(f, w.add(f, w.number(2.0)))
    z = w.multiply(s, s)
    leading, rest = map(w.number, form.log_ln2)
    less = w.fused(w.negative(z), w.polynomial(z, form.log), f)
    correction = w.fused(s, less, w.negative(w.multiply(k, rest)))
    return w.fused(k, leading, w.subtract(f, correction))
