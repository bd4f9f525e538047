"""Is a claim right, as runs and proofs tell? And on which trials is it wrong?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking.bench import Bench
from loopgrad.checking.counterexamples import Examples
from loopgrad.checking.headers import Task, certifiable, hoisted, without_spare
from loopgrad.checking.trials import KINDS, LEAST, Trial, Trials, differing, run
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Program
from loopgrad.simplify.certifying.certificate import Certifier
from loopgrad.simplify.certifying.edges import beyond, empty_axes
from loopgrad.simplify.certifying.sampling import turn
from loopgrad.simplify.certifying.verdicts import Counterexample as Example
from loopgrad.simplify.certifying.verdicts import Verdict
from loopgrad.simplify.numbers.evaluate import TooLarge, Undefined
from loopgrad.simplify.numbers.floats import Floats, array
from loopgrad.simplify.reading.canonical import canonical
from loopgrad.simplify.reading.forms import equal_forms
from loopgrad.simplify.reading.induction import equal_by_induction

SHOWING = 3  # trials on which faults are looked for
DRAWN = 48  # trials, until some show a fault
ROUNDING = 1e-12  # of a gradient's largest number: what a constant of 16 digits may be off
WORK = 3_000  # terms made for a proof
PATIENCE = 2  # runs that take too long
SMALL = 12  # sizes, where larger ones show none


class Deciding:
    """The state of judging one task, and what is found out of the claim as a whole."""

    def __init__(self, task: Task):
        self.task = task
        self.trials = Trials(task.forward, task.right)
        self.examples = Examples(task.forward, task.right)  # apart from what was drawn before
        self.refuting: Trial | None = None  # on which the last mend is wrong
        self.bench: Bench | None = None  # with the trials that show faults
        self.empty: Example | None = None  # that shows a difference with empty axes
        self.ties = False  # whether ties count
        self.too_large = 0  # runs given up
        self.showing: list[Trial] = []  # that show faults
        self.certifier = Certifier(task.right, task.forward if task.is_backward else None)
        self.lines = Floats()

    def _is_derived(self) -> bool:
        """Is the claim the derived program itself, statement for statement?"""
        return replace(certifiable(self.task), name=self.task.right.name) == self.task.right

    def _verdict(self, program: Program | None = None) -> Verdict:
        """What running the claim, or a mended one, beside the right program shows."""
        claimed = certifiable(self.task) if program is None else program
        verdict = self.certifier.compare(claimed, ties=False)
        if verdict.kind == "undecided" and not verdict.trials:
            # Numbers that are compared with themselves are always tied.
            self.ties = True
            verdict = self.certifier.compare(claimed, kinks=False)
        rounding = 0.0
        if verdict.counterexample is not None and _near(verdict.counterexample):
            # A constant may be rounded, in the claim or in the forward.
            rounding = ROUNDING
            again = self.certifier.compare(
                claimed, kinks=not self.ties, ties=self.ties, rounding=rounding
            )
            verdict = verdict if again.kind == "differ" else again
        if verdict.kind == "agree" and canonical(self.task.right) != canonical(claimed):
            draws = beyond(self.task.right, claimed)
            example = self.certifier.counterexample(claimed, draws, ties=False, rounding=rounding)
            if example is not None:
                return replace(verdict, kind="differ", counterexample=example)
        return verdict

    def _with_empty_axes(self, verdict: Verdict) -> Verdict:
        """The verdict when axes may be empty too: a difference that needs one is no fault."""
        claimed = certifiable(self.task)
        if verdict.kind != "agree" or canonical(self.task.right) == canonical(claimed):
            return verdict
        draws = empty_axes(self.certifier.extents)
        self.empty = self.certifier.counterexample(claimed, draws, ties=False, rounding=ROUNDING)
        if self.empty is None or 0 in self.empty.sizes.values():
            return verdict
        return replace(verdict, kind="differ", counterexample=self.empty)

    def _proved(self, verdict: Verdict) -> tuple[bool, str]:
        """Whether the two are equal for all sizes and inputs; if it is not known, why."""
        task, claimed = self.task, certifiable(self.task)
        if verdict.kind == "agree" and canonical(task.right) == canonical(claimed):
            return True, ""
        if self.empty is not None:
            sizes = ", ".join(f"{name} = {n}" for name, n in self.empty.sizes.items() if not n)
            return False, f"with empty axes, {sizes}, the two differ"
        if task.is_backward:
            claimed = self._hoisted(claimed)
            if verdict.kind == "agree" and canonical(task.right) == canonical(claimed):
                return True, ""
        primal = task.forward if task.is_backward else None
        if verdict.lines == "both" and equal_forms(task.right, claimed, primal, work=WORK):
            return True, ""
        if verdict.kind == "agree" and equal_by_induction(task.right, claimed, primal, work=WORK):
            return True, ""
        residues = sum(verdict.known.values())
        runs = f"{verdict.trials} random inputs and {residues} residues in finite fields agree"
        return False, verdict.reason or runs

    def _hoisted(self, claimed: Program) -> Program:
        try:
            return without_spare(hoisted(claimed, self.task.forward), self.task.right)
        except ProgramError:
            return claimed

    def _showing(self) -> list[Trial]:
        """Trials on which the claim is wrong, of different kinds, one of them at least."""
        for small in (False, True):
            showing: list[Trial] = []
            others: list[Trial] = []
            for trial in self._drawn(small):
                if self.too_large > PATIENCE:
                    return []
                (showing if self._is_wrong(trial) else others).append(trial)
                if len(showing) >= 2 * SHOWING or len(showing) + len(others) > DRAWN // 2:
                    break
            # Those that say the most, first: where gradients vanish, faults do not show.
            showing.sort(key=self._silent)
            if showing:
                return [*showing[:SHOWING], *others[:1]]
            if others and self.task.claim.findings:
                return sorted(others, key=self._silent)[:SHOWING]
        if not self.ties:
            self.ties = True
            return self._showing()
        return []

    def _often_wrong(self) -> bool:
        """Is the claim wrong in floats, which know matrices that have roots, on more than one trial?"""
        return sum(map(self._is_wrong, self.showing)) > 1

    def _silent(self, trial: Trial) -> int:
        """How many tensors vanish that a backward computes."""
        names = infer(self.task.right).tensors
        sizes = (np.abs(np.nan_to_num(array(trial.tensors[n]))).max(initial=0.0) for n in names)
        return sum(bool(size < LEAST) for size in sizes)

    def _drawn(self, small: bool) -> Iterator[Trial]:
        """Trials of distinct sizes, or of the smallest ones, that say something of every result."""
        sizes = list(self.trials.smallest())[:SMALL] if small else [None]
        for attempt in range(DRAWN):
            kind = KINDS[turn(attempt, len(KINDS))]
            if self.ties and kind == "zeros":  # only what is compared with itself may be tied
                continue
            extents = sizes[attempt % len(sizes)] if sizes else None
            dominant = kind == "unit" and attempt % 2 == 0
            trial = self.trials.draw(kind, attempt, extents=extents, dominant=dominant)
            if trial is not None and (self.ties or not trial.tied) and self._speaks(trial):
                yield trial

    def _speaks(self, trial: Trial) -> bool:
        return all(
            np.isfinite(array(trial.tensors[n])).any() or not array(trial.tensors[n]).size
            for n in self.task.judged
        )

    def _is_wrong(self, trial: Trial) -> bool:
        try:
            made = run(self.task.facts, trial, self.lines)
        except TooLarge:
            self.too_large += 1
            return False
        except (Undefined, KeyError):
            return True
        return any(
            differing(array(trial.tensors[n]), array(made[n])).any()
            if array(made[n]).shape == array(trial.tensors[n]).shape
            else True
            for n in self.task.judged
        )

    def _right(self, task: Task) -> bool:
        """Is a mended claim right, as far as floats tell?"""
        for attempt in range(8):
            kind = KINDS[turn(attempt, len(KINDS))]
            trial = self.trials.draw(kind, attempt)
            if trial is None or (trial.tied and not self.ties):
                continue
            try:
                made = run(task.facts, trial, self.lines)
            except (Undefined, TooLarge, KeyError):
                return False
            for name in self.task.judged:
                if differing(array(trial.tensors[name]), array(made[name])).any():
                    self.refuting = trial
                    return False
        return True


def _near(example: Example) -> bool:
    """May the difference be a rounding of some constant?"""
    try:
        before, after = float(example.before), float(example.after)
    except ValueError:  # words
        return False
    return abs(before - after) <= 1e-9 * max(abs(before), abs(after), 1.0)
