"""Why a recurrence is sequential: the reads that lead from an element to one of a former turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from loopgrad.analysis.accesses import offset_of
from loopgrad.analysis.extents import plus, polynomial, to_expression
from loopgrad.analysis.linear_recurrences import Recurrence
from loopgrad.analysis.rings import statements_of
from loopgrad.cost.cases import TooManyCases, leaves
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Read
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import rebuild, statement_reads, substitute

MOST_WAYS = 5_000

Way = tuple[tuple[Accumulate, Read], ...]  # statements, and what they read of the next one's target


def chain(found: Recurrence) -> str:
    """`h[t] reads a[t] reads h[t-1]`: the way around the ring with the most operations on it."""
    way = _longest(found)
    if not way:
        return ""
    read = way[0][0].target
    shown = [read]
    for statement, next_read in way:
        values = _values(statement.target, read)
        read = Read(next_read.tensor, tuple(_put(s, values) for s in next_read.subscripts))
        shown.append(read)
    return " reads ".join(show_expression(one) for one in shown)


def _longest(found: Recurrence) -> Way:
    writers: dict[str, list[Accumulate]] = {}
    for statement, _ in statements_of(found.block):
        if statement.target.tensor in found.tensors:
            writers.setdefault(statement.target.tensor, []).append(statement)

    def ways(name: str, start: str, seen: frozenset[str]) -> Iterator[tuple[int, Way]]:
        for statement in writers[name]:
            for read in dict.fromkeys(statement_reads(statement)):
                step, height = (statement, read), _height(statement, read)
                if read.tensor == start:
                    yield height, (step,)
                elif read.tensor in writers and read.tensor not in seen:
                    for more, rest in ways(read.tensor, start, seen | {read.tensor}):
                        yield height + more, (step, *rest)

    best: tuple[int, Way] = (0, ())
    for name in reversed(found.tensors):
        for way in islice(ways(name, name, frozenset({name})), MOST_WAYS):
            best = max(best, way, key=lambda w: w[0])
    return best[1]


def _height(statement: Accumulate, read: Read) -> int:
    try:
        heights = [h for case in leaves(statement) for r, h in case.reach if r == read]
    except TooManyCases:
        heights = []
    return 1 + max(heights, default=0)


def _values(target: Read, read: Read) -> dict[str, Expression]:
    """The values of the target's indices at the element that is read."""
    values: dict[str, Expression] = {}
    for written, wanted in zip(target.subscripts, read.subscripts, strict=True):
        match offset_of(written):
            case (str(name), int(more)):
                values[name] = plus(wanted, -more)
    return values


def _put(e: Expression, values: Mapping[str, Expression]) -> Expression:
    def folded(node: Expression) -> Expression:
        node = rebuild(node, folded)
        if isinstance(node, Apply) and node.operation in ("+", "-"):
            return to_expression(polynomial(node))
        return node

    return folded(substitute(e, values))
