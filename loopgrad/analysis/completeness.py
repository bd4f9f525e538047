"""The rules of order: a tensor is complete before it is read, and `=` writes once, and first.

Both ask whether two accesses of one element can happen in the wrong order. The wrong orders are
listed case by case, and each case is given to the prover.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from loopgrad.analysis.accesses import Access, Turn, second
from loopgrad.analysis.polynomial import Polynomial, atom, shift, subtract
from loopgrad.analysis.prover import Prover
from loopgrad.analysis.terms import AtLeastZero, Formula, IsZero, Terms
from loopgrad.ir.nodes import Reduction


def never_changed_after(read: Access, write: Access, prover: Prover) -> bool:
    """Proved: `write` changes no element at or after a time at which `read` reads it."""
    if ordered_at_sight(read, write):
        return True
    return _never_meet(read, write, prover, later(read, write, prover.terms))


def set_at_most_once(one: Access, other: Access, prover: Prover) -> bool:
    """Proved: the two `=` (perhaps the same) write no element twice."""
    if one is other:
        if _has_every_index(one):
            return True
        return _never_meet(one, one, prover, different_iterations(one, prover.terms))
    if apart_at_sight(one, other):
        return True
    return _never_meet(one, other, prover, iter(((),)))


# ------------------------------------------------------------------------------------- at a glance


def ordered_at_sight(read: Access, write: Access) -> bool:
    """Whether places and distances alone show that the write is earlier, or of another element."""
    for read_step, write_step in zip(read.time, write.time, strict=False):
        if isinstance(read_step, Turn) and read_step == write_step:
            distance = _distance(read, write, read_step)
            if distance is None:
                return apart_at_sight(read, write)
            if distance:
                return distance < 0 or apart_at_sight(read, write)
        elif read_step != write_step:
            assert isinstance(read_step, int) and isinstance(write_step, int)
            return write_step < read_step or apart_at_sight(read, write)
    return apart_at_sight(read, write)


def _distance(read: Access, write: Access, turn: Turn) -> int | None:
    """How many turns after the read the write of the same element is, where some axis tells."""
    for r, w in zip(read.offsets, write.offsets, strict=True):
        if r and w and r[0] == w[0] == turn.index:
            return w[1] - r[1] if turn.descending else r[1] - w[1]
    return None


def apart_at_sight(one: Access, other: Access) -> bool:
    """Whether two different numbers stand on one axis."""
    return any(
        a and b and a[0] is b[0] is None and a[1] != b[1]
        for a, b in zip(one.offsets, other.offsets, strict=True)
    )


def _has_every_index(write: Access) -> bool:
    """Whether each index stands on an axis of its own: no two iterations write one element."""
    found = {offset[0] for offset in write.offsets if offset}
    return all(r.index in found for r in write.ranges)


# --------------------------------------------------------------------------------------- by proof


def _never_meet(
    one: Access, other: Access, prover: Prover, cases: Iterator[tuple[Formula, ...]]
) -> bool:
    terms = prover.terms
    if prover.exhausted:
        return False
    others, places = other.renamed(terms)
    formulas = [*one.formulas(terms), *others]
    for a, b in zip(one.subscripts(terms), places, strict=True):
        if terms.is_real(a) or terms.is_real(b):
            return False
        formulas.append(IsZero(subtract(a, b)))
    return all(prover.impossible([*case, *formulas]) for case in cases)


def later(read: Access, write: Access, terms: Terms) -> Iterator[tuple[Formula, ...]]:
    """The cases in which the write (of the second iteration) is not before the read."""
    same: list[Formula] = []
    for read_step, write_step in zip_longest(read.time, write.time):
        if isinstance(read_step, Turn) and read_step == write_step:
            first, other = _pair(read_step.index, terms)
            ahead = subtract(first, other) if read_step.descending else subtract(other, first)
            yield (*same, AtLeastZero(shift(ahead, -1)))
            same.append(IsZero(ahead))
        elif read_step != write_step:
            # A read in a block's bounds comes before all that is in the block.
            if read_step is None or (
                isinstance(read_step, int)
                and isinstance(write_step, int)
                and write_step > read_step
            ):
                yield tuple(same)
            return
    yield tuple(same)


def different_iterations(write: Access, terms: Terms) -> Iterator[tuple[Formula, ...]]:
    """The cases of two iterations that differ, the one with the lesser first index first."""
    same: list[Formula] = []
    for r in write.ranges:
        first, other = _pair(r.index, terms)
        ahead = subtract(other, first)
        yield (*same, AtLeastZero(shift(ahead, -1)))
        same.append(IsZero(ahead))


def _pair(index: str, terms: Terms) -> tuple[Polynomial, Polynomial]:
    return atom(terms.variable("index", index)), atom(terms.variable("index", second(index)))


def is_set(write: Access) -> bool:
    return write.reduction is Reduction.SET
