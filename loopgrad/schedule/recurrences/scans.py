"""Recurrences that are linear in their state, as scans: several times at once, in the lanes of a register.

    for b parallel:
        for t scan:  h[b,t] = a[b,t] * h[b,t-1] + x[b,t]

A scan is for a state whose times lie side by side in memory. Where the elements of one time do, lanes go
over these, and the times one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.polynomial import Terms, add, constant_value, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Index, Number
from loopgrad.schedule import Loop
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.lines import Bounds, Line
from loopgrad.schedule.loops.narrowing import MIRRORED, narrowed
from loopgrad.schedule.recurrences.linear import Linear, linear
from loopgrad.schedule.tree import Mark, Over, Step

TRUE, FALSE = Number(1), Number(0)


def scan(lines: Sequence[Line], loops: Sequence[Loop], choices: Choices) -> Over | None:
    """The core of a recurrence as a scan, in loops over its other indices; None where it cannot be one."""
    if len(lines) != 1 or len(loops) != 1 or not choices.scan:
        return None
    (loop,) = loops
    line = narrowed(lines[0])
    if line.reduced or line.integral or line.bounding or loop.index not in line.written.along:
        return None
    if choices.vector not in (None, loop.index) and choices.vector in line.indices:
        return None
    found = _linear(line, loop)
    if found is None:
        return None
    step = Step(replace(line.statement, ranges=(), span=None), line.first, line.unproved)
    lower, upper = line.bounds[loop.index]
    node = Over(loop.index, lower, upper, (step,), Mark.SCAN, loop.descending, found)
    for place, index in reversed([*enumerate(_around(line, loop.index, choices.parallel))]):
        bounds = line.bounds[index]
        # Threads take single values of the first, or pairs of the first two.
        shared = place == 0 or (place == 1 and all(map(walk.is_fixed, bounds)))
        node = Over(index, *bounds, (node,), Mark.PARALLEL if shared else Mark.SEQUENTIAL)
    return node


def _around(line: Line, index: str, wanted: str | None) -> list[str]:
    """The other indices, outermost in memory first; the one that threads are to share before them."""
    axes = {i: axis for axis, here in enumerate(line.written.axes) for i in here}
    others = [i for i in line.indices if i != index]
    return sorted(others, key=lambda i: (i != wanted, axes[i]))


def _linear(line: Line, loop: Loop) -> Linear | None:
    """What a step makes of the one before, but for the first, which runs as it is written."""
    bounds = line.bounds[loop.index]

    def later(expression: Expression) -> Expression:
        return _later(expression, loop, bounds)

    statement = replace(line.statement, value=later(line.statement.value))
    conditions = [later(condition) for condition in walk.conjuncts(statement.guard)]
    conditions = [condition for condition in conditions if condition != TRUE]
    if conditions and line.target in line.unproved:
        return None
    if not all(any(True for _ in walk.reads(condition)) for condition in conditions):
        return None  # it may be what keeps the target in range
    statement = replace(statement, guard=walk.conjunction(conditions))
    return linear(statement, loop.index, loop.descending, line.first)


def _later(expression: Expression, loop: Loop, bounds: Bounds) -> Expression:
    """The expression as it is in all steps but the first, where `t > 0` is known."""

    def changed(e: Expression) -> Expression:
        e = walk.rebuild(e, changed)
        match e:
            case Compare((operator,), operands):
                known = _known(operator, operands, loop, bounds)
                return e if known is None else TRUE if known else FALSE
            case Apply("and", operands) if TRUE in operands:
                return operands[0] if operands[1] == TRUE else operands[1]
            case Apply("not", (operand,)) if operand in (TRUE, FALSE):
                return FALSE if operand == TRUE else TRUE
            case Conditional(condition, then, otherwise) if condition in (TRUE, FALSE):
                return then if condition == TRUE else otherwise
        return e

    return changed(expression)


def _known(
    operator: str, operands: Sequence[Expression], loop: Loop, bounds: Bounds
) -> bool | None:
    """Whether the comparison holds in all steps but the first, or in none; None for neither."""
    left, right = (polynomial(operand) for operand in operands)
    difference = subtract(left, right)
    factor = difference.get((Index(loop.index),), 0)
    if factor not in (1, -1):
        return None
    second = _at(difference, loop, bounds)
    if second is None:
        return None
    # From the second step on it grows or falls. Falling, it is mirrored.
    grows = (factor > 0) != loop.descending
    least = second if grows else -second
    match operator if grows else MIRRORED.get(operator, operator):
        case ">" | "!=" if least > 0:
            return True
        case ">=" if least >= 0:
            return True
        case "==" | "<=" if least > 0:
            return False
        case "<" if least >= 0:
            return False
    return None


def _at(difference: Terms[Expression], loop: Loop, bounds: Bounds) -> int | None:
    """Its value in the second step, where that is a number."""
    lower, upper = bounds
    second = walk.apply("-", upper, Number(2)) if loop.descending else walk.plus_one(lower)
    index = (Index(loop.index),)
    rest = {m: c for m, c in difference.items() if m != index}
    if any(loop.index in walk.indices_of(atom) for monomial in rest for atom in monomial):
        return None
    return constant_value(add(rest, polynomial(second), difference[index]))
