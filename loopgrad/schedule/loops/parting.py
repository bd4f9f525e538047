"""Sums that gain nothing by sharing loops, and lose: each has loops of its own.

    for n, m, d:  u[n,d] += c[n,m] * abs(x[n,d] - y[m,d])
    for n, m, d:  v[m,d] += c[n,m] * abs(x[n,d] - y[m,d])

Nothing that they read has all three indices: a cache holds it, and to read it twice costs little. In
common loops one of the targets would be loaded and stored in each turn, and threads could share d
alone, in parts of rows whose ends lie in one line of the cache.

The same of products that have nothing to do with each other, such as a convolution and the gradient of its
input in one program: the one keeps the channels that the other sums over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression
from loopgrad.schedule.lines import Line, Tensors
from loopgrad.schedule.loops.choosing import reads_little
from loopgrad.schedule.sums.sharing import dear_parts

LIGHTER = 16  # how much less a line runs than the heaviest does, for its loops to count for nothing


def parted(lines: Sequence[Line], tensors: Tensors) -> list[list[Line]]:
    """The lines in the parts that run one after the other: one, where they had better stay together."""
    heaviest = max(line.weight for line in lines)
    heavy = [line for line in lines if LIGHTER * line.weight > heaviest]
    kept = list(dict.fromkeys(line.kept for line in heavy))
    if len(kept) < 2 or not all(map(reads_little, heavy)) or _share_what_is_dear(heavy):
        return [list(lines)]
    places = _places(lines, heavy, kept)
    flows = [(i, j) for j in range(len(lines)) for i in _needed(lines, j) if places[i] != places[j]]
    if any(places[i] > places[j] or not _may_wait(lines[i], heavy, tensors) for i, j in flows):
        return [list(lines)]
    parts = [[x for x, p in zip(lines, places, strict=True) if p == i] for i in range(len(kept))]
    return [part for part in parts if part]


def unrelated(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines, which all have to do with a product, in parts that use nothing of each other's.

    Products that keep the same indices are in one: they gain by sharing loops, as gates of a cell do. So do
    those that sum over the same, as gradients of weights.
    """
    parts: list[list[Line]] = []
    for line in lines:
        related = [part for part in parts if any(_meet(line, other) for other in part)]
        parts = [part for part in parts if part not in related]
        parts.append([x for part in related for x in part] + [line])
    places = {id(line): i for i, line in enumerate(lines)}
    found = [sorted(part, key=lambda line: places[id(line)]) for part in parts]
    return sorted(found, key=lambda part: places[id(part[0])])


def _meet(line: Line, other: Line) -> bool:
    """Does one write what the other writes or reads, or are they products that share their loops?"""
    both = line.roles is not None and other.roles is not None
    if both and (line.kept == other.kept or line.reduced == other.reduced):
        return True
    return bool(
        {line.written.tensor, *(one.tensor for one in line.read)} & {other.written.tensor}
        or {one.tensor for one in other.read} & {line.written.tensor}
    )


def _places(
    lines: Sequence[Line], heavy: Sequence[Line], kept: Sequence[frozenset[str]]
) -> list[int]:
    """The part of each line: of heavy ones by what they keep; others stand where first they are used,
    or where the last is that they need.
    """
    own = {id(line): kept.index(line.kept) for line in heavy}
    found = [own.get(id(line), -1) for line in lines]
    for j, line in enumerate(lines):
        if id(line) not in own:
            found[j] = max((found[i] for i in _needed(lines, j)), default=-1)
    for i in reversed(range(len(lines))):
        if found[i] < 0:
            users = [found[j] for j in range(i + 1, len(lines)) if i in _needed(lines, j)]
            found[i] = min(users, default=0)
    return found


def _needed(lines: Sequence[Line], number: int) -> Iterator[int]:
    """The earlier lines that write what the line of this number reads or writes."""
    line = lines[number]
    used = {line.written.tensor, *(one.tensor for one in line.read)}
    return (i for i in range(number) if lines[i].written.tensor in used)


def _may_wait(line: Line, heavy: Collection[Line], tensors: Tensors) -> bool:
    """May what it writes lie in memory until another part reads it: is it as large as what it is made of?"""
    if any(line is other for other in heavy):
        return False
    extents = tensors[line.written.tensor].extents
    given = (tensors[one.tensor] for one in line.read)
    return any(tensor.role != "temporary" and tensor.extents == extents for tensor in given)


def _share_what_is_dear(lines: Collection[Line]) -> bool:
    """Do lines that keep different indices compute the same in each turn, that takes long?"""
    everything = ((line, part) for line in lines for part in dear_parts(line.statement))
    seen: dict[Expression, frozenset[str]] = {}
    return any(
        walk.indices_of(part) >= set(line.indices) and seen.setdefault(part, line.kept) != line.kept
        for line, part in everything
    )
