"""Arithmetic on extents: integer formulas in a normal form, and the largest value of a subscript.

A `Polynomial` maps products of atoms to integer coefficients. An atom is a name, or any integer
expression that is not a sum or product (`(X - K) // 2`, `w[b]`), itself in normal form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from loopgrad.analysis.polynomial import (
    Terms,
    add,
    coefficient_of,
    constant,
    constant_value,
    multiply,
    negate,
    scale,
    subtract,
)
from loopgrad.ir.nodes import (
    Apply,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import number, rebuild, subexpressions

Monomial = tuple[Expression, ...]
Polynomial = Terms[Expression]

LARGEST_POLYNOMIAL = 64  # monomials; beyond, an expression stays one atom


def polynomial(expression: Expression) -> Polynomial:
    """The normal form of an integer expression."""
    return dict(_polynomial(expression))


@lru_cache(maxsize=4096)
def _polynomial(expression: Expression) -> tuple[tuple[Monomial, int], ...]:
    return tuple(_convert(expression).items())


def _convert(expression: Expression) -> Polynomial:
    match expression:
        case Number(int(value)):
            return constant(value)
        case Apply("neg", (operand,)):
            return negate(polynomial(operand))
        case Apply("+" | "-" as operation, (left, right)):
            return add(polynomial(left), polynomial(right), 1 if operation == "+" else -1)
        case Apply("*", (left, right)):
            product = multiply(polynomial(left), polynomial(right), show_expression)
            if len(product) <= LARGEST_POLYNOMIAL:
                return product
        case Apply("//", (dividend, Number(int(divisor)))) if divisor > 0:
            return _divide(polynomial(dividend), divisor)
    atom = rebuild(expression, lambda e: to_expression(polynomial(e)) if _is_integer(e) else e)
    return {(atom,): 1}


def _is_integer(expression: Expression) -> bool:
    return isinstance(expression, Index | Extent | Constant | Number) or (
        isinstance(expression, Apply) and expression.operation in ("+", "-", "*", "neg", "//")
    )


def _divide(dividend: Polynomial, divisor: int) -> Polynomial:
    """`(4 * a + r) // 2` is `2 * a + r // 2`: whole multiples leave the division, those in the number too, so
    that `(X - 1) // 2 + 1` is `(X + 1) // 2`."""
    number = dividend.get((), 0)
    whole = {m: c // divisor for m, c in dividend.items() if m and c % divisor == 0}
    whole = add(whole, constant(number // divisor))
    rest = {m: c for m, c in dividend.items() if m and c % divisor}
    if not rest:
        return whole
    rest = add(rest, constant(number % divisor))
    return add(whole, {(Apply("//", (to_expression(rest), Number(divisor))),): 1})


def to_expression(terms: Polynomial) -> Expression:
    """The normal form as a reader would write it: positive terms first, the number last."""
    ordered = sorted(terms.items(), key=lambda t: (t[0] == (), t[1] < 0))
    result: Expression | None = None
    for monomial, coefficient in ordered:
        term = _product(monomial, abs(coefficient))
        if result is None:
            result = term if coefficient > 0 else _negative(term)
        else:
            result = Apply("+" if coefficient > 0 else "-", (result, term))
    return result if result is not None else Number(0)


def _negative(term: Expression) -> Expression:
    return Apply("neg", (term,))


def _product(monomial: Monomial, coefficient: int) -> Expression:
    factors: list[Expression] = list(monomial)
    if coefficient != 1 or not factors:
        factors.insert(0, Number(coefficient))
    result = factors[0]
    for factor in factors[1:]:
        result = Apply("*", (result, factor))
    return result


# ---------------------------------------------------------------------------------------- questions


def difference(left: Expression, right: Expression) -> int | None:
    """`left - right` where it is the same number for all sizes, else None."""
    return constant_value(subtract(polynomial(left), polynomial(right)))


@lru_cache(maxsize=4096)
def plus(expression: Expression, value: int) -> Expression:
    return to_expression(add(polynomial(expression), constant(value)))


def maximum(left: Expression, right: Expression, positive: frozenset[str]) -> Expression:
    """The larger of two extents: one of them where that is so for all sizes, else `max` of both."""
    sign = _sign(subtract(polynomial(left), polynomial(right)), positive)
    if sign is not None:
        return left if sign >= 0 else right
    return Apply("max", (left, right))


def _sign(terms: Polynomial, positive: frozenset[str]) -> int | None:
    """1 where never negative, -1 where never positive, None where that is not evident."""
    if not all(_is_natural(a, positive) for m in terms for a in m):
        return None
    # A constant of 1 or more outweighs -1: `stride - 1 >= 0`.
    low = sum(c for m, c in terms.items() if all(_is_at_least_one(a, positive) for a in m))
    if low >= 0 and all(c > 0 for m, c in terms.items() if m):
        return 1
    if terms and all(c < 0 for c in terms.values()):
        return -1
    return None


def _is_natural(atom: Expression, positive: frozenset[str]) -> bool:
    return isinstance(atom, Extent) or _is_at_least_one(atom, positive)


def _is_at_least_one(atom: Expression, positive: frozenset[str]) -> bool:
    return isinstance(atom, Constant) and atom.name in positive


@lru_cache(maxsize=4096)
def free_names(expression: Expression) -> frozenset[str]:
    return frozenset(n.name for n in subexpressions(expression) if isinstance(n, Index))


def extent_names(expression: Expression) -> frozenset[str]:
    return frozenset(n.name for n in subexpressions(expression) if isinstance(n, Extent))


IndexRange = tuple[str, Expression, Expression]


def largest(
    subscript: Expression, ranges: Sequence[IndexRange], positive: frozenset[str]
) -> Expression | None:
    """The largest value of an integer expression over loops, outermost first, none of them empty.

    A formula in extents and constants; None where it hangs on data or is not evident.
    """
    return _kept_extreme(subscript, tuple(ranges), positive, 1)


def smallest(
    subscript: Expression, ranges: Sequence[IndexRange], positive: frozenset[str]
) -> Expression | None:
    """The smallest value, likewise."""
    return _kept_extreme(subscript, tuple(ranges), positive, -1)


@lru_cache(maxsize=4096)  # calls in a program are inferred several times, each a little different
def _kept_extreme(
    subscript: Expression, ranges: tuple[IndexRange, ...], positive: frozenset[str], sense: int
) -> Expression | None:
    return _extreme(subscript, ranges, positive, sense)


def _extreme(
    expression: Expression, ranges: Sequence[IndexRange], positive: frozenset[str], sense: int
) -> Expression | None:
    terms = polynomial(expression)
    for name, lower, upper in reversed(ranges):
        without = _eliminate(terms, name, lower, upper, positive, sense)
        if without is None:
            return None
        terms = without
    if all(not _hangs_on_loops(a) for m in terms for a in m):
        return to_expression(terms)
    return _extreme_of_atoms(terms, ranges, positive, sense)


def _eliminate(
    terms: Polynomial,
    name: str,
    lower: Expression,
    upper: Expression,
    positive: frozenset[str],
    sense: int,
) -> Polynomial | None:
    """The extreme over one index, put in its place where it stands in the polynomial itself."""
    split = coefficient_of(terms, Index(name))
    if split is None:
        return None
    coefficient, rest = split
    if not coefficient:
        return terms
    sign = _sign(coefficient, positive)
    if sign is None:
        return None
    bound = polynomial(lower) if sign * sense < 0 else add(polynomial(upper), constant(-1))
    return add(rest, multiply(coefficient, bound, show_expression))


def _extreme_of_atoms(
    terms: Polynomial, ranges: Sequence[IndexRange], positive: frozenset[str], sense: int
) -> Expression | None:
    total: Polynomial = {}
    for monomial, value in terms.items():
        hanging = [a for a in monomial if _hangs_on_loops(a)]
        if not hanging:
            total = add(total, {monomial: value})
            continue
        if len(monomial) > 1:
            return None
        bound = _extreme_of_atom(hanging[0], ranges, positive, sense if value > 0 else -sense)
        if bound is None:
            return None
        total = add(total, scale(polynomial(bound), value))
    return to_expression(total)


def _extreme_of_atom(
    atom: Expression, ranges: Sequence[IndexRange], positive: frozenset[str], sense: int
) -> Expression | None:
    def inner(expression: Expression) -> Expression | None:
        return _extreme(expression, ranges, positive, sense)

    match atom:
        case Apply("//", (dividend, divisor)) if _is_positive(divisor, positive):
            bound = inner(dividend)
            return bound and to_expression(polynomial(Apply("//", (bound, divisor))))
        case Apply("%", (_, divisor)) if _is_positive(divisor, positive):
            return plus(divisor, -1) if sense > 0 else number(0)
        case Apply("max" | "min" as function, (left, right)):
            bounds = [inner(left), inner(right)]
        case Conditional(_, left, right):
            function, bounds = ("max" if sense > 0 else "min"), [inner(left), inner(right)]
        case _:
            return None
    one, other = bounds
    if one is None or other is None:
        return None
    if function == "max":
        return maximum(one, other, positive)
    return Apply("min", (one, other)) if one != other else one


def _is_positive(divisor: Expression, positive: frozenset[str]) -> bool:
    match divisor:
        case Number(value):
            return value > 0
        case Constant(name):
            return name in positive
        case Extent():
            return True  # where it is 0, the division is an error before any subscript is
    return False


def _hangs_on_loops(atom: Expression) -> bool:
    return any(isinstance(n, Index | Read) for n in subexpressions(atom))
