"""Several rows at a time, where what they add to is loaded and stored for each of them.

    for b: for j vector:  s[j] += x[b,j]

loads and stores s as often as it reads x. With four rows in one loop over j it does so once for all
four: the body is there for the indices `b`, `b+1`, `b+2`, `b+3`, and only the last stores.

Where a phase touches more than caches hold, rows of SHORTEST to PAGE bytes run one by one all the same:
some processors read ahead only where a page is read in its order, and then a row at a time takes half as
long. Shorter rows take longer to begin than to read; of longer ones each has pages of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from loopgrad.backends.llvm.fused.sizes import computed, size
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Read, Reduction
from loopgrad.schedule.tree import Mark, Node, Over, Step

ROWS = 4
SHORTEST, PAGE = 1 << 9, 1 << 12
_FEWER = 2  # where something else is done to the rows
_LARGE = 48  # parts of the expressions of all rows, subscripts left out


def rows(loop: Over) -> int:
    """How many rows of the loop share one loop over the columns; 1 where they may not, or gain nothing."""
    match loop.body:
        case (Over(column, lower, upper, body, Mark.VECTOR),):
            pass
        case _:
            return 1
    steps = [node for node in body if isinstance(node, Step)]
    fixed = loop.index not in walk.indices_of(lower) | walk.indices_of(upper)
    if len(steps) < len(body) or not fixed or loop.descending or not _may(loop, steps):
        return 1
    sums = [_adds(step, loop.index, column) for step in steps]
    values = [step.statement.value for step in steps]
    if not any(sums) or any(slow for _, slow in map(size, values)):
        return 1
    parts = sum(map(computed, values))
    wanted = (ROWS, _FEWER) if all(sums) else (_FEWER,)
    return next((count for count in wanted if parts * count <= _LARGE), 1)


def _may(loop: Over, steps: Collection[Step]) -> bool:
    """Iterations that threads may share have no order, nor have those that only accumulate."""
    written = {step.statement.target.tensor for step in steps}
    alone = all(
        loop.index not in _indices(step.statement.target.subscripts)
        and step.statement.reduction is not Reduction.SET
        and not step.first
        and written.isdisjoint(read.tensor for read in walk.statement_reads(step.statement))
        for step in steps
    )
    return loop.mark is Mark.PARALLEL or alone


def _adds(step: Step, row: str, column: str) -> bool:
    """Does it accumulate down columns?"""
    statement = step.statement
    kept = _indices(statement.target.subscripts)
    plain = statement.guard is None and not step.first and statement.target not in step.unproved
    return plain and column in kept and row not in kept


def _indices(expressions: Collection[Expression]) -> frozenset[str]:
    return frozenset().union(*map(walk.indices_of, expressions))


def names(index: str, count: int) -> list[str]:
    """The indices of the rows."""
    return [index, *(f"{index}+{row}" for row in range(1, count))]


def jammed(loop: Over, count: int) -> tuple[Node, ...]:
    """The loop's body for that many rows."""
    (inner,) = loop.body
    assert isinstance(inner, Over)
    body = [_moved(n, loop.index, name) for name in names(loop.index, count) for n in inner.body]
    return (replace(inner, body=tuple(body)),)


def _moved(node: Node, index: str, name: str) -> Step:
    assert isinstance(node, Step)
    at = {index: Index(name)}

    def change(expression: Expression) -> Expression:
        return walk.substitute(expression, at)

    statement = walk.map_statement(node.statement, change)
    assert isinstance(statement, Accumulate)
    unproved = tuple(r for r in map(change, node.unproved) if isinstance(r, Read))
    return replace(node, statement=statement, unproved=unproved)
