"""Which statements of a wrong claim are at fault, and what would be right in their places.

First tensor by tensor, by contributions (`matching`), then by small edits (`edits`). A temporary that
the forward does not know has no right value of its own: there edits are tried on the whole program.
Last, the right statement itself is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking.changes import Vocabulary
from loopgrad.checking.edits import Edit, edits
from loopgrad.checking.factors import Factor, factor
from loopgrad.checking.findings import How, Kind
from loopgrad.checking.floats import Floats, array, numbers
from loopgrad.checking.headers import Task
from loopgrad.checking.matching import Balance, Entry, balance
from loopgrad.checking.mending import Layout, Patch, Translation
from loopgrad.checking.pieces import (
    Fault,
    Piece,
    Place,
    Vector,
    contribution,
    numeric,
    pieces,
    whole,
)
from loopgrad.checking.trials import Trial, bound, constants_of, differing, run
from loopgrad.diagnostics import ProgramError, Span
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import Accumulate, Block, Expression, Number, Program, Statement
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_statement, show_statements
from loopgrad.ir.walk import statement_reads
from loopgrad.simplify.evaluate import TooLarge, Undefined, shape_of

MOST_TRIED = 6_000  # edits tried on contributions, of one claim
MOST_RUNS = 500  # whole claims run
DEEPEST = 3  # faults found one after another on whole claims


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


class Locator:
    """Looks for the faults of one claim, on trials that show them."""

    def __init__(self, task: Task, trials: Sequence[Trial]):
        self.task, self.trials = task, trials
        self.facts = task.facts
        self.lines = Floats()
        self.layout = Layout(task.claim, task.program)
        self.translation = Translation(task)
        # What was added to the claim so that it could be read is none of its own.
        self.claimed = [
            p
            for p in pieces(unfold(task.program))
            if p.target not in task.claim.added or self.layout.start(p.statement) is not None
        ]
        self.provided: set[str] = set()  # temporaries that a mend computes
        self.right = self.translation.explicit()
        self.tried = 0
        self.runs = 0
        program = self.facts.program
        self.firm = frozenset(
            [i.name for i in program.inputs]
            + [r.name for r in program.results]
            + [local.name for local in program.locals]
        )
        self.known = self._known()
        self.places = [self._place(t) for t in trials]
        self.right_places = [
            Place(t, t.extents, t.constants, t.tensors, frozenset(t.tensors), self.lines)
            for t in trials
        ]

    # ------------------------------------------------------------------------------- settings

    def _known(self) -> frozenset[str]:
        """The claim's tensors that the forward or its backward know, by name and rank.

        Their extents may be others: a wrong subscript changes what is inferred of them.
        """
        there = self.trials[0].tensors
        return frozenset(
            t.name
            for t in self.facts.tensors.values()
            if t.role != "input"
            and t.name in there
            and array(there[t.name]).ndim == t.rank
            and isinstance(there[t.name], np.ndarray) != (t.element is ElementType.FLOAT)
        )

    def _place(self, trial: Trial) -> Place:
        """The trial's tensors, and the claim's own temporaries as it computes them from these."""
        extents, constants = bound(self.facts, trial), constants_of(self.facts, trial)
        tensors = dict(trial.tensors)
        own = [
            t for t in self.facts.tensors.values() if t.role != "input" and t.name not in self.known
        ]
        for tensor in own:
            try:
                shape = shape_of(tensor.extents, {**extents, **constants})
            except (Undefined, TooLarge, KeyError):
                continue
            empty = np.zeros(shape)
            floating = tensor.element is ElementType.FLOAT
            tensors[tensor.name] = numbers(empty) if floating else empty.astype(np.int64)
            place = Place(trial, extents, constants, tensors, self.firm, self.lines)
            group = [p for p in self.claimed if p.target == tensor.name]
            try:
                made = whole(group, place)
            except Fault:
                continue
            tensors[tensor.name] = numbers(made) if floating else made.astype(np.int64)
        return Place(trial, extents, constants, tensors, self.firm, self.lines)

    def vocabulary(self, piece: Piece) -> Vocabulary:
        place = self.places[0]
        lengths: dict[str, int] = {}
        for r in piece.ranges():
            lengths[r.index] = self._length(r.index, piece, place)
        mine = [n for n in place.tensors if n in self.facts.tensors and n != piece.target]
        written = self.facts.tensors
        inputs = [n for n in mine if written[n].role == "input"]
        computed = [n for n in mine if written[n].role == "temporary"]
        floating = [n for n in (*inputs, *computed) if not isinstance(place.tensors[n], np.ndarray)]
        conditions = [
            c for c in (self._condition(p, piece) for p in self.translation.right) if c is not None
        ]
        return Vocabulary(
            lengths,
            {n: array(place.tensors[n]).shape for n in floating},
            tuple(self.places[0].extents),
            tuple(c.name for c in self.task.program.constants),
            tuple(dict.fromkeys(conditions)),
        )

    def _length(self, index: str, piece: Piece, place: Place) -> int:
        """How many values the index takes; -1 where that hangs on others."""
        try:
            upper = next(r.upper for r in numeric(piece, place) if r.index == index)
        except Fault:
            return -1
        return upper.value if isinstance(upper, Number) and isinstance(upper.value, int) else -1

    def _condition(self, right: Piece, piece: Piece) -> Expression | None:
        if right.target != piece.target or right.statement.guard is None:
            return None
        made = self._inner(right, piece)
        return made.guard if isinstance(made, Accumulate) else None

    # ------------------------------------------------------------------------------- the search

    def locate(self) -> list[Located]:
        """The faults, each tensor's in turn."""
        found: list[Located] = []
        unexplained: list[Balance] = []
        for tensor in self._tensors():
            group = [p for p in self.claimed if p.target == tensor]
            right = [p for p in self.right if p.target == tensor]
            balanced = balance(tensor, group, right, self.places, self.right_places)
            if balanced is None:
                continue
            faults = self.explained(balanced)
            if faults is None:
                unexplained.append(balanced)
            else:
                found += faults
        if self._has_own_temporaries() and (unexplained or not found):
            searched = self.searched(found)
            if searched is not None:
                return searched
        for balanced in unexplained:
            found += self.replaced(balanced)
        return found

    def _tensors(self) -> Iterator[str]:
        """Those that the claim computes and the forward knows, and of lines that cannot be read.

        Those of lines that were left out only for another's sake are not judged.
        """
        repaired = self.task.claim.repaired.values()
        unsure = {r.target for r in repaired if r.text is None and r.finding < 0}
        seen = dict.fromkeys(p.target for p in self.claimed if p.target in self.known)
        there = {p.target for p in self.right}
        for r in repaired:
            if r.text is None and r.target is not None and r.target in there:
                seen.setdefault(r.target)
        seen.update((name, None) for name in self.task.claim.added if name in there)
        return iter([name for name in seen if name not in unsure])

    def _has_own_temporaries(self) -> bool:
        return any(p.target not in self.known for p in self.claimed)

    # ------------------------------------------------------------------------ by contributions

    def explained(self, b: Balance) -> list[Located] | None:
        """The faults of one tensor; None where something is left that no small edit mends."""
        if not b.is_sum:
            for one in b.left:
                edit = self.edited_whole(b, one)
                if edit is not None:
                    return [self._of_edit(one.piece, edit)]
            return None
        single = self._single(b)
        if single is not None:
            return [single]
        left, missing, found = list(b.left), list(b.missing), []
        for one in b.left:
            now = replace(b, missing=tuple(missing))
            match = self.edited(now, one, [(o.adds, (o,)) for o in missing if o.adds is not None])
            if match is not None:
                edit, stands_for = match
                found.append(self._of_edit(one.piece, edit))
                left.remove(one)
                missing = [m for m in missing if m not in stands_for]
        if left and missing:
            return None
        if missing and any(self._own(e) for e in b.claimed):
            return None
        found += [self._superfluous(one, b) for one in left]
        found += self._missing(b, missing)
        return found

    def _own(self, e: Entry) -> bool:
        """Does the statement read a temporary that the forward does not know?"""
        return any(
            r.tensor in self.facts.tensors
            and self.facts.tensors[r.tensor].role != "input"
            and r.tensor not in self.known
            for r in statement_reads(e.piece.statement)
        )

    def _single(self, b: Balance) -> Located | None:
        """One statement, one edit, and the tensor is right."""
        best: tuple[Edit, Entry] | None = None
        for one in b.left:
            residual = b.residual(one)
            if residual is None or not self._worth(b, one, residual):
                continue
            match = self.edited(b, one, [(residual, b.missing)])
            if match is not None and (best is None or match[0].cost < best[0].cost):
                best = (match[0], one)
        return None if best is None else self._of_edit(best[1].piece, best[0])

    def _worth(self, b: Balance, one: Entry, residual: Vector) -> bool:
        """A statement that has to add nothing is superfluous, not misspelt."""
        known = residual[np.isfinite(residual)]
        return bool(np.abs(known).max(initial=0.0) > 1e-9 * b.scale)

    def edited(
        self, b: Balance, one: Entry, wanted: Sequence[tuple[Vector, tuple[Entry, ...]]]
    ) -> tuple[Edit, tuple[Entry, ...]] | None:
        """The cheapest edit after which the statement adds one of what is wanted."""
        factors = [self._factor(b, one, goal) for goal, _ in wanted]
        for edit in self._edits(one.piece):
            known = next(((f, w) for f, w in zip(factors, wanted, strict=True) if f), None)
            if known is not None and edit.cost > 4:
                return self._by_factor(one.piece, known[0]), known[1][1]
            if self.tried > MOST_TRIED:
                return None
            self.tried += 1
            changed = one.piece.of(edit.statement)
            if edit.statement.target.tensor != b.tensor:
                continue
            for (goal, stands_for), by in zip(wanted, factors, strict=True):
                if self._adds(b, changed, goal):
                    return (self._told(edit, by), stands_for)
        known = next(((f, w) for f, w in zip(factors, wanted, strict=True) if f), None)
        return (self._by_factor(one.piece, known[0]), known[1][1]) if known else None

    def _edits(self, piece: Piece) -> list[Edit]:
        """The edits of the statement; those that give a statement of the backward come first."""
        found = edits(piece.statement, self.vocabulary(piece))
        right: set[Statement] = set()
        for other in self.translation.right:
            if other.target == piece.target:
                right.add(self._inner(other, piece))
        return sorted(found, key=lambda e: (e.statement not in right, e.cost))

    def _inner(self, right: Piece, piece: Piece) -> Statement:
        """A right statement, as it would stand where the piece stands."""
        made = self.translation.statement(right, piece.statement, piece.blocks)
        while isinstance(made, Block):
            made = made.body[0]
        return made

    def _adds(self, b: Balance, piece: Piece, goal: Vector) -> bool:
        """Does the piece add that, in every trial? The first that it fails ends it."""
        start = 0
        for place, size in zip(self.places, b.sizes, strict=True):
            try:
                added = contribution(piece, place).ravel()
            except Fault:
                return False
            if not b.same(goal[start : start + size], added):
                return False
            start += size
        return True

    def _factor(self, b: Balance, one: Entry, goal: Vector) -> Factor | None:
        if one.adds is None:
            return None
        return factor(one.adds, goal, self.places, b.sizes, b.scale)

    def _told(self, edit: Edit, by: Factor | None) -> Edit:
        """The edit with the factor by which the statement is off, where that says more."""
        factors = ("missing factor", "superfluous factor", "wrong number", "wrong operation")
        if by is None or edit.kind not in factors:
            return edit
        kind = by.kind() if edit.kind in ("wrong number", "wrong operation") else edit.kind
        return replace(edit, kind=kind, message=f"{edit.message}: {by.said()}")

    def _by_factor(self, piece: Piece, by: Factor) -> Edit:
        statement = piece.statement
        new = replace(statement, value=by.applied(statement.value))
        said = (
            by.said()
            if by.kind() != "missing factor"
            else (f"the factor `{'' if by.inverse else '/ '}{by.text}` is missing: {by.said()}")
        )
        return Edit(4, by.kind(), said, new, statement.value.span)

    def edited_whole(self, b: Balance, one: Entry) -> Edit | None:
        """The same for a tensor that is no sum: all its statements are run."""
        group = [e.piece for e in b.claimed]
        for edit in self._edits(one.piece):
            if self.tried > MOST_TRIED:
                return None
            self.tried += 1
            changed = [p.of(edit.statement) if p is one.piece else p for p in group]
            if edit.statement.target.tensor == b.tensor and self._makes(b, changed):
                return edit
        return None

    def _makes(self, b: Balance, group: Sequence[Piece]) -> bool:
        for place in self.places:
            try:
                made = whole(group, place)
            except Fault:
                return False
            if differing(array(place.trial.tensors[b.tensor]), made, b.scale).any():
                return False
        return True

    # ------------------------------------------------------------------------------ the answers

    def _of_edit(self, piece: Piece, edit: Edit) -> Located:
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

    def _superfluous(self, one: Entry, b: Balance) -> Located:
        statement = one.piece.statement
        start = self.layout.start(statement)
        twice = any(
            o is not one
            and o.adds is not None
            and one.adds is not None
            and b.same(o.adds, one.adds)
            for o in b.claimed
        )
        said = f"this adds to `{b.tensor}` what does not belong to it"
        if twice:
            said = f"this adds to `{b.tensor}` the same as another statement"
        patch = None
        if start is not None and len(self.layout.group(start)) == 1:
            patch = Patch(start, "delete", None)
        return Located("superfluous term", said, statement.span, patch, start, b.tensor)

    def _missing(self, b: Balance, missing: Sequence[Entry]) -> list[Located]:
        """Terms that the claim has not; a line that could not be read should have been they."""
        if not missing:
            return []
        return [self._put_in(b.tensor, b.claimed[-1:], [e.piece for e in missing])]

    def _left_out(self, tensor: str) -> int | None:
        """Where a line into the tensor starts that could not be read at all."""
        for start, repair in self.task.claim.repaired.items():
            if repair.text is None and repair.target == tensor and repair.finding >= 0:
                return start
        return None

    def _put_in(self, tensor: str, beside: Sequence[Entry], right: Sequence[Piece]) -> Located:
        """Right statements, in the place of a line that could not be read, or beside another."""
        start = self._left_out(tensor)
        how: How = "replace"
        anchor = beside[0].piece if beside else None
        if start is None:
            start, how, anchor = self.opening(tensor, anchor, right)
        texts, patch = self._right(anchor, right, start, how)
        terms = "a term is missing" if len(right) == 1 else f"{len(right)} terms are missing"
        said = f"{terms} of `{tensor}`: `{_first(texts)}`"
        span = None if start is None else self.task.claim.stretch_span(start)
        return Located("missing term", said, span, patch, start, tensor)

    def opening(
        self, tensor: str, anchor: Piece | None, right: Sequence[Piece] = ()
    ) -> tuple[int | None, How, Piece | None]:
        """Where a statement into the tensor may be put in: behind the last that is there and the last
        of what it reads, before the first that reads it, or at the end."""
        claimed = [p for p in self.claimed if self.layout.start(p.statement) is not None]
        if anchor is not None and self.layout.start(anchor.statement) is not None:
            reads = {r.tensor for p in right for r in statement_reads(p.statement)}
            for piece in claimed:
                if piece.place > anchor.place and piece.target in reads:
                    if piece.blocks == anchor.blocks:
                        anchor = replace(anchor, place=piece.place)
                    else:
                        block = piece.blocks[0] if piece.blocks else piece.statement
                        return self.layout.start(block), "insert after", replace(anchor, blocks=())
            behind = next(p for p in claimed if p.place == anchor.place)
            return self.layout.start(behind.statement), "insert after", anchor
        for piece in claimed:
            if any(r.tensor == tensor for r in statement_reads(piece.statement)):
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
        start, how, anchor = self.opening(name, None)
        if start is None:
            return None
        if not temporaries:
            patch = Patch(start, "input", arguments[0], tuple(arguments))
            return Located("unknown name", "", None, patch, None, name)
        needed = self.translation.closure(temporaries)
        _, patch_ = self._right(anchor, [self.right[p.place] for p in needed], start, how)
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
        everything = statements
        if any(p.blocks[len(blocks) :] for p in needed):
            everything = self.translation.together([*needed, *translated], like, blocks)
        elif needed:
            everything = [*self.translation.together(needed, None, blocks), *statements]
        arguments, _ = self.translation.needs(everything)
        texts = show_statements(everything)
        said = [show_statement(s) for s in statements]
        if start is None:
            return said, None
        group = self.layout.group(start)
        if how == "replace" and len(group) > 1:
            kept = [s for s in group if s is not like]
            texts = [*show_statements(kept), *texts]
        declarations = self.translation.locals_for(everything)
        return said, Patch(start, how, "\n".join(texts), tuple(arguments), (), declarations)

    def replaced(self, b: Balance) -> list[Located]:
        """Where no edit is found: the right statements in the place of those that are left."""
        left = list(b.left) or list(b.claimed)
        missing = [e.piece for e in b.missing]
        if not b.is_sum or not missing:
            left, missing = list(b.claimed), [p for p in self.right if p.target == b.tensor]
        found: list[Located] = []
        first, *others = left
        shares = _shared(missing, len(left)) if len(missing) >= len(left) else None
        if shares is not None:
            for one, share in zip(left, shares, strict=True):
                found.append(self._replacement(b, one, share))
            return found
        found.append(self._replacement(b, first, missing))
        found += [self._superfluous(one, b) for one in others]
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
        return Located(kind, said, span, patch, self.layout.start(statement), b.tensor)

    # ---------------------------------------------------------------------- on the whole claim

    def searched(self, already: Sequence[Located]) -> list[Located] | None:
        """Edits of the whole claim, fewest wrong results first; None where none make it right."""
        program = unfold(self.task.program)
        for fault in already:
            if fault.new is None or fault.old is None:
                return None
            program = _with(program, fault.old, fault.new)
        found = list(already)
        score = self.score(program)
        for _ in range(DEEPEST):
            step = self._step(program, score)
            if step is None:
                return None
            edit, old, program, score = step
            piece = next(p for p in self.claimed if p.statement is old)
            found.append(self._of_edit(piece, edit))
            if score == 0:
                return found
        return None

    def _step(self, program: Program, score: int) -> tuple[Edit, Accumulate, Program, int] | None:
        """The cheapest edit that makes all right, or else the one that leaves the fewest wrong."""
        tried: list[tuple[Edit, Accumulate]] = []
        originals = {id(p.statement) for p in self.claimed}
        for piece in pieces(program):
            if id(piece.statement) in originals:
                tried += [(e, piece.statement) for e in self._edits(piece)]
        tried.sort(key=lambda t: t[0].cost)
        best: tuple[Edit, Accumulate, Program, int] | None = None
        for edit, old in tried:
            if self.runs > MOST_RUNS:
                break
            changed = _with(program, old, edit.statement)
            now = self.score(changed)
            if now == 0:
                return edit, old, changed, 0
            if now < score and (best is None or now < best[3]):
                best = (edit, old, changed, now)
        return best

    def score(self, program: Program) -> int:
        """How many results are wrong, in the first trial that shows any."""
        self.runs += 1
        try:
            facts = infer(program)
        except ProgramError:
            return 1000
        worst = 0
        for trial in self.trials:
            try:
                made = run(facts, trial, self.lines)
            except (Undefined, TooLarge, KeyError):
                return 1000
            wrong = sum(
                bool(differing(array(trial.tensors[n]), array(made[n])).any())
                for n in self.task.judged
            )
            if wrong:
                return max(wrong, worst)
        return worst


def _with(program: Program, old: Accumulate, new: Accumulate) -> Program:
    def changed(statement: Statement) -> Statement:
        if statement is old:
            return new
        if isinstance(statement, Block):
            return replace(statement, body=tuple(map(changed, statement.body)))
        return statement

    return replace(program, statements=tuple(map(changed, program.statements)))


def _undefined(adds: Vector, b: Balance) -> bool:
    return bool((~np.isfinite(adds) & np.isfinite(b.total)).any())


def _shared(items: Sequence[Piece], count: int) -> list[list[Piece]]:
    """The items in order, one for each, the last with all that remain."""
    shares = [[item] for item in items[: count - 1]]
    return [*shares, list(items[count - 1 :])]


def _first(texts: Sequence[str]) -> str:
    text = texts[0].split("\n")[-1].strip() if texts else ""
    return text + (" ..." if len(texts) > 1 else "")
