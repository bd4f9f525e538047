"""`check`: is a claimed backward, or a claimed rewriting, right? And if not, where, and what is?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking import counterexamples
from loopgrad.checking.claims import Claim, read_claim
from loopgrad.checking.findings import Counterexample, Finding, Judgement
from loopgrad.checking.floats import Floats, array
from loopgrad.checking.headers import Task, certifiable, lendable, understand
from loopgrad.checking.locating import Located, Locator
from loopgrad.checking.mending import Patch, Translation, patched
from loopgrad.checking.trials import KINDS, Trial, Trials, differing, run
from loopgrad.diagnostics import ProgramError, ProgramWarning
from loopgrad.ir.nodes import Program
from loopgrad.ir.printer import show_statements
from loopgrad.pipeline import as_program, verify
from loopgrad.simplify.canonical import canonical
from loopgrad.simplify.certificate import Verdict, certify
from loopgrad.simplify.evaluate import TooLarge, Undefined
from loopgrad.simplify.forms import equal_forms

SHOWING = 3  # trials on which faults are looked for
DRAWN = 48  # until so many show a fault


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


def judge(forward: Program, claim: Claim, wrt: Sequence[str] | None = None) -> Judgement:
    """The judgement of a claim that has been read; see `check`."""
    if claim.program is None:
        if wrt is not None:
            understand_wrt(forward, wrt)
        return Judgement(claim.findings)
    task, faults = understand(forward, claim, wrt)
    if task is None:
        findings = _sorted([*claim.findings, *faults])
        return Judgement(findings, mended=_mended_header(forward, claim, faults, wrt))
    return _Judging(task).judgement()


def understand_wrt(forward: Program, wrt: Sequence[str]) -> None:
    forward.backward(list(wrt))


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.line or 0, f.column or 0)))


def _mended_header(
    forward: Program, claim: Claim, faults: Sequence[Finding], wrt: Sequence[str] | None
) -> str | None:
    """The text with each part of the header replaced by what is right, if that makes all right."""
    if claim.findings or not faults or any(f.right is None or f.span is None for f in faults):
        return None
    text = claim.source.text
    for fault in sorted(faults, key=lambda f: f.span.start, reverse=True):  # type: ignore[union-attr]
        assert fault.span is not None and fault.right is not None
        text = text[: fault.span.start] + fault.right + text[fault.span.end :]
    try:
        return text if judge(forward, read_claim(text), wrt) else None
    except ProgramError:
        return None


class _Judging:
    """The state of judging one task."""

    def __init__(self, task: Task):
        self.task = task
        self.trials = Trials(task.forward, task.right)
        self.lines = Floats()

    def judgement(self) -> Judgement:
        task = self.task
        missing = [self._missing_gradient(name) for name in task.missing]
        verdict = None if task.claim.findings else self._verdict()
        if verdict is not None and verdict.kind != "differ":
            return self._agreed(verdict, missing)
        found = self._found(verdict)
        findings = [*task.claim.findings, *missing]
        located = [self._finding(fault, found) for fault in found]
        findings = self._joined(findings, found, located)
        mended = self._mended(found, [p for _, p in self._gradient_patches()])
        if mended is None and len(found) == 1:
            mended = None
        if not found and verdict is not None:
            findings.append(self._unlocated(verdict))
        return Judgement(
            _sorted(findings),
            "tested",
            task.judged,
            task.not_given,
            mended=mended,
        )

    # ------------------------------------------------------------------------------- the verdict

    def _verdict(self) -> Verdict:
        task = self.task
        primal = task.forward if task.is_backward else None
        return certify(task.right, certifiable(task), primal, ties=False)

    def _agreed(self, verdict: Verdict, missing: list[Finding]) -> Judgement:
        task = self.task
        findings = [*task.claim.findings, *missing]
        if verdict.kind == "undecided" and not verdict.trials:
            findings.append(
                Finding(
                    "not judged", f"the claim cannot be judged: {verdict.reason}", task.program.span
                )
            )
        method, reason = self._method(verdict)
        mended = None
        if missing:
            mended = self._mended([], [p for _, p in self._gradient_patches()])
        return Judgement(_sorted(findings), method, task.judged, task.not_given, reason, mended)

    def _method(self, verdict: Verdict) -> tuple:  # type: ignore[type-arg]
        task = self.task
        claimed = certifiable(task)
        primal = task.forward if task.is_backward else None
        if canonical(task.right) == canonical(claimed):
            return "proved", ""
        if verdict.lines == "both" and equal_forms(task.right, claimed, primal):
            return "proved", ""
        residues = sum(verdict.known.values())
        reason = (
            verdict.reason
            or f"{verdict.trials} random inputs and {residues} residues in finite fields agree"
        )
        return "tested", reason

    # -------------------------------------------------------------------------------- the faults

    def _found(self, verdict: Verdict | None) -> list[Located]:
        trials = self._showing()
        if not trials:
            return []
        locator = Locator(self.task, trials)
        lent = [locator.lent(name) for name in self.task.claim.lent]
        return [*locator.locate(), *(fault for fault in lent if fault is not None)]

    def _showing(self) -> list[Trial]:
        """Trials on which the claim is wrong, of different kinds, one of them at least."""
        showing: list[Trial] = []
        others: list[Trial] = []
        for attempt in range(DRAWN):
            trial = self.trials.draw(KINDS[attempt % len(KINDS)], attempt)
            if trial is None or trial.tied or not self._speaks(trial):
                continue
            (showing if self._is_wrong(trial) else others).append(trial)
            if len(showing) >= SHOWING or (showing and attempt > DRAWN // 2):
                break
        if not showing:
            return others[:SHOWING] if self.task.claim.findings else []
        return [*showing[:SHOWING], *others[:1]]

    def _speaks(self, trial: Trial) -> bool:
        return all(
            np.isfinite(array(trial.tensors[n])).any() or not array(trial.tensors[n]).size
            for n in self.task.judged
        )

    def _is_wrong(self, trial: Trial) -> bool:
        try:
            made = run(self.task.facts, trial, self.lines)
        except TooLarge:
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
        example = counterexamples.smallest(self.task, facts, self.trials)
        if example is None and others:
            example = counterexamples.smallest(self.task, self.task.facts, self.trials)
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

    def _mended(self, found: Sequence[Located], more: Sequence[Patch]) -> str | None:
        patches = [f.patch for f in found if f.patch is not None]
        if len(patches) < len(found):
            return None
        mended = {p.at for p in patches if p.how == "replace"}
        for start, repair in self.task.claim.repaired.items():
            if start not in mended and repair.text is not None:
                patches.append(Patch(start, "replace", repair.text))
        text = patched(self.task.claim, self.task.program, [*patches, *more])
        return text if self._read(text, whole=not more) is not None else None

    def _read(self, text: str, whole: bool = False) -> Program | None:
        """The program of a mended text, if it is one, and if it is right where `whole`."""
        claim = read_claim(text, name=self.task.program.name)
        if claim.program is None or claim.findings:
            return None
        task, faults = understand(self.task.forward, claim, None)
        if task is None or faults:
            return None
        if whole and not self._right(task):
            return None
        return task.program if set(task.judged) >= set(self.task.judged) else None

    def _right(self, task: Task) -> bool:
        for attempt in range(8):
            trial = self.trials.draw(KINDS[attempt % len(KINDS)], attempt)
            if trial is None or trial.tied:
                continue
            try:
                made = run(task.facts, trial, self.lines)
            except (Undefined, TooLarge, KeyError):
                return False
            for name in self.task.judged:
                if differing(array(trial.tensors[name]), array(made[name])).any():
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


def _note(patch: Patch | None) -> str | None:
    if patch is None or not (patch.header or patch.locals):
        return None
    said = []
    if patch.header:
        said.append(
            f"it reads {', '.join(f'`{h}`' for h in patch.header)}, to be added to the header"
        )
    if patch.locals:
        said.append(f"it needs {', '.join(f'`local {x}`' for x in patch.locals)}")
    return "; ".join(said)
