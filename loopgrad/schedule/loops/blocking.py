"""Lines within a block of an index: products over it, and what is done to the rows at hand.

Where a sum over u runs up to the blocked t (`u <= t`), a block has a part that all its rows share,
a product, and a small triangle, which goes row by row; where it begins with t as well, as in a window of
the last W (`max(0, t-W+1) <= u <= t`), one on each side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Number
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Bounds, Line, Stairs, access
from loopgrad.schedule.products.contractions import pack
from loopgrad.schedule.tree import Pack, block_from, block_to, panel

STEP = 12  # rows of a block that have more in common than all of them: two tiles


def within_block(line: Line, index: str) -> Line:
    """The line with its loop over what one block holds."""
    start, stop = block_from(index), block_to(index)
    ranges = tuple(
        replace(r, lower=start, upper=stop) if r.index == index else r
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))


def with_bounds(line: Line, index: str, bounds: Bounds) -> Line:
    lower, upper = bounds
    ranges = tuple(
        replace(r, lower=lower, upper=upper) if r.index == index else r
        for r in line.statement.ranges
    )
    return replace(line, statement=replace(line.statement, ranges=ranges))


def at(bound: Expression, index: str, value: Expression) -> Expression:
    """The bound where the index has the value."""
    return walk.substitute(bound, {index: value})


def last_of(index: str) -> Expression:
    return walk.apply("-", block_to(index), Number(1))


# ---------------------------------------------------------------------- triangles and bands


def split(line: Line, index: str, whole: Collection[str]) -> Iterator[Line]:
    """The line within a block of the index: itself, or what all rows share and what is left on both sides.

    whole: tensors of which elements beyond these may be written, as nobody reads them.
    """
    inner = triangle(line, index)
    if inner is None or line.roles is None:
        yield within_block(line, index)
        return
    lower, upper = line.bounds[inner]
    if inner in line.roles.n and index in line.roles.m:
        if line.written.tensor not in whole:
            yield within_block(replace(line, roles=None), index)
            return
        first = _panel(line, index, inner, at(lower, index, block_from(index)))
        last = at(upper, index, last_of(index))
        yield within_block(with_bounds(line, inner, (first, last)), index)
        return
    low, high = at(lower, index, last_of(index)), at(upper, index, block_from(index))
    shared, *rest = _apart(index, (lower, upper), low, high)
    yield within_block(with_bounds(line, inner, shared), index)
    for bounds in rest:
        yield within_block(_on_stairs(line, index, inner, bounds), index)


def _apart(index: str, bounds: Bounds, low: Expression, high: Expression) -> Iterator[Bounds]:
    """The values that all rows have; those before, and those behind, that some have.

    low: the last row's lower bound; high: the first row's upper bound.
    """
    lower, upper = bounds
    begins, ends = (index in walk.indices_of(bound) for bound in bounds)
    shared = walk.apply("max", low, high) if begins else high
    yield low, shared
    if begins:
        yield lower, walk.apply("min", low, upper)
    if ends:
        yield shared if begins else walk.apply("max", lower, shared), upper


def _on_stairs(line: Line, index: str, inner: str, bounds: Bounds) -> Line:
    """What some rows have and others have not; row by row, where there are no more of them than in a step."""
    match line.bounds[index]:
        case Number(int(first)), Number(int(end)) if end - first <= STEP:
            return replace(with_bounds(line, inner, bounds), roles=None, first=False)
    lower, upper = bounds
    whole = at(lower, index, block_from(index)), at(upper, index, last_of(index))
    stairs = Stairs(index, inner, bounds)
    return replace(with_bounds(line, inner, whole), first=False, stairs=stairs)


def step_of(stairs: Stairs) -> str:
    """The index whose blocks are a few rows."""
    return f"{stairs.index}.step"


def on_step(line: Line, stairs: Stairs) -> tuple[Line, list[Line]]:
    """The product of what a few rows have in common; and what is left, which goes row by row."""
    index, step = stairs.index, step_of(stairs)
    lower, upper = stairs.bounds
    first, last = block_from(step), walk.apply("-", block_to(step), Number(1))
    line = with_bounds(replace(line, stairs=None), index, (first, block_to(step)))
    low, high = at(lower, index, last), at(upper, index, first)
    shared, *rest = _apart(index, stairs.bounds, low, high)
    rows = replace(line, roles=None)
    return (
        with_bounds(line, stairs.inner, shared),
        [with_bounds(rows, stairs.inner, bounds) for bounds in rest],
    )


def triangle(line: Line, index: str) -> str | None:
    """The index of a contraction of which a bound hangs on the given one."""
    if line.roles is None or index in line.roles.batch:
        return None
    for inner, outer in line.bound_by.items():
        if index in outer:
            return inner
    return None


def _panel(line: Line, index: str, inner: str, bound: Expression) -> Expression:
    """The first column of the panel that the bound is in, as panels are packed for all blocks."""
    first = _first(line, index, inner)
    if first is None or index not in walk.indices_of(line.bounds[inner][0]):
        return bound
    return panel(bound, first)


def _first(line: Line, index: str, inner: str) -> Expression | None:
    """Where the inner index begins for the first value of the other one; None where that is another one in
    each block around."""
    first = at(line.bounds[inner][0], index, line.bounds[index][0])
    return None if walk.indices_of(first) else first


# -------------------------------------------------------------------------------------- packs


def packed(lines: Iterable[Line], context: Context) -> tuple[list[Pack], dict[int, str]]:
    """The right sides of contractions, ready before; and their context, by the `id` of the roles."""
    made: dict[Pack, str] = {}
    known: dict[int, str] = {}
    for line in lines:
        if line.roles is not None:
            anonymous = pack(line, line.roles, "")
            if anonymous not in made:
                made[anonymous] = context.name("packed")
            known[id(line.roles)] = made[anonymous]
    return [replace(one, name=name) for one, name in made.items()], known


def packable(lines: Sequence[Line], index: str, around: Sequence[str]) -> Iterator[Line]:
    """The contractions whose right sides are the same for all blocks of the index, whole."""
    written = {line.written.tensor for line in lines}
    for line in lines:
        if line.roles is None or line.roles.runs or not set(line.roles.batch) <= set(around):
            continue  # none, or another right side for each group of rows
        reads = list(map(access, walk.reads(line.roles.right)))
        if any(index in one.indices or one.tensor in written for one in reads):
            continue
        inner = triangle(line, index)
        if inner is not None:
            _, upper = line.bounds[inner]
            first = _first(line, index, inner)
            if first is None or inner in line.roles.n[:-1]:
                continue
            last = walk.apply("-", line.bounds[index][1], Number(1))
            line = with_bounds(line, inner, (first, at(upper, index, last)))
        if is_one_matrix(line, around):
            yield line


def is_one_matrix(line: Line, around: Sequence[str] = ()) -> bool:
    """Is the right side of the contraction one matrix wherever the loops around are? So it is no triangle."""
    assert line.roles is not None
    sides = (*line.roles.n, *line.roles.k)
    return all(walk.indices_of(bound) <= {*around} for i in sides for bound in line.bounds[i])


def uses_alike(tensor: str, lines: Iterable[Line]) -> bool:
    """Has every use of the tensor the same subscripts, each of them an index alone, or a number?"""
    uses = {
        read.subscripts
        for line in lines
        for read in (line.target, *walk.statement_reads(line.statement))
        if read.tensor == tensor
    }
    return len(uses) == 1 and all(isinstance(s, Index | Number) for s in next(iter(uses)))
