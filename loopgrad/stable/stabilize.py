"""`stabilize`: a program to an equal one that neither overflows nor cancels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from decimal import localcontext
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import asking_for, tidy
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.limits import within_limits
from loopgrad.ir.memo import is_final, once_per_program
from loopgrad.ir.nodes import Apply, Number, Program
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    reads,
    statement_expressions,
    subexpressions,
)
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.reading.forms import equal_forms
from loopgrad.simplify.searching.cost import cost
from loopgrad.stable.candidates import Shift, candidates
from loopgrad.stable.differing import length
from loopgrad.stable.gate import Gate
from loopgrad.stable.invariance import moves
from loopgrad.stable.near_one import has_differences, with_differences
from loopgrad.stable.pieces import MANY, pieced
from loopgrad.stable.reader import Top
from loopgrad.stable.scaling import Scaled, scaled, scaled_once
from loopgrad.stable.shifting import shifted
from loopgrad.stable.typical import is_typical

DEARER = (
    4.0  # times the literal loops, nothing hoisted; of the tests' programs none takes more than 2.5
)
PROOF = 5_000  # terms that one may take, of a program of so many statements, and loops around each
MOST_PLACES, MOST_LOOPS = 8, 3
EXPONENTIALS = frozenset(("exp", "sigmoid"))
UNDOING = frozenset(("exp", "log", "log1p", "rsqrt"))  # of a sigmoid; and what divides by one

Meanwhile: TypeAlias = Callable[[Program], None]
Answer = TypeVar("Answer")


def _nothing(_: Program) -> None:
    pass


def stabilize(program: Program) -> Program:
    """The program as `compile` runs it: equal to it in real numbers, accurate in floating point.

    The program itself where it is as good as any form that is known.

    >>> import loopgrad as lg
    >>> from loopgrad.stable import stabilize
    >>> print(stabilize(lg.lib.softmax))
    softmax(s[B,J]) -> p[B,J]:
        for b, j:  Z.max[b]   max= s[b,j]
        for b:     Z.shift[b] = Z.max[b] if abs(Z.max[b]) < inf else 0.0
        for b, j:  Z'[b]      += exp(s[b,j] - Z.shift[b])
        for b, j:  p[b,j]     += exp(s[b,j] - Z.shift[b]) / Z'[b]
    """
    found = stabilized(program)
    return program if found is None else tidy(found, infer(found))


@once_per_program
def stabilized(program: Program, meanwhile: Meanwhile = _nothing) -> Program | None:
    """The program as `compile` runs it; None for the program itself.

    With every range written, but for those that say which extents have to be equal.

    meanwhile: is told of the form that will be it unless the certificate refuses it, which takes a while.
    """
    if is_final(program):
        return None
    facts = infer(program)
    shifts = candidates(facts)
    if not shifts and not has_exponentials(facts.program) and not has_differences(facts.program):
        return None
    try:
        found = _found(facts, shifts, meanwhile)
    except RecursionError:
        return None
    return None if found is None else asking_for(found, facts)


def _found(facts: Facts, shifts: Sequence[Shift], meanwhile: Meanwhile) -> Program | None:
    search = _Search(facts)
    found = _of_pieces(search, meanwhile)
    if found is None:
        return _certified(search, shifts, meanwhile)
    # What is in common to an input of sums may be taken off still.
    means = [shift for shift in shifts if shift.by == "mean"]
    return (_certified(_Search(infer(found)), means, _nothing) if means else None) or found


def _of_pieces(search: _Search, meanwhile: Meanwhile) -> Program | None:
    """A large program with the pieces of it that gain something in their best forms; None for others."""
    program = search.facts.program
    if length(program) < MANY or program.primal is not None:
        return None
    with _in_decimals():
        forms = search.first_forms()
    whole = pieced(search.facts, forms) if forms else None
    if whole is None:
        return None
    # Layers that are alike have pieces that are.
    searches = {piece.alike: _Search(infer(piece.alike)) for piece in whole.pieces}
    with _in_decimals():
        if any(search.gate.case is None for search in searches.values()):
            return None
    told = False
    while True:
        with _in_decimals():
            best = {alike: s.best(candidates(s.facts)) for alike, s in searches.items()}
        found = whole.with_forms(best) if any(best.values()) else None
        if found is None:
            return None
        if not told:
            meanwhile(found)
            told = True
        with _in_decimals():
            refused = {
                alike: new
                for alike, new in best.items()
                if new is not None and not searches[alike].gate.is_equal(new)
            }
        if not refused:
            return found
        for alike, new in refused.items():
            searches[alike].refused.add(new)


def _certified(search: _Search, shifts: Sequence[Shift], meanwhile: Meanwhile) -> Program | None:
    """The best form that is equal.

    A certificate takes several times as long as all the rest, and hardly ever refuses a form that gains
    something. So a form is searched for as if all were equal, and one certificate is asked for; where it
    refuses, the search begins again without that form; nobody is told of the next one.
    """
    while True:
        with _in_decimals():
            found = search.best(shifts)
        if found is None:
            return None
        if not search.refused:
            meanwhile(found)
        with _in_decimals():
            if search.gate.is_equal(found):
                return found
        search.refused.add(found)


@contextmanager
def _in_decimals() -> Iterator[None]:
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        yield


class _Search:
    """The forms of one program. Works in the decimals' context.

    refused: forms that are not equal to it. A search that begins again knows what it has found before.
    """

    def __init__(self, facts: Facts):
        self.facts = facts
        self.gate = Gate(facts)
        self.refused = set[Program]()
        # By what it is asked of, which is kept with it, so that nothing else gets its identity.
        self.found: dict[Hashable, tuple[object, Any]] = {}

    def once(self, method: Callable[..., Answer], *of: object) -> Answer:
        """What a method finds, once for the same records."""
        key = (method.__name__, *map(id, of))
        if key not in self.found:
            self.found[key] = of, method(*of)
        answer: Answer = self.found[key][1]
        return answer

    @cached_property
    def cost(self) -> float:
        return cost(self.facts.program, hoisted=False).value

    def first_forms(self) -> list[Program]:
        """Those that say where something may be gained."""
        found = [self.once(self._first, self.facts, once).program for once in (True, False)]
        every = [new for new in dict.fromkeys(found) if new is not None]
        if not every and has_differences(self.facts.program):
            every = [self.facts.program]
        return [with_differences(new) if has_differences(new) else new for new in every]

    def best(self, shifts: Sequence[Shift]) -> Program | None:
        found = self._accepted(self.facts, (), None)
        base, tops, taken = self.facts, tuple[Top, ...](), set[str]()
        for shift in shifts:
            if shift.tensor in taken:
                continue
            if self.gate.bears_offsets(found):
                break
            moved = self.once(self._shifted, base, shift)
            if moved is None:
                continue
            new, top = moved
            more = (*tops, top) if top is not None else tops
            better = self._accepted(new, more, found)
            # A proof takes longer than to see whether there is anything to be gained.
            if better is not None and self.once(self._holds, base, shift, new):
                found, base, tops = better, new, more
                taken.add(shift.tensor)
        return self._of_differences(found)

    def _of_differences(self, found: Program | None) -> Program | None:
        """What was found, with small distances from 1 kept, where that passes."""
        program = self.facts.program if found is None else found
        if not has_differences(program):
            return found
        new = self.once(with_differences, program)
        return new if self._passes(new, found) else found

    def _passes(self, new: Program, old: Program | None) -> bool:
        """Is it better than the old one, and not known to be wrong?"""
        return new not in self.refused and self.once(self._gains, new, old)

    def _gains(self, new: Program, old: Program | None) -> bool:
        try:
            return self.gate.gains(new, old) and validate(new) is not None
        except ProgramError:
            return False

    def _accepted(self, base: Facts, tops: tuple[Top, ...], old: Program | None) -> Program | None:
        """The best of the base's forms that pass; None where none does."""
        found: Program | None = None
        tried = set[Program]()
        for once in (True, False):
            new, differs = self.once(self._form, base, once, *tops)
            if new is not None and new not in tried and self._passes(new, found or old):
                found = new
            tried |= {new} if new is not None else set()
            if not differs:
                break
        return found

    @staticmethod
    def _first(base: Facts, once: bool, *tops: Top) -> Scaled:
        return scaled_once(base, tops, once)

    def _form(self, base: Facts, once: bool, *tops: Top) -> tuple[Program | None, bool]:
        """The base with its exponentials put together, or None where that is nothing new, or far too dear;
        and whether `once` made a difference.

        once: without computing anything again for other loops.
        """
        new: Program | None = None
        differs = False
        try:
            if _come_together(base.program):
                found = scaled(base, tops, once, self.once(self._first, base, once, *tops))
                new, differs = found.program, found.differs
            if new is None and base is not self.facts:
                new = base.program
            if new is None:
                return None, differs
            infer(within_limits(new))
        except ProgramError:
            return None, True
        cheap = cost(new, hoisted=False).value <= DEARER * self.cost
        if cheap and not once:
            # What is written may be hoisted where the form that computes it again may not; unless nothing of
            # it may in the form that does not, either.
            other, _ = self.once(self._form, base, True, *tops)
            least = max(cost(p).value for p in (self.facts.program, other) if p is not None)
            cheap = cost(new).value <= DEARER * least
        return (new if cheap else None), differs

    def _shifted(self, base: Facts, shift: Shift) -> tuple[Facts, Top | None] | None:
        """The base with an input less a constant, if its results allow that."""
        try:
            candidate = shifted(base, shift)
            moved = moves(candidate, self.gate.cases(), self.gate.rng)
            if moved is None:
                return None
            return infer(candidate.closed(moved)), candidate.top()
        except ProgramError:
            return None

    @staticmethod
    def _holds(base: Facts, shift: Shift, new: Facts) -> bool:
        """Is it the same program, for all inputs?"""
        return is_typical(base, shift.tensor) or _is_proved(base.program, new.program)


def _is_proved(literal: Program, new: Program) -> bool:
    """Do normal forms say that the two are equal? Asked of small programs alone."""
    places = list(accumulates(literal.statements))
    small = len(places) <= MOST_PLACES and all(
        not blocks and len(s.ranges) <= MOST_LOOPS for blocks, s in places
    )
    return small and equal_forms(literal, new, work=PROOF)


def may_gain(program: Program) -> bool:
    """Whether something in the program overflows or cancels, as far as one sees at once."""
    found = has_exponentials(program) or has_differences(program)
    return found or bool(candidates(infer(program)))


def has_exponentials(program: Program) -> bool:
    return not _operations(program).isdisjoint(EXPONENTIALS)


def _come_together(program: Program) -> bool:
    """May one of the exponentials overflow, or cancel in another? A sigmoid does neither, where nothing takes
    its logarithm or divides."""
    operations = _operations(program)
    if "sigmoid" not in operations:
        return "exp" in operations
    return not operations.isdisjoint(UNDOING) or any(map(_divides, _nodes(program)))


def _operations(program: Program) -> set[str]:
    return {node.operation for node in _nodes(program)}


def _nodes(program: Program) -> Iterator[Apply]:
    for statement in all_statements(program.statements):
        for expression in statement_expressions(statement):
            yield from (n for n in subexpressions(expression) if isinstance(n, Apply))


def _divides(node: Apply) -> bool:
    """By what is computed, or an input?"""
    match node:
        case Apply("/", (_, divisor)):
            return any(True for _ in reads(divisor))
        case Apply("**", (_, exponent)):
            return not isinstance(exponent, Number)
    return False
