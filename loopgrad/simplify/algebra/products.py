"""Opened products: their free indices, and which bound indices hang together in them."""

from __future__ import annotations

from collections.abc import Iterable

from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom
from loopgrad.simplify.algebra.quotients import Powers


def free_in(powers: Powers) -> set[str]:
    return {i for a in powers for i in a.free}


def joined(atoms: Powers, more: Iterable[tuple[Atom, nf.Number]]) -> Powers:
    result = dict(atoms)
    for atom, p in more:
        result[atom] = result.get(atom, 0) + p
    return result


def connected(indices: list[str], powers: Powers) -> list[list[str]]:
    """Bound indices in groups that share atoms."""
    groups = [{i} for i in indices]
    for atom in powers:
        touched = [g for g in groups if g & atom.free]
        if len(touched) > 1:
            merged = set().union(*touched)
            groups = [g for g in groups if g not in touched] + [merged]
    return [sorted(g) for g in sorted(groups, key=min)]
