"""Are two programs equal? `lg.equal(p, q)`: proved, refuted by a counterexample, or tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loopgrad.ir.nodes import Program
from loopgrad.simplify.canonical import canonical
from loopgrad.simplify.certificate import Counterexample, Verdict, certify
from loopgrad.simplify.forms import equal_forms


@dataclass(frozen=True)
class Equality:
    """The answer of `equal`; true unless a counterexample was found, or nothing could be tested.

    verdict: "proved", "refuted" or "tested". counterexample: of a refuted equality, the call whose
    results differ (`.sizes .constants .inputs .result .element .before .after`); else None.
    reason: why it is not proved, in words.
    """

    verdict: Literal["proved", "refuted", "tested"]
    counterexample: Counterexample | None = None
    reason: str = ""
    certificate: Verdict | None = None

    def __bool__(self) -> bool:
        return self.verdict != "refuted" and bool(self.certificate)

    def __str__(self) -> str:
        if self.counterexample is not None:
            return f"refuted: {self.counterexample}"
        return f"{self.verdict}: {self.reason}" if self.reason else self.verdict


def equal(p: Program | str, q: Program | str) -> Equality:
    """Whether two programs, or texts of programs, compute the same results from the same inputs.

    Inputs and results are matched by name, whatever the extents are called; an input that only one
    has may be anything. A backward reads tensors that its forward computes: these have the
    values that the forward gives them. Equal means in real arithmetic, at all sizes of at least
    1, and no number (0/0) at the same inputs.

    The answer is true where nothing speaks against equality. Its `.verdict` is "proved" where the
    two have one canonical form, or the difference of their normal forms is 0; "refuted" with a
    `.counterexample`; "tested" where random inputs found no difference, in exact arithmetic and to
    20 digits.

    Raises ValueError for programs that cannot be compared (other results, or one name for
    tensors of several ranks or kinds), ProgramError for a text that is no program, TypeError for
    what is neither.

    >>> import loopgrad as lg
    >>> p = lg.program("f(x[N], y[N]) -> s:\\n    for n:  s += x[n] * y[n]")
    >>> bool(lg.equal(p, "f(x[N], y[N]) -> s:\\n    for i:  s += y[i] * x[i]"))
    True
    >>> answer = lg.equal(p, "f(x[N], y[N]) -> s:\\n    for n:  s -= x[n] * y[n]")
    >>> answer.verdict, answer.counterexample.result
    ('refuted', 's')
    """
    first, second = _program(p), _program(q)
    verdict = certify(first, second, symmetric=True)
    if verdict.kind == "differ":
        return Equality("refuted", verdict.counterexample, certificate=verdict)
    if verdict.kind == "undecided":
        return Equality("tested", None, verdict.reason, verdict)
    if canonical(first) == canonical(second) or (
        verdict.lines == "both" and equal_forms(first, second)
    ):
        return Equality("proved", None, "", verdict)
    return Equality("tested", None, verdict.reason or _tested(verdict), verdict)


def _program(program: Program | str) -> Program:
    if isinstance(program, str):
        from loopgrad.frontend.library import program as parsed

        return parsed(program)
    if not isinstance(program, Program):
        raise TypeError(f"a program or its text is needed, got {type(program).__name__}")
    return program


def _tested(verdict: Verdict) -> str:
    residues = sum(verdict.known.values())
    return f"{verdict.trials} random inputs and {residues} residues in finite fields agree"
