"""Are two programs equal? Tested by running both, independent of how one was made of the other.

`certify` runs both programs on random inputs of random sizes, over `Lines`: residues in finite fields,
where algebra is exact, and reals to 50 digits, which know all functions. docs/decisions/0005 says what
an answer is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, localcontext

import numpy as np

from loopgrad.ir.nodes import Program
from loopgrad.simplify.certifying.comparison import Comparison
from loopgrad.simplify.certifying.rounding import SATURATED, keeps_digits
from loopgrad.simplify.certifying.trials import Draw, Memory, Pairing
from loopgrad.simplify.certifying.verdicts import Counterexample, Verdict, same_difference
from loopgrad.simplify.numbers.decimals import CONTEXT, FINER
from loopgrad.simplify.numbers.evaluate import prepared


def certify(
    before: Program,
    after: Program,
    forward: Program | None = None,
    *,
    trials: int = 3,
    symmetric: bool = False,
    kinks: bool = True,
    ties: bool = True,
) -> Verdict:
    """Whether `after` may stand for `before`.

    Inputs and results are matched by name. forward: the program whose tensors a backward reads, by
    default the one that either was derived from: their values are those that it computes. Where
    `before` is no number (0/0), `after` may be any, or also there no number if `symmetric`. Without
    `kinks` no zeros are tried. Without `ties` it may also be any where `before` is infinite, and
    where the forward (or `before`, if there is none) puts two equal numbers in order.

    The same programs get the same verdict. Raises ValueError where they cannot be compared: other
    results, or tensors of one name and several ranks or kinds; ProgramError for what is no program.
    """
    certifier = Certifier(before, forward or before.primal or after.primal)
    return certifier.compare(after, trials=trials, symmetric=symmetric, kinks=kinks, ties=ties)


class Certifier:
    """Compares programs with one that stays the same, whose runs are remembered.

    >>> import loopgrad as lg
    >>> from loopgrad.simplify.certifying.certificate import Certifier
    >>> p = lg.program("f(x[N]) -> y:\\n    for n:  y += 2 * x[n]")
    >>> certifier = Certifier(p)
    >>> bool(certifier.compare(lg.program("f(x[N]) -> y:\\n    for n:  y += x[n] + x[n]")))
    True
    >>> bool(certifier.compare(lg.program("f(x[N]) -> y:\\n    for n:  y += x[n]")))
    False
    """

    def __init__(self, before: Program, forward: Program | None = None):
        forward = forward or before.primal
        self.before = prepared(before)
        self.forward = prepared(forward) if forward is not None else None
        self.memory = Memory()
        self.last: tuple[Program, Pairing] | None = None

    @property
    def extents(self) -> tuple[str, ...]:
        """The names of the first program's."""
        return tuple(self.before.facts.extents)

    def pairing(self, after: Program) -> Pairing:
        """Of the program that was asked for last, most often the same."""
        if self.last is None or self.last[0] is not after:
            self.last = after, Pairing(self.before, prepared(after), self.forward, self.memory)
        return self.last[1]

    def compare(
        self,
        after: Program,
        *,
        trials: int = 3,
        symmetric: bool = False,
        kinks: bool = True,
        ties: bool = True,
        rounding: float = 0.0,
    ) -> Verdict:
        """As `certify`. rounding: differences that are none, as a share of a result's largest number;
        then the programs need not be the same in exact arithmetic."""
        pairing = self.pairing(after)
        return Comparison(pairing, symmetric, kinks, ties, rounding).verdict(trials)

    def keeps_digits(self, after: Program) -> bool:
        """Is `after`, in float64, about as accurate, on the inputs of the first trial, and on others where
        functions saturate?"""
        pairing = self.pairing(after)
        comparison = Comparison(pairing, symmetric=False, kinks=True, ties=True)
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            return all(
                keeps_digits(pairing, trial)
                for draw in (comparison.first(), SATURATED)
                for trial in pairing.trials(draw)
            )

    def counterexample(
        self,
        after: Program,
        draws: Iterable[Draw],
        *,
        symmetric: bool = False,
        ties: bool = True,
        rounding: float = 0.0,
    ) -> Counterexample | None:
        """The first difference that these trials show.

        What hangs on the last digits is none: at larger sizes a program may divide by what is 0 but
        for rounding, and then any two differ.
        """
        for draw in draws:
            how = (symmetric, rounding)
            example = self._difference(after, draw, how, CONTEXT, self.memory)
            if example is not None:
                again = self._difference(after, draw, how, FINER, Memory())
                if again is not None and same_difference(example, again):
                    return example
        return None

    def _difference(
        self,
        after: Program,
        draw: Draw,
        how: tuple[bool, float],
        context: Context,
        memory: Memory,
    ) -> Counterexample | None:
        if memory is self.memory:
            pairing = self.pairing(after)
        else:
            pairing = Pairing(self.before, prepared(after), self.forward, memory)
        symmetric, rounding = how
        comparison = Comparison(pairing, symmetric, kinks=True, ties=True, rounding=rounding)
        with localcontext(context), np.errstate(all="ignore"):
            comparison.compare(draw)
        return comparison.tally.counterexample
