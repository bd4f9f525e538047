"""Our own exp, expm1, log, log1p and tanh: straight-line code that LLVM's vectoriser can widen.

No tables, no branches, no fast-math flags; fused multiply-adds are written out. So vector code and
the scalar code of a loop's last iterations give the same bits, and special values come out right.
Errors are below 2 units in the last place (exp: 1, tanh: 3), measured by
tests/backends/test_llvm_functions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopgrad.backends.llvm.text import Body


@dataclass(frozen=True)
class Format:
    """A floating type: its numbers, and the coefficients that its precision needs."""

    integer: str
    mantissa: int  # stored bits
    bias: int
    magic: float  # adding it rounds to a whole number, kept in the low bits
    ln2: tuple[float, float]  # leading part, rest; for exp, where products are exact
    log_ln2: tuple[float, float]  # for log: the leading part times an exponent is exact
    exp_range: tuple[float, float]  # beyond it exp is 0, inf
    expm1_least: float  # below it expm1 is -1
    tanh_greatest: float  # of 2|x|, above it tanh is 1
    exp_coefficients: tuple[float, ...]  # of (exp(r) - 1 - r) / r**2 for |r| <= ln(2) / 2
    log_coefficients: tuple[float, ...]  # of log((1+s)/(1-s)) = 2s + s R(s**2), from z on (fdlibm)
    least_normal: float


DOUBLE = Format(
    integer="i64",
    mantissa=52,
    bias=1023,
    magic=1.5 * 2.0**52,
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    log_ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    exp_range=(-746.0, 710.0),
    expm1_least=-50.0,
    tanh_greatest=44.0,
    exp_coefficients=(
        0.5000000000000001,
        0.16666666666666669,
        0.041666666666624115,
        0.008333333333329994,
        0.0013888888917216978,
        0.0001984126986322524,
        2.4801521292272954e-05,
        2.7557268282460348e-06,
        2.762008989525303e-07,
        2.51004502742788e-08,
    ),
    log_coefficients=(
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ),
    least_normal=2.0**-1022,
)

SINGLE = Format(
    integer="i32",
    mantissa=23,
    bias=127,
    magic=1.5 * 2.0**23,
    ln2=(0.693147182464599609375, -1.904654323148236017e-09),
    log_ln2=(6.9313812256e-01, 9.0580006145e-06),
    exp_range=(-104.0, 89.0),
    expm1_least=-30.0,
    tanh_greatest=24.0,
    exp_coefficients=(
        0.5,
        0.16666576266288757,
        0.041666556149721146,
        0.008363178931176662,
        0.0013926184037700295,
    ),
    log_coefficients=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    least_normal=2.0**-126,
)


class Writer:
    """Instructions on values of the module's floating type, one method each."""

    def __init__(self, body: Body):
        self.body = body
        self.real = body.module.real
        self.format = DOUBLE if self.real == "double" else SINGLE

    def number(self, value: float) -> str:
        return self.body.module.number(value)

    def add(self, a: str, b: str) -> str:
        return self.body.value(f"fadd {self.real} {a}, {b}")

    def subtract(self, a: str, b: str) -> str:
        return self.body.value(f"fsub {self.real} {a}, {b}")

    def multiply(self, a: str, b: str) -> str:
        return self.body.value(f"fmul {self.real} {a}, {b}")

    def divide(self, a: str, b: str) -> str:
        return self.body.value(f"fdiv {self.real} {a}, {b}")

    def fused(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self.body.intrinsic("fma", self.real, a, b, c)

    def absolute(self, x: str) -> str:
        return self.body.intrinsic("fabs", self.real, x)

    def compare(self, order: str, a: str, b: str) -> str:
        return self.body.value(f"fcmp {order} {self.real} {a}, {b}")

    def select(self, condition: str, then: str, otherwise: str) -> str:
        return self.body.select(condition, self.real, then, otherwise)

    def clamp(self, x: str, low: float | None, high: float | None) -> str:
        """Of NaN: NaN."""
        for order, limit in (("olt", low), ("ogt", high)):
            if limit is not None:
                bound = self.number(limit)
                x = self.select(self.compare(order, x, bound), bound, x)
        return x

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """The constant term first. Horner's rule."""
        result = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            result = self.fused(result, x, self.number(c))
        return result

    def whole(self, operation: str, a: str, b: str | int) -> str:
        """An operation on integers as wide as the floating type."""
        return self.body.value(f"{operation} {self.format.integer} {a}, {b}")

    def bits(self, x: str) -> str:
        return self.body.value(f"bitcast {self.real} {x} to {self.format.integer}")

    def from_bits(self, bits: str) -> str:
        return self.body.value(f"bitcast {self.format.integer} {bits} to {self.real}")

    def power_of_two(self, n: str) -> str:
        biased = self.whole("add", n, self.format.bias)
        return self.from_bits(self.whole("shl", biased, self.format.mantissa))

    def rounded(self, x: str, factor: float) -> tuple[str, str]:
        """x * factor, rounded to a whole number: as a float and as an integer."""
        magic = self.number(self.format.magic)
        shifted = self.fused(x, self.number(factor), magic)
        as_integer = self.whole("sub", self.bits(shifted), self.bits(magic))
        return self.subtract(shifted, magic), as_integer

    def reduced(self, x: str) -> tuple[str, str]:
        """n and r with x = n ln(2) + r, |r| <= ln(2) / 2."""
        n_real, n = self.rounded(x, math.log2(math.e))
        leading, rest = self.format.ln2
        r = self.fused(n_real, self.number(-leading), x)
        return n, self.fused(n_real, self.number(-rest), r)


def exp(body: Body, x: str) -> str:
    w = Writer(body)
    x = w.clamp(x, *w.format.exp_range)
    n, r = w.reduced(x)
    q = w.polynomial(r, (1.0, *w.format.exp_coefficients))
    p = w.fused(q, r, w.number(1.0))
    # Two factors: 2**n itself may be too large or too small where the product is not.
    _, half = w.rounded(x, math.log2(math.e) / 2)
    p = w.multiply(p, w.power_of_two(half))
    return w.multiply(p, w.power_of_two(w.whole("sub", n, half)))


def expm1(body: Body, x: str) -> str:
    w = Writer(body)
    n, r = w.reduced(w.clamp(x, w.format.expm1_least, w.format.exp_range[1]))
    q = w.polynomial(r, w.format.exp_coefficients)
    p = w.fused(w.multiply(r, r), q, r)  # expm1(r)
    # 2**n p + (2**n - 1), halved, because 2**n may be too large where the sum is not.
    scale = w.power_of_two(w.whole("sub", n, 1))
    half = w.fused(scale, p, w.subtract(scale, w.number(0.5)))
    result = w.add(half, half)
    tiny = w.compare("olt", w.absolute(x), w.number(2.0 ** -(w.format.mantissa + 2)))
    return w.select(tiny, x, result)


def tanh(body: Body, x: str) -> str:
    """e / (e + 2), e = expm1(2|x|)."""
    w = Writer(body)
    magnitude = w.absolute(x)
    twice = w.clamp(w.add(magnitude, magnitude), None, w.format.tanh_greatest)
    e = expm1(body, twice)
    result = w.divide(e, w.add(e, w.number(2.0)))
    return body.intrinsic("copysign", w.real, result, x)


def log(body: Body, x: str) -> str:
    w = Writer(body)
    f = w.format
    small = w.compare("olt", x, w.number(f.least_normal))
    scaled = w.multiply(x, w.number(2.0 ** (f.mantissa + 2)))
    # x = 2**k m, m from sqrt(1/2) to sqrt(2)
    bits = w.bits(w.select(small, scaled, x))
    above = w.whole("sub", bits, w.bits(w.number(math.sqrt(0.5))))
    exponent = w.whole("ashr", above, f.mantissa)
    m = w.from_bits(w.whole("sub", bits, w.whole("shl", exponent, f.mantissa)))
    shift = body.select(small, f.integer, str(f.mantissa + 2), "0")
    k = _small_to_real(w, w.whole("sub", exponent, shift))
    result = _log_of_product(w, k, w.subtract(m, w.number(1.0)))
    result = w.select(w.compare("oeq", x, w.number(math.inf)), x, result)
    result = w.select(w.compare("ult", x, w.number(0.0)), w.number(math.nan), result)
    return w.select(w.compare("oeq", x, w.number(0.0)), w.number(-math.inf), result)


def _small_to_real(w: Writer, n: str) -> str:
    if w.format.integer == "i64":  # processors convert 32 bits at a time
        n = w.body.value(f"trunc i64 {n} to i32")
    return w.body.value(f"sitofp i32 {n} to {w.real}")


def _log_of_product(w: Writer, k: str, m1: str) -> str:
    """log(2**k (1 + m1)), as in fdlibm's e_log.c."""
    s = w.divide(m1, w.add(m1, w.number(2.0)))
    z = w.multiply(s, s)
    r = w.multiply(z, w.polynomial(z, w.format.log_coefficients))
    half_square = w.multiply(w.multiply(w.number(0.5), m1), m1)
    leading, rest = map(w.number, w.format.log_ln2)
    correction = w.fused(k, rest, w.multiply(s, w.add(half_square, r)))
    inner = w.subtract(w.subtract(half_square, correction), m1)
    return w.subtract(w.multiply(k, leading), inner)


def log1p(body: Body, x: str) -> str:
    """log(u) + (x - (u - 1)) / u, u = 1 + x rounded: the second term mends the rounding."""
    w = Writer(body)
    one = w.number(1.0)
    u = w.add(x, one)
    lost = w.subtract(x, w.subtract(u, one))
    logarithm = log(body, u)
    mended = w.add(logarithm, w.divide(lost, u))
    # At u = 0 and inf the quotient is NaN; below 2**-54 x itself is right, of either sign.
    ordinary = w.compare("one", w.absolute(logarithm), w.number(math.inf))
    result = w.select(ordinary, mended, logarithm)
    tiny = w.compare("olt", w.absolute(x), w.number(2.0 ** -(w.format.mantissa + 2)))
    return w.select(tiny, x, result)


OWN: dict[str, Callable[[Body, str], str]] = {
    "exp": exp,
    "expm1": expm1,
    "tanh": tanh,
    "log": log,
    "log1p": log1p,
}
