"""Sums over windows that are no contractions, with zeros around what they read in place of guards.

    for b, c, n, p < 9:  y[b,c,n] += k[c,p] * x[b,c,n+p-4]   if 0 <= n+p-4 < X

reads each element nine times: a copy that has zeros on either side takes less than to look at a guard
at every turn, which fails somewhere in most vectors where rows are a few vectors long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, few_values
from loopgrad.schedule.products.padding import Padding

FEWEST_TAPS = 9  # of a window that is worth a copy


def with_borders(lines: Iterable[Line], context: Context) -> tuple[Line, ...]:
    """The lines without guards of windows, behind the copies that they need."""
    padding = Padding(context)
    return tuple(part for line in lines for part in _bordered(line, padding))


def _bordered(line: Line, padding: Padding) -> Iterator[Line]:
    taps = prod(few_values(line, index) for index in line.reduced if _is_read_again(line, index))
    found = None
    if line.roles is None and line.reduced and taps >= FEWEST_TAPS and not line.stands_alone:
        found = padding.without_guard(line)
    if found is None:
        yield line
        return
    before, whole = found
    yield from before
    yield whole


def _is_read_again(line: Line, index: str) -> bool:
    """Are elements the same for several of its values? Not of `y[p,n-p]`, which has an axis for it."""
    return not any(
        one.axis_of(index) is not None and any(index in axis and len(axis) > 1 for axis in one.axes)
        for one in line.read
    )
