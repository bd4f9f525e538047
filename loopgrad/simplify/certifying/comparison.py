"""Trials of two programs, for as long as they show something: in which worlds, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import localcontext
from functools import cached_property
from itertools import chain
from math import log10
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.diagnostics import listing
from loopgrad.ir.nodes import Number, Reduction
from loopgrad.ir.walk import accumulates
from loopgrad.simplify.certifying.edges import at_empty_axes_alone
from loopgrad.simplify.certifying.sampling import KINDS, World, turn
from loopgrad.simplify.certifying.trials import (
    AFTER,
    BEFORE,
    Draw,
    Memory,
    Pairing,
    Trial,
    elements,
)
from loopgrad.simplify.certifying.verdicts import Counterexample, Verdict, same_difference
from loopgrad.simplify.numbers.decimals import CONTEXT, FINER
from loopgrad.simplify.numbers.differences import (
    STRICT,
    difference,
    elements_at,
    finite,
    infinite,
    real,
)
from loopgrad.simplify.numbers.evaluate import Tensor, TooLarge
from loopgrad.simplify.numbers.fields import LONGEST
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.lines import NeedsReals, Numbers

ENOUGH = 48  # input elements drawn before a program with order counts as tested
OFTEN = 3  # trials in which each statement has run
LONG = 8  # times the trials asked for, after which a statement that never ran is let be
HOPELESS = 3  # and after which no residues are waited for in a result that had none
PATIENCE = 2  # trials that are too long, before nothing more is tried
LONGER = (2, 3, 7)  # sizes, one of which is longer than the others
PATHS = 6
COPIES = 4  # independent draws of the residues in a trial of one world
FEW = 2  # and in one of several
MANY = 12  # worlds at once


@dataclass
class _Tally:
    """What the trials showed so far, for each result."""

    trials: int = 0
    drawn: int = 0  # elements of inputs
    reached: Counter[int] = field(default_factory=Counter)  # statement -> trials in which it ran
    told: Counter[int] = field(default_factory=Counter)  # in which it did more than add zeros
    moved: set[int] = field(
        default_factory=set
    )  # those that ran with constants beside their defaults
    passed_over: set[int] = field(default_factory=set)  # that ran in trials passed over for ties
    known: dict[str, int] = field(default_factory=dict)
    # The statements that ran in a trial in which every element was known.
    complete: dict[str, list[frozenset[int]]] = field(default_factory=dict)
    compared: dict[str, bool] = field(default_factory=dict)  # some element, on the reals
    residues_differ: bool = False
    telling: list[int] = field(default_factory=list)  # the numbers of trials that show something
    zeroed: set[str] = field(default_factory=set)  # inputs, zero where all results were numbers
    whole: int = 0  # trials on reals in which all that runs ran, and every element was a number
    counterexample: Counterexample | None = None


class Comparison:
    """The trials of two programs, one after the other, until they say enough."""

    def __init__(
        self,
        pairing: Pairing,
        symmetric: bool,
        kinks: bool,
        ties: bool,
        rounding: float = 0.0,
    ):
        self.pairing, self.symmetric, self.ties = pairing, symmetric, ties
        self.rounding = rounding
        pairing.too_large = 0
        self.levels = max(program.levels for program in pairing.programs)
        self.deep = self.levels > LONGEST  # residues alone cannot decide
        self.results = pairing.results
        self.kinks = kinks
        self.kinds = [kind for kind in KINDS if kinks or kind != "zeros"]
        self.statements = [
            id(s) for facts in pairing.facts[:2] for _, s in accumulates(facts.program.statements)
        ]
        # Of these nothing is to be seen but that the second program says the same.
        self.zeros = frozenset(n for n in self.results if _is_zero(pairing.facts[BEFORE], n))
        self.has_constants = any(facts.program.constants for facts in pairing.facts)
        self.beyond: set[str] = set()
        self.infinite = False  # an infinity was met, if only as what a maximum starts from
        self.unreached = False  # and was the value of an element, where the results were numbers
        self.tolerance = 1.0
        self.tally = _Tally()

    # ------------------------------------------------------------------------------- verdict

    def verdict(self, trials: int) -> Verdict:
        tally = self.tally
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            for attempt in range(2 * LONG * trials):
                if tally.trials >= trials and self._enough(attempt / trials):
                    break
                if self.pairing.too_large > PATIENCE:
                    return _given_up(tally)
                self._attempt(attempt, trials)
                if tally.counterexample is not None:
                    return self._refuted()
            for draw in self._special():
                if not self.compare(draw) and len(draw.worlds) > 1:  # no such sizes
                    self.compare(replace(draw, among=()))
                if tally.counterexample is not None:
                    return Verdict("differ", tally.counterexample, tally.trials)
            zeroed = (d for n in tally.telling[:OFTEN] for d in self._zero_again(n))
            for draw in chain(zeroed, self._of_paths()):
                self.compare(draw)
                if tally.counterexample is not None and self._confirmed(draw):
                    return Verdict("differ", tally.counterexample, tally.trials)
                tally.counterexample = None
            if tally.residues_differ and not self.rounding:
                self.tolerance = STRICT
                refuted = self._refuted()
                if refuted.counterexample is not None:
                    return refuted
        return self._agreed()

    def _attempt(self, attempt: int, trials: int) -> None:
        """The first trial on both lines, in a world of each kind. As long as reals have nothing to
        decide, further ones on residues alone; else on both, in one world."""
        if attempt == 0:
            self.compare(self.first())
            return
        levels = min(self.levels + attempt // trials, LONGEST)
        every = tuple(map(World, self.kinds))
        needed = "order" in self.beyond or self.infinite or self.tally.residues_differ or self.deep
        if not needed and (attempt < trials or attempt % 2):
            try:
                self.compare(Draw(attempt, every, "residues", levels, FEW))
                return
            except NeedsReals:
                self.infinite = True
        if attempt == 1 and self.has_constants:
            # Beside their defaults in every world at once: a power of them is no number in some.
            self.compare(Draw(attempt, every, "both", levels, FEW))
            return
        world = every[turn(attempt - 1, len(every))]
        self.compare(Draw(attempt, (world,), "both", levels, COPIES))

    def first(self) -> Draw:
        worlds = tuple(map(World, self.kinds))
        return Draw(0, worlds, "both", min(self.levels, LONGEST), FEW)

    def _special(self) -> list[Draw]:
        """On the reals: each input zero in turn, where a rewriting that divides by it is undefined;
        all extents alike: what divides by B - 2, say, is no number at one size alone."""
        signed = World("signed")
        zeroed = [World("signed", name) for name in self.pairing.zeroed() if self.kinks]
        groups = [zeroed[k : k + MANY] for k in range(0, len(zeroed), MANY)] or [[]]
        ones, twos, *threes = [signed], [signed], *([signed, *group] for group in groups)
        sizes = [(1, ones), (2, twos), *((3, worlds) for worlds in threes)]
        return [
            Draw(1000 + 2 * k, tuple(worlds), "reals", among=(size,))
            for k, (size, worlds) in enumerate(sizes)
        ]

    def _zero_again(self, number: int) -> Iterator[Draw]:
        """The inputs that were zero only where that shows nothing, at the sizes and integers of a trial that
        shows something."""
        names = [n for n in self.pairing.zeroed() if self.kinks and n not in self.tally.zeroed]
        if names:
            worlds = (World("signed"), *(World("signed", name) for name in names[:MANY]))
            yield Draw(number, worlds, "reals")

    def _confirmed(self, draw: Draw) -> bool:
        """Is the difference the same with more digits? On the reals alone, a program may divide by what is
        0 but for rounding."""
        example = self.tally.counterexample
        before, after, *forward = self.pairing.programs
        pairing = Pairing(before, after, forward[0] if forward else None, Memory())
        finer = Comparison(pairing, self.symmetric, self.kinks, self.ties, self.rounding)
        with localcontext(FINER):
            finer.compare(draw)
        again = finer.tally.counterexample
        return example is not None and again is not None and same_difference(example, again)

    def _of_paths(self) -> Iterator[Draw]:
        """Where infinities stand for what is not there, on the reals: one axis longer than the others, and
        more inputs at sizes that showed something. At others there may be no path, or one alone."""
        if not self.unreached:
            return
        worlds, telling = (World("signed"),), self.tally.telling[:PATHS]
        yield from (Draw(8000 + 2 * k, worlds, "reals", among=LONGER) for k in range(PATHS))
        yield from (Draw(9000 + 2 * k, worlds, "reals", like=n) for k, n in enumerate(telling))

    def _enough(self, rounds: float) -> bool:
        """Statements that seldom run, and comparisons that seldom hold, need more trials.

        rounds: how many times the trials asked for there were.
        """
        tally = self.tally
        if rounds >= LONG:
            return True
        if "order" in self.beyond and tally.drawn < ENOUGH:
            return False
        if (tally.residues_differ or self.deep) and tally.whole < OFTEN:
            return False
        seldom = {
            statement
            for statement in self.statements
            if tally.told[statement] < OFTEN
            or (self.has_constants and statement not in tally.moved)
        }
        seldom = seldom and seldom - self._never
        hopeless = rounds >= HOPELESS and self._never_known()
        return not seldom and (self.deep or hopeless or self._settled())

    @cached_property
    def _never(self) -> frozenset[int]:
        """The statements that none of the usual sizes lets run; nobody waits for them."""
        return frozenset().union(*map(at_empty_axes_alone, self.pairing.facts[:2]))

    def _settled(self) -> bool:
        """Was each result known, and compared, where all that ever runs has run?"""
        ran = self.tally.reached.keys()
        found = self.tally.complete
        return all(any(ran <= some for some in found.get(name, ())) for name in self.results)

    def _never_known(self) -> bool:
        """Is there a result of which no residue is known, whose numbers have been compared often?"""
        tally = self.tally
        never = any(not tally.known.get(name) for name in self.results)
        return never and tally.whole >= OFTEN

    def _refuted(self) -> Verdict:
        """With a counterexample as small as a few tries find."""
        first = self.tally
        examples = [first.counterexample] if first.counterexample else []
        for attempt in range(2 * len(self.kinds)):
            self.tally = _Tally()
            world = World(self.kinds[turn(attempt, len(self.kinds))])
            self.compare(Draw(3000 + attempt, (world,), "reals", small=True))
            if self.tally.counterexample is not None:
                examples.append(self.tally.counterexample)
        self.tally = first
        smallest = min(examples, key=_elements, default=None)
        return Verdict("differ", smallest, first.trials)

    def _agreed(self) -> Verdict:
        tally = self.tally
        if not tally.passed_over <= tally.reached.keys():
            return Verdict("undecided", None, 0, "reals", {}, "some statements run at ties alone")
        never = [name for name in self.results if not tally.compared.get(name)]
        if never:
            reason = f"no inputs were found on which {listing(never)} is a number"
            return Verdict("undecided", None, tally.trials, "reals", tally.known, reason)
        if not tally.whole and (tally.residues_differ or not self._settled()):
            reason = "no inputs were found on which all elements of all results are numbers"
            return Verdict("undecided", None, tally.trials, "reals", tally.known, reason)
        if tally.residues_differ and self.rounding:
            digits = round(-log10(self.rounding))
            reason = f"they agree to {digits} digits, and differ in exact arithmetic"
            return Verdict("agree", None, tally.trials, "reals", tally.known, reason)
        if tally.residues_differ and not self.beyond - {"order"}:
            reason = "the reals agree to 20 digits, and the residues in finite fields differ"
            return Verdict("undecided", None, tally.trials, "both", tally.known, reason)
        both = self._settled() and not tally.residues_differ
        reason = "" if both else self._why_reals()
        lines: Literal["both", "reals"] = "both" if both else "reals"
        return Verdict("agree", None, tally.trials, lines, tally.known, reason)

    def _why_reals(self) -> str:
        if self.tally.residues_differ:
            unmodelled = listing(sorted(self.beyond - {"order"}))
            return f"finite fields do not model {unmodelled}; the reals decided"
        return "in some result no residue is known; the reals decided"

    # ----------------------------------------------------------------------------- comparing

    def compare(self, draw: Draw) -> bool:
        """Whether there is such a trial."""
        trials = self.pairing.trials(draw)
        for trial in trials:
            if not trial.tied or self.ties:
                self._compare_trial(trial)
                continue
            self.tally.passed_over |= trial.reached.ran
            if len(draw.worlds) > 1:
                for world in draw.worlds:
                    self.compare(replace(draw, worlds=(world,)))
        return bool(trials)

    def _compare_trial(self, trial: Trial) -> None:
        tally = self.tally
        if tally.counterexample is not None:
            return
        try:
            results, reached = self.pairing.after(trial)
        except TooLarge:
            self.pairing.too_large += 1
            return
        except Undefined as error:
            if len(trial.draw.worlds) > 1:
                for number in range(len(trial.draw.worlds)):
                    self._compare_trial(self.pairing.world(trial, number))
            elif not trial.lines.real:  # again, for an example with numbers
                self.compare(replace(trial.draw, on="both"))
            else:
                tally.trials += 1
                tally.counterexample = self._counterexample(
                    trial, self.results[0], (0,), "a number", f"an error: {error}"
                )
            return
        self.beyond |= trial.beyond | trial.lines.beyond
        self.infinite |= trial.infinite or trial.lines.infinite
        ran = frozenset(trial.reached.ran | reached.ran)
        telling = trial.reached.telling | reached.telling
        spoken = [
            self._compare_result(trial, name, trial.results[name], results[name], ran)
            for name in self.results
            if tally.counterexample is None
        ]
        self._note_zeroed(trial)
        # A trial on which some result is no number at all, or all zeros, shows little.
        if all(spoken):
            self.unreached |= self.infinite and _reaches_infinity(trial.results, results)
            tally.trials += 1
            tally.telling.append(trial.draw.number)
            tally.reached.update(ran)
            tally.told.update(telling)
            if not trial.draw.with_defaults:
                tally.moved |= ran
        if trial.lines.real and ran >= tally.reached.keys():
            tally.whole += all(_whole(trial.results[name]) for name in self.results)
        tally.drawn += elements(trial)

    def _note_zeroed(self, trial: Trial) -> None:
        """Which inputs were zero where all results are numbers, that are not all zeros where it is not."""
        worlds = trial.draw.worlds
        results = [trial.results[name] for name in self.results]
        plain = next((n for n, world in enumerate(worlds) if world.zero is None), None)
        if all(world.zero is None for world in worlds):
            return
        if plain is not None and not any(_some(r, plain) for r in results):
            return
        for number, world in enumerate(worlds):
            if world.zero is not None and all(_whole(r, number) for r in results):
                self.tally.zeroed.add(world.zero)

    def _compare_result(
        self, trial: Trial, name: str, before: Tensor, after: Tensor, ran: frozenset[int]
    ) -> bool:
        """Whether the trial shows something of the result; what was found is put in the tally."""
        tally = self.tally
        if isinstance(before, Numbers) != isinstance(after, Numbers):
            before, after = real(before, trial.lines), real(after, trial.lines)
        different = difference(
            before, after, self.symmetric, self.tolerance, self.ties, self.rounding
        )
        if different is not None:
            old, new = elements_at(before, after, different)
            tally.counterexample = self._counterexample(trial, name, different, old, new)
            return True
        if not isinstance(before, Numbers) or not isinstance(after, Numbers):
            tally.compared[name] = True
            tally.complete.setdefault(name, []).append(ran)
            return True
        numbers = finite(before) & finite(after)
        if not numbers.any():
            return False
        spoken = name in self.zeros
        if before.reals is not None:
            tally.compared[name] = True
            spoken |= any(before.reals[numbers].flat)
        if before.residues is not None and after.residues is not None:
            known = (before.residues >= 0) & (after.residues >= 0) & numbers
            tally.known[name] = tally.known.get(name, 0) + int(known.sum())
            if (known & (before.residues != after.residues)).any():
                tally.residues_differ = True
            # An infinity has no residue, in any trial; what is no number here may be one in another.
            if (known.any(axis=(0, 1)) | infinite(before).all(axis=0)).all():
                tally.complete.setdefault(name, []).append(ran)
            spoken |= bool((before.residues > 0).any())
        return spoken

    def _counterexample(
        self,
        trial: Trial,
        result: str,
        element: tuple[int, ...],
        before: float | int | str,
        after: float | int | str,
    ) -> Counterexample:
        """element: its world first; empty where the shapes differ."""
        world = element[0] if element else 0
        used = [i.name for facts in self.pairing.facts[:2] for i in facts.program.inputs]
        sizes = {
            k: v for extents in reversed(trial.extents[: AFTER + 1]) for k, v in extents.items()
        }
        return Counterexample(
            sizes=sizes,
            constants={
                k: v if isinstance(v, int) else float(v) for k, v in trial.constants.items()
            },
            inputs={name: _as_array(trial.inputs[name], world) for name in dict.fromkeys(used)},
            result=result,
            element=element[1:],
            before=before,
            after=after,
        )


def _given_up(tally: _Tally) -> Verdict:
    reason = "one of the programs takes too many steps, or too large tensors, at the least sizes"
    return Verdict("undecided", None, tally.trials, "reals", tally.known, reason)


def _reaches_infinity(*runs: Mapping[str, Tensor]) -> bool:
    """Is an element of one of the tensors infinite?"""
    return any(
        isinstance(t, Numbers) and bool(infinite(t).any()) for run in runs for t in run.values()
    )


def _is_zero(facts: Facts, name: str) -> bool:
    """Does the program say that all elements of a tensor are 0, as of a gradient that nothing reaches?"""
    return all(
        statement.reduction is Reduction.SET and statement.value in (Number(0), Number(0.0))
        for _, statement in accumulates(facts.program.statements)
        if statement.target.tensor == name
    )


def _whole(tensor: Tensor, world: int | None = None) -> bool:
    """Is every element a number or an infinity, in this world or in some?"""
    if not isinstance(tensor, Numbers):
        return True
    numbers = finite(tensor) | infinite(tensor)
    whole = np.asarray(numbers.reshape(len(numbers), -1).all(axis=1))
    return bool(whole.any() if world is None else whole[world])


def _some(tensor: Tensor, world: int) -> bool:
    """Is some element a number beside 0 in this world?"""
    if not isinstance(tensor, Numbers):
        return bool(np.any(tensor[world]))
    assert tensor.reals is not None
    return any(np.ravel(tensor.reals[world])[np.ravel(np.asarray(finite(tensor))[world])])


def _as_array(tensor: Tensor, world: int) -> NDArray[Any]:
    if not isinstance(tensor, Numbers):
        return np.asarray(tensor[world])
    assert tensor.reals is not None
    return np.asarray(tensor.reals[world], np.float64)


def _elements(example: Counterexample) -> int:
    return sum(array.size for array in example.inputs.values())
