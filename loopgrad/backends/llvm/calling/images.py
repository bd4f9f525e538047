"""Products whose images are so small that all are in one (`schedule/products/joining.py`): sizes tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from loopgrad.analysis.facts import Facts
from loopgrad.backends.llvm.calling.savings import contracts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression

# Places of an image up to which it is small, and elements of the other side, which each image would read
# anew, from which on that counts.
SMALL_IMAGE, LARGE_SIDE = 64, 1 << 11


@dataclass(frozen=True, slots=True)
class Images:
    """Of what a product writes the extents of axes that tell images apart, and those of an image's places;
    and the extents of the other side.
    """

    target: str
    images: tuple[Expression, ...]
    places: tuple[Expression, ...]
    other: tuple[Expression, ...]

    def are_small(self, sizes: Mapping[str, int | float]) -> bool:
        from loopgrad.backends.formulas import FormulaError, evaluate

        try:
            images, places, other = (
                prod(evaluate(extent, sizes) for extent in group)
                for group in (self.images, self.places, self.other)
            )
        except (KeyError, FormulaError):  # not all of them are told
            return False
        return images > 1 and 0 < places <= SMALL_IMAGE and other >= LARGE_SIDE


def images(facts: Facts) -> tuple[Images, ...]:
    """Of a program: the products of which several matrices have one side in common."""
    found: dict[Images, None] = {}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and contracts(statement):
            found.update((one, None) for one in _images(statement, facts))
    return tuple(found)


def _images(statement: Accumulate, facts: Facts) -> Iterator[Images]:
    from loopgrad.schedule.sums.sides import factors

    target, parts = statement.target, list(factors(statement.value))
    axes = [walk.indices_of(subscript) for subscript in target.subscripts]
    first = next((axis for axis in axes if axis), frozenset())
    own = frozenset().union(*(walk.indices_of(f) for f in parts if first & walk.indices_of(f)))
    others = [f for f in parts if walk.indices_of(f) and not first & walk.indices_of(f)]
    other = frozenset().union(*map(walk.indices_of, others))
    rows = [i for i, axis in enumerate(axes) if axis & other - own and not axis & own - other]
    if not rows or not own:
        return
    extents = facts.tensors[target.tensor].extents
    alone = [i for i, axis in enumerate(axes) if axis & own - other]
    before, behind = [i for i in alone if i < rows[-1]], [i for i in alone if i > rows[-1]]
    sides = [facts.tensors[r.tensor].extents for f in others for r in walk.reads(f)]
    if before and behind and sides:
        told, places = (tuple(extents[i] for i in group) for group in (before, behind))
        yield Images(target.tensor, told, places, max(sides, key=len))
