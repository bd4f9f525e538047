"""Faults as they are told: what is wrong, where, and the mend as a change of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from loopgrad.checking.bench import Bench
from loopgrad.checking.comparing import compared
from loopgrad.checking.edits import Edit
from loopgrad.checking.findings import How, Kind
from loopgrad.checking.matching import Balance, Entry
from loopgrad.checking.mending import Patch
from loopgrad.checking.pieces import Piece, Vector
from loopgrad.diagnostics import Span
from loopgrad.ir.nodes import Accumulate
from loopgrad.ir.printer import show_statement, show_statements
from loopgrad.ir.walk import statement_reads


@dataclass(frozen=True)
class Located:
    """A fault: where, what, and its mend. statement: where the surface statement starts."""

    kind: Kind
    message: str
    span: Span | None
    patch: Patch | None
    statement: int | None = None
    tensor: str = ""
    new: Accumulate | None = None  # what the statement becomes, where one does
    old: Accumulate | None = None
    put_in: tuple[Piece, ...] = ()  # right statements that the patch puts in


class Answers:
    """Makes faults of what was found on a bench."""

    def __init__(self, bench: Bench):
        self.bench, self.task = bench, bench.task
        self.layout, self.translation = bench.layout, bench.translation
        self.provided: set[str] = set()  # temporaries that a mend computes

    def of_edit(self, piece: Piece, edit: Edit) -> Located:
        placed = self.layout.replaced(piece.statement, edit.statement)
        patch = None
        if placed is not None:
            patch = Patch(placed[0], "replace", placed[1])
        return Located(
            edit.kind,
            edit.message,
            edit.span or piece.statement.span,
            patch,
            self.layout.start(piece.statement),
            piece.target,
            edit.statement,
            piece.statement,
        )

    def superfluous(self, one: Entry, b: Balance) -> Located:
        twice = any(
            o is not one
            and o.adds is not None
            and one.adds is not None
            and b.same(o.adds, one.adds)
            for o in b.claimed
        )
        said = f"this adds to `{b.tensor}` the same as another statement"
        return self.too_much(one.piece, said if twice else "")

    def too_much(self, piece: Piece, said: str = "") -> Located:
        """A statement that is to be left out."""
        statement = piece.statement
        start = self.layout.start(statement)
        said = said or f"this adds to `{piece.target}` what does not belong to it"
        patch = None
        if start is not None and len(self.layout.group(start)) == 1:
            patch = Patch(start, "delete", None)
        return Located("superfluous term", said, statement.span, patch, start, piece.target)

    def missing(self, b: Balance, missing: Sequence[Entry]) -> list[Located]:
        """Terms that the claim has not; a line that could not be read should have been they."""
        if not missing:
            return []
        return [self.put_in(b.tensor, b.claimed[-1:], [e.piece for e in missing])]

    def _left_out(self, tensor: str) -> int | None:
        """Where a line into the tensor starts that could not be read at all."""
        for start, repair in self.task.claim.repaired.items():
            if repair.text is None and repair.target == tensor and repair.finding >= 0:
                return start
        return None

    def put_in(self, tensor: str, beside: Sequence[Entry], right: Sequence[Piece]) -> Located:
        """Right statements, in the place of a line that could not be read, or beside another."""
        start = self._left_out(tensor)
        how: How = "replace"
        anchor = beside[0].piece if beside else None
        if start is None:
            start, how, anchor = self.opening(tensor, anchor, right)
        return self.beside(anchor, right, start, how)

    def beside(
        self, anchor: Piece | None, right: Sequence[Piece], start: int | None, how: How
    ) -> Located:
        """Right statements at that place of the text; anchor: what they are named after."""
        tensors = list(dict.fromkeys(p.target for p in right))
        texts, patch = self._right(anchor, right, start, how)
        many = f"{len(right)} {'terms' if len(tensors) == 1 else 'statements'} are missing"
        lead = "a term is missing" if len(right) == 1 else many
        of = f" of `{tensors[0]}`" if len(tensors) == 1 else ""
        said = f"{lead}{of}: `{_first(texts)}`"
        span = None if start is None else self.task.claim.stretch_span(start)
        put_in = tuple(right)
        return Located("missing term", said, span, patch, start, tensors[0], put_in=put_in)

    def in_one_block(self, found: Sequence[Located]) -> list[Located]:
        """Statements of one block that are missing are put in as one block, which each of them names."""
        blocks = dict.fromkeys(id(p.blocks[0]) for f in found for p in f.put_in if p.blocks)
        found = list(found)
        for block in blocks:
            of = [k for k, f in enumerate(found) if self._only_in(f, block)]
            if len(of) < 2:
                continue
            pieces = [p for k in of for p in found[k].put_in]
            self.provided.clear()  # with the patches that this one stands for
            start, how, anchor = self.opening(found[of[0]].tensor, None, pieces)
            _, patch = self._right(anchor, pieces, start, how)
            for k in of:
                found[k] = replace(found[k], patch=patch)
        return found

    @staticmethod
    def _only_in(fault: Located, block: int) -> bool:
        """Does it put in statements of that block alone, as a block?"""
        inserted = fault.patch is not None and fault.patch.how != "replace"
        inside = [bool(p.blocks) and id(p.blocks[0]) == block for p in fault.put_in]
        return inserted and bool(inside) and all(inside)

    def opening(
        self, tensor: str, anchor: Piece | None, right: Sequence[Piece] = ()
    ) -> tuple[int | None, How, Piece | None]:
        """Where a statement into the tensor may be put in: behind the last that is there and the last
        of what it reads, before the first that reads it, or at the end."""
        claimed = [p for p in self.bench.claimed if self.layout.start(p.statement) is not None]
        if anchor is not None and self.layout.start(anchor.statement) is not None:
            reads = {r.tensor for p in right for r in statement_reads(p.statement)}
            if anchor.blocks and right and not any(p.blocks for p in right):
                inside = {p.target for p in claimed if p.blocks[:1] == anchor.blocks[:1]}
                how: How = "insert after" if reads & inside else "insert before"
                return self.layout.start(anchor.blocks[0]), how, replace(anchor, blocks=())
            for piece in claimed:
                if piece.place > anchor.place and piece.target in reads:
                    if piece.blocks == anchor.blocks:
                        anchor = replace(anchor, place=piece.place)
                    elif piece.blocks and not anchor.blocks and all(p.blocks for p in right):
                        anchor = piece  # it belongs into that block
                    else:
                        block = piece.blocks[0] if piece.blocks else piece.statement
                        return self.layout.start(block), "insert after", replace(anchor, blocks=())
            behind = next(p for p in claimed if p.place == anchor.place)
            return self.layout.start(behind.statement), "insert after", anchor
        for piece in claimed:
            if any(r.tensor == tensor for r in statement_reads(piece.statement)):
                if piece.blocks and right and all(p.blocks for p in right):
                    return self.layout.start(piece.statement), "insert before", piece
                block = piece.blocks[0] if piece.blocks else piece.statement
                outer = replace(piece, blocks=())
                return self.layout.start(block), "insert before", outer
        if not claimed:
            return None, "insert after", None
        last = claimed[-1]
        block = last.blocks[0] if last.blocks else last.statement
        return self.layout.start(block), "insert after", replace(last, blocks=())

    def lent(self, name: str) -> Located | None:
        """The mend where a claim reads a tensor that it neither gets nor computes."""
        arguments, temporaries = self.translation.given(name)
        needed = self.translation.closure(temporaries) if temporaries else []
        right = [self.bench.right[p.place] for p in needed]
        start, how, anchor = self.opening(name, None, right)
        if start is None:
            return None
        if not temporaries:
            patch = Patch(start, "input", arguments[0], tuple(arguments))
            return Located("unknown name", "", None, patch, None, name)
        _, patch_ = self._right(anchor, right, start, how)
        return Located("missing term", "", None, patch_, None, name)

    def _right(
        self, anchor: Piece | None, right: Sequence[Piece], start: int | None, how: How
    ) -> tuple[list[str], Patch | None]:
        """Right statements in the claim's words, with what they need that it has not.

        anchor: the statement in whose place, or beside which, they stand.
        """
        like = None if anchor is None else anchor.statement
        blocks = () if anchor is None else anchor.blocks
        translated = [self.translation.right[p.place] for p in right]
        statements = self.translation.together(translated, like, blocks)
        _, temporaries = self.translation.needs(statements)
        wanted = [name for name in temporaries if name not in self.provided]
        needed = self.translation.closure(wanted) if wanted else []
        self.provided |= {p.target for p in needed}
        needed = [p for p in needed if p not in translated]
        # What a block needs and stands in none goes before it.
        outside = [p for p in needed if blocks and not p.blocks]
        needed = [p for p in needed if p not in outside]
        everything = statements
        if any(p.blocks for p in needed):
            everything = self.translation.together([*needed, *translated], like, blocks)
        elif needed:
            everything = [*self.translation.together(needed, None, blocks), *statements]
        before = self.translation.together(outside, None, ())
        arguments, _ = self.translation.needs([*before, *everything])
        texts = show_statements(everything)
        said = [show_statement(s) for s in statements]
        if start is None:
            return said, None
        group = self.layout.group(start)
        if how == "replace" and len(group) > 1:
            kept = [s for s in group if s is not like]
            texts = [*show_statements(kept), *texts]
        declarations = self.translation.locals_for([*before, *everything])
        block = self.layout.start(blocks[0]) if blocks else None
        first = (block, "\n".join(show_statements(before))) if before and block else None
        text = "\n".join(texts)
        return said, Patch(start, how, text, tuple(arguments), (), declarations, first)

    def replaced(self, b: Balance) -> list[Located]:
        """Where no edit is found: the right statements in the place of those that are left."""
        if b.is_sum and b.missing and not b.left:
            return self.missing(b, b.missing)
        left = list(b.left) or list(b.claimed)
        missing = [e.piece for e in b.missing]
        if not b.is_sum or not missing:
            left, missing = list(b.claimed), [p for p in self.bench.right if p.target == b.tensor]
        found: list[Located] = []
        first, *others = left
        shares = _shared(missing, len(left)) if len(missing) >= len(left) else None
        if shares is not None:
            for one, share in zip(left, shares, strict=True):
                found.append(self._replacement(b, one, share))
            return found
        found.append(self._replacement(b, first, missing))
        found += [self.superfluous(one, b) for one in others]
        return found

    def _replacement(self, b: Balance, one: Entry, right: Sequence[Piece]) -> Located:
        statement = one.piece.statement
        texts, patch = self._right(one.piece, right, self.layout.start(statement), "replace")
        kind: Kind = "wrong value"
        said = f"this adds to `{b.tensor}` what is not right; the derived statement is `{_first(texts)}`"
        span = statement.span
        if one.fault is not None:
            said = f"{one.fault.why}; the derived statement is `{_first(texts)}`"
            kind = "out of range" if "out of range" in one.fault.why else "wrong value"
            span = (one.fault.read.span if one.fault.read else None) or span
        elif one.adds is not None and _undefined(one.adds, b):
            kind = "undefined"
            said = f"this is no number where the right one is; the derived statement is `{_first(texts)}`"
        elif len(right) == 1 and (beside := self._beside(one.piece, right[0])) is not None:
            kind, said, span = beside.kind, beside.message, beside.span or span
        return Located(kind, said, span, patch, self.layout.start(statement), b.tensor)

    def instead(self, piece: Piece, start: int, right: Piece) -> Located:
        """A right statement in the place of one that starts there."""
        texts, patch = self._right(piece, [right], start, "replace")
        beside = self._beside(piece, right)
        if beside is not None:
            kind, said, span = beside.kind, beside.message, beside.span
        else:
            kind, span = "wrong value", None
            said = f"this is not right; the derived statement is `{_first(texts)}`"
        span = span or self.task.claim.stretch_span(start)
        return Located(kind, said, span, patch, start, piece.target, put_in=(right,))

    def _beside(self, piece: Piece, right: Piece) -> Edit | None:
        """What the statement lacks beside the right one, where that is one place."""
        made = self.bench.inner(self.translation.right[right.place], piece)
        return compared(piece.statement, made) if isinstance(made, Accumulate) else None


def _undefined(adds: Vector, b: Balance) -> bool:
    return bool((~np.isfinite(adds) & np.isfinite(b.total)).any())


def _shared(items: Sequence[Piece], count: int) -> list[list[Piece]]:
    """The items in order, one for each, the last with all that remain."""
    shares = [[item] for item in items[: count - 1]]
    return [*shares, list(items[count - 1 :])]


def _first(texts: Sequence[str]) -> str:
    text = texts[0].split("\n")[-1].strip() if texts else ""
    return text + (" ..." if len(texts) > 1 else "")
