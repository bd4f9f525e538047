"""Range checks taken out of the innermost loop, so that it stays one that LLVM vectorises.

A subscript that is linear in the innermost index is in range throughout the loop if it is at the
loop's first and last iteration. Where that holds for all such subscripts, a copy of the loop runs
that does not check them; elsewhere the one that does, and finds the one to blame.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.backends.llvm.literal.expressions import Expressions
from loopgrad.backends.llvm.literal.function import PhaseFunction, Value
from loopgrad.backends.llvm.literal.loops import Bounds
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Read
from loopgrad.schedule import Nest

Check = tuple[Read, int]  # a read or target, and an axis


def hoistable(function: PhaseFunction, nest: Nest, bounds: Bounds) -> list[Check]:
    """The subscripts that would be checked in the innermost loop and can be checked before it."""
    statement, index = nest.statement, nest.loops[-1].index
    safety = function.layout.task.safety
    known = Value("", bounds.lower.element, bounds.bits)
    found: dict[Check, None] = {}
    with function.index(index, known):
        expressions = Expressions(function)
        inside = (statement.guard, *statement.target.subscripts, statement.value)
        reads = (read for expression in inside for read in walk.reads(expression))
        for read in (*reads, statement.target):
            if (nest.number, read) in safety.in_range and not function.layout.variant.checked:
                continue
            for axis, subscript in enumerate(read.subscripts):
                if expressions.is_free(subscript) and _is_linear(subscript, index):
                    found.setdefault((read, axis))
    return list(found)


def all_in_range(function: PhaseFunction, nest: Nest, bounds: Bounds, checks: list[Check]) -> str:
    """The i1 that tells whether the subscripts are in range throughout a loop that runs."""
    body, expressions = function.body, Expressions(function)
    upper = bounds.upper
    last = Value(body.value(f"sub i64 {upper.text}, 1"), upper.element, upper.bits)
    holds = "true"
    for end in (bounds.lower, last):
        with function.index(nest.loops[-1].index, Value(end.text, end.element, bounds.bits)):
            for subscript, extent in _with_extents(function, checks):
                value = expressions.integer(subscript)
                fits = body.value(f"icmp ult i64 {value.text}, {extent}")
                holds = body.value(f"and i1 {holds}, {fits}")
    return holds


def _with_extents(function: PhaseFunction, checks: list[Check]) -> Iterator[tuple[Expression, str]]:
    tensors = function.layout.task.facts.tensors
    distinct = dict.fromkeys((r.subscripts[a], tensors[r.tensor].extents[a]) for r, a in checks)
    for subscript, extent in distinct:
        yield subscript, function.axis_extent(extent)


def _is_linear(subscript: Expression, index: str) -> bool:
    match subscript:
        case Apply("+" | "-" | "neg", operands):
            return all(_is_linear(o, index) for o in operands)
        case Apply("*", (left, right)):
            varying = (left, right) if index in walk.indices_of(left) else (right, left)
            return _is_linear(varying[0], index) and index not in walk.indices_of(varying[1])
        case Apply():
            return False
    return True
