"""A claim's statements against those that are right, tensor by tensor, by what each adds.

The contributions of a tensor's statements, claimed and right, are cancelled in pairs, then one against
the sum of several. What is left over holds the faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.checking.pieces import ADDITIVE, Fault, Piece, Place, Vector, contribution, whole
from loopgrad.checking.trials import LEAST, differing
from loopgrad.simplify.numbers.evaluate import GREATEST
from loopgrad.simplify.numbers.floats import array

ROUNDINGS = 1e-9  # of a tensor's largest number
MOST_SUMMED = 8  # statements of which sums are tried


@dataclass(frozen=True)
class Entry:
    """A statement and what it adds, in all trials behind one another; None where it cannot be run."""

    piece: Piece
    adds: Vector | None
    fault: Fault | None = None


@dataclass(frozen=True)
class Balance:
    """One tensor: what is left over of the claim's statements and of the right ones.

    total: what all statements together ought to add, in all trials, of `sizes` numbers each. scale:
    how large they are. is_sum: false where the statements are no sum, so that only all of them
    together can be compared.
    """

    tensor: str
    claimed: tuple[Entry, ...]
    left: tuple[Entry, ...]
    missing: tuple[Entry, ...]
    total: Vector
    scale: float
    sizes: tuple[int, ...] = ()
    is_sum: bool = True

    def same(self, one: Vector, other: Vector) -> bool:
        return not differing(one, other, self.scale).any()

    def residual(self, entry: Entry) -> Vector | None:
        """What the statement ought to add if all others are right."""
        others = [e.adds for e in self.claimed if e is not entry]
        known = [o for o in others if o is not None]
        return self.total - np.sum(known, axis=0) if len(known) == len(others) else None


def balance(
    tensor: str,
    claimed: Sequence[Piece],
    right: Sequence[Piece],
    places: Sequence[Place],
    right_places: Sequence[Place],
) -> Balance | None:
    """The tensor's balance; None where the claim's statements add up to what they ought to."""
    values = [place.seen(tensor, array(place.tensors[tensor])) for place in places]
    total = joined(values)
    # The largest integer stands for infinity.
    finite = np.isfinite(total) & (np.abs(total) < float(GREATEST))
    scale = float(np.max(np.abs(total[finite]), initial=LEAST))
    if not claimed:
        return Balance(tensor, (), (), tuple(Entry(p, None) for p in right), total, scale)
    if not all(p.statement.reduction in ADDITIVE for p in (*claimed, *right)):
        return _whole(tensor, claimed, total, scale, places)
    mine = [entry(p, places) for p in claimed]
    theirs = [entry(p, right_places) for p in right]
    for e in (*mine, *theirs):
        if e.adds is not None:
            known = e.adds[np.isfinite(e.adds)]
            scale = max(scale, float(np.max(np.abs(known), initial=0.0)))
    found = Balance(tensor, tuple(mine), (), (), total, scale)
    sums = [e.adds for e in mine if e.adds is not None]
    if len(sums) == len(mine) and found.same(total, np.sum(sums, axis=0)):
        return None
    left, missing = _cancelled(found, mine, theirs)
    sizes = tuple(v.size for v in values)
    return Balance(tensor, tuple(mine), tuple(left), tuple(missing), total, scale, sizes)


def entry(piece: Piece, places: Sequence[Place]) -> Entry:
    try:
        return Entry(piece, joined([contribution(piece, place) for place in places]))
    except Fault as fault:
        return Entry(piece, None, fault)


def joined(values: Sequence[NDArray[Any]]) -> Vector:
    return np.concatenate([np.ravel(v).astype(np.float64) for v in values])


def _whole(
    tensor: str,
    claimed: Sequence[Piece],
    total: Vector,
    scale: float,
    places: Sequence[Place],
) -> Balance | None:
    try:
        made = joined([whole(claimed, place) for place in places])
        fault = None
    except Fault as found:
        made, fault = None, found
    if made is not None and not differing(total, made, scale).any():
        return None
    entries = tuple(Entry(p, None, fault) for p in claimed)
    return Balance(tensor, entries, entries, (), total, scale, is_sum=False)


def _cancelled(
    balance: Balance, mine: list[Entry], theirs: list[Entry]
) -> tuple[list[Entry], list[Entry]]:
    left, missing = list(mine), [e for e in theirs if e.adds is not None]
    for one in mine:
        pair = next((o for o in missing if _same(balance, one, o)), None)
        if pair is not None:
            left.remove(one)
            missing.remove(pair)
    for one in list(left):
        for several in _subsets(missing):
            if one.adds is not None and balance.same(one.adds, _sum(several)):
                left.remove(one)
                missing = [e for e in missing if e not in several]
                break
    for other in list(missing):
        for several in _subsets([e for e in left if e.adds is not None]):
            if balance.same(other.adds, _sum(several)):  # type: ignore[arg-type]
                missing.remove(other)
                left = [e for e in left if e not in several]
                break
    # Right statements that cancel one another, or add nothing, are nothing that is missing.
    missing = [e for e in missing if not nothing(e.adds, balance.scale)]
    return left, missing


def nothing(adds: Vector | None, scale: float) -> bool:
    """Are they all zeros, roundings aside?"""
    known = np.zeros(0) if adds is None else np.nan_to_num(adds)
    return bool(np.abs(known).max(initial=0.0) <= ROUNDINGS * scale)


def _same(balance: Balance, one: Entry, other: Entry) -> bool:
    if one.adds is None or other.adds is None:
        return False
    return balance.same(other.adds, one.adds)


def _subsets(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    if len(entries) <= MOST_SUMMED:
        for count in range(2, len(entries) + 1):
            yield from combinations(entries, count)


def _sum(entries: Sequence[Entry]) -> Vector:
    total: Vector = np.sum([e.adds for e in entries if e.adds is not None], axis=0)
    return total


def goals(balance: Balance, one: Entry) -> Iterator[tuple[Vector, tuple[Entry, ...]]]:
    """What the statement may have to add, and which right statements that stands for."""
    residual = balance.residual(one)
    if residual is not None:
        yield residual, balance.missing
    for other in balance.missing:
        yield other.adds, (other,)  # type: ignore[misc]
    for several in _subsets(balance.missing):
        yield _sum(several), several
