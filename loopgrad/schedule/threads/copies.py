"""Copies for each thread of what is added up over the rows that threads share, where they save the rows.

    for t, u, d:  k.grad[u,d] += s.grad[t,u] * q[t,d]

Threads that share t need each a copy of `k.grad` to add to. Without copies there has to be all of `s.grad`,
a square of times, before threads that share u can begin. Which is less is a matter of sizes: of D times the
threads, and T. A call tells them (`Choices.copies`).
"""

from __future__ import annotations

from collections.abc import Collection

from loopgrad.ir.nodes import Extent
from loopgrad.schedule.lines import Line, Tensors


def saves_rows(line: Line, index: str, names: Collection[str], tensors: Tensors) -> bool:
    """Does the line add up, over the index, rows of what would have to be in memory without copies?

    names: the extents of indices for which copies pay.
    """
    for one in line.read if names else ():
        axis = one.axis_of(index)
        if axis is not None and tensors[one.tensor].role == "temporary":
            extent = tensors[one.tensor].extents[axis]
            if isinstance(extent, Extent) and extent.name in names:
                return True
    return False
