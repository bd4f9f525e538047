"""Forms back to expressions."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import reduce

from loopgrad.ir.literals import decimal, whole_number
from loopgrad.ir.nodes import Apply, Conditional, Expression, Number
from loopgrad.ir.walk import apply, conjunction
from loopgrad.stable.forms import UNIT, Linear, Product


def sum_of(terms: Iterable[tuple[bool, Expression]]) -> Expression:
    """The terms, (negative, expression) each, added from left to right, a positive one first."""
    listed = list(terms)
    first = next((i for i, (negative, _) in enumerate(listed) if not negative), None)
    if first is not None:
        listed.insert(0, listed.pop(first))
    result: Expression | None = None
    for negative, term in listed:
        if result is None:
            result = apply("neg", term) if negative else term
        else:
            result = apply("-" if negative else "+", result, term)
    return Number(0) if result is None else result


def of_linear(linear: Linear) -> Expression:
    """Differences first: `(s - m) - log(Z)` rounds less than `s - (m + log(Z))`."""
    ordered = sorted(linear.items(), key=lambda item: not _is_difference(item[0]))
    return sum_of((c < 0, _multiple(atom, abs(c))) for atom, c in ordered)


def _is_difference(atom: Expression) -> bool:
    return isinstance(atom, Apply) and atom.operation == "-"


def _multiple(atom: Expression, coefficient: Fraction) -> Expression:
    if atom == UNIT:
        return number(coefficient)
    if coefficient.numerator == 1 and coefficient.denominator > 1:
        return apply("/", atom, whole_number(coefficient.denominator))
    return atom if coefficient == 1 else apply("*", number(coefficient), atom)


def number(value: Fraction) -> Expression:
    """A positive number: an integer, a short decimal, or a quotient of integers."""
    if value.denominator == 1:
        return whole_number(value.numerator)
    return decimal(value) or apply(
        "/", whole_number(value.numerator), whole_number(value.denominator)
    )


def of_product(product: Product) -> Expression:
    """The product as one fraction; its exponential stands above the line."""
    above: list[Expression] = []
    below: list[Expression] = []
    for base, power in product.factors.items():
        if power > 0:
            above.append(_power(base, power))
        else:
            below.append(_power(base, -power))
    if product.exponent:
        above.append(apply("exp", of_linear(product.exponent)))
    value = _chain(above)
    if below:
        value = apply("/", value, _chain(below))
    if product.negative:
        value = apply("neg", value)
    guard = conjunction(product.guards)
    return value if guard is None else Conditional(guard, value, Number(0.0))


def _chain(factors: list[Expression]) -> Expression:
    return reduce(lambda a, b: apply("*", a, b), factors) if factors else UNIT


def _power(base: Expression, power: Fraction) -> Expression:
    if power == 1:
        return base
    if power == Fraction(1, 2):
        return apply("sqrt", base)
    return apply("**", base, number(power))


def of_terms(products: Iterable[Product]) -> Expression:
    """A sum of products; their signs become `+` and `-`."""
    terms: list[tuple[bool, Expression]] = []
    for product in products:
        bare = Product(product.factors, product.exponent, False, product.guards)
        terms.append((product.negative, of_product(bare)))
    return sum_of(terms)
