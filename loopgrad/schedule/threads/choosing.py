"""Which index threads share, and which lines may run for several of its values at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from loopgrad.ir import walk
from loopgrad.ir.nodes import Index, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import SMALL, Line, affine_indices, few_values, is_shifted, long_axes
from loopgrad.schedule.loops.choosing import depth, not_scattered, vector_index, weight
from loopgrad.schedule.threads.copies import saves_rows

# Sums of which each thread has its own, however little is read for each.
FEW_ELEMENTS = 64


def parallel_index(lines: Sequence[Line], context: Context) -> str | None:
    """The index by which most of the work can be shared out: of several one without copies that are large,
    the outermost in memory.

    The one that a user wants, where it can be; None where there is none.
    """
    wanted = context.choices.parallel
    shares: dict[str, tuple[float, bool, float]] = {}
    for index in dict.fromkeys(i for line in lines for i in line.indices):
        able = [line for line in lines if may_share(line, index, context)]
        if able and not any(line.bound_by.get(index) for line in lines):
            copies = not all(_shares_for_free(line, index, context) for line in able)
            shares[index] = (_shared_work(able, index), copies, depth(able, index))
    if wanted in shares:
        return wanted
    most = max((work for work, *_ in shares.values()), default=0.0)
    good = [index for index, (work, *_) in shares.items() if work >= 0.8 * most]
    return min(good, key=lambda i: shares[i][1:], default=None)


def _shared_work(lines: Sequence[Line], index: str) -> float:
    """Of what the threads do, that which runs in lanes counts in full."""
    vector = vector_index(not_scattered(lines), (index,))
    lanes = (x.roles or vector in x.indices or _has_lanes(x, index) for x in lines)
    if all(0 < few_values(x, index) <= SMALL for x in lines):
        lanes = (False for _ in lines)  # few threads would have a part
    return sum(weight(x) * (1 if fast else 0.1) for x, fast in zip(lines, lanes, strict=True))


def _has_lanes(line: Line, index: str) -> bool:
    """Does it run in lanes of its own, or without any other loop?"""
    return set(line.indices) == {index} or vector_index([line], (index,)) is not None


def may_share(line: Line, index: str, context: Context) -> bool:
    """May threads run the line for different values of the index at the same time?

    Either each value has elements of the target for its own, or each thread adds to a copy of the
    target, if that is small beside what it reads, or would else have to be kept, or there is no other way.
    """
    if index not in line.indices or (line.roles and index in line.roles.n) or line.stands_alone:
        return False
    if _shares_for_free(line, index, context):
        return True
    if index in line.kept:
        return _adds_diagonals(line, index) or _adds_in_groups(line, index)
    if not _may_be_copied(line, context):
        return False
    return _bounds_rows(line, index) or saves_rows(
        line, index, context.choices.copies, context.tensors
    )


def _bounds_rows(line: Line, index: str) -> bool:
    """`y[u,e] += p[t,u] * x[t,e]` for `u <= t`: threads cannot share u outside of t, which bounds it.

    Where both ends do, that of a product alone: else there is too little to add up for each row of a copy.
    """
    ends = (map(walk.indices_of, line.bounds[own]) for own in line.kept)
    counts = {(index in low) + (index in high) for low, high in ends}
    return 1 in counts or (2 in counts and line.roles is not None)


def _shares_for_free(line: Line, index: str, context: Context) -> bool:
    """Has each value of the index elements of the target for its own, or is a copy small?"""
    if line.written.axis_of(index) is not None:
        return True
    small = index not in line.kept and is_small_beside(line, index)
    return small and _may_be_copied(line, context)


def _may_be_copied(line: Line, context: Context) -> bool:
    axes = long_axes(line.target, context.tensors[line.written.tensor].extents)
    return all(isinstance(s, Index) for s, _ in axes) and _is_real_sum(line)


def _is_real_sum(line: Line) -> bool:
    return line.statement.reduction is not Reduction.SET and not line.integral


def _adds_diagonals(line: Line, index: str) -> bool:
    """`r[t-u] += s[t,u]`: is the target, all of it, small beside what is read?"""
    written = line.written
    if not _is_real_sum(line) or written.affine != written.indices:
        return False
    needed = line.kept | {index}
    return any(needed <= one.affine and len(one.axes) > len(written.axes) for one in line.read)


def _adds_in_groups(line: Line, index: str) -> bool:
    """Do several values of the index add to one row, each a product of its own?

    `k[h//2,u,d] += s[h,t,u] * q[h,t,d]`: beside that product a copy of the rows is little.
    """
    groups = [s for s in line.target.subscripts if index in walk.indices_of(s)]
    if line.roles is None or not _is_real_sum(line) or len(groups) > 1:
        return False
    return affine_indices(groups[0]) == {index} and not is_shifted(groups[0], index)


def is_small_beside(line: Line, index: str) -> bool:
    """Is a copy of the target for each thread cheap: does the line read more for each value, or has the
    target few elements?
    """
    if _has_few_elements(line):
        return True
    needed = line.kept | {index}
    return not line.kept or any(needed <= one.affine for one in line.read)


def _has_few_elements(line: Line) -> bool:
    """Are all indices of the target of few values: the 9 sums of a 3 x 3 matrix?"""
    counts = [few_values(line, index) for index in line.kept]
    return 0 not in counts and prod(counts) <= FEW_ELEMENTS
