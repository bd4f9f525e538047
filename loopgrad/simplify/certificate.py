"""Are two programs equal? Tested by running both, independent of how one was made of the other.

`certify` runs both programs on random inputs of random sizes, over `Lines`: residues in finite fields,
where algebra is exact, and reals to 50 digits, which know all functions. docs/decisions/0005 says what
an answer is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import localcontext
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.diagnostics import listing
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import accumulates, all_statements, reads, statement_expressions
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.differences import STRICT, difference, elements_at, finite, real
from loopgrad.simplify.evaluate import Setting, Tensor, TooLarge, Undefined, evaluate
from loopgrad.simplify.fields import LONGEST, Fields
from loopgrad.simplify.levels import depth
from loopgrad.simplify.lines import Lines, Numbers
from loopgrad.simplify.sampling import Inputs, Kind, Sizes, draw_constants, zeros_like

ENOUGH = 48  # input elements drawn before a program with order counts as tested
OFTEN = 3  # trials in which each statement has run
LONG = 8  # times the trials asked for, after which a statement that never ran is let be
PATIENCE = 2  # runs that are too long, before nothing more is tried
COPIES = 4  # independent draws of the residues in a trial
KINDS: tuple[Kind, ...] = ("signed", "unit", "zeros", "large")


@dataclass(frozen=True)
class Counterexample:
    """A call whose results differ.

    sizes, constants and inputs are those of the call (arrays by name; among the inputs of a backward
    the forward-computed tensors that it reads). `result[element]` is `before` in the first program
    and `after` in the second, as arrays of shape () or as "an error: ..." in words.
    """

    sizes: Mapping[str, int]
    constants: Mapping[str, int | float]
    inputs: Mapping[str, NDArray[Any]]
    result: str
    element: tuple[int, ...]
    before: float | int | str
    after: float | int | str

    def __str__(self) -> str:
        where = self.result + (f"[{','.join(map(str, self.element))}]" if self.element else "")
        given = [
            f"{name} = {value}" for name, value in (*self.sizes.items(), *self.constants.items())
        ]
        given += [
            f"{name} = {np.array2string(np.asarray(value), precision=4, separator=', ')}"
            for name, value in self.inputs.items()
        ]
        lines = "\n".join("  " + line.replace("\n", "\n  ") for line in given)
        return f"`{where}` is {self.before} in one, {self.after} in the other, with\n{lines}"


@dataclass(frozen=True)
class Verdict:
    """What running two programs showed.

    kind: "differ", with a counterexample; "agree", on both lines, or on the reals alone where `lines`
    says so; "undecided", for the `reason`. known: the residues compared, for each result.
    True where the programs agree.
    """

    kind: Literal["agree", "differ", "undecided"]
    counterexample: Counterexample | None = None
    trials: int = 0
    lines: Literal["both", "reals"] = "both"
    known: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    def __bool__(self) -> bool:
        return self.kind == "agree"


def certify(
    before: Program,
    after: Program,
    forward: Program | None = None,
    *,
    trials: int = 4,
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
    comparison = Comparison(before, after, forward or before.primal or after.primal)
    comparison.ties = ties
    return comparison.verdict(trials, symmetric, kinks)


@dataclass
class _Tally:
    """What the trials showed so far, for each result."""

    trials: int = 0
    drawn: int = 0  # elements of inputs
    reached: Counter[int] = field(default_factory=Counter)  # statement -> trials in which it ran
    known: dict[str, int] = field(default_factory=dict)
    complete: dict[str, bool] = field(default_factory=dict)  # every element known in some trial
    compared: dict[str, bool] = field(default_factory=dict)  # some element, on the reals
    residues_differ: bool = False
    counterexample: Counterexample | None = None


@dataclass(frozen=True)
class Trial:
    """The inputs of one trial, and what the first program makes of them."""

    extents: tuple[Mapping[str, int], ...]  # of before, after, forward
    constants: Mapping[str, int | float | Fraction]
    inputs: Mapping[str, Tensor]
    results: Mapping[str, Tensor]
    lines: Lines
    reached: set[int]  # statements that ran
    tied: bool  # two equal numbers were put in order


class Comparison:
    """Two programs, and the forward whose tensors they read, made ready to be run together."""

    def __init__(self, before: Program, after: Program, forward: Program | None):
        programs = [before, after] + ([forward] if forward is not None else [])
        self.facts = [infer(p) for p in programs]
        self.before, self.after = self.facts[:2]
        self.forward = self.facts[2] if forward is not None else None
        self.results = tuple(r.name for r in before.results)
        if set(self.results) != {r.name for r in after.results}:
            first, second = (listing([r.name for r in p.results]) for p in (before, after))
            raise ValueError(
                f"`{before.name}` returns {first}, and `{after.name}` returns {second}: programs "
                "are compared by the names of their results"
            )
        for facts in self.facts:
            missing = _never_written(facts)
            if missing:
                raise ValueError(f"`{facts.program.name}` computes no {listing(missing)}")
        self.shared = self._shared()
        self.sizes = Sizes(self.facts, self.shared)
        self.inputs = Inputs(self.facts)
        self.statements = [
            id(s) for facts in self.facts[:2] for _, s in accumulates(facts.program.statements)
        ]
        self.beyond: set[str] = set()
        self.tolerance = 1.0
        self.ties = True
        self.too_large = 0  # runs given up

    def _shared(self) -> dict[str, list[int]]:
        """Tensors that are an input of several programs, or a result of both, or read from forward."""
        holders: dict[str, list[int]] = {}
        for number in range(2):
            for i in self.facts[number].program.inputs:
                holders.setdefault(i.name, []).append(number)
        if self.forward is not None:
            for name in self.forward.tensors:
                if name in holders:
                    holders[name].append(2)
        for name in self.results:
            if name in holders:
                raise ValueError(f"`{name}` is a result, and an input: the two cannot be compared")
            holders[name] = [0, 1]
        for name, numbers in holders.items():
            self._comparable(name, numbers)
        return {name: numbers for name, numbers in holders.items() if len(numbers) > 1}

    def _comparable(self, name: str, numbers: list[int]) -> None:
        tensors = [self.facts[n].tensors[name] for n in numbers]
        names = [self.facts[n].program.name for n in numbers]
        for tensor, program in zip(tensors[1:], names[1:], strict=True):
            if tensor.rank != tensors[0].rank:
                raise ValueError(
                    f"`{name}` has {_axes(tensors[0].rank)} in `{names[0]}` and "
                    f"{_axes(tensor.rank)} in `{program}`: the two cannot be compared"
                )
            floating = {t.element is ElementType.FLOAT for t in (tensor, tensors[0])}
            if len(floating) > 1 and name not in self.results:
                raise ValueError(
                    f"`{name}` is {tensors[0].element.value} in `{names[0]}` and "
                    f"{tensor.element.value} in `{program}`: the two cannot be compared"
                )

    # ------------------------------------------------------------------------------- verdict

    def verdict(self, trials: int, symmetric: bool, kinks: bool) -> Verdict:
        rng = np.random.default_rng(20240229)
        kinds = [kind for kind in KINDS if kinks or kind != "zeros"]
        levels = max(depth(facts) for facts in self.facts)
        tally = _Tally()
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            for attempt in range(2 * LONG * trials):
                if tally.trials >= trials and self._enough(tally, attempt >= LONG * trials):
                    break
                if self.too_large > PATIENCE:
                    return _given_up(tally)
                kind = kinds[attempt % len(kinds)]
                lines = Lines(Fields(min(levels + attempt // trials, LONGEST), COPIES))
                self._compare(self.trial(rng, kind, lines, attempt), tally, symmetric)
                if tally.counterexample is not None:
                    return self._refuted(tally, rng, symmetric, kinds)
            for name in self._inputs_to_set_to_zero() if kinks else ():
                reals = Lines(Fields(1, 0))
                self._compare(self.trial(rng, "signed", reals, 0, zero=name), tally, symmetric)
                if tally.counterexample is not None:
                    return Verdict("differ", tally.counterexample, tally.trials)
            for every in (1, 2, 3):  # what divides by B - 2, say, is no number at one size alone
                reals = Lines(Fields(1, 0))
                self._compare(self.trial(rng, "signed", reals, 0, every=every), tally, symmetric)
                if tally.counterexample is not None:
                    return Verdict("differ", tally.counterexample, tally.trials)
            if tally.residues_differ:
                self.tolerance = STRICT
                refuted = self._refuted(tally, rng, symmetric, kinds)
                if refuted.counterexample is not None:
                    return refuted
        return self._agreed(tally)

    def _inputs_to_set_to_zero(self) -> list[str]:
        """Where a rewriting divides by one of them, it is undefined; random numbers do not show it."""
        names = dict.fromkeys(
            i.name for facts in self.facts for i in facts.program.inputs if i.differentiable
        )
        computed = self.forward.tensors if self.forward is not None else {}
        return [n for n in names if n not in computed or computed[n].role == "input"]

    def _enough(self, tally: _Tally, late: bool) -> bool:
        """Statements that seldom run, and comparisons that seldom hold, need more trials."""
        if late:
            return True
        if "order" in self.beyond and tally.drawn < ENOUGH:
            return False
        seldom = any(tally.reached[statement] < OFTEN for statement in self.statements)
        return not seldom and self._settled(tally)

    def _settled(self, tally: _Tally) -> bool:
        return all(tally.complete.get(name) for name in self.results)

    def _refuted(
        self, tally: _Tally, rng: np.random.Generator, symmetric: bool, kinds: list[Kind]
    ) -> Verdict:
        """With a counterexample as small as a few tries find."""
        examples = [tally.counterexample] if tally.counterexample else []
        for attempt in range(2 * len(kinds)):
            kind = kinds[attempt % len(kinds)]
            found = _Tally()
            trial = self.trial(rng, kind, Lines(Fields(1, 0)), attempt, small=True)
            self._compare(trial, found, symmetric)
            if found.counterexample is not None:
                examples.append(found.counterexample)
        smallest = min(examples, key=_elements, default=None)
        return Verdict("differ", smallest, tally.trials)

    def _agreed(self, tally: _Tally) -> Verdict:
        never = [name for name in self.results if not tally.compared.get(name)]
        if never:
            reason = f"no inputs were found on which {listing(never)} is a number"
            return Verdict("undecided", None, tally.trials, "reals", tally.known, reason)
        if tally.residues_differ and not self.beyond - {"order"}:
            reason = "the reals agree to 20 digits, and the residues in finite fields differ"
            return Verdict("undecided", None, tally.trials, "both", tally.known, reason)
        both = self._settled(tally) and not tally.residues_differ
        reason = "" if both else _why_reals(tally, self.beyond)
        lines: Literal["both", "reals"] = "both" if both else "reals"
        return Verdict("agree", None, tally.trials, lines, tally.known, reason)

    # -------------------------------------------------------------------------------- trials

    def trial(
        self,
        rng: np.random.Generator,
        kind: Kind,
        lines: Lines,
        attempt: int,
        small: bool = False,
        zero: str | None = None,
        every: int | None = None,
    ) -> Trial | None:
        """Random inputs, the one called `zero` all zeros, and what the first program makes of them.

        every: the value of all extents, instead of random ones.

        None where no sizes, or no inputs that it runs on, are found.
        """
        constants = draw_constants(self.facts, rng, given=attempt % 2 == 0)
        for again in range(6):
            extents = self.sizes.draw(rng, constants, small or again > 2, every)
            if extents is None:
                return None
            lines.tied = False
            try:
                inputs = self._draw(extents, constants, lines, rng, kind, again, zero)
                tied = lines.tied
                reached: set[int] = set()
                results = self._run(0, extents, constants, inputs, lines, reached)
            except Undefined:
                continue
            except TooLarge:
                if small:
                    break
                small = True
                continue
            if self.forward is None:
                tied = lines.tied
            self.beyond |= lines.beyond
            return Trial(tuple(extents), constants, inputs, results, lines, reached, tied)
        else:
            return None
        self.too_large += 1
        return None

    def _draw(
        self,
        extents: list[dict[str, int]],
        constants: Mapping[str, int | float | Fraction],
        lines: Lines,
        rng: np.random.Generator,
        kind: Kind,
        attempt: int,
        zero: str | None,
    ) -> dict[str, Tensor]:
        """The inputs of all programs, those that the forward computes included."""
        inputs: dict[str, Tensor] = {}
        order = (2, 0, 1) if self.forward is not None else (0, 1)
        for number in order:
            for i in self.facts[number].program.inputs:
                if i.name not in inputs:
                    drawn = self.inputs.draw(
                        i.name, number, extents, constants, lines, rng, kind, attempt
                    )
                    inputs[i.name] = zeros_like(drawn, lines) if i.name == zero else drawn
            if number == 2:
                inputs.update(self._run(2, extents, constants, inputs, lines))
        return inputs

    def _run(
        self,
        number: int,
        extents: list[dict[str, int]] | tuple[Mapping[str, int], ...],
        constants: Mapping[str, int | float | Fraction],
        inputs: Mapping[str, Tensor],
        lines: Lines,
        reached: set[int] | None = None,
    ) -> dict[str, Tensor]:
        facts = self.facts[number]
        if number == 1 and not self.sizes.accepts(extents[1], constants):
            raise Undefined("it runs only where extents are equal that need not be")
        given = {i.name: inputs[i.name] for i in facts.program.inputs}
        return evaluate(facts, Setting(extents[number], constants, given), lines, reached)

    # ----------------------------------------------------------------------------- comparing

    def _compare(self, trial: Trial | None, tally: _Tally, symmetric: bool) -> None:
        if trial is None or (trial.tied and not self.ties):
            return
        try:
            results = self._run(
                1, trial.extents, trial.constants, trial.inputs, trial.lines, trial.reached
            )
        except TooLarge:
            self.too_large += 1
            return
        except Undefined as error:
            tally.trials += 1
            tally.counterexample = self._counterexample(
                trial, self.results[0], (), "a number", f"an error: {error}"
            )
            return
        self.beyond |= trial.lines.beyond
        spoken = [
            self._compare_result(trial, name, trial.results[name], results[name], tally, symmetric)
            for name in self.results
            if tally.counterexample is None
        ]
        # A trial on which some result is no number at all, or all zeros, shows little.
        if all(spoken):
            tally.trials += 1
            tally.reached.update(trial.reached)
        tally.drawn += sum(t.reals.size for t in trial.inputs.values() if isinstance(t, Numbers))

    def _compare_result(
        self,
        trial: Trial,
        name: str,
        before: Tensor,
        after: Tensor,
        tally: _Tally,
        symmetric: bool,
    ) -> bool:
        """Whether the trial shows something of the result; what was found is put in the tally."""
        if isinstance(before, Numbers) != isinstance(after, Numbers):
            before, after = real(before, trial.lines), real(after, trial.lines)
        different = difference(before, after, symmetric, self.tolerance, self.ties)
        if different is not None:
            old, new = elements_at(before, after, different)
            tally.counterexample = self._counterexample(trial, name, different, old, new)
            return True
        if not isinstance(before, Numbers) or not isinstance(after, Numbers):
            tally.complete[name] = tally.compared[name] = True
            return True
        numbers = finite(before) & finite(after)
        if not numbers.any():
            return False
        tally.compared[name] = True
        known = (before.residues >= 0) & (after.residues >= 0) & numbers
        tally.known[name] = tally.known.get(name, 0) + int(known.sum())
        if (known & (before.residues != after.residues)).any():
            tally.residues_differ = True
        if np.asarray(known.any(axis=0), bool)[numbers].all():
            tally.complete[name] = True
        return any(before.reals[numbers].flat)

    def _counterexample(
        self,
        trial: Trial,
        result: str,
        element: tuple[int, ...],
        before: float | int | str,
        after: float | int | str,
    ) -> Counterexample:
        used = [i.name for number in range(2) for i in self.facts[number].program.inputs]
        return Counterexample(
            sizes={k: v for extents in reversed(trial.extents[:2]) for k, v in extents.items()},
            constants={
                k: v if isinstance(v, int) else float(v) for k, v in trial.constants.items()
            },
            inputs={name: _as_array(trial.inputs[name]) for name in dict.fromkeys(used)},
            result=result,
            element=element,
            before=before,
            after=after,
        )


def _given_up(tally: _Tally) -> Verdict:
    reason = "one of the programs takes too many steps, or too large tensors, at the least sizes"
    return Verdict("undecided", None, tally.trials, "reals", tally.known, reason)


def _why_reals(tally: _Tally, beyond: set[str]) -> str:
    if tally.residues_differ:
        return (
            f"finite fields do not model {listing(sorted(beyond - {'order'}))}; the reals decided"
        )
    return "in some result no residue is known; the reals decided"


def _never_written(facts: Facts) -> list[str]:
    """Tensors that a program returns or reads, and that no statement computes."""
    used = [r.name for r in facts.program.results]
    for statement in all_statements(facts.program.statements):
        for expression in statement_expressions(statement):
            used.extend(read.tensor for read in reads(expression))
    return [name for name in dict.fromkeys(used) if name not in facts.tensors]


def _as_array(tensor: Tensor) -> NDArray[Any]:
    return tensor.reals.astype(np.float64) if isinstance(tensor, Numbers) else tensor


def _elements(example: Counterexample) -> int:
    return sum(array.size for array in example.inputs.values())


def _axes(rank: int) -> str:
    return "no axes" if rank == 0 else "1 axis" if rank == 1 else f"{rank} axes"
