"""Are two programs equal? `lg.equal(p, q)`: proved, refuted by a counterexample, or tested."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from loopgrad.ir.nodes import Constant, Expression, Program
from loopgrad.ir.walk import map_declared, map_statement, number, rebuild
from loopgrad.simplify.certifying.certificate import Certifier, certify
from loopgrad.simplify.certifying.edges import beyond, empty_axes
from loopgrad.simplify.certifying.sampling import World
from loopgrad.simplify.certifying.trials import Draw
from loopgrad.simplify.certifying.verdicts import Counterexample, Verdict
from loopgrad.simplify.reading.canonical import canonical
from loopgrad.simplify.reading.forms import equal_forms
from loopgrad.simplify.reading.induction import equal_by_induction


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
    values that the forward gives them. Equal means in real arithmetic, and no number (0/0) at the
    same inputs.

    The answer is true where nothing speaks against equality at sizes of at least 1. Its `.verdict` is
    "proved", of all sizes and inputs, where the two have one canonical form, or the difference of
    their normal forms is 0 and they divide, or take roots and logarithms, under the same
    conditions (of blocks: by induction over the order of their turns); "refuted" with a
    `.counterexample`; "tested" where random inputs found no difference, in exact arithmetic and to
    20 digits, or one with empty axes alone, which `.reason` says.

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
    certifier = Certifier(first, first.primal or second.primal)
    verdict = certifier.compare(second, symmetric=True)
    if verdict.kind == "differ":
        return Equality("refuted", verdict.counterexample, certificate=verdict)
    same = canonical(first) == canonical(second)
    example = None if same else _defaults_differ(first, second) or _beyond(certifier, first, second)
    if example is not None:
        return Equality("refuted", example, certificate=verdict)
    if verdict.kind == "undecided":
        return Equality("tested", None, verdict.reason, verdict)
    if same:
        return Equality("proved", None, "", verdict)
    empty = certifier.counterexample(second, empty_axes(certifier.extents), symmetric=True)
    if empty is not None:
        return Equality("tested", None, _but_for_empty_axes(empty), verdict)
    by_forms = verdict.lines == "both" and equal_forms(first, second)
    if by_forms or equal_by_induction(first, second):
        return Equality("proved", None, "", verdict)
    return Equality("tested", None, verdict.reason or _tested(verdict), verdict)


def _beyond(certifier: Certifier, first: Program, second: Program) -> Counterexample | None:
    """A difference at larger sizes, near the programs' own numbers, or where the second runs alone."""
    example = certifier.counterexample(second, beyond(first, second), symmetric=True)
    if example is not None:
        return example
    swapped = Certifier(second, first.primal or second.primal)
    draws = [Draw(7000 + n, (World("signed"),), "reals") for n in range(2)]
    example = swapped.counterexample(first, draws, symmetric=True)
    return replace(example, before=example.after, after=example.before) if example else None


def _defaults_differ(first: Program, second: Program) -> Counterexample | None:
    """A difference that shows when each program has its own defaults."""
    defaults = {c.name: c.value for c in first.constants}
    others = {c.name for c in second.constants if defaults.get(c.name, c.value) != c.value}
    if not others:
        return None
    one, other = (with_defaults(p, others) for p in (first, second))
    return certify(one, other, first.primal or second.primal, symmetric=True).counterexample


def with_defaults(program: Program, names: Collection[str]) -> Program:
    """The program with these constants replaced by their values."""
    values = {c.name: number(c.value) for c in program.constants if c.name in names}

    def change(expression: Expression) -> Expression:
        if isinstance(expression, Constant):
            return values.get(expression.name, expression)
        return rebuild(expression, change)

    unfolded = program.unfold()
    changed = map_declared(unfolded, change)
    return replace(
        changed,
        arguments=tuple(a for a in changed.arguments if a.name not in values),
        statements=tuple(map_statement(s, change) for s in unfolded.statements),
    )


def _but_for_empty_axes(example: Counterexample) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in example.sizes.items() if not value)
    where = example.result + (f"[{','.join(map(str, example.element))}]" if example.element else "")
    return (
        "equal as far as tested at sizes of at least 1, and not with empty axes: "
        f"at {sizes} `{where}` is {example.before} in one, {example.after} in the other"
    )


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
