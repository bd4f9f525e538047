"""Which statements of a wrong claim are at fault, and what would be right in their places.

First tensor by tensor, by contributions (`matching`), then by small edits (`edits`). A temporary that
the forward does not know has no right value of its own: there edits are tried on all that hangs on it
(`searching`). Last, the right statement itself is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from loopgrad.checking.answers import Answers, Located
from loopgrad.checking.bench import Bench, size
from loopgrad.checking.edits import Edit, operator_span
from loopgrad.checking.factors import Factor, factor
from loopgrad.checking.matching import Balance, Entry, balance, nothing
from loopgrad.checking.pieces import ADDITIVE, Fault, Piece, Place, Vector, contribution, whole
from loopgrad.checking.searching import Search
from loopgrad.checking.solving import Solver
from loopgrad.checking.trials import differing
from loopgrad.ir.nodes import Reduction
from loopgrad.ir.walk import indices_of
from loopgrad.simplify.numbers.floats import array, numbers

MOST_TRIED = 6_000  # edits of small statements tried on one claim
SOLVED_FOR = 2  # trials in which values of temporaries are solved for
LIKELY = 4  # the cost of edits that are likelier than that a factor is missing


@dataclass(frozen=True)
class Solved:
    """A fault of a temporary whose right value was solved for, what its edit costs, and the tensors that
    hang on it."""

    cost: int
    fault: Located
    mends: frozenset[str]


class Locator:
    """Looks for the faults of the claim on a bench."""

    def __init__(self, bench: Bench):
        self.bench, self.task = bench, bench.task
        self.answers = Answers(bench)
        self.tried = 0

    def locate(self) -> list[Located]:
        """The faults, each tensor's in turn."""
        found, unexplained = self._by_tensor()
        if not found and not unexplained:
            found = self._overwritten()
        solved = self._solved() if found or unexplained else None
        if solved is not None:
            others = [f for f in found if f.tensor not in solved.mends]
            if unexplained or self._cheaper(solved, [f for f in found if f not in others]):
                return [solved.fault, *others]
        if unexplained and self.bench.own:
            searched = self._searched()
            if searched is not None:
                return searched
        for balanced in unexplained:
            found += self.answers.replaced(balanced)
        # What is missing only because the line that makes it could not be read is mended there.
        unread = {r.target for r in self.task.claim.repaired.values() if r.text is None}
        lent = [self.answers.lent(name) for name in self.task.claim.lent if name not in unread]
        found = self.answers.in_one_block(found)
        return [*found, *(fault for fault in lent if fault is not None)]

    def _overwritten(self) -> list[Located]:
        """Statements that set what they ought to add to: each turn writes over the one before."""
        added = {p.target for p in self.bench.right if p.statement.reduction is not Reduction.SET}
        pieces = [
            p
            for p in self.bench.claimed
            if p.statement.reduction is Reduction.SET
            and p.target in added
            and {n for e in p.statement.target.subscripts for n in indices_of(e)}
            != {r.index for r in p.ranges()}
        ]
        said = "`=` keeps the last of what it writes there, and right is `+=`"
        return [
            self.answers.of_edit(
                p,
                Edit(
                    1,
                    "wrong operation",
                    said,
                    replace(p.statement, reduction=Reduction.ADD),
                    operator_span(p.statement),
                ),
            )
            for p in pieces
        ]

    def _solved(self) -> Solved | None:
        """The one small change of a temporary of the claim's own that makes its value right."""
        best: Solved | None = None
        smallest = sorted(self.bench.places, key=lambda p: np.prod(list(p.extents.values())))
        for name in self.bench.own:
            claimed = [p for p in self.bench.claimed if p.target == name]
            if not all(p.statement.reduction in ADDITIVE for p in claimed):
                continue
            solver = Solver(self.task, name, self.bench.lines)
            places: list[Place] = []
            for place in smallest[:SOLVED_FOR]:
                solution = solver.solution(place.trial)
                if solution is not None:
                    for other in self.bench.own:
                        if other in solution.tensors:
                            place = place.with_tensor(other, solution.tensors[other])
                    value = numbers(solution.value)
                    places.append(place.with_tensor(name, value, solution.image))
            if not places:
                continue
            bench = copy(self.bench)
            bench.places = places
            locator = Locator(bench)
            balanced = balance(name, claimed, (), bench.places, ())
            twice = _too_much(balanced)
            if twice is not None and balanced is not None:
                return Solved(1, self.answers.superfluous(twice, balanced), solver.hanging)
            found = locator.single(balanced)
            if found is not None and (best is None or found[0].cost < best.cost):
                fault = self.answers.of_edit(found[1].piece, found[0])
                best = Solved(found[0].cost, fault, solver.hanging)
        return best

    def _cheaper(self, solved: Solved, found: Sequence[Located]) -> bool:
        """Is it the likelier one, where statements that read the temporary would also do?"""
        if len(found) != 1 or found[0].old is None:
            return len(found) > 1 or all(f.kind == "missing term" for f in found)
        old = next(p for p in self.bench.claimed if p.statement is found[0].old)
        edits = (e for e in self.bench.edits(old) if e.statement == found[0].new)
        return self.bench.reads_own(old) and all(solved.cost < e.cost for e in edits)

    def _by_tensor(self) -> tuple[list[Located], list[Balance]]:
        found: list[Located] = []
        unexplained: list[Balance] = []
        for tensor in self._tensors():
            balanced = self.balance(tensor, self.bench.places)
            if balanced is None:
                continue
            faults = self.explained(balanced)
            if faults is None:
                unexplained.append(balanced)
            else:
                found += faults
        return found, unexplained

    def balance(self, tensor: str, places: Sequence[Place]) -> Balance | None:
        claimed = [p for p in self.bench.claimed if p.target == tensor]
        right = [p for p in self.bench.right if p.target == tensor]
        return balance(tensor, claimed, right, places, self.bench.right_places)

    def _tensors(self) -> Iterator[str]:
        """Those that the claim computes and the forward knows, and of lines that cannot be read.

        Those of lines that were left out only for another's sake are not judged.
        """
        repaired = self.task.claim.repaired.values()
        unsure = {r.target for r in repaired if r.text is None and r.finding < 0}
        seen = dict.fromkeys(p.target for p in self.bench.claimed if p.target in self.bench.known)
        there = {p.target for p in self.bench.right}
        for r in repaired:
            if r.text is None and r.target is not None and r.target in there:
                seen.setdefault(r.target)
        seen.update((name, None) for name in self.task.claim.added if name in there)
        return iter([name for name in seen if name not in unsure])

    def _searched(self) -> list[Located] | None:
        """Edits of the claim's own temporaries, one after another, until the rest is explained."""
        search = Search(self.bench, list(self._tensors()))
        mended: list[Located] = []
        while (step := search.step()) is not None:
            piece, edit = step
            mended.append(self.answers.of_edit(piece, edit))
            self.bench = self.answers.bench = search.bench
            self.answers.layout = search.bench.layout
            found, unexplained = self._by_tensor()
            if not unexplained:
                return _once([*mended, *found])
        return None

    # ------------------------------------------------------------------------ by contributions

    def explained(self, b: Balance) -> list[Located] | None:
        """The faults of one tensor; None where something is left that no small edit mends."""
        if not b.is_sum:
            for one in b.left:
                edit = self.edited_whole(b, one)
                if edit is not None:
                    return [self.answers.of_edit(one.piece, edit)]
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
                found.append(self.answers.of_edit(one.piece, edit))
                left.remove(one)
                missing = [m for m in missing if m not in stands_for]
        if left and missing:
            return None
        reading = [e for e in b.claimed if self.bench.reads_own(e.piece)]
        if missing and reading:  # a term that is missing inside, or else a temporary is wrong
            cheapest = self._cheapest(b, reading)
            return None if cheapest is None else [self._edited(cheapest)]
        found += [self.answers.superfluous(one, b) for one in left]
        found += self.answers.missing(b, missing)
        return found

    def _single(self, b: Balance) -> Located | None:
        found = self.single(b)
        return None if found is None else self._edited(found)

    def _edited(self, found: tuple[Edit, Entry]) -> Located:
        return self.answers.of_edit(found[1].piece, found[0])

    def single(self, b: Balance | None) -> tuple[Edit, Entry] | None:
        """One statement, one edit, and the tensor is right."""
        if b is None:
            return None
        # A temporary that nothing reads is what the one place lacks.
        idle = not b.left and any(name not in self.bench.read for name in self.bench.own)
        return self._cheapest(b, b.claimed if idle else b.left)

    def _cheapest(self, b: Balance, among: Sequence[Entry]) -> tuple[Edit, Entry] | None:
        """The cheapest edit of one of the statements, or of its twin, after which the tensor is right."""
        best: tuple[Edit, Entry] | None = None
        for one in among:
            residual = b.residual(one)
            if residual is None or not _worth(b, one, residual):
                continue
            for twin in (one, *_twins(b, one)):
                match = self.edited(b, twin, [(residual, b.missing)])
                if match is not None and (best is None or match[0].cost < best[0].cost):
                    best = (match[0], twin)
        return best

    def edited(
        self, b: Balance, one: Entry, wanted: Sequence[tuple[Vector, tuple[Entry, ...]]]
    ) -> tuple[Edit, tuple[Entry, ...]] | None:
        """The cheapest edit after which the statement adds one of what is wanted."""
        factors = [self._factor(b, one, goal) for goal, _ in wanted]
        off = next(((f, w[1]) for f, w in zip(factors, wanted, strict=True) if f), None)
        weight = _weight(one.piece)
        for edit in self.bench.edits(one.piece):
            if off is not None and edit.cost > LIKELY:
                break
            if self.tried > MOST_TRIED:
                return None
            if edit.statement.target.tensor != b.tensor:
                continue
            self.tried += weight
            changed = one.piece.of(edit.statement)
            for (goal, stands_for), by in zip(wanted, factors, strict=True):
                if self._adds(b, changed, goal):
                    return (_told(edit, by), stands_for)
        return None if off is None else (_by_factor(one.piece, off[0]), off[1])

    def _adds(self, b: Balance, piece: Piece, goal: Vector) -> bool:
        """Does the piece add that, in every trial? The first that it fails ends it."""
        start = 0
        for place, count in zip(self.bench.places, b.sizes, strict=True):
            try:
                added = contribution(piece, place).ravel()
            except Fault:
                return False
            if not b.same(goal[start : start + count], added):
                return False
            start += count
        return True

    def _factor(self, b: Balance, one: Entry, goal: Vector) -> Factor | None:
        if one.adds is None:
            return None
        return factor(one.adds, goal, self.bench.places, b.sizes, b.scale)

    def edited_whole(self, b: Balance, one: Entry) -> Edit | None:
        """The same for a tensor that is no sum: all its statements are run."""
        group = [e.piece for e in b.claimed]
        weight = sum(map(_weight, group))
        for edit in self.bench.edits(one.piece):
            if self.tried > MOST_TRIED:
                return None
            if edit.statement.target.tensor != b.tensor:
                continue
            self.tried += weight
            if self._makes(b, [p.of(edit.statement) if p is one.piece else p for p in group]):
                return edit
        return None

    def _makes(self, b: Balance, group: Sequence[Piece]) -> bool:
        for place in self.bench.places:
            try:
                made = whole(group, place)
            except Fault:
                return False
            if differing(array(place.trial.tensors[b.tensor]), made, b.scale).any():
                return False
        return True


def _weight(piece: Piece) -> int:
    """How much of the budget it takes to run the statement once."""
    return 1 + size(piece) // 20


def _once(found: Sequence[Located]) -> list[Located]:
    """The last word on each statement."""
    last = {f.statement if f.statement is not None else k: f for k, f in enumerate(found)}
    return list(last.values())


def _twins(b: Balance, one: Entry) -> list[Entry]:
    """Other statements that add the same: one of them is right, and which is not said by the numbers."""
    if one.adds is None:
        return []
    left = {id(e) for e in b.left}
    others = (e for e in b.claimed if id(e) not in left)
    return [e for e in others if e.adds is not None and b.same(one.adds, e.adds)]


def _too_much(b: Balance | None) -> Entry | None:
    """A statement without which the others of the tensor are right."""
    if b is None or len(b.claimed) < 2:
        return None
    residuals = ((one, b.residual(one)) for one in b.claimed if one.adds is not None)
    return next((one for one, r in residuals if r is not None and nothing(r, b.scale)), None)


def _worth(b: Balance, one: Entry, residual: Vector) -> bool:
    """A statement that has to add nothing is superfluous, not misspelt."""
    if one.adds is None:
        return True
    known = residual[np.isfinite(residual)]
    return bool(np.abs(known).max(initial=0.0) > 1e-9 * b.scale)


def _told(edit: Edit, by: Factor | None) -> Edit:
    """The edit with the factor by which the statement is off, where that says more."""
    factors = ("missing factor", "superfluous factor", "wrong number", "wrong operation")
    if by is None or edit.kind not in factors:
        return edit
    kind = by.kind() if edit.kind in ("wrong number", "wrong operation") else edit.kind
    return replace(edit, kind=kind, message=f"{edit.message}: {by.said()}")


def _by_factor(piece: Piece, by: Factor) -> Edit:
    statement = piece.statement
    new = replace(statement, value=by.applied(statement.value))
    said = by.said()
    if by.kind() == "missing factor":
        said = f"the factor `{'' if by.inverse else '/ '}{by.text}` is missing: {said}"
    return Edit(LIKELY, by.kind(), said, new, statement.value.span)
