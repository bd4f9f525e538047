"""exp and what is made of it: expm1, tanh, softplus."""

from __future__ import annotations

import math

from loopgrad.backends.llvm.mathematics.formats import format_of
from loopgrad.backends.llvm.writing.lanes import Lanes


def reduced(w: Lanes, x: str, bias: int) -> tuple[str, str]:
    """n and r with x = n ln(2) + r, |r| <= ln(2) / 2; n + bias in the low bits of an integer."""
    shifted, _, r = _reduced(w, x, bias)
    return w.bits(shifted), r


def _reduced(w: Lanes, x: str, bias: int) -> tuple[str, str, str]:
    """A number with n + bias in its low bits; n; r."""
    f = format_of(w)
    magic = w.number(f.magic + bias)
    shifted = w.fused(x, w.number(math.log2(math.e)), magic)
    n = w.subtract(shifted, magic)
    r = w.fused(n, w.number(-f.ln2[0]), x)
    return shifted, n, w.fused(n, w.number(-f.ln2[1]), r)


def exp_of_reduced(w: Lanes, r: str) -> str:
    return w.fused(w.polynomial(r, (1.0, *format_of(w).exp)), r, w.number(1.0))


def power_of_two(w: Lanes, biased: str) -> str:
    """2**n of n + bias: its low bits become the exponent."""
    return w.from_bits(w.whole("shl", biased, format_of(w).mantissa))


def scaled(w: Lanes, p: str, n: str) -> str:
    """p 2**n, of n biased twice.

    Two factors: 2**n itself may be too large or too small where the product is not. The halves of
    n, rounded down and up, are then biased once.
    """
    mantissa = format_of(w).mantissa
    down = w.whole("and", w.whole("shl", n, mantissa - 1), -(2**mantissa))
    up = w.whole("sub", w.whole("shl", n, mantissa), down)
    return w.multiply(w.multiply(p, w.from_bits(down)), w.from_bits(up))


def looks_at_lanes(w: Lanes) -> bool:
    """Has `exp` a quick way for lanes that are all usual? AVX tells it quickly, AVX-512 needs none."""
    return w.count > 1 and w.body.module.vector_bytes >= 32 and not w.scales


def exp(w: Lanes, x: str) -> str:
    """Where all lanes are usual, 2**n is added to the exponent of what it scales."""
    if not looks_at_lanes(w):
        return _exp_anywhere(w, x)
    f, body = format_of(w), w.body
    shifted, _, r = _reduced(w, x, 0)
    p = w.bits(exp_of_reduced(w, r))
    found = w.from_bits(w.whole("add", p, w.whole("shl", w.bits(shifted), f.mantissa)))
    normal = w.compare("ole", w.absolute(x), w.number(f.exp_normal))
    before = body.block
    body.branch(w.all(normal), "done", "some")
    body.start("some")
    # Masks of -inf and -1e9 are usual, too.
    tiny = w.compare("ole", x, w.number(f.exp_range[0]))
    kept = w.select(normal, found, w.number(0.0))
    body.branch(w.all(w.either(normal, tiny)), "done", "unusual")
    body.start("unusual")
    other = w.apart("exp", _exp_anywhere, x)
    body.jump("done")
    body.start("done")
    return body.phi(w.real, (found, before), (kept, "some"), (other, "unusual"))


def _exp_anywhere(w: Lanes, x: str) -> str:
    """The same bits for all numbers, without a branch."""
    f = format_of(w)
    least, greatest = f.exp_range
    # A result that is not there for being too small takes a processor some hundred cycles: masks of -inf and
    # -1e9 are 0 without one.
    there, zero = w.compare("uge", x, w.number(least)), w.number(0.0)
    within = w.select(there, w.clamp(x, None, greatest), zero)
    shifted, n, r = _reduced(w, within, 2 * f.bias)
    p = exp_of_reduced(w, r)
    if w.scales:
        return w.scaled(p, n, there)
    return w.select(there, scaled(w, p, w.bits(shifted)), zero)


def _expm1_of_reduced(w: Lanes, r: str) -> str:
    return w.fused(w.multiply(r, r), w.polynomial(r, format_of(w).exp), r)


def expm1(w: Lanes, x: str) -> str:
    f = format_of(w)
    # 2**n p + (2**n - 1), halved, because 2**n may be too large where the sum is not.
    n, r = reduced(w, w.clamp(x, f.expm1_least, f.exp_range[1]), f.bias - 1)
    scale = power_of_two(w, n)
    half = w.fused(scale, _expm1_of_reduced(w, r), w.subtract(scale, w.number(0.5)))
    tiny = w.compare("olt", w.absolute(x), w.number(f.negligible))
    return w.select(tiny, x, w.add(half, half))


def tanh(w: Lanes, x: str) -> str:
    """e / (e + 2), e = expm1(2|x|)."""
    f = format_of(w)
    magnitude = w.absolute(x)
    twice = w.clamp(w.add(magnitude, magnitude), None, f.tanh_greatest)
    n, r = reduced(w, twice, f.bias)
    scale = power_of_two(w, n)
    e = w.fused(scale, _expm1_of_reduced(w, r), w.subtract(scale, w.number(1.0)))
    return w.with_sign(w.divide(e, w.add(e, w.number(2.0))), x)


def softplus(w: Lanes, x: str) -> str:
    """max(x, 0) + log(1 + e), e = exp(-|x|).

    The logarithm is 2 atanh(s), s = e / (e + 2); as 2 s = e - e s, the rounding of s counts little.
    """
    e = exp(w, w.negative(w.absolute(x)))
    s = w.divide(e, w.add(e, w.number(2.0)))
    z = w.multiply(s, s)
    less = w.fused(w.negative(z), w.polynomial(z, format_of(w).atanh), e)
    logarithm = w.fused(w.negative(s), less, e)
    zero = w.number(0.0)
    positive = w.select(w.compare("ole", x, zero), zero, x)
    return w.add(positive, logarithm)
