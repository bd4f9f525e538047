"""Rows that several threads share: the values of a loop around, and of each a part of its blocks.

    for h < H parallel:
        for t < T in blocks of 48 parallel:  y[h,t,e] = ...;  k.grad[h,u,d] += ...

Threads get contiguous parts of all blocks, counted through the rows. Of `y` each block has elements of its
own. Of `k.grad`, which all blocks of a row add to, a thread that goes on with a row has a copy, of
that row: it goes on with one at most, its first.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Bounds, Line
from loopgrad.schedule.tree import ZERO, Blocks, Mark, Node, Pack, Product, Shares, steps

Split = Mapping[str, Mapping[int, str]]


def shared_blocks(
    body: tuple[Node, ...],
    lines: Sequence[Line],
    copied: Container[str],
    rows: Mapping[str, Bounds],
) -> tuple[tuple[Node, ...], Split]:
    """What threads share the values around of, with blocks that they share as well; and what they add
    to for a row together, with the axes of it that `rows` go over.

    Behind nothing but what is packed, and what sums begin with, which a thread that has some of the blocks
    does for itself. Where that cannot be, the body as it is.
    """
    unchanged: tuple[tuple[Node, ...], Split] = body, {}
    match body:
        case (*before, Blocks(index, lower, upper, size, mark=Mark.SEQUENTIAL) as blocks):
            bounds = [e for e in (lower, upper, size) if isinstance(e, Expression)]
            if size is None or not all(map(walk.is_fixed, bounds)):
                return unchanged
            owned = [line for line in lines if line.written.axis_of(index) is not None]
            sums = [line for line in lines if line.written.axis_of(index) is None]
            split = _axes(sums, index, rows)
            used = {line.written.tensor for line in owned}
            used |= {one.tensor for line in lines for one in line.read}
            if split is None or used & {*split} or any(x.written.tensor in copied for x in lines):
                return unchanged
            begin = [node for node in before if not isinstance(node, Pack)]
            if _written(begin) != {*split}:
                return unchanged
            shares = growing(lines, index)
            return (*before, replace(blocks, mark=Mark.PARALLEL, shares=shares)), split
    return unchanged


def _axes(sums: Sequence[Line], index: str, rows: Mapping[str, Bounds]) -> Split | None:
    """The axes of what is added up over the index that the rows' indices go over; None where no copy of a
    row can be.
    """
    if sums and not all(a == ZERO and walk.is_fixed(b) for a, b in rows.values()):
        return None
    found: dict[str, Mapping[int, str]] = {}
    for line in sums:
        written = line.written
        axes = {written.axis_of(i): i for i in rows}
        if not (_adds_up(line, index) or _begins(line, sums)):
            return None
        if None in axes or len(written.axes) - 1 in axes:
            return None
        known = {axis: i for axis, i in axes.items() if axis is not None}
        if found.setdefault(written.tensor, known) != known:
            return None
    return found


def _adds_up(line: Line, index: str) -> bool:
    real = line.statement.reduction is not Reduction.SET and not line.integral
    return real and index in line.reduced


def _begins(line: Line, sums: Sequence[Line]) -> bool:
    """Does it write what changes nothing of what others add up?"""
    tensor, statement = line.written.tensor, line.statement
    others = [x.statement.reduction for x in sums if x is not line and x.written.tensor == tensor]
    starts = {identity(reduction, ElementType.FLOAT) for reduction in others}
    plain = statement.reduction is Reduction.SET and statement.guard is None and line.first
    return plain and starts == {statement.value}


def _written(nodes: Sequence[Node]) -> set[str]:
    found = steps(tuple(nodes))
    return {x.target.tensor if isinstance(x, Product) else x.statement.target.tensor for x in found}


def growing(lines: Sequence[Line], index: str) -> Shares:
    """Are the heaviest lines' rows longer, all of them, the larger the index is: `u <= t`?"""
    heaviest = max(line.weight for line in lines)
    hanging = [
        tuple(index in walk.indices_of(bound) for bound in line.bounds[i])
        for line in lines
        for i, others in line.bound_by.items()
        if line.weight == heaviest and index in others
    ]
    grows = bool(hanging) and set(hanging) == {(False, True)}
    return Shares.GROWING if grows else Shares.EVEN
