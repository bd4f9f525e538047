"""What the terms of a sum share, and one sum divided by another."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading.domains import is_nonnegative

Powers = dict[Atom, nf.Number]
BOUNDED = {("sigmoid", 1), ("sigmoid", 2), ("tanh", 2)}  # functions and powers: from 0 to 1


def spread(poly: Poly) -> Poly:
    """Sums that stand as terms of their own, without their brackets."""
    parts = []
    for term, coefficient in poly.terms:
        alone = not term.bound and len(term.atoms) == 1 and term.atoms[0][1] == 1
        if alone and term.atoms[0][0].kind == "sum":
            parts.append(nf.scaled(spread(term.atoms[0][0].parts[0]), coefficient))  # type: ignore[arg-type]
        else:
            parts.append(Poly({term: coefficient}))
    return nf.plus(*parts)


def content_of(poly: Poly) -> tuple[Poly, Poly]:
    """What all terms share, and what is left: `2 a b + 4 a c` is `2 a` times `b + 2 c`."""
    shared: Powers | None = None
    for term, _ in poly.terms:
        powers = dict(term.atoms)
        if shared is None:
            shared = powers
        else:
            for atom in list(shared):
                one, other = shared[atom], powers.get(atom, 0)
                if one * other <= 0:  # nothing is put over a common denominator
                    del shared[atom]
                else:
                    shared[atom] = min(one, other) if one > 0 else max(one, other)
    assert shared is not None
    coefficients = [Fraction(c) for _, c in poly.terms]
    number = _common(coefficients)
    if not shared and number == 1:
        return nf.ONE, poly
    content = nf.product((), shared, number)
    rest = []
    for term, coefficient in poly.terms:
        bound, powers = term.opened()
        for atom, p in shared.items():
            powers[atom] = powers.get(atom, 0) - p
        rest.append(nf.product(bound, powers, Fraction(coefficient) / number))
    return content, nf.plus(*rest)


def _common(coefficients: list[Fraction]) -> nf.Number:
    """The number that all are small multiples of, where it is a simple one."""
    below = lcm(*(c.denominator for c in coefficients))
    if below > 12 and len({abs(c) for c in coefficients}) > 1:
        return 1
    return nf.exact(Fraction(gcd(*(int(c * below) for c in coefficients)), below))


def complement_of(poly: Poly) -> Poly | None:
    """Of three terms or more, two that make `y * (1 - sigmoid(x))`.

    Factored otherwise, `sigmoid(x) * (1 - y) + y`, a large y would cancel.
    """
    if len(poly.terms) < 3:
        return None
    for whole, c in poly.terms:
        for part, d in poly.terms:
            if d == -c and _is_part(dict(part.atoms), dict(whole.atoms)):
                return Poly({whole: c, part: d})
    return None


def _is_part(part: Powers, whole: Powers) -> bool:
    """Is the one the other times a function between 0 and 1?"""
    more = {a: p - whole.get(a, 0) for a, p in part.items() if p != whole.get(a, 0)}
    if len(more) != 1 or not whole.keys() <= part.keys():
        return False
    ((atom, power),) = more.items()
    if atom.kind == "sum" and power == -1:  # 1 / (1 + exp(-x))
        rest = nf.plus(atom.parts[0], nf.number(-1))  # type: ignore[arg-type]
        return len(rest.terms) < len(atom.parts[0].terms) and is_nonnegative(rest, frozenset())  # type: ignore[attr-defined]
    return atom.kind == "function" and (atom.name, power) in BOUNDED


def by_power(poly: Poly, atom: Atom) -> dict[nf.Number, Poly]:
    parts: dict[nf.Number, list[tuple[Term, nf.Number]]] = {}
    for term, coefficient in poly.terms:
        parts.setdefault(dict(term.atoms).get(atom, 0), []).append((term, coefficient))
    return {p: Poly(dict(parts[p])) for p in sorted(parts)}


def by_atom(poly: Poly, atom: Atom) -> tuple[Poly, Poly]:
    with_it = {t: c for t, c in poly.terms if atom in dict(t.atoms)}
    return Poly(with_it), Poly({t: c for t, c in poly.terms if t not in with_it})


def divide(poly: Poly, divisor: Poly) -> Poly | None:
    """The quotient, where it leaves no remainder."""
    atoms = sorted(
        {a for p in (poly, divisor) for t, _ in p.terms for a, _ in t.atoms}, key=nf.key_of
    )
    rest, below = _by_exponents(poly, atoms), _by_exponents(divisor, atoms)
    head = max(below)
    quotient: list[tuple[Exponents, nf.Number]] = []
    for _ in range(2 * len(poly.terms) + 2):
        if not rest:
            parts = [nf.product((), dict(zip(atoms, e, strict=True)), c) for e, c in quotient]
            return nf.plus(*parts)
        lead = max(rest)
        step = tuple([a - b for a, b in zip(lead, head, strict=True)])
        if any(s < 0 <= a and b for s, a, b in zip(step, lead, head, strict=True)):
            return None
        factor = Fraction(rest[lead]) / below[head]
        quotient.append((step, nf.exact(factor)))
        for exponents, coefficient in below.items():
            at = tuple([a + b for a, b in zip(step, exponents, strict=True)])
            left = rest.get(at, 0) - factor * coefficient
            if left:
                rest[at] = left
            else:
                rest.pop(at, None)
    return None


Exponents = tuple[nf.Number, ...]


def _by_exponents(poly: Poly, atoms: list[Atom]) -> dict[Exponents, nf.Number]:
    found: dict[Exponents, nf.Number] = {}
    for term, coefficient in poly.terms:
        powers = dict(term.atoms)
        found[tuple([powers.get(a, 0) for a in atoms])] = coefficient
    return found
