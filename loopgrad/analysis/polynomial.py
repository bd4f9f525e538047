"""Polynomials with integer coefficients: the arithmetic of extents and of proofs.

A polynomial maps monomials to coefficients that are not 0; a monomial is a sorted tuple of atoms,
`()` that of the constant term. Atoms are expressions in `extents`, and numbers in proofs, where
`terms` knows what they stand for. Polynomials are never changed once made.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any, TypeAlias, TypeVar

Atom = TypeVar("Atom")
Terms: TypeAlias = dict[tuple[Atom, ...], int]

Monomial: TypeAlias = tuple[int, ...]
Polynomial: TypeAlias = Terms[int]
Key: TypeAlias = frozenset[tuple[Monomial, int]]


def constant(value: int) -> Terms[Any]:
    return {(): value} if value else {}


def atom(number: int) -> Polynomial:
    return {(number,): 1}


def add(left: Terms[Atom], right: Terms[Atom], factor: int = 1) -> Terms[Atom]:
    """`left + factor * right`."""
    total = dict(left)
    for monomial, coefficient in right.items():
        value = total.get(monomial, 0) + factor * coefficient
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return total


def subtract(left: Terms[Atom], right: Terms[Atom]) -> Terms[Atom]:
    return add(left, right, -1)


def shift(polynomial: Polynomial, value: int) -> Polynomial:
    """`polynomial + value`."""
    total = dict(polynomial)
    value += total.get((), 0)
    if value:
        total[()] = value
    else:
        total.pop((), None)
    return total


def scale(polynomial: Terms[Atom], factor: int) -> Terms[Atom]:
    return {m: c * factor for m, c in polynomial.items()} if factor else {}


def negate(polynomial: Terms[Atom]) -> Terms[Atom]:
    return {m: -c for m, c in polynomial.items()}


def multiply(
    left: Terms[Atom], right: Terms[Atom], order: Callable[[Any], Any] | None = None
) -> Terms[Atom]:
    """The product; `order` sorts the atoms of a monomial that do not sort by themselves."""
    total: Terms[Atom] = {}
    for m, c in left.items():
        for n, d in right.items():
            product = tuple(sorted(m + n, key=order)) if m and n else m or n  # type: ignore[type-var,arg-type]
            value = total.get(product, 0) + c * d
            if value:
                total[product] = value
            else:
                total.pop(product, None)
    return total


def constant_value(polynomial: Terms[Any]) -> int | None:
    """The value of a polynomial without atoms, None for one with some."""
    if not polynomial:
        return 0
    return polynomial.get(()) if len(polynomial) == 1 else None


def key(polynomial: Polynomial) -> Key:
    return frozenset(polynomial.items())


def atoms_of(polynomial: Polynomial) -> set[int]:
    return {a for monomial in polynomial for a in monomial}


def degree(polynomial: Terms[Any]) -> int:
    return max(map(len, polynomial), default=0)


def content(polynomial: Polynomial) -> int:
    """The greatest common divisor of the coefficients, the constant term left out; 0 for none."""
    divisor = 0
    for monomial, coefficient in polynomial.items():
        if monomial:
            divisor = gcd(divisor, coefficient)
            if divisor == 1:
                break
    return divisor


def tightened(polynomial: Polynomial) -> Polynomial:
    """What `polynomial >= 0` says of integers: divided by the content, the constant rounded."""
    divisor = content(polynomial)
    if divisor <= 1:
        return polynomial
    divided = {m: c // divisor for m, c in polynomial.items()}
    if not divided.get((), 1):
        del divided[()]
    return divided


def coefficient_of(polynomial: Terms[Atom], atom: Atom) -> tuple[Terms[Atom], Terms[Atom]] | None:
    """`(c, rest)` with `polynomial == c * atom + rest`; None where the atom occurs to a power."""
    linear: Terms[Atom] = {}
    rest: Terms[Atom] = {}
    for monomial, coefficient in polynomial.items():
        count = monomial.count(atom)
        if not count:
            rest[monomial] = coefficient
        elif count == 1:
            at = monomial.index(atom)
            linear[monomial[:at] + monomial[at + 1 :]] = coefficient
        else:
            return None
    return linear, rest
