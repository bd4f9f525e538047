"""The normal form of a gradient's value, so that it prints as people write it.

A value is a sign, a rational coefficient, and factors `base**exponent` above and below the line:

    -1/2 * x'.grad[b,j] * (x[b,j] - μ[j]) / s[j]**(3/2)
    ->  -=  x'.grad[b,j] * (x[b,j] - μ[j]) / (2 * s[j]**1.5)

Powers of one base merge only on the same side of the line: cancelling `x / x` would lose that 0 / 0
is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

from loopgrad.ir.nodes import Apply, Expression, Extent, Number, Read
from loopgrad.ir.walk import subexpressions

Side = Literal["above", "below"]

HALF, WHOLE = Fraction(1, 2), Fraction(1)
EXACT_INTEGERS = 2**53  # a coefficient beyond is left as it was written


class Factor(NamedTuple):
    """`base**exponent`, the exponent positive, above or below the line."""

    base: Expression
    exponent: Fraction
    side: Side


@dataclass(frozen=True, slots=True)
class Product:
    """sign * coefficient * factors. `decimal`: the coefficient came from numbers like `0.3`."""

    negative: bool = False
    coefficient: Fraction = WHOLE
    decimal: bool = False
    factors: tuple[Factor, ...] = ()

    def negated(self) -> Product:
        return replace(self, negative=not self.negative)

    def scaled(self, number: Fraction, decimal: bool = False) -> Product | None:
        """The product times a number; None where the coefficient would not be exact any more."""
        coefficient = self.coefficient * abs(number)
        if max(coefficient.numerator, coefficient.denominator) > EXACT_INTEGERS:
            return None
        negative = self.negative != (number < 0)
        return Product(negative, coefficient, self.decimal or decimal, self.factors)

    def with_factor(self, factor: Factor, integer: Callable[[Expression], bool]) -> Product:
        """The product times a factor, merged with a power of the same base on the same side."""
        for i, other in enumerate(self.factors):
            if other.side == factor.side and other.base == factor.base:
                exponent = other.exponent + factor.exponent
                if _may_merge(other, factor, exponent, integer):
                    merged = Factor(other.base, exponent, other.side)
                    factors = (*self.factors[:i], merged, *self.factors[i + 1 :])
                    return replace(self, factors=factors)
        return replace(self, factors=(*self.factors, factor))

    def led_by(self, leader: Expression) -> Product:
        """The product with a factor put before all others: the gradient or tangent passed on."""
        return replace(self, factors=(Factor(leader, WHOLE, "above"), *self.factors))

    def divided_by(self, divisor: Extent) -> Product:
        return self.with_factor(Factor(divisor, WHOLE, "below"), lambda _: True)


def _may_merge(
    a: Factor, b: Factor, exponent: Fraction, integer: Callable[[Expression], bool]
) -> bool:
    """sqrt(u) * sqrt(u) is not u below 0, and a large integer's power may not fit an integer."""
    if isinstance(a.base, Number):
        return False
    both_whole = a.exponent.denominator == 1 == b.exponent.denominator
    if not both_whole and exponent.denominator == 1:
        return False
    return isinstance(a.base, Extent) or not integer(a.base)


# --------------------------------------------------------------------------- expression -> product


def parts(expression: Expression, integer: Callable[[Expression], bool]) -> Iterator[Factor]:
    """The factors of a product or quotient, left to right; anything else is its only factor.

    Literal numbers are factors with a `Number` as base, a sign is the factor -1.
    """
    match expression:
        case Apply("neg", (operand,)):
            yield MINUS_ONE
            yield from parts(operand, integer)
        case Apply("*", (left, right)):
            yield from parts(left, integer)
            yield from parts(right, integer)
        case Apply("/", (left, right)):
            yield from parts(left, integer)
            for base, exponent, side in parts(right, integer):
                opposite: Side = "above" if side == "below" else "below"
                yield Factor(base, exponent, opposite)
        case Apply("sqrt", (operand,)):
            yield Factor(operand, HALF, "above")
        case Apply("**", (base, exponent_)) if not integer(base):
            literal = literal_value(exponent_)
            if literal is None:
                yield Factor(expression, WHOLE, "above")
            elif literal != 0:
                yield Factor(base, abs(literal), "above" if literal > 0 else "below")
        case _:
            yield Factor(expression, WHOLE, "above")


MINUS_ONE = Factor(Apply("neg", (Number(1),)), WHOLE, "above")


def multiplied(
    product: Product, factors: Iterator[Factor], integer: Callable[[Expression], bool]
) -> Product:
    """The product times factors as `parts` yields them, numbers going into the coefficient."""
    for factor in factors:
        product = _with_part(product, factor, integer)
    return product


def _with_part(product: Product, factor: Factor, integer: Callable[[Expression], bool]) -> Product:
    if factor is MINUS_ONE or factor.base == MINUS_ONE.base:
        return product.negated()
    value = literal_value(factor.base) if isinstance(factor.base, Number) else None
    if value is not None and factor.exponent == 1:
        # A division stays one by the number that was written: 1 / 0.3 is no decimal.
        if factor.side == "below" and value.denominator == 1 and value != 0:
            scaled = product.scaled(1 / value)
        elif factor.side == "above":
            scaled = product.scaled(value, decimal=value.denominator != 1)
        else:
            scaled = None
        if scaled is not None:
            return scaled
    return product.with_factor(factor, integer)


def literal_value(expression: Expression) -> Fraction | None:
    """The value of a number written out (`2`, `-0.5`, `1/3`), exactly; None for anything else."""
    match expression:
        case Number(int(value)):
            return Fraction(value) if value <= EXACT_INTEGERS else None
        case Number(float(value)):
            # Decimals mean what they say: 0.1 is a tenth.
            return Fraction(repr(value)) if value - value == 0 else None
        case Apply("neg", (operand,)):
            inner = literal_value(operand)
            return None if inner is None else -inner
        case Apply("/", (left, right)):
            above, below = literal_value(left), literal_value(right)
            return above / below if above is not None and below else None
    return None


# --------------------------------------------------------------------------- product -> expression


def expression_of(product: Product, integer: Callable[[Expression], bool]) -> Expression:
    """The absolute value of the product: its sign is that of the update, `+=` or `-=`."""
    above, below = _coefficient(product)
    above += [_power(f) for f in product.factors if f.side == "above"]
    below += [_power(f) for f in product.factors if f.side == "below"]
    numerator = _chain(above) if above else Number(1)
    if not below:
        return numerator
    if sum(_reads_something(e) and integer(e) for e in below) > 1:
        # Integers read from data could overflow in a product that the program never made.
        for factor in below:
            numerator = Apply("/", (numerator, factor))
        return numerator
    return Apply("/", (numerator, _chain(below)))


def _reads_something(expression: Expression) -> bool:
    return any(isinstance(e, Read) for e in subexpressions(expression))


def _coefficient(product: Product) -> tuple[list[Expression], list[Expression]]:
    """The numbers above and below the line: `2`, `2 / 3`, `1 / 2`, `1.5`."""
    coefficient = product.coefficient
    top, bottom = coefficient.numerator, coefficient.denominator
    if bottom != 1 and (product.decimal or top != 1):
        decimal = _as_decimal(coefficient)
        if decimal is not None:
            return [decimal], []
    return (
        [Number(top)] if top != 1 else [],
        [Number(bottom)] if bottom != 1 else [],
    )


def _as_decimal(value: Fraction) -> Number | None:
    decimal = float(value)
    return Number(decimal) if Fraction(repr(decimal)) == value else None


def _power(factor: Factor) -> Expression:
    base, exponent = factor.base, factor.exponent
    if exponent == 1:
        return base
    if exponent == HALF:
        return Apply("sqrt", (base,))
    if max(exponent.numerator, exponent.denominator) > EXACT_INTEGERS:
        return Apply("**", (base, Number(float(exponent))))
    if exponent.denominator == 1:
        return Apply("**", (base, Number(exponent.numerator)))
    decimal = _as_decimal(exponent)
    if decimal is not None:
        return Apply("**", (base, decimal))
    ratio = Apply("/", (Number(exponent.numerator), Number(exponent.denominator)))
    return Apply("**", (base, ratio))


def _chain(factors: list[Expression]) -> Expression:
    product = factors[0]
    for factor in factors[1:]:
        product = Apply("*", (product, factor))
    return product
