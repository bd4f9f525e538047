"""The values that accumulations start from."""

from __future__ import annotations

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Reduction
from loopgrad.ir.operations import ElementType

# What an accumulation starts from: a floating one, and one of integers.
_IDENTITIES: dict[Reduction, tuple[float, int]] = {
    Reduction.ADD: (0.0, 0),
    Reduction.SUBTRACT: (0.0, 0),
    Reduction.MULTIPLY: (1.0, 1),
    Reduction.MAXIMUM: (float("-inf"), -(2**63)),
    Reduction.MINIMUM: (float("inf"), 2**63 - 1),
    Reduction.SET: (0.0, 0),
}


def identity(reduction: Reduction, element: ElementType) -> Expression:
    real, integer = _IDENTITIES[reduction]
    return walk.number(real if element is ElementType.FLOAT else integer)
