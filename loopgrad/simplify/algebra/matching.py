"""Patterns: the ways to name the variables of an atom, or of a product, so that it is what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loopgrad.ir.nodes import Expression, Index
from loopgrad.ir.walk import subexpressions
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import EITHER_SIGN, subscript_of
from loopgrad.simplify.algebra.integers import combined, expression_of, indices_in, linear
from loopgrad.simplify.algebra.normal_form import Atom, Number, Poly, Subscript, Term

Names = dict[str, Subscript]


def match_subscript(
    pattern: Subscript, found: Subscript, names: Names, variables: frozenset[str]
) -> Names | None:
    if isinstance(pattern, str):
        if pattern not in variables:
            return names if pattern == found else None
        if pattern in names:
            return names if names[pattern] == found else None
        return {**names, pattern: found}
    solved = match_form(pattern, nf.as_expression(found), names, variables)
    return next(solved, None)


def match_form(
    pattern: Atom, found: Expression, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    """Integer forms: `i + 1` is `j` for `i = j - 1`, where one variable is still to be named."""
    known = pattern.renamed({i: n for i, n in names.items() if i in pattern.free})
    form = linear(known.parts[0])  # type: ignore[arg-type]
    unknown = [i for i in sorted(pattern.free & variables) if i not in names]
    signs = (1, -1) if pattern.name in EITHER_SIGN else (1,)
    for sign in signs:
        wanted = combined({}, linear(found), sign)
        if not unknown:
            if form == wanted:
                yield names
                return
            continue
        (first, *others) = unknown
        multiple = form.get(Index(first), 0)
        rest = combined(form, {Index(first): multiple}, -1)
        if others or multiple not in (1, -1) or first in indices_in(rest):
            return
        value = combined({}, combined(wanted, rest, -1), multiple)
        yield {**names, first: subscript_of(expression_of(value))}


def match_atom(
    pattern: Atom, found: Atom, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    """The ways to name the variables so that the pattern is what was found."""
    if pattern.kind != found.kind or pattern.name != found.name:
        return
    match pattern.kind:
        case "read" | "delta" | "index":
            current: Names | None = names
            # Plain indices first: a formula is compared once its own are known.
            pairs = sorted(
                zip(pattern.parts, found.parts, strict=True),
                key=lambda t: not isinstance(t[0], str),
            )
            for left, right in pairs:
                if current is not None:
                    current = match_subscript(left, right, current, variables)  # type: ignore[arg-type]
            if current is not None:
                yield current
        case "function" | "sum":
            yield from _match_polys(pattern.parts, found.parts, names, variables)  # type: ignore[arg-type]
        case "name":
            yield names
        case _ if pattern.integer:
            yield from match_form(pattern, found.parts[0], names, variables)  # type: ignore[arg-type]
        case _:
            yield from _match_conditions(pattern, found, names, variables)


def _match_conditions(
    pattern: Atom, found: Atom, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    """Conditions as they are written: variables that are plain indices there."""
    wanted: Expression = pattern.parts[0]  # type: ignore[assignment]
    there: Expression = found.parts[0]  # type: ignore[assignment]
    for one, other in zip(subexpressions(wanted), subexpressions(there), strict=False):
        if isinstance(one, Index) and one.name in variables and one.name not in names:
            names = {**names, one.name: subscript_of(other)}
    if pattern.renamed({i: n for i, n in names.items() if i in pattern.free}) == found:
        yield names


def _match_polys(
    patterns: tuple[Poly, ...], found: tuple[Poly, ...], names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    if not patterns:
        yield names
        return
    if patterns[0].shape != found[0].shape:
        return
    for inner in _match_terms(patterns[0].terms, list(found[0].terms), names, variables):
        yield from _match_polys(patterns[1:], found[1:], inner, variables)


def _match_terms(
    patterns: tuple[tuple[Term, Number], ...],
    found: list[tuple[Term, Number]],
    names: Names,
    variables: frozenset[str],
) -> Iterator[Names]:
    if not patterns:
        yield names
        return
    term, coefficient = patterns[0]
    for at, (other, c) in enumerate(found):
        if c == coefficient and other.shape == term.shape:
            rest = found[:at] + found[at + 1 :]
            for inner in _match_term(term, other, names, variables):
                yield from _match_terms(patterns[1:], rest, inner, variables)


def _match_term(
    pattern: Term, found: Term, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    bound, powers = pattern.opened()
    _, others = found.opened()
    inside = variables | {i for i, _ in bound}
    for result in match_product(tuple(powers.items()), others, names, inside):
        yield {i: n for i, n in result.items() if i in variables}


def match_product(
    patterns: tuple[tuple[Atom, Number], ...],
    found: Mapping[Atom, Number],
    names: Names,
    variables: frozenset[str],
    within: bool = False,
) -> Iterator[Names]:
    """The ways in which every atom of the pattern is one of those found, to the same power.

    within: or to a higher one, of which a part is left: `x * g` is within `x * g**2`.
    """
    if not patterns:
        yield names
        return
    atom, power = patterns[0]
    for other in sorted(found, key=lambda a: a.key):
        fits = found[other] == power or (within and _exceeds(found[other], power))
        if fits and other.shape == atom.shape:
            rest = {a: p for a, p in found.items() if a != other}
            for inner in match_atom(atom, other, names, variables):
                yield from match_product(patterns[1:], rest, inner, variables, within)


def _exceeds(power: Number, other: Number) -> bool:
    """Is the power the other's and a whole number more, away from 0?"""
    more = power - other
    return more.denominator == 1 and (more > 0 if other > 0 else more < 0)
