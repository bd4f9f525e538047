"""Products whose images are so small that all are in one (`schedule/products/joining.py`): sizes tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from loopgrad.analysis.facts import Facts
from loopgrad.backends.llvm.calling.savings import contracts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Read

# Places of an image up to which it is small, and elements of the other side, which each image would read
# anew, from which on that counts.
SMALL_IMAGE, LARGE_SIDE = 64, 1 << 11
# Columns of a run that fill no register.
SHORT_RUN = 12


@dataclass(frozen=True, slots=True)
class Images:
    """Of what a product writes the extents of axes that tell images apart, and those of an image's places;
    and the extents of the other side. most: of places, where images are small.
    """

    target: str
    images: tuple[Expression, ...]
    places: tuple[Expression, ...]
    other: tuple[Expression, ...]
    most: int = SMALL_IMAGE

    def are_small(self, sizes: Mapping[str, int | float]) -> bool:
        from loopgrad.backends.formulas import FormulaError, evaluate

        try:
            images, places, other = (
                prod(evaluate(extent, sizes) for extent in group)
                for group in (self.images, self.places, self.other)
            )
        except (KeyError, FormulaError):  # not all of them are told
            return False
        return images > 1 and 0 < places <= self.most and other >= LARGE_SIDE


def images(facts: Facts) -> tuple[Images, ...]:
    """Of a program: the products of which several matrices have one side in common."""
    found: dict[Images, None] = {}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and contracts(statement):
            found.update((one, None) for one in _images(statement, facts))
    return tuple(found)


def _images(statement: Accumulate, facts: Facts) -> Iterator[Images]:
    """By the side that has the first axis; or where that has no images, by the one that has the last."""
    ends = [
        next((axis for axis in axes if axis), frozenset()) for axes in _both_ways(statement.target)
    ]
    limits = (SMALL_IMAGE, SHORT_RUN)
    found = (_of_side(statement, facts, *one) for one in zip(ends, limits, strict=True))
    yield from filter(None, [next(filter(None, found), None)])


def _both_ways(target: Read) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    axes = [*map(walk.indices_of, target.subscripts)]
    return axes, axes[::-1]


def _of_side(statement: Accumulate, facts: Facts, axis: frozenset[str], most: int) -> Images | None:
    from loopgrad.schedule.sums.sides import factors

    target, parts = statement.target, list(factors(statement.value))
    axes = [walk.indices_of(subscript) for subscript in target.subscripts]
    own = frozenset().union(*(walk.indices_of(f) for f in parts if axis & walk.indices_of(f)))
    others = [f for f in parts if walk.indices_of(f) and not axis & walk.indices_of(f)]
    other = frozenset().union(*map(walk.indices_of, others))
    rows = [i for i, axis in enumerate(axes) if axis & other - own and not axis & own - other]
    if not rows or not own:
        return None
    extents = facts.tensors[target.tensor].extents
    alone = [i for i, axis in enumerate(axes) if axis & own - other]
    before, behind = [i for i in alone if i < rows[-1]], [i for i in alone if i > rows[-1]]
    if len(behind) > 1 and _are_apart(target, behind, parts):
        before, behind, most = [*before, *behind[:-1]], behind[-1:], SHORT_RUN
    sides = [facts.tensors[r.tensor].extents for f in others for r in walk.reads(f)]
    if not (before and behind and sides):
        return None
    told, places = (tuple(extents[i] for i in group) for group in (before, behind))
    return Images(target.tensor, told, places, max(sides, key=len), most)


def _are_apart(target: Read, axes: Sequence[int], parts: Sequence[Expression]) -> bool:
    """Does the factor that has these axes hold them elsewhere than side by side, as they are? Not one of
    windows, which is packed place by place in any case."""
    wanted, count = tuple(target.subscripts[axis] for axis in axes), len(axes)
    summed = frozenset().union(*map(walk.indices_of, parts)) - walk.indices_of(target)
    for part in parts:
        match part:
            case Read(_, own) if all(walk.indices_of(s) <= walk.indices_of(part) for s in wanted):
                sliding = (
                    s for s in own if not isinstance(s, Index) and summed & walk.indices_of(s)
                )
                if not any(True for _ in sliding):
                    return not any(own[i : i + count] == wanted for i in range(len(own)))
    return False
