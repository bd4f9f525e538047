"""Two indices of maps that always go together become one: `y[b,j] = tanh(x[b,j])` is one loop over B * J.

So rows that are shorter than a vector waste no lanes, and threads share out all there is, however
many rows. Elements of axes next to each other are in memory as those of one axis: an element of the
pair is `x[0,b.j]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Number, Range, Read
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, few_values

SHORT = 16  # values that a vector holds, or more


def merged(lines: Sequence[Line], context: Context) -> Sequence[Line]:
    """The lines with the pairs of indices merged that all have and use alike; or themselves."""
    chosen = {context.choices.parallel, context.choices.vector}
    common = set(lines[0].indices).intersection(*(line.indices for line in lines)) - chosen
    for outer, inner in permutations([i for i in lines[0].indices if i in common], 2):
        if all(_may_merge(line, outer, inner, context) for line in lines):
            name = context.name(f"{outer}.{inner}")
            return merged([_merged(line, outer, inner, name) for line in lines], context)
    return lines


def with_merged_sums(lines: Sequence[Line], context: Context) -> Sequence[Line]:
    """The lines, where sums run over both of two such indices, and share no loop over these with others.

    `m[b,g] += x[b,g,k,n]`: the rows of n are one row, whatever a line does that needs m. Or themselves.
    """
    chosen = {context.choices.parallel, context.choices.vector}
    indices = dict.fromkeys(i for line in lines for i in line.indices if i not in chosen)
    needed = _needed(lines)
    for outer, inner in permutations(indices, 2):
        having = [i for i, line in enumerate(lines) if {outer, inner} & {*line.indices}]
        sums = [i for i in having if _may_merge_sum(lines[i], outer, inner, context)]
        others = [i for i in having if i not in sums]
        if sums and all(i in needed[j] or j in needed[i] for i in sums for j in others):
            name = context.name(f"{outer}.{inner}")
            changed = [
                _merged(line, outer, inner, name) if i in sums else line
                for i, line in enumerate(lines)
            ]
            return with_merged_sums(changed, context)
    return lines


def _needed(lines: Sequence[Line]) -> list[set[int]]:
    """By number, the earlier lines that each needs what they write of, directly or not."""
    found: list[set[int]] = []
    for line in lines:
        own: set[int] = set()
        for i in range(len(found)):
            if any(one.tensor == lines[i].written.tensor for one in line.read):
                own |= {i, *found[i]}
        found.append(own)
    return found


def _may_merge_sum(line: Line, outer: str, inner: str, context: Context) -> bool:
    """Not where all is summed: that is more exact row by row."""
    sums = {outer, inner} <= line.reduced and not line.stands_alone
    return sums and bool(line.kept) and _go_together(line, outer, inner, context)


def _may_merge(line: Line, outer: str, inner: str, context: Context) -> bool:
    if line.reduced and not _sums_over_short(line, outer, inner):
        return False
    return _go_together(line, outer, inner, context)


def _go_together(line: Line, outer: str, inner: str, context: Context) -> bool:
    """Are both always the subscripts of two axes next to each other, of which the inner is whole?"""
    if line.unproved or line.statement.guard is not None:
        return False
    if line.roles is not None:
        return False  # a product goes over as many indices as there are
    if {outer, inner} & line.bounding or line.bound_by[outer] or line.bound_by[inner]:
        return False
    (low, _), (start, extent) = line.bounds[outer], line.bounds[inner]
    if (low, start) != (Number(0), Number(0)):
        return False
    reads = (line.target, *line.reads())
    if not all(_are_beside(read, outer, inner, extent, context) for read in reads):
        return False
    return not _stands_alone(line.statement.value, {outer, inner})


def _sums_over_short(line: Line, outer: str, inner: str) -> bool:
    """Does it sum over both, of which the inner one alone fills no vector?"""
    return {outer, inner} <= line.reduced and 0 < few_values(line, inner) < SHORT


def _are_beside(read: Read, outer: str, inner: str, extent: Expression, context: Context) -> bool:
    both = {outer, inner}
    with_either = [i for i, s in enumerate(read.subscripts) if walk.indices_of(s) & both]
    if not with_either:
        return True
    if len(with_either) != 2 or with_either[1] != with_either[0] + 1:
        return False
    first, second = with_either
    alone = (read.subscripts[first], read.subscripts[second]) == (Index(outer), Index(inner))
    return alone and context.tensors[read.tensor].extents[second] == extent


def _stands_alone(expression: Expression, indices: set[str]) -> bool:
    """Is one of them used as a number, outside of subscripts?"""
    if isinstance(expression, Read):
        return False
    if isinstance(expression, Index):
        return expression.name in indices
    return any(_stands_alone(child, indices) for child in walk.children(expression))


def _merged(line: Line, outer: str, inner: str, name: str) -> Line:
    def changed(expression: Expression) -> Expression:
        match expression:
            case Read(tensor, subscripts):
                found = tuple(map(_place, subscripts))
                return expression if found == subscripts else Read(tensor, found)
        return walk.rebuild(expression, changed)

    def _place(subscript: Expression) -> Expression:
        if subscript == Index(outer):
            return Number(0)
        return Index(name) if subscript == Index(inner) else subscript

    statement = line.statement
    count = walk.apply("*", line.bounds[outer][1], line.bounds[inner][1])
    ranges = tuple(
        Range(name, Number(0), count) if r.index == outer else r
        for r in statement.ranges
        if r.index != inner
    )
    target = changed(statement.target)
    assert isinstance(target, Read)
    whole = Accumulate(target, statement.reduction, changed(statement.value), ranges)
    return replace(line, statement=whole)
