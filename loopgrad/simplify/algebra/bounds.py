"""Conditions as bounds of ranges: where `u <= t` holds, the loop over u ends at t."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loopgrad.ir.nodes import Expression, Index
from loopgrad.ir.walk import apply
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import AT_LEAST, Atom
from loopgrad.simplify.algebra.conditions import form_of
from loopgrad.simplify.algebra.integers import (
    Linear,
    combined,
    expression_of,
    indices_in,
    linear,
    not_negative,
    shifted,
)


@dataclass
class Bounds:
    """Lower bounds, and exclusive upper ones, of an index."""

    lower: list[Linear] = field(default_factory=list)
    upper: list[Linear] = field(default_factory=list)


def is_bound(
    condition: Atom,
    loops: Mapping[str, str],
    around: Mapping[str, Expression],
    written: Collection[str],
) -> bool:
    """Can it be a bound of a loop: one that is within the axis, or was written as a bound?

    loops, around: the extents of the indices of the loops, and of the blocks around them.
    """
    extents = _extents(loops, around)
    return any(_bound(condition, i, extents, written) for i in condition.free & set(loops))


def _extents(
    loops: Mapping[str, str], around: Mapping[str, Expression]
) -> Mapping[str, Expression]:
    return {**around, **{i: nf.extent_expression(e) for i, e in loops.items()}}


def _bound(
    condition: Atom, index: str, extents: Mapping[str, Expression], written: Collection[str]
) -> tuple[bool, Linear] | None:
    """Is it a lower bound of the index, and which; None where it is none."""
    if condition.name != AT_LEAST:
        return None
    form = form_of(condition)
    multiple = form.pop(Index(index), 0)
    if multiple not in (1, -1) or index in indices_in(form):
        return None
    if multiple > 0:
        bound = combined({}, form, -1)
        inside = not_negative(bound, extents)
    else:
        bound = shifted(form, 1)
        inside = not_negative(combined(linear(extents[index]), bound, -1), extents)
    return (multiple > 0, bound) if inside or condition.shape in written else None


def ranges_of(
    order: Sequence[str],
    loops: Mapping[str, str],
    conditions: Iterable[Atom],
    around: Mapping[str, Expression],
    written: Collection[str],
) -> tuple[list[tuple[str, Expression, Expression]], list[Atom]]:
    """Index, lower and upper bound of each loop; and the conditions that are no bounds of these."""
    found = {index: Bounds() for index in order}
    left: list[Atom] = []
    extents = _extents(loops, around)
    for condition in conditions:
        inside = [i for i in order if i in condition.free]
        bound = _bound(condition, inside[-1], extents, written) if inside else None
        if bound is None:
            left.append(condition)
        else:
            below, form = bound
            (found[inside[-1]].lower if below else found[inside[-1]].upper).append(form)
    ranges = []
    for index in order:
        bounds = found[index]
        lowers = bounds.lower
        if not any(not_negative(form, extents) for form in lowers):
            lowers = [{}, *lowers]
        lower = _chain("max", lowers)
        upper = _chain("min", bounds.upper) if bounds.upper else extents[index]
        ranges.append((index, lower, upper))
    return ranges, left


def _chain(operation: str, forms: Sequence[Linear]) -> Expression:
    first, *rest = [expression_of(f) for f in forms]
    for other in rest:
        first = apply(operation, first, other)
    return first
