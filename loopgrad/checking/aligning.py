"""A claim laid beside the derived program, statement by statement, in order: a last way to a mend.

What the claim has in common with the derived program stays, the rest is put in, taken out or replaced.
Blocks are laid beside blocks, so that what a block lacks goes into it, at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

from loopgrad.checking.answers import Answers, Located
from loopgrad.checking.bench import Bench
from loopgrad.checking.findings import How
from loopgrad.checking.likeness import settled
from loopgrad.checking.matching import balance
from loopgrad.checking.pieces import Piece
from loopgrad.checking.repairs import indices
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import Accumulate, Block, Expression, Index, Range, Statement
from loopgrad.ir.walk import map_statement, rebuild, statement_reads

MOST_RENAMED = 4  # indices of which all assignments are tried
SAME = 3.0  # the likeness of two statements that are the same
AT_LEAST = 0.1  # and of two blocks


@dataclass(frozen=True)
class Row:
    """A statement of either program with the blocks around it; of a block what is in it.

    piece: None for a block, and for a line of the claim that could not be read. start: where it stands
    in the claim's text.
    """

    blocks: tuple[Block, ...]
    piece: Piece | None = None
    block: Block | None = None
    body: tuple[Row, ...] = ()
    start: int | None = None
    target: str | None = None

    def pieces(self) -> Iterator[Piece]:
        if self.piece is not None:
            yield self.piece
        for row in self.body:
            yield from row.pieces()


class Alignment:
    """The claim beside the derived program.

    by_value: whether statements that add what they ought to, however they are written, stay.
    """

    def __init__(self, bench: Bench, by_value: bool):
        self.bench, self.task = bench, bench.task
        self.layout, self.translation = bench.layout, bench.translation
        self.answers = Answers(bench)
        derived = unfold(self.task.right).statements
        self.right = self._rows(derived, (), iter(self.translation.right))
        self.targets = {p.target for row in self.right for p in row.pieces()}
        # Every right statement that is missing is put in where it belongs, none along with another.
        self.answers.provided |= self.targets
        self.kept: set[int] = set()
        self.covered: set[int] = set()
        if by_value:
            self._judge_by_value()
        self.claimed = self._claimed()

    def faults(self) -> list[Located]:
        """What has to be replaced, put in and left out."""
        found = self._beside(self.claimed, self.right, ())
        made = {p.target for f in found for p in f.put_in}
        lent = [self.answers.lent(name) for name in self.task.claim.lent if name not in made]
        return [*found, *(fault for fault in lent if fault is not None)]

    # ------------------------------------------------------------------------------------- rows

    def _rows(
        self, body: Sequence[Statement], blocks: tuple[Block, ...], right: Iterator[Piece]
    ) -> list[Row]:
        found: list[Row] = []
        for statement in body:
            if isinstance(statement, Block):
                inner = self._rows(statement.body, (*blocks, statement), right)
                found.append(Row(blocks, None, statement, tuple(inner)))
            else:
                piece = next(right)
                found.append(Row(blocks, piece, target=piece.target))
        return found

    def _claimed(self) -> list[Row]:
        rows = self._rows(unfold(self.task.program).statements, (), iter(self.bench.every))
        return self._placed(rows, (), None)

    def _placed(
        self, rows: Sequence[Row], blocks: tuple[Block, ...], around: int | None
    ) -> list[Row]:
        """The rows with their places in the text, among them the lines that could not be read.

        around: where the block starts that they are in.
        """
        found: list[Row] = []
        for row in rows:
            statement = row.block or (row.piece.statement if row.piece is not None else None)
            start = None if statement is None else self.layout.start(statement)
            if start is not None and row.block is not None:
                found.append(self._opened(row, row.block, row.body, blocks, start))
            elif start is not None:
                found.append(replace(row, start=start))
        there = {row.start for row in found}
        claim = self.task.claim
        for start in self.unread:
            if claim.around(start) != around or start in there:
                continue
            if any(claim.around(other) == start for other in claim.stretches):
                block = Block(tuple(map(Range, indices(claim.stretch_span(start).text))), ())
                found.append(self._opened(Row(blocks), block, (), blocks, start))
            else:
                found.append(Row(blocks, start=start, target=claim.repaired[start].target))
        return sorted(found, key=lambda row: row.start or 0)

    def _opened(
        self, row: Row, block: Block, body: Sequence[Row], blocks: tuple[Block, ...], start: int
    ) -> Row:
        inner = self._placed(body, (*blocks, block), start)
        return replace(row, block=block, body=tuple(inner), start=start)

    @cached_property
    def unread(self) -> list[int]:
        """Where lines start that could not be read, and the blocks around them."""
        claim = self.task.claim
        found = dict.fromkeys(start for start, r in claim.repaired.items() if r.text is None)
        for start in list(found):
            outer = claim.around(start)
            while outer is not None:
                found.setdefault(outer)
                outer = claim.around(outer)
        return list(found)

    def _judge_by_value(self) -> None:
        """The statements that add what they ought to are kept, and what these stand for is covered."""
        bench = self.bench
        for tensor in self.targets & bench.known:
            claimed = [p for p in bench.claimed if p.target == tensor]
            right = [p for p in bench.right if p.target == tensor]
            found = balance(tensor, claimed, right, bench.places, bench.right_places)
            left, missing = [], []
            if found is not None:
                left = [e.piece for e in found.left]
                missing = [e.piece for e in found.missing] if found.is_sum and claimed else right
            self.kept |= {p.place for p in claimed} - {p.place for p in left}
            self.covered |= {p.place for p in right} - {p.place for p in missing}

    # ------------------------------------------------------------------------------ side by side

    def _beside(
        self, claimed: Sequence[Row], right: Sequence[Row], blocks: tuple[Block, ...]
    ) -> list[Located]:
        found: list[Located] = []
        missing: list[Piece] = []  # since the last row of the claim that stays
        last: Row | None = None
        first = claimed[0] if claimed else None

        def put_in() -> None:
            wanted = [p for p in missing if p.place not in self.covered]
            missing.clear()
            anchor = last or first
            if wanted and anchor is not None:
                found.append(self._put_in(wanted, anchor, last is None, blocks))

        for mine, theirs in self._pairs(claimed, right):
            if mine is None:
                assert theirs is not None
                missing.extend(theirs.pieces())
                continue
            put_in()
            last = mine
            if theirs is None:
                found += self._superfluous(mine)
            elif mine.block is not None and theirs.block is not None:
                found += self._beside(mine.body, theirs.body, (*blocks, mine.block))
            elif not self._stays(mine, theirs):
                found += self._replaced(mine, theirs)
        put_in()
        return found

    def _stays(self, mine: Row, theirs: Row) -> bool:
        assert theirs.piece is not None
        if mine.piece is None:
            return False
        return mine.piece.place in self.kept or self._same(mine.piece, theirs.piece)

    def _pairs(
        self, claimed: Sequence[Row], right: Sequence[Row]
    ) -> list[tuple[Row | None, Row | None]]:
        """The rows in order, those that are most alike side by side."""
        best = [[0.0] * (len(right) + 1) for _ in range(len(claimed) + 1)]
        alike = [[self._likeness(mine, theirs) for theirs in right] for mine in claimed]
        for i in range(len(claimed) - 1, -1, -1):
            for j in range(len(right) - 1, -1, -1):
                best[i][j] = max(best[i + 1][j], best[i][j + 1])
                if alike[i][j]:
                    best[i][j] = max(best[i][j], alike[i][j] + best[i + 1][j + 1])
        found: list[tuple[Row | None, Row | None]] = []
        i = j = 0
        while i < len(claimed) or j < len(right):
            paired = i < len(claimed) and j < len(right) and alike[i][j] > 0
            if paired and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
                found.append((claimed[i], right[j]))
                i, j = i + 1, j + 1
                continue
            if j < len(right) and (i == len(claimed) or best[i][j] == best[i][j + 1]):
                found.append((None, right[j]))
                j += 1
            else:
                found.append((claimed[i], None))
                i += 1
        return found

    def _likeness(self, mine: Row, theirs: Row) -> float:
        if (mine.block is None) != (theirs.block is None):
            return 0.0
        if mine.block is not None and theirs.block is not None:
            if len(mine.block.ranges) != len(theirs.block.ranges):
                return 0.0
            inner = self._pairs(mine.body, theirs.body)
            both = (self._likeness(a, b) for a, b in inner if a is not None and b is not None)
            return AT_LEAST + sum(both)
        if mine.target != theirs.target:
            return 0.0
        if mine.piece is None or theirs.piece is None:
            return 1.0
        stays, covered = mine.piece.place in self.kept, theirs.piece.place in self.covered
        if stays != covered:
            return AT_LEAST  # it only shows where that stands
        if self._same(mine.piece, theirs.piece):
            return SAME
        one = {(r.tensor, len(r.subscripts)) for r in statement_reads(mine.piece.statement)}
        other = {(r.tensor, len(r.subscripts)) for r in statement_reads(theirs.piece.statement)}
        return 1.0 + len(one & other) / max(1, len(one | other))

    def _same(self, mine: Piece, theirs: Piece) -> bool:
        """Are the two the same but for names of indices, and the order of factors and terms?"""
        made = self.bench.inner(theirs, mine)
        if not isinstance(made, Accumulate):
            return False
        wanted = _key(mine.statement)
        own, others = _own(mine.statement), _own(made)
        free = [n for n in others if n not in own]
        names = [n for n in own if n not in others]
        if len(free) != len(names) or len(free) > MOST_RENAMED:
            return False
        return any(
            _key(_renamed(made, dict(zip(free, way, strict=True)))) == wanted
            for way in permutations(names)
        )

    # ---------------------------------------------------------------------------------- answers

    def _put_in(
        self, right: Sequence[Piece], anchor: Row, before: bool, blocks: tuple[Block, ...]
    ) -> Located:
        beside = Piece(right[0].statement, blocks, 0)
        how: How = "insert before" if before else "insert after"
        return self.answers.beside(beside, right, anchor.start, how)

    def _replaced(self, mine: Row, theirs: Row) -> Iterator[Located]:
        """The right statement in the place of the claim's, unless that says the same."""
        assert theirs.piece is not None and mine.start is not None
        piece = mine.piece or Piece(theirs.piece.statement, mine.blocks, 0)
        fault = self.answers.instead(piece, mine.start, theirs.piece)
        written = self.task.claim.stretch_span(mine.start).text
        if fault.patch is None or (fault.patch.text or "").split() != written.split():
            yield fault

    def _superfluous(self, row: Row) -> Iterator[Located]:
        for piece in row.pieces():
            if piece.target in self.targets and piece.place not in self.kept:
                yield self.answers.too_much(piece)


def _key(statement: Statement) -> Statement:
    """The same for statements that differ in the order of loops, factors and terms alone."""
    found = settled(statement)
    return replace(found, ranges=tuple(sorted(found.ranges, key=repr)))


def _own(statement: Accumulate) -> list[str]:
    return [r.index for r in statement.ranges]


def _renamed(statement: Accumulate, names: dict[str, str]) -> Statement:
    def change(node: Expression) -> Expression:
        if isinstance(node, Index):
            return Index(names.get(node.name, node.name))
        return rebuild(node, change)

    changed = map_statement(statement, change)
    ranges = tuple(replace(r, index=names.get(r.index, r.index)) for r in changed.ranges)
    return replace(changed, ranges=ranges)
