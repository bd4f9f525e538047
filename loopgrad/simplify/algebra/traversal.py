"""Changing the atoms of a sum, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from loopgrad.simplify.algebra.atoms import Atom, Number
from loopgrad.simplify.algebra.conditions import conditions_of
from loopgrad.simplify.algebra.functions import function, power
from loopgrad.simplify.algebra.sums import (
    KEEP,
    MOST_TERMS,
    Poly,
    TooLarge,
    factors_of,
    plus,
    product,
)
from loopgrad.simplify.algebra.terms import Bound, Powers

Conditions = tuple[Atom, ...]
Change = Callable[[Atom, Conditions], Poly | None]


def map_atoms(poly: Poly, change: Callable[[Atom], Poly | None]) -> Poly:
    """The sum with atoms replaced, those inside functions first; None leaves an atom as it is."""
    return map_under(poly, lambda atom, _: change(atom))


def map_under(poly: Poly, change: Change, outer: Conditions = ()) -> Poly:
    """The same, where the change is told under which conditions the atom stands."""
    parts: list[Poly] = []
    changed = False
    for term, coefficient in poly.terms:
        replaced: list[tuple[Poly, Number]] = []
        kept: dict[Atom, Number] = {}
        bound: Bound = ()
        powers = dict(term.atoms)
        if term.bound:
            known = (*outer, *conditions_of(powers))
            if all(map_atom(a, change, known) is None for a, _ in term.atoms):
                parts.append(Poly({term: coefficient}))
                continue
            bound, powers = term.opened()
        known = (*outer, *conditions_of(powers))
        for atom, p in powers.items():
            new = map_atom(atom, change, known)
            if new is None:
                kept[atom] = p
            else:
                replaced.append((new, p))
        if not replaced:
            parts.append(Poly({term: coefficient}))
            continue
        changed = True
        parts.append(multiplied(bound, kept, coefficient, replaced))
    return plus(*parts) if changed else poly


def map_atom(atom: Atom, change: Change, known: Conditions) -> Poly | None:
    """What becomes of the atom; None where that is itself. `change` gives KEEP for one to leave."""
    new = change(atom, known)
    if new is KEEP:
        return None
    if new is not None:
        return new
    if atom.kind in ("function", "sum"):
        arguments: tuple[Poly, ...] = atom.parts  # type: ignore[assignment]
        mapped = tuple(map_under(a, change, known) for a in arguments)
        if any(a is not b for a, b in zip(mapped, arguments, strict=True)):
            return function(atom.name, *mapped) if atom.kind == "function" else mapped[0]
    return None


def multiplied(
    bound: Bound, kept: Powers, coefficient: Number, factors: Iterable[tuple[Poly, Number]]
) -> Poly:
    """An open product times powers of sums, which may read the open indices."""
    states: list[tuple[Bound, dict[Atom, Number], Number]] = [(bound, dict(kept), coefficient)]
    for poly, exponent in factors:
        whole = power(poly, exponent)
        following = []
        for ranges, powers, c in states:
            for term, d in factors_of(whole):
                more, atoms = term.opened()
                joined = dict(powers)
                for atom, p in atoms.items():
                    joined[atom] = joined.get(atom, 0) + p
                following.append(((*ranges, *more), joined, c * d))
        states = following
        if len(states) > MOST_TERMS:
            raise TooLarge
    return plus(*(product(b, p, c) for b, p, c in states))


def atoms_of(poly: Poly) -> Iterator[Atom]:
    """Every atom, those inside functions and sums included."""
    for term, _ in poly.terms:
        for atom, _ in term.atoms:
            yield atom
            if atom.kind in ("function", "sum"):
                for inside in atom.parts:
                    yield from atoms_of(inside)  # type: ignore[arg-type]
