"""What copies for each thread of sums over rows save: sizes tell (`schedule/threads/copies.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from loopgrad.analysis.facts import Facts, outgrows
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Extent, Index, Number, Read, Reduction

# How many times less than rows the copies have to be: rows are written and read once, in their order. More
# where the rows are no more than what is given.
LESS, MUCH_LESS = 4, 16

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Saving:
    """What threads need copies of that share an index below `extent`, and what is saved by them.

    copied, saved: the extents of both tensors; of the second of several, each of which would do. batch:
    extents over which threads would share the work in any case, if these were more than 1. less: how many
    times less one has to be.
    """

    extent: str
    batch: Names
    copied: Names
    saved: tuple[Names, ...]
    less: int

    def pays(self, sizes: Mapping[str, int | float], threads: int) -> bool:
        if any(sizes.get(name) != 1 for name in self.batch):
            return False
        if any(name not in sizes for names in (self.copied, *self.saved) for name in names):
            return False
        copied, *saved = (prod(sizes[n] for n in names) for names in (self.copied, *self.saved))
        return self.less * threads * copied <= max(saved)


def savings(facts: Facts) -> tuple[Saving, ...]:
    """Of a program: the sums over rows of temporaries."""
    found: dict[Saving, None] = {}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate):
            own = list(_savings(statement, facts))
            for extent in dict.fromkeys(one.extent for one in own):
                alike = [one for one in own if one.extent == extent]
                least = min(one.less for one in alike)
                saved = (names for one in alike if one.less == least for names in one.saved)
                whole = replace(alike[0], saved=tuple(dict.fromkeys(saved)), less=least)
                found.setdefault(whole)
    return tuple(found)


def _savings(statement: Accumulate, facts: Facts) -> Iterator[Saving]:
    """What each of its reads would save."""
    target, reads = statement.target, walk.statement_reads(statement)
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
        return
    kept = walk.indices_of(target)
    batch = kept.intersection(*map(walk.indices_of, (r for r in reads if r.subscripts)))
    for read in reads:
        columns = walk.indices_of(read) & kept - batch
        if not columns or facts.tensors[read.tensor].role != "temporary":
            continue
        less = LESS if outgrows(read.tensor, facts.tensors) else MUCH_LESS
        if less == MUCH_LESS and not _is_plain(statement):
            continue
        names = [_names(t.tensor, facts) for t in (target, read)]
        if None in names:
            continue
        copied, saved = (name for name in names if name is not None)
        own = (_extent(read, index, facts) for index in sorted(batch))
        around = tuple(extent for extent in own if extent is not None)
        if len(around) == len(batch):
            for index in sorted(walk.indices_of(read) - kept):
                extent = _extent(read, index, facts)
                if extent is not None:
                    yield Saving(extent, around, copied, (saved,), less)


def _is_plain(statement: Accumulate) -> bool:
    """Is it a product of matrices, and of no windows?"""
    reads = (statement.target, *walk.statement_reads(statement))
    plain = all(isinstance(s, Index) for read in reads for s in read.subscripts)
    return plain and statement.guard is None and contracts(statement)


def contracts(statement: Accumulate) -> bool:
    """Does it sum over an index, and hold no read that has all of its indices?"""
    indices = {r.index for r in statement.ranges}
    kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
    reads = (walk.indices_of(read) for read in walk.statement_reads(statement))
    return not indices <= kept and not any(indices <= having for having in reads)


def _names(tensor: str, facts: Facts) -> Names | None:
    """Of its extents; None where one is a formula."""
    found = [e for e in facts.tensors[tensor].extents if not isinstance(e, Number)]
    names = tuple(e.name for e in found if isinstance(e, Extent))
    return names if len(names) == len(found) else None


def _extent(read: Read, index: str, facts: Facts) -> str | None:
    """Of the axis that the index goes over."""
    for subscript, extent in zip(read.subscripts, facts.tensors[read.tensor].extents, strict=True):
        if subscript == Index(index) and isinstance(extent, Extent):
            return extent.name
    return None
