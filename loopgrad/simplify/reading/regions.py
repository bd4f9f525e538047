"""A program's statements by region: runs without a block between them, each under its blocks.

Every statement is simplified where it stands. What the statements of one region add to one tensor
under one pattern of subscripts is a *piece*: under a block over `t`, the index `t` is free in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis import extents as ext
from loopgrad.ir.nodes import Accumulate, Block, Expression, Index, Range, Read, Statement
from loopgrad.ir.walk import ZERO, accumulates, indices_of, reads, statement_reads

# For each axis of a target: a subscript without its loops' own indices, or else what is looped over.
Pattern = tuple[Expression | str, ...]


@dataclass(frozen=True, eq=False)
class Region:
    """Statements that run one after the other. `blocks`: those around them, outermost first."""

    number: int
    blocks: tuple[Block, ...] = ()
    statements: tuple[Accumulate, ...] = ()

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges of the blocks, outermost first."""
        return tuple(r for b in self.blocks for r in b.ranges)

    @property
    def indices(self) -> tuple[str, ...]:
        return tuple(r.index for r in self.ranges)

    def within(self, other: Region) -> bool:
        """Does it run inside each turn of the blocks of the other?"""
        around = self.blocks[: len(other.blocks)]
        return len(around) == len(other.blocks) and all(
            a is b for a, b in zip(around, other.blocks, strict=True)
        )

    def turns(self, indices: Collection[str], tensors: Collection[str]) -> bool:
        """May a sum of the tensors, with the indices free, differ from turn to turn of its block?

        True outside of blocks, where there is nothing to be computed before.
        """
        if not self.blocks:
            return True
        block = self.blocks[-1]
        written = {s.target.tensor for _, s in accumulates(block.body)}
        return bool(written & set(tensors) or {r.index for r in block.ranges} & set(indices))

    def extent(self, index: str) -> Expression | None:
        """One more than the largest value of a block's index; None where that hangs on data."""
        around = [(r.index, r.lower or ZERO, r.upper) for r in self.ranges if r.upper is not None]
        last = ext.largest(Index(index), around, frozenset())
        return None if last is None else ext.plus(last, 1)


@dataclass(frozen=True, eq=False)
class Nest:
    """A block and the regions inside it."""

    block: Block
    inside: Layout


Layout = tuple[Region | Nest, ...]


def layout_of(statements: Sequence[Statement]) -> Layout:
    """The regions of a program, in its order, from 0 on; the first stands outside of all blocks."""
    count = 0

    def region(blocks: tuple[Block, ...], run: list[Accumulate]) -> Region:
        nonlocal count
        made = Region(count, blocks, tuple(run))
        count += 1
        return made

    def inside(body: Sequence[Statement], blocks: tuple[Block, ...]) -> Iterator[Region | Nest]:
        run: list[Accumulate] = []
        for statement in body:
            match statement:
                case Accumulate():
                    run.append(statement)
                case Block():
                    if run or not count:
                        yield region(blocks, run)
                    run = []
                    yield Nest(statement, tuple(inside(statement.body, (*blocks, statement))))
        if run or not count:
            yield region(blocks, run)

    return tuple(inside(statements, ()))


def regions_in(layout: Layout) -> Iterator[Region]:
    for part in layout:
        if isinstance(part, Region):
            yield part
        else:
            yield from regions_in(part.inside)


def rebuilt(layout: Layout, made: Mapping[int, Sequence[Accumulate]]) -> list[Statement]:
    """The statements made for each region, in their blocks; blocks left empty are dropped."""
    found: list[Statement] = []
    for part in layout:
        if isinstance(part, Region):
            found += made.get(part.number, ())
        else:
            body = rebuilt(part.inside, made)
            if body:
                found.append(replace(part.block, body=tuple(body)))
    return found


# -------------------------------------------------------------------------------------------- pieces


@dataclass(eq=False)
class Piece:
    """What statements of one region add to a tensor under one pattern of subscripts."""

    tensor: str
    pattern: Pattern
    region: Region
    statements: list[Accumulate] = field(default_factory=list)
    last: int = 0  # where its last statement stands in the region


def pieces_of(layout: Layout, extent: Callable[[Expression], str]) -> list[Piece]:
    """All pieces, by region, in the order of their last statements; `extent` names an extent.

    A piece ends where an element that it may have written is read: what comes after is another's.
    """
    written = Counter(
        t for region in regions_in(layout) for t in {s.target.tensor for s in region.statements}
    )
    found: list[Piece] = []
    for region in regions_in(layout):
        pieces: list[Piece] = []
        growing: dict[tuple[str, Pattern], Piece] = {}
        for number, statement in enumerate(region.statements):
            for read in statement_reads(statement):
                for key in [k for k in growing if k[0] == read.tensor]:
                    if not apart(read, key[1], region.indices):
                        del growing[key]
            tensor = statement.target.tensor
            apart_here = written[tensor] > 1 or bool(region.blocks)
            key = (tensor, _pattern(statement, apart_here, extent))
            if key not in growing:
                growing[key] = Piece(*key, region)
                pieces.append(growing[key])
            growing[key].statements.append(statement)
            growing[key].last = number
        found += sorted(pieces, key=lambda p: p.last)
    return found


def _pattern(
    statement: Accumulate, apart_here: bool, extent: Callable[[Expression], str]
) -> Pattern:
    """Fixed are subscripts that its own loops do not touch, where one region has not all of a tensor."""
    uppers = {r.index: extent(r.upper) for r in statement.ranges if r.upper is not None}
    partial = {r.index for r in statement.ranges if not from_zero(r)}
    return tuple(
        ""
        if not apart_here
        else uppers[s.name]
        if isinstance(s, Index) and s.name in uppers.keys() - partial
        else ""
        if indices_of(s) & uppers.keys()
        else s
        for s in statement.target.subscripts
    )


def from_zero(r: Range) -> bool:
    """Does it run from 0 to a formula of sizes alone?"""
    whole = r.upper is not None and not indices_of(r.upper) and not any(reads(r.upper))
    return whole and r.lower in (None, ZERO)


def apart(read: Read, pattern: Pattern, around: Iterable[str]) -> bool:
    """Do the two never meet in one turn of the blocks: `h[t,b]` and a pattern `h[t-1,.]`?"""
    turning = set(around)
    return any(
        not isinstance(p, str)
        and indices_of(s) <= turning
        and ext.difference(s, p) not in (None, 0)
        for s, p in zip(read.subscripts, pattern, strict=True)
    )
