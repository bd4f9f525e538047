"""Products whose rows have columns of their own, `C[i,j] += A[i,k] * B[j,k]` for `j <= i`.

    for i, j <= i, k:  C.rows[i,j] += A[i,k] * B[j,k]
    for i, j <= i:     C[i,j]      += C.rows[i,j]

Nobody else sees the rows, so a block of them is one product over all columns that any of them has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from loopgrad.ir.nodes import Accumulate, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line


def by_way_of_rows(lines: Iterable[Line], context: Context) -> Iterator[Line]:
    """The lines, those of such products in two parts."""
    for line in lines:
        r, target = line.roles, line.target
        ends = frozenset().union(*(line.bound_by[i] for i in r.n)) if r else frozenset()
        if r is None or r.runs or ends.isdisjoint(r.m) or target.tensor in context.whole:
            yield line
            continue
        name = context.temporary(f"{target.tensor}.rows", context.tensors[target.tensor].extents)
        context.whole.add(name)
        rows = Read(name, target.subscripts)
        sums = replace(line.statement, target=rows, reduction=Reduction.ADD)
        yield replace(line, statement=sums, first=True)
        ranges = tuple(each for each in line.statement.ranges if each.index in line.kept)
        yield Line(Accumulate(target, line.statement.reduction, rows, ranges), first=line.first)
