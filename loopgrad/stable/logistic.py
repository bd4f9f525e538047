"""Powers of sigmoid(u), sigmoid(-u) and exp(u): what they come to, written without overflow.

With sigmoid(u) = exp(u) * sigmoid(-u), each such product is exp(e * u) * sigmoid(-u)**t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from loopgrad.ir.nodes import Apply, Expression
from loopgrad.ir.walk import apply
from loopgrad.stable.forms import UNIT, ZERO, Linear, Product, multiplied, plus, times
from loopgrad.stable.writer import of_linear

NONE = Fraction(0)
Flat = Callable[[Expression], Linear]  # an expression as a sum of multiples


@dataclass(frozen=True)
class Power:
    """exp(rise * u) * sigmoid(-u)**total: between 0 and 1 where 0 <= rise <= total."""

    argument: Linear
    rise: Fraction
    total: Fraction


def sigmoid(argument: Linear) -> Expression:
    return apply("sigmoid", of_linear(argument))


def arguments(product: Product, flat: Flat) -> Iterator[Linear]:
    """u for each sigmoid(u) or sigmoid(-u) among the factors, once, with a positive first atom."""
    seen: list[Linear] = []
    for base in product.factors:
        if isinstance(base, Apply) and base.operation == "sigmoid":
            argument = flat(base.operands[0])
            if not argument:
                continue
            if next(iter(argument.values())) < 0:
                argument = times(argument, Fraction(-1))
            if argument not in seen:
                seen.append(argument)
                yield argument


def separated(product: Product, argument: Linear, flat: Flat) -> tuple[Product, Power]:
    """The product without its sigmoids and exponentials of the argument, and those."""
    opposite = times(argument, Fraction(-1))
    factors = dict(product.factors)
    up = down = NONE
    for base in product.factors:
        if isinstance(base, Apply) and base.operation == "sigmoid":
            own = flat(base.operands[0])
            if own == argument:
                up += factors.pop(base)
            elif own == opposite:
                down += factors.pop(base)
    multiple = _multiple(product.exponent, argument)
    exponent = plus(product.exponent, argument, -multiple)
    rest = replace(product, factors=factors, exponent=exponent)
    return rest, Power(argument, up + multiple, up + down)


def _multiple(exponent: Linear, argument: Linear) -> Fraction:
    """How often the argument stands in the exponent, its constant apart."""
    ratios = {exponent.get(a, NONE) / c for a, c in argument.items() if a != UNIT}
    return ratios.pop() if len(ratios) == 1 else NONE


def written(power: Power) -> Product:
    """In sigmoids as far as they go, with an exponential for the rest."""
    u, rise, total = power.argument, power.rise, power.total
    if total >= 0:
        up = min(max(rise, NONE), total)
    elif rise <= total:
        up = total
    else:
        up = min(rise, NONE)
    down, left = total - up, rise - up
    factors: Linear = ZERO
    if up:
        factors = plus(factors, {sigmoid(u): up})
    if down:
        factors = plus(factors, {sigmoid(times(u, Fraction(-1))): down})
    return Product(factors, times(u, left) if left else ZERO)


def settled(product: Product, flat: Flat) -> Product:
    """The product with each family of sigmoids written once."""
    for argument in list(arguments(product, flat)):
        rest, power = separated(product, argument, flat)
        product = multiplied(rest, written(power))
    return product


def common(products: Sequence[Product], flat: Flat) -> Product:
    """What can be taken out of each of the products so that sigmoids stay above the line."""
    taken = Product(ZERO, ZERO)
    for argument in list(dict.fromkeys(_keys(products, flat))):
        powers = [separated(p, dict(argument), flat)[1] for p in products]
        rise = min(p.rise for p in powers)
        total = rise + min(p.total - p.rise for p in powers)
        if total < 0:
            taken = multiplied(taken, written(Power(dict(argument), rise, total)))
    return taken


def _keys(
    products: Sequence[Product], flat: Flat
) -> Iterator[tuple[tuple[Expression, Fraction], ...]]:
    for product in products:
        for argument in arguments(product, flat):
            yield tuple(argument.items())
