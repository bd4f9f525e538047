"""The order in which a product is summed: `sum[j,k](a[i,j] * b[j,k] * c[k])` takes two steps of two
loops, not one of three.

Greedy, one index at a time, the one whose sum has fewest loops first; as in `opt_einsum`'s greedy path
(Smith, Gray 2018), with every extent taken to be of one size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom

Powers = Mapping[Atom, nf.Number]
SUMMED = ("read", "function", "sum", "name", "index", "indicator")  # no delta


@dataclass(frozen=True)
class Step:
    """Sum the atoms over the index first; what is left has the other indices, `free`."""

    index: str
    atoms: dict[Atom, nf.Number]
    free: frozenset[str]


def first_step(
    bound: nf.Bound, powers: Powers, over: Collection[str], around: Collection[str] = ()
) -> Step | None:
    """The index to sum over first, where that makes fewer loops than all at once.

    bound: the indices that are summed over; over: those of the target; around: those of blocks, at
    each turn of which it is summed.
    """
    loops = len({*over, *(i for i, _ in bound)})
    steps = [
        s for s in (_step(i, powers, around) for i, _ in bound) if s and len(s.free) + 1 < loops
    ]
    rest = set(over) | {i for a in powers for i in a.free}
    steps = [s for s in steps if s.free < rest - {s.index}]
    return min(steps, key=_rank) if len(bound) > 1 and steps else None


def _step(index: str, powers: Powers, around: Collection[str]) -> Step | None:
    atoms = {a: p for a, p in powers.items() if index in a.free}
    if len(atoms) == len(powers) or any(a.kind not in SUMMED for a in atoms):
        return None
    return Step(index, atoms, frozenset().union(around, *(a.free for a in atoms)) - {index})


def _rank(step: Step) -> tuple[int, int, str]:
    return len(step.free), len(step.atoms), "*".join(sorted(a.shape for a in step.atoms))
