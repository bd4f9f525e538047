"""`check`: is a claimed backward, or a claimed rewriting, right? And if not, where, and what is?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking.aligning import Alignment
from loopgrad.checking.answers import Located
from loopgrad.checking.bench import Bench
from loopgrad.checking.claims import Claim, read_claim
from loopgrad.checking.counterexamples import Examples
from loopgrad.checking.findings import Counterexample, Finding, How, Judgement, Kind
from loopgrad.checking.headers import Task, certifiable, hoisted, lendable, understand
from loopgrad.checking.likeness import in_order
from loopgrad.checking.locating import Locator
from loopgrad.checking.mending import Patch, Translation, patched
from loopgrad.checking.ordering import Reordered, reordered
from loopgrad.checking.trials import KINDS, LEAST, Trial, Trials, differing, run
from loopgrad.diagnostics import ProgramError, ProgramWarning, Span
from loopgrad.ir.nodes import Program
from loopgrad.ir.printer import show_statements
from loopgrad.pipeline import as_program, verify
from loopgrad.simplify.canonical import canonical
from loopgrad.simplify.certificate import Certifier, Verdict
from loopgrad.simplify.certificate import Counterexample as Example
from loopgrad.simplify.edges import beyond, empty_axes
from loopgrad.simplify.evaluate import TooLarge, Undefined
from loopgrad.simplify.floats import Floats, array
from loopgrad.simplify.forms import equal_forms
from loopgrad.simplify.induction import equal_by_induction
from loopgrad.simplify.sampling import turn

SHOWING = 3  # trials on which faults are looked for
DRAWN = 48  # trials, until some show a fault
ROUNDING = 1e-12  # of a gradient's largest number: what a constant of 16 digits may be off
WORK = 3_000  # terms made for a proof
HOWS: tuple[How, ...] = ("insert after", "insert before")
INFERRED: tuple[Kind, ...] = ("out of range", "wrong range")  # of what statements write
REFUTED = 3  # mends tried, each on the trials that refuted those before
PATIENCE = 2  # runs that take too long
MENDS = 4  # of a header, one after the other
SMALL = 12  # sizes, where larger ones show none


def check(
    forward: Program | str, claimed: Program | str, wrt: str | Sequence[str] | None = None
) -> Judgement:
    """Whether hand-written backward loops are right; where they are not, the faults and their mends.

    forward: the program, or its text. claimed: a backward of it (results named `x.grad`), or a
    rewriting of it (results of its own names). Its inputs are any of the forward's inputs, computed
    tensors and seeds, by name; extents may have other names. wrt: the inputs whose gradients are
    judged, and must be returned; by default those that the claim returns.

    The answer is true where the claim is right. Else its `.findings` say, for each fault, the line
    and column, the kind, what is wrong, the statement that is right, and a smallest counterexample;
    `.mended` is the whole text, mended. `.method` is "proved" or "tested". A mistake of notation in
    the claim is a finding; in the forward it is a ProgramError. Raises ValueError for a `wrt` that
    names no input with a gradient, TypeError for what is no program.

    >>> import loopgrad as lg
    >>> forward = "f(x[N]) -> y[N]:\\n    for n:  y[n] = tanh(x[n])"
    >>> wrong = '''f.backward(x[N], y.grad[N]) -> x.grad[N]:
    ...     for n:  x.grad[n] += y.grad[n] * (1 - tanh(x[n]))**2'''
    >>> answer = lg.check(forward, wrong)
    >>> bool(answer), answer.findings[0].line, answer.findings[0].right
    (False, 2, 'for n:  x.grad[n] += y.grad[n] * (1 - tanh(x[n])**2)')
    >>> bool(lg.check(forward, answer.mended))
    True
    """
    if not isinstance(claimed, str | Program):
        raise TypeError(f"a program or its text is needed, got {type(claimed).__name__}")
    with quiet():
        program = verify(as_program(forward), warn=False)
        claim = read_claim(claimed, lendable=lambda: lendable(program))
        return judge(program, claim, _names(wrt))


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is said of unused inputs, nor of logarithms of negative numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ProgramWarning)
        yield


def _names(wrt: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)


def judge(
    forward: Program, claim: Claim, wrt: Sequence[str] | None = None, mends: int = MENDS
) -> Judgement:
    """The judgement of a claim that has been read; see `check`. mends: how often its header is mended."""
    if claim.program is None:
        if wrt is not None:
            understand_wrt(forward, wrt)
        return Judgement(claim.findings)
    task, faults = understand(forward, claim, wrt)
    if task is None:
        findings = _sorted([*claim.findings, *faults])
        mended = _mended_header(forward, claim, faults, wrt, mends - 1) if mends else None
        return Judgement(findings, mended=mended)
    if not task.judged:  # nothing that was asked for is there
        return _Judging(task).nothing_given()
    in_order = _reordered(forward, claim, wrt)
    return _Judging(task).judgement() if in_order is None else in_order


def _reordered(forward: Program, claim: Claim, wrt: Sequence[str] | None) -> Judgement | None:
    """The judgement of a claim that needs another order; None if that does not make it whole."""
    misplaced = all(f.kind in ("read before complete", "written twice") for f in claim.findings)
    if not misplaced or claim.repaired or claim.lent:
        return None
    for start, number in claim.faulty.items():
        for other in reordered(claim, start):
            try:
                read = read_claim(other.text, claim.source.name)
            except LookupError:
                continue
            if read.findings or read.program is None:
                continue
            answer = judge(forward, read, wrt)
            if not answer and answer.mended is None:
                continue
            order = replace(
                claim.findings[number], right=other.right, how=other.how, note=other.note
            )
            rest = [_as_it_was(f, other, claim) for f in answer.findings]
            mended = answer.mended or other.text
            return replace(answer, findings=_sorted([order, *rest]), mended=mended)
    return None


def _as_it_was(finding: Finding, other: Reordered, claim: Claim) -> Finding:
    """A finding of the reordered text, at its place in the claim's."""
    if finding.span is None or finding.line is None or finding.column is None:
        return finding
    line = other.lines[finding.line - 1]
    start = claim.source.line_starts[line - 1] + finding.column - 1
    width = finding.span.end - finding.span.start
    return replace(finding, span=Span(claim.source, start, start + width))


def understand_wrt(forward: Program, wrt: Sequence[str]) -> None:
    forward.backward(list(wrt))


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.line or 0, f.column or 0)))


def _mended_header(
    forward: Program,
    claim: Claim,
    faults: Sequence[Finding],
    wrt: Sequence[str] | None,
    mends: int,
) -> str | None:
    """The text with each part of the header replaced by what is right, if that makes all right.

    What is mended may show the next fault, so it goes on, `mends` times.
    """
    if claim.findings or not faults or any(f.right is None or f.span is None for f in faults):
        return None
    text = claim.source.text
    for fault in sorted(faults, key=lambda f: f.span.start, reverse=True):  # type: ignore[union-attr]
        assert fault.span is not None and fault.right is not None
        text = text[: fault.span.start] + fault.right + text[fault.span.end :]
    try:
        answer = judge(forward, read_claim(text), wrt, mends)
    except ProgramError:
        return None
    return text if answer else answer.mended


class _Judging:
    """The state of judging one task."""

    def __init__(self, task: Task):
        self.task = task
        self.trials = Trials(task.forward, task.right)
        self.examples = Examples(task.forward, task.right)  # apart from what was drawn before
        self.refuting: Trial | None = None  # on which the last mend is wrong
        self.bench: Bench | None = None  # with the trials that show faults
        self.empty: Example | None = None  # that shows a difference with empty axes
        self.ties = False  # whether ties count
        self.too_large = 0  # runs given up
        self.certifier = Certifier(task.right, task.forward if task.is_backward else None)
        self.lines = Floats()

    def judgement(self) -> Judgement:
        task = self.task
        missing = [self._missing_gradient(name) for name in task.missing]
        if not task.claim.findings and not missing and self._is_derived():
            return Judgement((), "proved", task.judged, task.not_given)
        verdict = None if task.claim.findings else self._with_empty_axes(self._verdict())
        if verdict is not None and verdict.kind != "differ":
            return self._agreed(verdict, missing)
        more = [p for _, p in self._gradient_patches()]
        found, mended = self._located(self._showing(), more)
        idle: list[int] = []
        if mended is None and not more:
            # What nothing reads any more may go, where it breaks a rule, and what is not missed.
            idle = self._idle(found)
            gone = [Patch(start, "delete", None) for start in idle]
            mended = self._mended(found, gone, whole=True) if gone else None
            if mended is None:
                idle = []
                found, mended = self._aligned(found)
        located = [self._finding(fault, found) for fault in found]
        findings = self._joined([*task.claim.findings, *missing], found, located)
        for start in idle:
            number = self._breaking[start]
            if number >= 0:
                findings[number] = replace(findings[number], how="delete", note=None)
        if mended is not None and found:
            findings = [f for f in findings if not _follows(f)]
        if not found and verdict is not None:
            findings.append(self._unlocated(verdict))
        return Judgement(
            _sorted(findings),
            "tested",
            task.judged,
            task.not_given,
            mended=mended,
        )

    @property
    def _breaking(self) -> dict[int, int]:
        """Statements that break a rule or could not be read, with the numbers of the findings."""
        claim = self.task.claim
        unread = {start: r.finding for start, r in claim.repaired.items() if not r.text}
        return {**claim.faulty, **unread}

    def _idle(self, found: Sequence[Located]) -> list[int]:
        """Those of them that no mend changes."""
        at = {fault.patch.at for fault in found if fault.patch is not None}
        return [start for start in self._breaking if start not in at]

    def _aligned(self, found: list[Located]) -> tuple[list[Located], str | None]:
        """The faults as the derived program shows them beside the claim, if their mends make all right."""
        bench = self.bench or Bench(self.task, ())
        for by_value in (True, False) if self.bench else (False,):
            others = Alignment(bench, by_value).faults()
            mended = self._mended(others, [], whole=True) if others else None
            if mended is not None:
                return others, mended
        return found, None

    def _is_derived(self) -> bool:
        """Is the claim the derived program itself, statement for statement?"""
        return replace(certifiable(self.task), name=self.task.right.name) == self.task.right

    # ------------------------------------------------------------------------------- the verdict

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
        self.empty = self.certifier.counterexample(
            claimed, empty_axes(), ties=False, rounding=ROUNDING
        )
        if self.empty is None or 0 in self.empty.sizes.values():
            return verdict
        return replace(verdict, kind="differ", counterexample=self.empty)

    def _agreed(self, verdict: Verdict, missing: list[Finding]) -> Judgement:
        task = self.task
        findings = [*task.claim.findings, *missing]
        if verdict.kind == "undecided" and not verdict.trials:
            said = f"the claim cannot be judged: {verdict.reason}"
            findings.append(Finding("not judged", said, task.program.span))
        proved, reason = self._proved(verdict)
        mended = self._mended([], [p for _, p in self._gradient_patches()]) if missing else None
        method: Literal["proved", "tested"] = "proved" if proved else "tested"
        return Judgement(_sorted(findings), method, task.judged, task.not_given, reason, mended)

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
            return hoisted(claimed, self.task.forward)
        except ProgramError:
            return claimed

    # -------------------------------------------------------------------------------- the faults

    def _located(
        self, trials: Sequence[Trial], more: Sequence[Patch]
    ) -> tuple[list[Located], str | None]:
        """The faults that the trials show, and the text mended. A trial that refutes the mend is one more
        to look at."""
        found: list[Located] = []
        mended: str | None = None
        for _ in range(REFUTED if trials else 0):
            self.bench = Bench(self.task, trials)
            found = self._narrowed(self._placed(Locator(self.bench).locate()))
            self.refuting = None
            mended = self._mended(found, more)
            if mended is not None or self.refuting is None:
                break
            trials = [*trials, self.refuting]
        return found, mended

    def _placed(self, found: list[Located]) -> list[Located]:
        """With a statement that is put in at another place, where the first one breaks the order."""
        put_in = [f for f in found if f.patch is not None and f.patch.how == "insert after"]
        if len(put_in) != 1 or self._mended(found, [], whole=True) is not None:
            return found
        fault, claim = put_in[0], self.task.claim
        assert fault.patch is not None
        depth = claim.depth(fault.patch.at)
        for start in claim.stretches:
            if claim.depth(start) != depth:
                continue
            for how in HOWS:
                moved = replace(
                    fault,
                    patch=replace(fault.patch, at=start, how=how),
                    statement=start,
                    span=claim.stretch_span(start),
                )
                others = [moved if f is fault else f for f in found]
                if self._mended(others, [], whole=True) is not None:
                    return others
        return found

    def _narrowed(self, found: list[Located]) -> list[Located]:
        """With one of the statements that are missing, where a line that was left out for its sake is
        the other."""
        repaired = self.task.claim.repaired
        for fault in found:
            patch = fault.patch
            if patch is None or patch.how != "replace":
                continue
            unread = [
                start for start, r in repaired.items() if (r.text, r.target) == (None, fault.tensor)
            ]
            if unread in ([], [patch.at]):
                continue
            for line in (patch.text or "").split("\n"):
                one = replace(fault, patch=replace(patch, text=line))
                others = [one if f is fault else f for f in found]
                if self._mended(others, [], whole=True) is not None:
                    return others
        return found

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

    def _finding(self, fault: Located, found: Sequence[Located]) -> Finding:
        patch = fault.patch
        return Finding(
            fault.kind,
            fault.message,
            self.task.claim.span(fault.span),
            None if patch is None else patch.text,
            "replace" if patch is None else patch.how,
            _note(patch),
            self._counterexample(fault, found),
        )

    def _counterexample(self, fault: Located, found: Sequence[Located]) -> Counterexample | None:
        """What is wrong where every other fault is mended, if they can be."""
        facts = self.task.facts
        others = [f.patch for f in found if f is not fault and f.patch is not None]
        if self.task.claim.findings:
            return None
        if others:
            mended = self._read(patched(self.task.claim, self.task.program, others))
            facts = infer(mended) if mended is not None else facts
        example = self.examples.smallest(self.task, facts, self.ties)
        if example is None and others:
            example = self.examples.smallest(self.task, self.task.facts, self.ties)
        return example

    def _joined(
        self, findings: list[Finding], found: Sequence[Located], located: Sequence[Finding]
    ) -> list[Finding]:
        """What a line with a mistake of notation should have been belongs to that finding."""
        claim, joined = self.task.claim, list(findings)
        for start, repair in claim.repaired.items():
            if repair.finding >= 0 and repair.text and all(f.statement != start for f in found):
                joined[repair.finding] = replace(joined[repair.finding], right=repair.text)
        for fault, finding in zip(found, located, strict=True):
            number = self._number(fault)
            if number < 0:
                joined.append(finding)
                continue
            notes = [n for n in (joined[number].note, finding.note) if n]
            joined[number] = replace(
                joined[number], right=finding.right, how=finding.how, note="; ".join(notes) or None
            )
        return joined

    def _number(self, fault: Located) -> int:
        """The mistake of notation that the fault is; -1 for none."""
        claim = self.task.claim
        if fault.statement is None:
            return claim.lent.get(fault.tensor, -1)
        if fault.kind == "missing term" and claim.added.get(fault.tensor, -1) >= 0:
            return claim.added[fault.tensor]
        if fault.statement in claim.repaired:
            return claim.repaired[fault.statement].finding
        return claim.faulty.get(fault.statement, -1)

    def _unlocated(self, verdict: Verdict) -> Finding:
        example = verdict.counterexample
        said = "the claim is wrong, in a way that is not found in a statement"
        return Finding(
            "wrong value",
            f"{said}: {example}" if example is not None else said,
            self.task.program.span,
        )

    # -------------------------------------------------------------------------------- the mends

    def _mended(
        self, found: Sequence[Located], more: Sequence[Patch], whole: bool | None = None
    ) -> str | None:
        """The text with all mends made; None where that is not right.

        whole: whether it has to be right, by default unless gradients are added that were not judged.
        """
        if any(f.patch is None for f in found):
            return None
        # Several faults may have one mend.
        patches = list(dict.fromkeys(f.patch for f in found if f.patch is not None))
        mended = {p.at for p in patches if p.how == "replace"}
        for start, repair in self.task.claim.repaired.items():
            if start not in mended and repair.text is not None:
                patches.append(Patch(start, "replace", repair.text))
        text = patched(self.task.claim, self.task.program, [*patches, *more])
        whole = not more if whole is None else whole
        return text if self._read(text, whole=whole) is not None else None

    def _read(self, text: str, whole: bool = False) -> Program | None:
        """The program of a mended text, if it is one, and if it is right where `whole`."""
        claim = read_claim(text, name=self.task.program.name)
        if claim.program is None or claim.findings:
            return None
        task, faults = understand(self.task.forward, claim, None)
        if task is None or faults:
            return None
        if whole and not (self._right(task) and self._certified(task)):
            return None
        return task.program if set(task.judged) >= set(self.task.judged) else None

    def _certified(self, task: Task) -> bool:
        mended = certifiable(task)
        if canonical(in_order(mended)) == canonical(in_order(self.task.right)):
            return True  # it is the derived program
        return self._verdict(mended).kind == "agree"

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

    def _gradient_patches(self) -> list[tuple[str, Patch]]:
        task = self.task
        if not task.missing:
            return []
        full = task.forward.backward()
        names = dict(zip((r.name for r in full.results), (r for r in full.results), strict=True))
        found: list[tuple[str, Patch]] = []
        inputs = [i.name for i in infer(task.forward).program.inputs if i.differentiable]
        of = dict(zip(names, inputs, strict=True))
        for name in task.missing:
            right = task.forward.backward([of[name]])
            translation = Translation(replace(task, right=right, judged=(name,)))
            pieces = translation.closure([name])
            statements = [translation.statement(p, None, ()) for p in pieces]
            arguments, _ = translation.needs(statements)
            anchor = max(task.claim.stretches)
            patch = Patch(
                anchor,
                "insert after",
                "\n".join(show_statements(statements)),
                tuple(arguments),
                (translation.result(name),),
                translation.locals_for(statements),
            )
            found.append((name, patch))
        return found

    def nothing_given(self) -> Judgement:
        """The judgement of a claim that returns none of the gradients asked for."""
        missing = tuple(map(self._missing_gradient, self.task.missing))
        return Judgement((*self.task.claim.findings, *missing), not_given=self.task.not_given)

    def _missing_gradient(self, name: str) -> Finding:
        patch = next(p for n, p in self._gradient_patches() if n == name)
        return Finding(
            "missing gradient",
            f"the gradient `{name}` is missing",
            self.task.program.span,
            patch.text,
            "insert after",
            f"and `{patch.results[0]}` is a result",
        )


def _follows(finding: Finding) -> bool:
    """Is it there only for another fault's sake, whose mend mends it? An extent that comes from what
    is written lacks what is missing."""
    return finding.kind in INFERRED and finding.right is None and finding.how == "replace"


def _near(example: Example) -> bool:
    """May the difference be a rounding of some constant?"""
    try:
        before, after = float(example.before), float(example.after)
    except ValueError:  # words
        return False
    return abs(before - after) <= 1e-9 * max(abs(before), abs(after), 1.0)


def _note(patch: Patch | None) -> str | None:
    if patch is None:
        return None
    said = []
    if patch.before is not None:
        said.append(f"before the block it needs `{patch.before[1]}`")
    if patch.header and patch.how != "input":
        listed = ", ".join(f"`{h}`" for h in patch.header)
        said.append(f"it reads {listed}, to be added to the header")
    if patch.locals:
        said.append(f"it needs {', '.join(f'`local {x}`' for x in patch.locals)}")
    return "; ".join(said) or None
