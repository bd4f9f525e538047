"""erf: of float32 by eight polynomials, one for each part of the range; else by two formulas."""

from __future__ import annotations

from loopgrad.backends.llvm.mathematics.exponential import (
    exp_of_reduced,
    power_of_two,
    reduced,
)
from loopgrad.backends.llvm.mathematics.formats import ERF_PARTS, ERF_SCALE, format_of
from loopgrad.backends.llvm.writing.lanes import Lanes


def erf(w: Lanes, x: str) -> str:
    return _by_parts(w, x) if w.looks_up else _by_two_formulas(w, x)


def _by_parts(w: Lanes, x: str) -> str:
    """x (c + P(r)) of the part's c and P, r the distance from its middle."""
    f = format_of(w)
    magnitude = w.clamp(w.absolute(x), None, f.erf_greatest)
    magic, scale = w.number(f.magic), w.number(ERF_SCALE)
    shifted = w.fused(magnitude, scale, magic)
    r = w.fused(magnitude, scale, w.negative(w.subtract(shifted, magic)))
    part = w.bits(shifted)
    leading, *coefficients = ERF_PARTS
    rest = w.polynomial_of(r, (w.looked_up(each, part) for each in reversed(coefficients)))
    rest = w.multiply(magnitude, rest)
    return w.with_sign(w.fused(magnitude, w.looked_up(leading, part), rest), x)


def _by_two_formulas(w: Lanes, x: str) -> str:
    """x + x P(x**2) near 0, 1 - exp(Q(|x|)) beyond."""
    f = format_of(w)
    magnitude = w.absolute(x)
    small = w.fused(w.polynomial(w.multiply(x, x), f.erf_small), x, x)
    exponent = w.polynomial(w.clamp(magnitude, None, f.erf_greatest), f.erf_large)
    n, r = reduced(w, exponent, f.bias)
    complement = w.negative(exp_of_reduced(w, r))
    large = w.with_sign(w.fused(complement, power_of_two(w, n), w.number(1.0)), x)
    return w.select(w.compare("olt", magnitude, w.number(f.erf_split)), small, large)
