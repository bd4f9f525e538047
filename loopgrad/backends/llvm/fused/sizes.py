"""How much code loops are: what decides how many copies of a body there are."""

from __future__ import annotations

from loopgrad.ir import walk
from loopgrad.ir.memo import by_identity
from loopgrad.ir.nodes import Apply, Expression, Number, Read
from loopgrad.schedule import Phase
from loopgrad.schedule.tree import Fused, Over, Product, Step, steps

SLOW = frozenset("exp log log1p expm1 tanh sigmoid softplus erf sin cos **".split())
FEW = (1, 2, 3, 4)  # exponents that stand for one or two multiplications

# Enough to hide how long one takes behind the next; more copies of large bodies would gain nothing.
_COPIES = 4
_LARGE = 24  # parts of the expressions of a body

# In parts of an expression: what the call of a product comes to, with all that it is told; functions.
_CALL, _FUNCTION = 30, 20


def size(expression: Expression | None) -> tuple[int, bool]:
    """How many parts it has, and whether one of them takes long."""
    return (0, False) if expression is None else _size(expression)


@by_identity
def _size(expression: Expression) -> tuple[int, bool]:
    nodes = tuple(walk.subexpressions(expression))
    return len(nodes), any(map(_is_slow, nodes))


def computed(expression: Expression) -> int:
    """How many parts are computed and loaded; addresses are often the same as others', but for a number."""
    children = () if isinstance(expression, Read) else walk.children(expression)
    return 1 + sum(map(computed, children))


def _is_slow(expression: Expression) -> bool:
    match expression:
        case Apply("**", (_, Number(exponent))):
            return exponent not in FEW
        case Apply(operation):
            return operation in SLOW
    return False


def length(phase: Phase) -> int:
    """Which of two phases has more code, at a guess: of loops that LLVM makes vectors of nothing is said."""
    if not isinstance(phase, Fused):
        return 0
    return sum(_length(step) for step in steps(phase.body))


def _length(step: Step | Product) -> int:
    if not isinstance(step, Step):
        return _CALL
    parts, slow = size(step.statement.value)
    return parts + _FUNCTION * slow


def copies(loop: Over) -> int:
    """How many copies of a vector loop's body run at a time."""
    parts, accumulates = 0, False
    for node in loop.body:
        if not isinstance(node, Step):
            return 1
        statement = node.statement
        kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
        accumulates = accumulates or loop.index not in kept
        for expression in (statement.value, statement.guard, *statement.target.subscripts):
            found, slow = size(expression)
            if slow:
                return 1
            parts += found
    if parts > _LARGE:
        return 1
    return _COPIES if accumulates else _COPIES // 2


def is_short(loop: Over, rows: int = 1) -> bool:
    """Is its body worth being there twice? rows: of how many it is."""
    slow = (size(n.statement.value)[1] for n in loop.body if isinstance(n, Step))
    return all(isinstance(n, Step) for n in loop.body) and sum(slow) <= rows
