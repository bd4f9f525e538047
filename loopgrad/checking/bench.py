"""A claim on the workbench: its statements, the right ones, and the places where both are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from loopgrad.analysis.facts import TensorFacts
from loopgrad.analysis.infer import infer
from loopgrad.checking.changes import Vocabulary
from loopgrad.checking.comparing import FAR, compared
from loopgrad.checking.edits import Edit, edits
from loopgrad.checking.headers import Task
from loopgrad.checking.likeness import settled
from loopgrad.checking.mending import Layout, Translation
from loopgrad.checking.pieces import ADDITIVE, Fault, Piece, Place, numeric, pieces, whole
from loopgrad.checking.trials import Trial, bound, constants_of, run
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.limits import count_nodes
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Read,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    children,
    indices_of,
    reads,
    statement_expressions,
    statement_reads,
    subexpressions,
    substitute,
)
from loopgrad.simplify.numbers.evaluate import Tensor, TooLarge, Undefined, shape_of
from loopgrad.simplify.numbers.floats import Floats, array, numbers

MOST_CLOSED = 8  # numbers, and factors, that a change may bring in
LARGEST_ORDERED = 80  # names, numbers and operations of a statement


def _names(e: Expression) -> set[str]:
    return {x.name for x in subexpressions(e) if isinstance(x, Extent | Constant)}


def size(piece: Piece) -> int:
    """How many names, numbers and operations the statement has."""
    return count_nodes(*statement_expressions(piece.statement))


class Bench:
    """One claim and the trials that show its faults.

    every: its statements, unfolded; claimed: those of its own text; right: the right ones; known: the
    claim's tensors that the forward or its backward compute too; own: its others.
    """

    def __init__(self, task: Task, trials: Sequence[Trial]):
        self.task, self.trials = task, trials
        self.facts = task.facts
        self.lines = Floats()
        self.layout = Layout(task.claim, task.program)
        self.translation = Translation(task)
        # What was added to the claim so that it could be read is none of its own.
        self.every = pieces(unfold(task.program))
        self.claimed = [
            p
            for p in self.every
            if p.target not in task.claim.added or self.layout.start(p.statement) is not None
        ]
        self.right = self.translation.explicit()
        self.remembered: dict[int, tuple[Accumulate, list[Edit]]] = {}
        program = self.facts.program
        self.firm = frozenset(
            [i.name for i in program.inputs]
            + [r.name for r in program.results]
            + [local.name for local in program.locals]
        )
        self.known = self._known()
        self.own = [
            t.name
            for t in self.facts.tensors.values()
            if t.role != "input" and t.name not in self.known
        ]
        self.places = [self.place(t, self.claimed) for t in trials]
        self.right_places = [
            Place(t, t.extents, t.constants, t.tensors, frozenset(t.tensors), self.lines)
            for t in trials
        ]

    def _known(self) -> frozenset[str]:
        """The claim's tensors that the forward or its backward know, by name and rank.

        Their extents may be others: a wrong subscript changes what is inferred of them. A gradient that
        lacks the statement with its seed is made of itself alone, which makes integers of it.
        """
        if not self.trials:
            return frozenset()
        there = self.trials[0].tensors

        def same_element(t: TensorFacts) -> bool:
            floating = not isinstance(there[t.name], np.ndarray)
            return floating == (t.element is ElementType.FLOAT) or (floating and ".grad" in t.name)

        return frozenset(
            t.name
            for t in self.facts.tensors.values()
            if t.role != "input"
            and t.name in there
            and array(there[t.name]).ndim == t.rank
            and same_element(t)
        )

    def place(
        self, trial: Trial, claimed: Sequence[Piece], program: Program | None = None
    ) -> Place:
        """The trial's tensors, and the claim's own temporaries as it computes them from these.

        Those of blocks, which may hang on themselves, are as a run of the whole claim makes them, or of
        the program where it is another.
        """
        extents, constants = bound(self.facts, trial), constants_of(self.facts, trial)
        place = Place(trial, extents, constants, trial.tensors, self.firm, self.lines)
        turned = {p.target for p in claimed if p.blocks}
        ran = self._ran(trial, program) if turned.intersection(self.own) else {}
        for name in self.own:
            tensor = self.facts.tensors[name]
            if name in turned and name in ran:
                place = place.with_tensor(name, ran[name])
                continue
            try:
                shape = shape_of(tensor.extents, {**extents, **constants})
            except (Undefined, TooLarge, KeyError):
                continue
            floating = tensor.element is ElementType.FLOAT
            empty = np.zeros(shape)
            place = place.with_tensor(name, numbers(empty) if floating else empty.astype(np.int64))
            try:
                made = whole([p for p in claimed if p.target == name], place)
            except (Fault, IndexError):
                continue
            place = place.with_tensor(name, numbers(made) if floating else made.astype(np.int64))
        return place

    def _ran(self, trial: Trial, program: Program | None) -> Mapping[str, Tensor]:
        try:
            facts = self.facts if program is None else infer(program)
            return run(facts, trial, self.lines)
        except (ProgramError, Undefined, TooLarge, KeyError):
            return {}

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
        made = [self.inner(p, piece) for p in self.translation.right if p.target == piece.target]
        right = [s for s in made if isinstance(s, Accumulate)]
        likely = [
            read
            for s in right
            for read in statement_reads(s)
            if read.tensor in floating and indices_of(read) <= set(lengths)
        ]
        words = Vocabulary(
            lengths,
            {n: array(place.tensors[n]).shape for n in floating},
            tuple(self.places[0].extents),
            tuple(c.name for c in self.task.program.constants),
            tuple(self._guards(piece, right, lengths)),
            tuple(dict.fromkeys(likely)),
            (),
            (),
            *self.closed,
        )

        def elements(names: Sequence[str]) -> tuple[Read, ...]:
            shapes = {n: words.shapes[n] for n in names if n in words.shapes}
            return tuple(replace(words, shapes=shapes, reads=()).elements())

        unread = elements([n for n in computed if n not in self.read])
        return replace(
            words, unread=unread, sums=elements([n for n in computed if n in self.summed])
        )

    def _guards(
        self, piece: Piece, right: Sequence[Accumulate], lengths: Mapping[str, int]
    ) -> dict[Expression, None]:
        """Those of right statements of its tensor; of a temporary of the claim's own, those of all that
        read the same as it does, in its own indices."""
        found = {s.guard: None for s in right if s.guard is not None}
        if piece.target not in self.own:
            return found
        mine = {r.tensor: r for r in statement_reads(piece.statement)}
        for guard in (p.statement.guard for p in self.translation.right):
            names: dict[str, Expression] = {}
            for read in reads(guard):
                if read.tensor in mine:
                    pairs = zip(read.subscripts, mine[read.tensor].subscripts, strict=True)
                    names |= {a.name: b for a, b in pairs if isinstance(a, Index)}
            if guard is not None and names:
                named = substitute(guard, names)
                if indices_of(named) <= lengths.keys():
                    found.setdefault(named)
        return found

    @cached_property
    def read(self) -> frozenset[str]:
        """The tensors that some statement of the claim reads."""
        return frozenset(r.tensor for p in self.every for r in statement_reads(p.statement))

    @cached_property
    def summed(self) -> frozenset[str]:
        """The claim's own temporaries that sum over an index which their elements have not."""
        return frozenset(
            p.target
            for p in self.claimed
            if p.target in self.own
            and p.statement.reduction in ADDITIVE
            and not {r.index for r in p.ranges()}
            <= {n for e in p.statement.target.subscripts for n in indices_of(e)}
        )

    @cached_property
    def closed(self) -> tuple[tuple[int | float, ...], tuple[Expression, ...]]:
        """Numbers of right statements, and what is made of numbers, extents and constants alone."""
        numbers: dict[int | float, None] = {}
        factors: dict[Expression, None] = {}
        stack = [self.inner(p, p).value for p in self.translation.right if not p.blocks]  # type: ignore[union-attr]
        stack += [p.statement.value for p in self.translation.right if p.blocks]
        while stack:
            e = stack.pop()
            parts = list(subexpressions(e))
            if isinstance(e, Apply) and not any(
                isinstance(x, Read | Index | Compare | Conditional) for x in parts
            ):
                factors.setdefault(e)
            if isinstance(e, Number) and isinstance(e.value, float):
                numbers.setdefault(e.value)
            stack.extend(children(e))
        names = {*self.places[0].extents, *(c.name for c in self.task.program.constants)}
        known = [e for e in factors if _names(e) <= names]
        return tuple(numbers)[:MOST_CLOSED], tuple(known[:MOST_CLOSED])

    def _length(self, index: str, piece: Piece, place: Place) -> int:
        """How many values the index takes; -1 where that hangs on others."""
        try:
            upper = next(r.upper for r in numeric(piece, place) if r.index == index)
        except Fault:
            return -1
        return upper.value if isinstance(upper, Number) and isinstance(upper.value, int) else -1

    def edits(self, piece: Piece) -> list[Edit]:
        """The edits of the statement; those that give a statement of the backward come first."""
        # By identity: equal statements stand at different places of the text.
        known = self.remembered.get(id(piece.statement))
        if known is None:
            known = piece.statement, self._edits(piece)
            self.remembered[id(piece.statement)] = known
        return known[1]

    def _edits(self, piece: Piece) -> list[Edit]:
        found = edits(piece.statement, self.vocabulary(piece))
        there = [p for p in self.translation.right if p.target == piece.target]
        made = [s for p in there if isinstance(s := self.inner(p, piece), Accumulate)]
        beside = [
            e
            for e in (compared(piece.statement, s) for s in made)
            if e is not None
            and all(r.tensor in self.facts.tensors for r in statement_reads(e.statement))
        ]
        nearest = [e for e in beside if e.cost < FAR]
        far = [e for e in beside if e.cost == FAR]
        if size(piece) > LARGEST_ORDERED:
            return [*nearest, *found, *far]
        right = set(map(settled, made))
        # Where no value is near, only other parts of the statement may be what is wrong.
        likely = [e for e in found if nearest or e.statement.value is piece.statement.value]
        at = {id(e): settled(e.statement) for e in likely}
        ordered = sorted(found, key=lambda e: (at.get(id(e)) not in right, e.cost))
        said = right.intersection(at.values())
        return [*(e for e in nearest if settled(e.statement) not in said), *ordered, *far]

    def inner(self, right: Piece, piece: Piece) -> Statement:
        """A right statement, as it would stand where the piece stands."""
        made = self.translation.statement(right, piece.statement, piece.blocks)
        while isinstance(made, Block):
            made = made.body[0]
        return made

    def reads_own(self, piece: Piece) -> bool:
        """Does the statement read a temporary that the forward does not know?"""
        return any(r.tensor in self.own for r in statement_reads(piece.statement))
