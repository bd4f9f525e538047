"""`check`: is a claimed backward, or a claimed rewriting, right? And if not, where, and what is?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.checking.answers import Located
from loopgrad.checking.claims import Claim, read_claim
from loopgrad.checking.counterexamples import on
from loopgrad.checking.faults import Faults
from loopgrad.checking.findings import Counterexample, Finding, Judgement, Kind
from loopgrad.checking.headers import lendable, understand
from loopgrad.checking.mending import Patch, patched
from loopgrad.checking.ordering import Reordered, reordered
from loopgrad.diagnostics import ProgramError, ProgramWarning, Span
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import as_program, verify
from loopgrad.simplify.certifying.verdicts import Verdict

INFERRED: tuple[Kind, ...] = ("out of range", "wrong range")  # of what statements write
MENDS = 4  # of a header, one after the other


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


class _Judging(Faults):
    """Puts into words what was found."""

    def judgement(self) -> Judgement:
        task = self.task
        missing = [self._missing_gradient(name) for name in task.missing]
        if not task.claim.findings and not missing and self._is_derived():
            return Judgement((), "proved", task.judged, task.not_given)
        verdict = None if task.claim.findings else self._with_empty_axes(self._verdict())
        if verdict is not None and verdict.kind == "agree":
            return self._agreed(verdict, missing)
        self.showing = self._showing()
        if verdict is not None and verdict.kind == "undecided" and not self._often_wrong():
            return self._agreed(verdict, missing)
        more = [p for _, p in self._gradient_patches()]
        found, mended = self._located(self.showing, more)
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
        larger = (on(self.task, facts, trial) for trial in self.showing)
        return example or next(filter(None, larger), None)

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
