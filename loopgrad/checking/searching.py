"""Faults in temporaries that the forward does not know, told by what hangs on them.

An edit of such a temporary, or of a statement that reads it, is measured by how much of the tensors
that are known is then right: statements, or terms of theirs, that add what a right statement adds, or
that times a factor. The edit after which the most is right is taken; then the next is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking.bench import Bench, size
from loopgrad.checking.edits import Edit
from loopgrad.checking.factors import factor
from loopgrad.checking.matching import entry
from loopgrad.checking.pieces import ADDITIVE, Fault, Piece, Place, Vector, contribution, whole
from loopgrad.checking.trials import LEAST, differing, run
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import Accumulate, Apply, Block, Expression, Program, Statement
from loopgrad.ir.walk import apply
from loopgrad.simplify.numbers.evaluate import TooLarge, Undefined
from loopgrad.simplify.numbers.floats import array

MOST_RUNS = 700  # edits measured
DEEPEST = 4  # edits one after another
MOST_TERMS = 12  # of one statement
A_TERM = 0.9  # bettered by so much, a term came right that was wrong
NEARLY = 0.4  # of a term that is right but for a factor
ABSENT = 0.1  # of a right statement that nothing stands for
ALL = 1000.0  # where no terms can be told apart
ENOUGH = 0.3  # by which an edit has to better the measure


class Search:
    """Looks for one edit after another. bench: the claim with those that were found."""

    def __init__(self, bench: Bench, tensors: Sequence[str]):
        self.bench, self.tensors = bench, tensors
        self.place = bench.places[0]
        self.runs = self.steps = 0
        self.weight = 1 + sum(map(size, bench.claimed)) // 300
        self.in_blocks = any(p.blocks for p in bench.claimed if p.target in bench.own)
        self.program = unfold(bench.task.program)
        self.rights: Mapping[str, list[Vector]] = {
            name: [
                e.adds
                for e in (entry(p, bench.right_places[:1]) for p in bench.right if p.target == name)
                if e.adds is not None and np.abs(np.nan_to_num(e.adds)).max(initial=0.0) > LEAST
            ]
            for name in tensors
        }
        self.measured = self.measure(bench.claimed, self.program)

    def step(self) -> tuple[Piece, Edit] | None:
        """The edit after which the most is right; None where none betters anything."""
        self.steps += 1
        if self.steps > DEEPEST or self.measured == 0:
            return None
        best: tuple[float, Piece, Edit] | None = None
        for piece, edit in self._candidates():
            if self.runs > MOST_RUNS:
                break
            claimed = [p.of(edit.statement) if p is piece else p for p in self.bench.claimed]
            program = with_statement(self.program, piece.statement, edit.statement)
            now = self.measure(claimed, program)
            if best is None or now < best[0] - 1e-9:
                best = (now, piece, edit)
            if now == 0 or now < self.measured - A_TERM:
                break
        if best is None or best[0] > self.measured - ENOUGH:
            return None
        self.measured, piece, edit = best
        self._take(piece, edit)
        return piece, edit

    def _candidates(self) -> list[tuple[Piece, Edit]]:
        """Edits of statements that write or read the claim's own temporaries, the likeliest first."""
        own = self.bench.own
        pieces = [p for p in self.bench.claimed if p.target in own or self.bench.reads_own(p)]
        # What a statement adds elsewhere, where nobody looks, is not wrong there.
        tried = [
            (p, e)
            for p in pieces
            for e in self.bench.edits(p)
            if e.statement.target.tensor in {p.target, *self.tensors}
        ]
        return sorted(tried, key=lambda t: (t[1].cost, t[0].target not in own))

    def _take(self, piece: Piece, edit: Edit) -> None:
        """The claim with that edit, on a bench of its own."""
        self.program = with_statement(self.program, piece.statement, edit.statement)
        bench = copy(self.bench)
        bench.claimed = [p.of(edit.statement) if p is piece else p for p in self.bench.claimed]
        bench.places = [
            bench.place(p.trial, bench.claimed, self.program) for p in self.bench.places
        ]
        # The text still has the statement that was.
        bench.layout = self.bench.layout.with_changed(piece.statement, edit.statement)
        self.bench = bench

    # --------------------------------------------------------------------------------- measuring

    def measure(self, claimed: Sequence[Piece], program: Program) -> float:
        """How much is wrong; 0 where all is right."""
        self.runs += self.weight
        if self.in_blocks:
            return self._wrong_results(program)
        place = self.bench.place(self.place.trial, claimed)
        return sum(self._wrong(name, claimed, place) for name in self.tensors)

    def _wrong_results(self, program: Program) -> float:
        """Recurrences have to be run whole."""
        try:
            facts = infer(program)
            made = run(facts, self.place.trial, self.bench.lines)
        except (ProgramError, Undefined, TooLarge, KeyError):
            return ALL
        right = self.place.trial.tensors
        return float(
            sum(
                bool(differing(array(right[n]), array(made[n])).any())
                for n in self.bench.task.judged
            )
        )

    def _wrong(self, name: str, claimed: Sequence[Piece], place: Place) -> float:
        total = array(place.trial.tensors[name]).ravel()
        pieces = [p for p in claimed if p.target == name]
        if any(p.statement.reduction not in ADDITIVE for p in pieces):
            return self._wrong_whole(total, pieces, place)
        terms: list[Vector] = []
        lost = 0
        for piece in pieces:
            for part in _terms(piece):
                try:
                    terms.append(contribution(part, place).ravel())
                except Fault:
                    lost += 1
        scale = max([LEAST, *(float(np.abs(np.nan_to_num(t)).max(initial=0.0)) for t in terms)])
        if not lost and not differing(total, np.sum(terms, axis=0) + 0 * total, scale).any():
            return 0.0
        rights = list(self.rights[name])
        wrong = float(lost)
        for term in terms:
            same = next((r for r in rights if not differing(r, term, scale).any()), None)
            if same is not None:
                rights = [r for r in rights if r is not same]
                continue
            near = any(factor(term, r, [place], [len(term)], scale) for r in rights)
            wrong += NEARLY if near else 1.0
        return wrong + ABSENT * len(rights)

    @staticmethod
    def _wrong_whole(total: Vector, pieces: Sequence[Piece], place: Place) -> float:
        try:
            made = whole(pieces, place).ravel()
        except Fault:
            return ALL
        return ALL if differing(total, made).any() else 0.0


def _terms(piece: Piece) -> list[Piece]:
    """The statement as one for each term of its value, brackets around it multiplied out."""
    terms = _expanded(piece.statement.value)
    if len(terms) > MOST_TERMS:
        return [piece]
    return [piece.of(replace(piece.statement, value=term)) for term in terms]


def _expanded(value: Expression) -> list[Expression]:
    match value:
        case Apply("+", (left, right)):
            return [*_expanded(left), *_expanded(right)]
        case Apply("-", (left, right)):
            return [*_expanded(left), *(apply("neg", t) for t in _expanded(right))]
        case Apply("neg", (operand,)):
            return [apply("neg", t) for t in _expanded(operand)]
        case Apply("*", (left, right)):
            return [apply("*", a, b) for a in _expanded(left) for b in _expanded(right)]
        case Apply("/", (left, right)):
            return [apply("/", a, right) for a in _expanded(left)]
    return [value]


def with_statement(program: Program, old: Accumulate, new: Accumulate) -> Program:
    """The program with one statement replaced by another."""

    def changed(statement: Statement) -> Statement:
        if statement is old:
            return new
        if isinstance(statement, Block):
            return replace(statement, body=tuple(map(changed, statement.body)))
        return statement

    return replace(program, statements=tuple(map(changed, program.statements)))
