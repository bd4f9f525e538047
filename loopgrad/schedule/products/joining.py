"""Images that are in one product: what tells them apart is one more index of its columns.

    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p]

is a product for each b, as only for one b the columns n lie side by side in `y`. Where these are few, a tile
has little to do, and all of `k` is read again for each b. So a call with small images has them all in one
product, with the columns b and n, whose sums are put into `y` image by image.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Read
from loopgrad.schedule.lines import Access, Line, Roles


def with_images_together(line: Line) -> Line:
    """The line; of a contraction what tells apart matrices of the right side alone is among the columns."""
    r = line.roles
    if r is None or r.update is not None:
        return line
    more = [i for i in r.batch if _tells_apart(line, r, i)]
    more.sort(key=lambda i: line.written.bare.index(i))
    batch = tuple(i for i in r.batch if i not in more)
    n = (*more, *r.n)
    return replace(line, roles=replace(r, batch=batch, n=n, runs_apart=_are_apart(r.right, n)))


def _are_apart(right: Expression, columns: tuple[str, ...]) -> bool:
    """Do columns that lie side by side in the target not do so on the right?"""
    match right:
        case Read(_, subscripts):
            axes = tuple(s.name if isinstance(s, Index) else "" for s in subscripts)
            count = len(columns)
            starts = range(len(axes) - count + 1)
            return not any(axes[i : i + count] == columns for i in starts)
    return False


def _tells_apart(line: Line, r: Roles, index: str) -> bool:
    """Does it select a matrix on the right, and one of the target, whatever the other indices are?"""
    if index in walk.indices_of(r.left) or index not in walk.indices_of(r.right):
        return False
    if line.written.axis_of(index) is None or index in line.bounding:
        return False
    return not any(walk.indices_of(b) or any(walk.reads(b)) for b in line.bounds[index])


def are_together(r: Roles, written: Access) -> bool:
    """Are images in one product: does an index of its columns stand before one of its rows in the target?"""
    return are_before(r.n, r.m, written)


def are_before(some: tuple[str, ...], others: tuple[str, ...], written: Access) -> bool:
    """Does an index of the ones stand in an axis before one of the others?"""
    places = [
        [axis for axis, inside in enumerate(written.axes) if inside.intersection(group)]
        for group in (some, others)
    ]
    return bool(places[0] and places[1]) and min(places[0]) < max(places[1])
