"""Logarithms of products, where one of the factors is known to be above 0.

`log(P / Q)` is `log(P) - log(Q)` if P > 0: the quotient is then above 0 just where Q is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from loopgrad.ir.nodes import Compare, Expression, Number
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading.domains import is_positive_atom
from loopgrad.simplify.reading.statements import Reader


@dataclass(frozen=True)
class Split:
    """One logarithm taken apart: `log(P / Q) = log(P) - log(Q)`, as P > 0; and the sum after that."""

    logarithm: Atom
    apart: Poly
    above_zero: tuple[Atom, ...]
    after: Poly


def split_logs(poly: Poly) -> Poly:
    """The sum with each logarithm of a product taken apart, where that holds."""
    while (found := split_once(poly)) is not None:
        poly = found.after
    return poly


def split_once(poly: Poly) -> Split | None:
    """The first logarithm that comes apart; None where none does."""
    for term, coefficient in poly.terms:
        found = _split(term)
        if found is not None:
            rest = nf.plus(poly, Poly({term: -coefficient}))
            return replace(found, after=nf.plus(rest, nf.scaled(found.after, coefficient)))
    return None


def _split(term: Term) -> Split | None:
    bound, powers = term.opened()
    positive = frozenset(key for a in powers if a.kind == "indicator" for key in _above_zero(a))
    for atom, p in powers.items():
        if atom.kind == "function" and atom.name == "log":
            apart = _apart(atom.parts[0], positive)  # type: ignore[arg-type]
            if apart is not None:
                rest = {a: q for a, q in powers.items() if a is not atom}
                inside: Poly = atom.parts[0]  # type: ignore[assignment]
                known = tuple(a for a, _ in inside.terms[0][0].atoms if a.key in positive)
                return Split(atom, apart, known, nf.multiplied(bound, rest, 1, [(apart, p)]))
    return None


def _above_zero(indicator: Atom) -> list[str]:
    """The texts of what is above 0 where the condition holds."""
    condition: Expression = indicator.parts[0]  # type: ignore[assignment]
    match condition:
        case Compare((">",), (value, Number(0))) | Compare(("<",), (Number(0), value)):
            poly = Reader({}).value(value)
            if len(poly.terms) == 1 and len(poly.terms[0][0].atoms) == 1:
                return [poly.terms[0][0].atoms[0][0].key]
    return []


def _apart(argument: Poly, positive: frozenset[str]) -> Poly | None:
    """The logarithm as a sum of several; None where it stays one."""
    if len(argument.terms) != 1 or argument.terms[0][0].bound:
        return None
    term, coefficient = argument.terms[0]
    known = {a: p for a, p in term.atoms if is_positive_atom(a, positive)}
    others = {a: p for a, p in term.atoms if a not in known}
    if coefficient != 1 or not known or (len(known) == 1 and not others and 1 in known.values()):
        return None
    parts = [nf.scaled(_log(a), p) for a, p in known.items()]
    if len(others) == 1:
        ((atom, p),) = others.items()
        odd = p.denominator != 1 or p % 2 == 1
        parts.append(
            nf.scaled(_log(atom), p) if odd else nf.function("log", nf.product((), others))
        )
    elif others:
        parts.append(nf.function("log", nf.product((), others)))
    return nf.plus(*parts)


def _log(atom: Atom) -> Poly:
    return nf.function("log", nf.of_atom(atom))
