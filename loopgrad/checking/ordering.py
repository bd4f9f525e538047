"""Statements in another order, for claims that read a tensor before it is complete.

A block may have to run the other way, a one-line `for` to become a block, a statement to stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopgrad.checking.claims import Claim
from loopgrad.checking.findings import How

INDENT = "    "
MOST_MOVES = 16


@dataclass(frozen=True)
class Reordered:
    """A claim's text in another order, and the change as a mend.

    lines: for each line of the text, the line of the claim that it was.
    """

    text: str
    lines: Sequence[int]
    right: str
    how: How
    note: str | None = None


def reordered(claim: Claim, start: int) -> Iterator[Reordered]:
    """Other orders for the statement at `start`, which reads what is not complete."""
    text = _Text(claim)
    line = claim.source.line_of(start)
    yield from text.turned(line)
    yield from text.opened(line)
    yield from text.moved(line)


class _Text:
    """A claim's text as lines, numbered from 1."""

    def __init__(self, claim: Claim):
        self.rows = claim.source.text.split("\n")
        source = claim.source
        self.first = sorted(source.line_of(start) for start in claim.stretches)
        self.last = {
            source.line_of(s.start): source.line_of(s.end - 1) for s in claim.stretches.values()
        }

    def indent(self, line: int) -> int:
        row = self.rows[line - 1]
        return len(row) - len(row.lstrip())

    def parents(self, line: int) -> list[int]:
        """The first lines of the blocks around the line, innermost first."""
        found: list[int] = []
        depth = self.indent(line)
        for other in reversed([n for n in self.first if n < line]):
            if self.indent(other) < depth:
                found.append(other)
                depth = self.indent(other)
        return found

    def end(self, line: int) -> int:
        """The last line of the statement, of a block its last statement's."""
        inside = [n for n in self.first if n > line]
        end = self.last[line]
        for other in inside:
            if self.indent(other) <= self.indent(line):
                break
            end = self.last[other]
        return end

    # --------------------------------------------------------------------------------- changes

    def turned(self, line: int) -> Iterator[Reordered]:
        """A block around the line run the other way."""
        for block in self.parents(line):
            head = self.rows[block - 1].strip()
            ranges = head.removeprefix("for").rstrip(":").strip()
            other = (
                ", ".join(r.removesuffix("descending").strip() for r in ranges.split(","))
                if "descending" in ranges
                else ", ".join(f"{r.strip()} descending" for r in ranges.split(","))
            )
            right = f"for {other}:"
            rows = list(self.rows)
            rows[block - 1] = " " * self.indent(block) + right
            note = f"line {block} is to be this: the block has to run the other way"
            yield Reordered("\n".join(rows), range(1, len(rows) + 1), right, "replace block", note)

    def opened(self, line: int) -> Iterator[Reordered]:
        """A one-line `for` as a block over one of its indices."""
        row = self.rows[line - 1].strip()
        if not row.startswith("for ") or ":" not in row or row.endswith(":"):
            return
        head, _, rest = row.partition(":")
        ranges = [r.strip() for r in head.removeprefix("for").split(",")]
        indent = " " * self.indent(line)
        for at, chosen in enumerate(ranges):
            others = ranges[:at] + ranges[at + 1 :]
            inner = f"for {', '.join(others)}:  {rest.strip()}" if others else rest.strip()
            for direction in ("", " descending"):
                right = f"for {chosen}{direction}:\n{INDENT}{inner}"
                shown = right.replace("\n", "\n" + indent)
                rows = [*self.rows[: line - 1], *(indent + shown).split("\n"), *self.rows[line:]]
                lines = [*range(1, line + 1), line, *range(line + 1, len(self.rows) + 1)]
                yield Reordered("\n".join(rows), lines, right, "replace")

    def moved(self, line: int) -> Iterator[Reordered]:
        """The statement, or a block that holds it, behind a later one; or a later one before it."""
        for statement in [line, *self.parents(line)]:
            depth = self.indent(statement)
            end = self.end(statement)
            later: list[int] = []
            for other in self.first:
                if other <= end or self.indent(other) > depth:
                    continue
                if self.indent(other) < depth:
                    break
                later.append(other)
            for other in later[:MOST_MOVES]:
                note = f"to behind line {self.end(other)}"
                yield self._move(statement, end, self.end(other) + 1, note, statement)
            for other in later[:MOST_MOVES]:
                note = f"line {other} to before line {statement}"
                yield self._move(other, self.end(other), statement, note, other)

    def _move(self, first: int, last: int, to: int, note: str, shown: int) -> Reordered:
        """Lines `first` to `last` put before the line `to`."""
        order = list(range(1, len(self.rows) + 1))
        taken = order[first - 1 : last]
        rest = [n for n in order if n not in taken]
        at = next((k for k, n in enumerate(rest) if n >= to), len(rest))
        order = [*rest[:at], *taken, *rest[at:]]
        depth = self.indent(shown)
        right = "\n".join(self.rows[n - 1][depth:] for n in taken)
        return Reordered("\n".join(self.rows[n - 1] for n in order), order, right, "move", note)
