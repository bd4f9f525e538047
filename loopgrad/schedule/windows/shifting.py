"""What is added at places some way off, or at some places only, taken at every place instead.

    for x < X-2, y < Y-2:  g[x,y+1]   += v[x,y]
    for x < X-2, y < Y-2:  g[x+2,y+1] += v[x,y]

is what each element of g gets, where there is something:

    for x < X, y < Y:  g[x,y] += v[x,y-1] if x < X-2 and 1 <= y < Y-1 else 0
    for x < X, y < Y:  g[x,y] += v[x-2,y-1] if 2 <= x and 1 <= y < Y-1 else 0

So g needs no zeros underneath, and is written once: the backward of a stencil is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from loopgrad.analysis.extents import difference, plus
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.lines import Line, Tensors, bounds_of, is_shifted

SUMS = (Reduction.ADD, Reduction.SUBTRACT)


def spread(statements: Iterable[Accumulate], tensors: Tensors) -> frozenset[str]:
    """The tensors that such statements write, and no others."""
    statements = list(statements)
    writers = Counter(s.target.tensor for s in statements)
    able = Counter(s.target.tensor for s in statements if _is_able(s, tensors))
    return frozenset(name for name, count in able.items() if count == writers[name])


def _is_able(statement: Accumulate, tensors: Tensors) -> bool:
    target = statement.target
    if statement.reduction not in SUMS or not target.subscripts:
        return False
    if tensors[target.tensor].element is not ElementType.FLOAT:
        return False
    indices = [_shifted_index(s) for s in target.subscripts]
    return None not in indices and sorted(map(str, indices)) == sorted(
        r.index for r in statement.ranges
    )


def _shifted_index(subscript: Expression) -> str | None:
    """The index that the subscript is, or is a fixed number away from."""
    match sorted(walk.indices_of(subscript)):
        case [index] if is_shifted(subscript, index) and not any(walk.reads(subscript)):
            return index if difference(subscript, Index(index)) is not None else None
    return None


def everywhere(line: Line, names: Collection[str], tensors: Tensors) -> Line:
    """The line over all of its target, if that is one of the names.

    As it was where it may write little of it, or places that hang on others.
    """
    statement = line.statement
    target = statement.target
    if target.tensor not in names or line.unproved:
        return line
    extents = tensors[target.tensor].extents
    ranges = {r.index: r for r in statement.ranges}
    moved: dict[str, Expression] = {}
    conditions: list[Expression] = []
    own: dict[str, Range] = {}
    for subscript, extent in zip(target.subscripts, extents, strict=True):
        index = _shifted_index(subscript)
        away = None if index is None else difference(subscript, Index(index))
        if index is None or away is None:
            return line
        lower, upper = (plus(b, away) for b in bounds_of(ranges[index]))
        found = _conditions(Index(index), (lower, upper), extent)
        if found is None:
            return line
        conditions += found
        moved[index] = plus(Index(index), -away) if away else Index(index)
        own[index] = Range(index, Number(0), extent)
    if not conditions and target.subscripts == tuple(map(Index, own)):
        return line

    def at_place(e: Expression) -> Expression:
        return walk.substitute(e, moved)

    guard = [] if statement.guard is None else [statement.guard]
    whole = walk.conjunction([*conditions, *map(at_place, guard)])
    value = at_place(statement.value)
    if whole is not None:
        value = Conditional(whole, value, Number(0.0))
    changed = replace(
        statement,
        target=Read(target.tensor, tuple(map(Index, own)), target.span),
        value=value,
        guard=None,
        ranges=tuple(own[r.index] for r in statement.ranges),
    )
    return replace(line, statement=changed)


def _conditions(
    place: Index, bounds: tuple[Expression, Expression], extent: Expression
) -> list[Expression] | None:
    """Which places get something; None where that may be few of all, or hangs on others."""
    first, left = difference(bounds[0], Number(0)), difference(extent, bounds[1])
    if first is None or left is None:
        return None
    edges = (
        (walk.compare(">=", place, bounds[0]), first),
        (walk.compare("<", place, bounds[1]), left),
    )
    return [condition for condition, places in edges if places > 0]
