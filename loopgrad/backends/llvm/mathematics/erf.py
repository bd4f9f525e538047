"""erf: x + x P(x**2) near 0, 1 - exp(Q(|x|)) beyond."""

from __future__ import annotations

from loopgrad.backends.llvm.mathematics.exponential import (
    exp_of_reduced,
    power_of_two,
    reduced,
)
from loopgrad.backends.llvm.mathematics.formats import format_of
from loopgrad.backends.llvm.writing.lanes import Lanes


def erf(w: Lanes, x: str) -> str:
    f = format_of(w)
    magnitude = w.absolute(x)
    small = w.fused(w.polynomial(w.multiply(x, x), f.erf_small), x, x)
    exponent = w.polynomial(w.clamp(magnitude, None, f.erf_greatest), f.erf_large)
    n, r = reduced(w, exponent, f.bias)
    complement = w.negative(exp_of_reduced(w, r))
    large = w.with_sign(w.fused(complement, power_of_two(w, n), w.number(1.0)), x)
    return w.select(w.compare("olt", magnitude, w.number(f.erf_split)), small, large)
