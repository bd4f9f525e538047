"""Products of powers and an exponential: the form in which overflow shows, and cancels.

    Linear     a sum of multiples of expressions:  1 * (s[b,j] - m[b]) - 1 * log(Z[b])
    Product    +- base**power * base**power * ... * exp(Linear), under guards outside which it is 0

Both are plain data, and keep the order in which their parts were met, in which they are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from loopgrad.ir.nodes import Apply, Expression, Index, Number
from loopgrad.ir.walk import children, rebuild, subexpressions

Linear = Mapping[Expression, Fraction]
Binding = Mapping[str, Expression]

ZERO: Linear = {}
ONE = Fraction(1)
UNIT = Number(1)  # the atom of a linear form's constant


def plus(a: Linear, b: Linear, factor: Fraction = ONE) -> Linear:
    """a + factor * b."""
    if not b:
        return a
    result = dict(a)
    for atom, coefficient in b.items():
        total = result.get(atom, Fraction(0)) + factor * coefficient
        if total:
            result[atom] = total
        else:
            result.pop(atom, None)
    return result


def times(a: Linear, factor: Fraction) -> Linear:
    return plus(ZERO, a, factor)


@dataclass(frozen=True)
class Product:
    """`-` if negative, the factors to their powers, and exp(exponent); 0 where a guard fails.

    sources: the rescaled tensors whose scales are part of the exponent. soft: part of it was a sum,
    `1 + exp(a)`, which is better left as it is written if nothing comes of it.
    """

    factors: Mapping[Expression, Fraction]
    exponent: Linear
    negative: bool = False
    guards: tuple[Expression, ...] = ()
    sources: frozenset[str] = frozenset()
    soft: bool = False

    def map(self, change: Callable[[Expression], Expression]) -> Product:
        factors: Linear = ZERO
        for base, power in self.factors.items():
            factors = plus(factors, {change(base): power})
        exponent: Linear = ZERO
        for atom, coefficient in self.exponent.items():
            exponent = plus(exponent, {change(atom): coefficient})
        return replace(
            self, factors=factors, exponent=exponent, guards=tuple(map(change, self.guards))
        )

    def expressions(self) -> Iterator[Expression]:
        yield from self.factors
        yield from self.exponent
        yield from self.guards


NOTHING_BUT_ONE = Product({}, {})


def factor(base: Expression, power: Fraction = ONE) -> Product:
    return NOTHING_BUT_ONE if base == UNIT else Product({base: power}, {})


def exponential(exponent: Linear) -> Product:
    return Product({}, exponent)


def negated(a: Product) -> Product:
    return replace(a, negative=not a.negative)


def multiplied(a: Product, b: Product) -> Product:
    return Product(
        plus(a.factors, b.factors),
        plus(a.exponent, b.exponent),
        a.negative != b.negative,
        tuple(dict.fromkeys((*a.guards, *b.guards))),
        a.sources | b.sources,
        a.soft or b.soft,
    )


def powered(a: Product, power: Fraction) -> Product | None:
    """a**power; None where that is no product: a root of what may be negative, 1/0 under a guard."""
    if a.guards and power < 0:
        return None
    whole = power.denominator == 1
    if not whole and (a.negative or any(not positive(base) for base in a.factors)):
        return None
    return Product(
        times(a.factors, power),
        times(a.exponent, power),
        a.negative and power.numerator % 2 == 1,
        a.guards,
        a.sources,
        a.soft,
    )


def positive(base: Expression) -> bool:
    """Is the base never negative, as far as one sees?"""
    match base:
        case Number(value):
            return value > 0
        case Apply("exp" | "sigmoid" | "softplus"):
            return True
    return False


# ------------------------------------------------------------------------------- matching


def unify(pattern: Expression, expression: Expression, binding: Binding) -> Binding | None:
    """The binding, extended so that the pattern becomes the expression; None if there is none.

    An index whose name begins with `$` stands for any subscript.
    """
    if isinstance(pattern, Index) and pattern.name.startswith("$"):
        known = binding.get(pattern.name)
        if known is None:
            return {**binding, pattern.name: expression}
        return binding if known == expression else None
    if type(pattern) is not type(expression) or _head(pattern) != _head(expression):
        return None
    inner, outer = children(pattern), children(expression)
    if not inner:
        return binding if pattern == expression else None
    if len(inner) != len(outer):
        return None
    found: Binding | None = binding
    for one, other in zip(inner, outer, strict=True):
        if found is None:
            return None
        found = unify(one, other, found)
    return found


def _head(expression: Expression) -> object:
    """What a node is, its children apart."""
    for name in ("operation", "tensor", "operators"):
        found = getattr(expression, name, None)
        if found is not None:
            return found
    return None


def replaced(expression: Expression, changes: Mapping[Expression, Expression]) -> Expression:
    """The expression with whole subexpressions replaced."""
    if not changes:
        return expression

    def change(node: Expression) -> Expression:
        return changes[node] if node in changes else rebuild(node, change)

    return change(expression)


def names(expression: Expression) -> set[str]:
    """The indices in it."""
    return {n.name for n in subexpressions(expression) if isinstance(n, Index)}
