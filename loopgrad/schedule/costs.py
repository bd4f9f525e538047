"""What expressions cost, in additions."""

from __future__ import annotations

from loopgrad.ir import walk
from loopgrad.ir.memo import by_identity
from loopgrad.ir.nodes import Apply, Expression, Read

# From here on an expression has functions in it, so that lanes pay where memory alone would not have them.
FUNCTION = 10

# Operations without a row are worth one addition.
_COSTS = {
    **dict.fromkeys("exp expm1 sigmoid tanh softplus log log1p erf sin cos **".split(), 10),
    **dict.fromkeys("sqrt rsqrt".split(), 6),
    "/": 4,
    "neg": 0,
    "pi": 0,
}


def operation_cost(operation: str) -> int:
    return _COSTS.get(operation, 1)


@by_identity
def cost(expression: Expression) -> int:
    """Of one evaluation. Subscripts cost nothing: addresses are computed beside the values."""
    total, stack = 0, [expression]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply):
            total += operation_cost(node.operation)
        if not isinstance(node, Read):
            stack.extend(walk.children(node))
    return total
