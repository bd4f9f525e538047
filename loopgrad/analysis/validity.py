"""Proves the rules of the notation's meaning, refuses what breaks one always, leaves the rest."""

from __future__ import annotations

from collections import defaultdict

from loopgrad.analysis import conflicts
from loopgrad.analysis.accesses import Access, Collector
from loopgrad.analysis.completeness import is_set, never_changed_after, set_at_most_once
from loopgrad.analysis.enumeration import Sizes
from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.forms import malformed
from loopgrad.analysis.prover import Prover
from loopgrad.analysis.subscripts import Subscripts, describe, outside
from loopgrad.analysis.terms import Terms
from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import Program, Read, Reduction


@once_per_program
def validate(program: Program) -> Safety:
    """What could be proved of the program's rules, and so need not be checked when it runs.

    Raises ProgramError, with all that is wrong in the order of the text, where a rule is broken
    for every input: a subscript out of range, a tensor read before it is complete, an element
    that `=` writes twice or after an update, an input written, a type that does not fit.

    >>> import loopgrad as lg
    >>> validate(lg.program("total(x[N]) -> y:\\n    for n:  y += x[n]")).tracked
    frozenset()
    """
    from loopgrad.analysis.infer import infer

    return safety_of(infer(program))


def safety_of(facts: Facts) -> Safety:
    """`validate` for a program of which the facts are known."""
    validation = Validation(facts)
    validation.check()
    if validation.diagnostics:
        raise ProgramError(sorted(validation.diagnostics, key=_place))
    return validation.safety()


def _place(diagnostic: Diagnostic) -> int:
    return diagnostic.span.start if diagnostic.span else 0


class Validation:
    """The rules, one method each; what is found collects here."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.accesses = Collector(facts)
        count = len(self.accesses.reads) + len(self.accesses.writes)
        self.prover = Prover(Terms(facts), count)
        self.sizes = Sizes(facts)
        self.diagnostics: list[Diagnostic] = []
        self.inside: dict[tuple[int, Read], bool] = {}
        self.tracked: set[str] = set()
        self.writes: dict[str, list[Access]] = defaultdict(list)
        for write in self.accesses.writes:
            self.writes[write.read.tensor].append(write)

    def safety(self) -> Safety:
        return Safety(
            frozenset(place for place, inside in self.inside.items() if inside),
            frozenset(self.tracked),
            frozenset(self.prover.positive),
        )

    def check(self) -> None:
        self.diagnostics += malformed(self.facts)
        self.check_subscripts()
        self.check_reads()
        self.check_sets()

    def check_subscripts(self) -> None:
        subscripts = Subscripts(self.facts, self.prover)
        for access in (*self.accesses.reads, *self.accesses.writes):
            place = (access.number, access.read)
            axes = subscripts.unproved(access)
            if not axes:
                self.inside.setdefault(place, True)
                continue
            self.inside[place] = False
            fault = outside(access, axes, self.facts, self.sizes)
            if fault is not None:
                self.diagnostics.append(describe(fault, self.facts))

    def check_reads(self) -> None:
        """A tensor is complete before it is read."""
        for read in self.accesses.reads:
            for write in self.writes.get(read.read.tensor, ()):
                if never_changed_after(read, write, self.prover):
                    continue
                conflict = conflicts.changed_after(read, write, self.sizes)
                if conflict is None:
                    self.tracked.add(read.read.tensor)
                    continue
                self.diagnostics.append(
                    conflicts.describe_early_read(conflict, self.facts.program, self.prover)
                )
                break

    def check_sets(self) -> None:
        """`=` writes an element at most once, before any update of it."""
        for tensor, writes in self.writes.items():
            if not any(map(is_set, writes)):
                continue
            operation = next((w.reduction for w in writes if not is_set(w)), None) or Reduction.ADD
            for i, write in enumerate(writes):
                if is_set(write):
                    self._check_set(tensor, write, writes, i, operation)

    def _check_set(
        self, tensor: str, write: Access, writes: list[Access], i: int, operation: Reduction
    ) -> None:
        for j, other in enumerate(writes):
            if is_set(other):
                if j > i or set_at_most_once(other, write, self.prover):
                    continue
                conflict = conflicts.written_twice(other, write, self.sizes)
                describe_conflict = conflicts.describe_second_set
            else:
                if never_changed_after(other, write, self.prover):
                    continue
                conflict = conflicts.changed_after(other, write, self.sizes)
                describe_conflict = conflicts.describe_late_set
            if conflict is None:
                self.tracked.add(tensor)
                continue
            self.diagnostics.append(describe_conflict(conflict, operation))
            return
