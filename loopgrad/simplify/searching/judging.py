"""Which of the candidates is taken: the first that is equal to the program, and as accurate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Program
from loopgrad.simplify.certifying.certificate import Certifier
from loopgrad.simplify.certifying.edges import empty_axes
from loopgrad.simplify.certifying.probe import MORE, Moves, Probe
from loopgrad.simplify.searching.apart import Apart, factors_apart
from loopgrad.simplify.searching.factors import Wanted, divided_by, factors_in, makers_of
from loopgrad.simplify.searching.work import Candidate


@dataclass(frozen=True, eq=False)
class Option:
    """An equal program that keeps its digits on ordinary inputs, and where functions saturate whole.

    moves: what roundings make of the program, and of this one, where factors vanish; None where none may.
    """

    result: Program
    candidate: Candidate
    moves: tuple[Moves, Moves] | None

    @property
    def accurate(self) -> bool:
        """Do its results move not much farther than those of the program?"""
        return self.moves is None or self.moves[1].times(self.moves[0]) <= MORE

    def times(self, other: Option) -> float:
        """How many times farther than the other's, at worst."""
        assert self.moves is not None and other.moves is not None
        return self.moves[1].times(other.moves[1], self.moves[0])


class Judge:
    """Judges what is to stand for a program. `whole` is that program with what it computes again."""

    def __init__(self, program: Program, forward: Program | None, whole: Program):
        self.certifier = Certifier(program, forward)
        self.forward, self.whole = forward, whole
        factors = factors_in(whole, forward)
        given = {i.name for p in (whole, forward) if p is not None for i in p.inputs}
        self.probe = Probe(factors, given) if factors else None
        self.refused = set[Program]()

    def first(
        self, candidates: Iterable[Candidate], assembled: Callable[[Candidate], Program]
    ) -> tuple[Option | None, bool]:
        """The first that may stand for the program, and whether one before it loses digits."""
        lossy = False
        for candidate in candidates:
            with suppress(ProgramError):
                result = assembled(candidate)
                if result in self.refused:
                    continue
                if certified(self.certifier, result):
                    return Option(result, candidate, self._moves(result)), lossy
                lossy = lossy or not self.certifier.keeps_digits(result)
                self.refused.add(result)
        return None, lossy

    def _moves(self, result: Program) -> tuple[Moves, Moves] | None:
        return None if self.probe is None else self.probe.moves(self.certifier.pairing(result))

    def apart(self, lossy: Option | None) -> Iterator[Apart]:
        """The program with factors that may vanish as tensors, more of them each time.

        At first those for which the option loses digits, without what the program divides by:
        `(1 - y) / (1 - y)` is to be 1.
        """
        if self.probe is None:
            return
        levels = [Wanted(), Wanted(others=True)]
        if lossy is not None:
            only = self.probe.losing(self.certifier.pairing(lossy.result))
            divided = divided_by(self.whole, makers_of(self.whole, self.forward))
            levels.insert(0, Wanted(others=True, only=only, but=divided))
        seen = list[Program]()
        for wanted in levels:
            found = factors_apart(self.whole, self.forward, wanted)
            if found.kept and found.program not in seen:
                seen.append(found.program)
                yield found


def certified(certifier: Certifier, result: Program) -> bool:
    """Do both lines say that the two are equal, with empty axes too? Is the result a valid program, and
    as accurate?"""
    try:
        validate(result)
        verdict = certifier.compare(result)
        if (
            verdict
            and certifier.counterexample(result, empty_axes(certifier.extents, 2)) is not None
        ):
            return False
    except (ValueError, ProgramError):
        return False
    return verdict.kind == "agree" and certifier.keeps_digits(result)


def best(plain: Option | None, apart: Sequence[Option]) -> Option | None:
    """The cheapest that is accurate. If none is: `plain`, unless one that keeps factors does better where
    they vanish; none, if nothing keeps them."""
    options = [*([plain] if plain is not None else []), *apart]
    accurate = [o for o in options if o.accurate]
    if accurate:
        return min(accurate, key=lambda o: o.candidate.rank)
    if not apart:
        return None
    found, *others = options
    for other in others:
        if found.times(other) > max(MORE, other.times(found)):
            found = other
    return found
