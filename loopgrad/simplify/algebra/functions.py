"""Powers and functions of sums, with what is known of exp, log and odd functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from loopgrad.ir.nodes import Extent
from loopgrad.simplify.algebra.atoms import Atom, Number, exact, key_of
from loopgrad.simplify.algebra.conditions import opposite
from loopgrad.simplify.algebra.sums import (
    ONE,
    ZERO,
    Poly,
    TooLarge,
    number,
    of_atom,
    plus,
    powered_sum,
    product,
    scaled,
    times,
)
from loopgrad.simplify.algebra.terms import Term

MOST_CONDITIONS = 4  # that a function's argument hangs on


def power(poly: Poly, exponent: Number) -> Poly:
    """`poly ** exponent` for a rational exponent."""
    exponent = exact(exponent)
    if exponent == 0:
        return ONE
    if exponent == 1:
        return poly
    if not (exponent.denominator == 1 and exponent > 0):
        condition = _condition((poly,))
        if condition is not None:
            return _in_cases(condition, (poly,), lambda p: power(p, exponent))
    value = poly.constant
    if value is not None and value and exponent.denominator == 1:
        return number(exact(Fraction(value) ** int(exponent)))
    if value == 1 or (value == 0 and exponent > 0):
        return poly
    if len(poly.terms) == 1 and not poly.terms[0][0].bound:
        (term, coefficient) = poly.terms[0]
        if exponent.denominator == 1:
            whole = {a: p * exponent for a, p in term.atoms}
            return product((), whole, Fraction(coefficient) ** int(exponent))
        if coefficient == 1 and len(term.atoms) == 1:
            ((atom, p),) = term.atoms
            if p == 1 or _positive(atom) or p.denominator != 1:
                return product((), {atom: exact(p * exponent)}, 1)
    if exponent.denominator == 1 and exponent > 0:
        return times(*([poly] * int(exponent)))
    if len(poly.terms) == 1 and exponent.denominator == 1:
        outside, inside = _split(poly.terms[0][0])
        if outside:
            whole = {a: p * exponent for a, p in outside.items()}
            factor = Fraction(poly.terms[0][1]) ** int(exponent)
            return times(product((), whole, factor), powered_sum(inside, exponent))
    return powered_sum(poly, exponent)


def _split(term: Term) -> tuple[dict[Atom, Number], Poly]:
    """A sum as the factors that its bound indices do not touch, and the rest."""
    bound, powers = term.opened()
    inner = {i for i, _ in bound}
    outside = {a: p for a, p in powers.items() if not a.free & inner}
    return outside, product(bound, {a: p for a, p in powers.items() if a not in outside})


def _positive(atom: Atom) -> bool:
    return (atom.kind == "name" and isinstance(atom.node, Extent)) or (
        atom.kind == "function" and atom.name in ("exp", "sigmoid", "softplus")
    )


def function(name: str, *arguments: Poly) -> Poly:
    """`exp(a)`, `max(a, b)`: with what is known of exp, log and odd functions."""
    condition = _condition(arguments)
    if condition is not None:
        return _in_cases(condition, arguments, lambda *polys: function(name, *polys))
    argument = arguments[0]
    match name:
        case "sqrt":
            return power(argument, Fraction(1, 2))
        case "rsqrt":
            return power(argument, Fraction(-1, 2))
        case "exp":
            return _exp(argument)
        case "log":
            return _log(argument)
        case "sigmoid" if _negative(argument):
            return plus(ONE, scaled(function("sigmoid", scaled(argument, -1)), -1))
        case "tanh" if _negative(argument):
            return scaled(function("tanh", scaled(argument, -1)), -1)
        case "tanh" if not argument:
            return ZERO
    return of_atom(Atom("function", name, arguments))


def _negative(poly: Poly) -> bool:
    """Is the leading coefficient below 0? Asked by shape, so that renaming does not change it."""
    return bool(poly.terms) and min(poly.terms, key=lambda t: t[0].shape)[1] < 0


def _exp(argument: Poly) -> Poly:
    if not argument:
        return ONE
    for term, coefficient in argument.terms:
        if not term.bound and len(term.atoms) == 1:
            ((atom, p),) = term.atoms
            if atom.kind == "function" and atom.name == "log" and p == 1:
                rest = plus(argument, Poly({term: -coefficient}))
                return times(_exp(rest), power(atom.parts[0], coefficient))  # type: ignore[arg-type]
    return of_atom(Atom("function", "exp", (argument,)))


def _log(argument: Poly) -> Poly:
    if argument.constant == 1:
        return ZERO
    if len(argument.terms) == 1:
        term, coefficient = argument.terms[0]
        bound, powers = term.opened()
        inner = {i for i, _ in bound}
        outside, inside = ZERO, {}
        for atom, p in powers.items():
            if atom.kind == "function" and atom.name == "exp" and not atom.free & inner:
                outside = plus(outside, scaled(atom.parts[0], p))  # type: ignore[arg-type]
            else:
                inside[atom] = p
        if outside.terms:
            return plus(outside, _log(product(bound, inside, coefficient)))
        if len(powers) == 1 and not bound and coefficient == 1:
            ((atom, p),) = powers.items()
            if p.denominator == 1 and p % 2 and p != 1:  # both are defined for positive ones only
                return scaled(_log(of_atom(atom)), p)
    return of_atom(Atom("function", "log", (argument,)))


# --------------------------------------------------------------------------------------- conditions


def _condition(polys: Sequence[Poly]) -> Atom | None:
    """A condition that some terms hang on, whatever they are summed over."""
    found = {
        atom
        for poly in polys
        for term, _ in poly.terms
        if term.conditional
        for atom, _ in term.atoms
        if atom.kind == "indicator" and atom.free.isdisjoint(i for i, _ in term.bound)
    }
    if len(found) > MOST_CONDITIONS:
        raise TooLarge
    return min(found, key=key_of) if found else None


def _in_cases(condition: Atom, polys: Sequence[Poly], value: Callable[..., Poly]) -> Poly:
    """The value where the condition holds, and where it does not; each is evaluated there only."""
    parts = []
    for holding in (condition, opposite(condition)):
        inside = value(*(_where(poly, holding) for poly in polys))
        parts.append(times(of_atom(holding), inside))
    return plus(*parts)


def _where(poly: Poly, holding: Atom) -> Poly:
    """What the sum is where the condition holds: without saying so."""
    parts = []
    for term, coefficient in poly.terms:
        if not term.conditional:
            parts.append(Poly({term: coefficient}))
            continue
        bound, powers = term.opened()
        whole = product(bound, {**powers, holding: 1}, coefficient)
        parts.append(_without(whole, holding))
    return plus(*parts)


def _without(poly: Poly, condition: Atom) -> Poly:
    parts = []
    for term, coefficient in poly.terms:
        bound, powers = term.opened()
        powers.pop(condition, None)
        parts.append(product(bound, powers, coefficient))
    return plus(*parts)
