"""Loops over all elements of a tensor."""

from __future__ import annotations

from collections.abc import Sequence, Set

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Expression, Extent, Range
from loopgrad.ir.operations import RESERVED
from loopgrad.ir.walk import ZERO


def loops_over(
    facts: Facts, extents: Sequence[Expression], others: Set[str] = frozenset()
) -> tuple[Range, ...]:
    """Loops whose indices are named after the extents, and otherwise than anything else (or `others`)."""
    taken = {*facts.tensors, *facts.extents, *facts.constants, *others}
    found: list[Range] = []
    for extent in extents:
        name = extent.name.lower() if isinstance(extent, Extent) else "i"
        if name in RESERVED or not name.rstrip("'").isidentifier():
            name = "i"
        while name in taken:
            name += "'"
        taken.add(name)
        found.append(Range(name, ZERO, extent))
    return tuple(found)
