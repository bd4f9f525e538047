"""Are two programs equal? Tested by running both, independent of how one was made of the other.

`certify` runs both programs on random inputs of random sizes, over `Lines`: residues in finite fields,
where algebra is exact, and reals to 50 digits, which know all functions. docs/decisions/0005 says what
an answer is worth.
"""

from __future__ import annotations

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
from loopgrad.ir.nodes import Apply, Block, Expression, Program, Read
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    children,
    reads,
    statement_expressions,
)
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.evaluate import Setting, Tensor, TooLarge, Undefined, evaluate
from loopgrad.simplify.fields import LONGEST, Fields
from loopgrad.simplify.lines import Lines, Numbers
from loopgrad.simplify.sampling import Inputs, Kind, Sizes, draw_constants

ENOUGH = 48  # input elements drawn before a program with order counts as tested
COPIES = 4  # independent draws of the residues in a trial
KINDS: tuple[Kind, ...] = ("signed", "unit", "zeros", "large")
# Reals agree when they differ by less: relative to the larger; near 0, to the tensor's largest. Where
# the residues differ, a smaller difference counts, if it is no rounding.
RELATIVE, ABSOLUTE = 1e-20, 1e-30
STRICT = 1e-12  # times these


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
) -> Verdict:
    """Whether `after` may stand for `before`.

    Inputs and results are matched by name. forward: the program whose tensors a backward reads, by
    default the one that either was derived from: their values are those that it computes. Where
    `before` is no number (0/0), `after` may be any, or also there no number if `symmetric`. Without
    `kinks` no zeros are tried.

    The same programs get the same verdict. Raises ValueError where they cannot be compared: other
    results, or tensors of one name and several ranks or kinds; ProgramError for what is no program.
    """
    return Comparison(before, after, forward or before.primal or after.primal).verdict(
        trials, symmetric, kinks
    )


@dataclass
class _Tally:
    """What the trials showed so far, for each result."""

    trials: int = 0
    drawn: int = 0  # elements of inputs
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
        for facts in self.facts[:2]:
            missing = [name for name in self.results if name not in facts.tensors]
            if missing:
                raise ValueError(f"`{facts.program.name}` computes no {listing(missing)}")
        self.shared = self._shared()
        self.sizes = Sizes(self.facts, self.shared)
        self.inputs = Inputs(self.facts)
        self.beyond: set[str] = set()
        self.tolerance = 1.0

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
            for attempt in range(16 * trials):
                if tally.trials >= trials and self._enough(tally, attempt >= 3 * trials):
                    break
                kind = kinds[attempt % len(kinds)]
                lines = Lines(Fields(min(levels + attempt // trials, LONGEST), COPIES))
                trial = self.trial(rng, kind, lines, attempt)
                if trial is not None:
                    self._compare(trial, tally, symmetric)
                if tally.counterexample is not None:
                    return self._refuted(tally, rng, symmetric, kinds)
            if tally.residues_differ:
                self.tolerance = STRICT
                refuted = self._refuted(tally, rng, symmetric, kinds)
                if refuted.counterexample is not None:
                    return refuted
        return self._agreed(tally)

    def _enough(self, tally: _Tally, late: bool) -> bool:
        """Each way that comparisons can turn out needs to be met: few elements, many trials."""
        if "order" in self.beyond and tally.drawn < ENOUGH:
            return False
        return late or self._settled(tally)

    def _settled(self, tally: _Tally) -> bool:
        return all(tally.complete.get(name) for name in self.results)

    def _refuted(
        self, tally: _Tally, rng: np.random.Generator, symmetric: bool, kinds: list[Kind]
    ) -> Verdict:
        """With a counterexample as small as a few tries find."""
        examples = [tally.counterexample] if tally.counterexample else []
        for attempt in range(2 * len(kinds)):
            kind = kinds[attempt % len(kinds)]
            trial = self.trial(rng, kind, Lines(Fields(1, 0)), attempt, small=True)
            found = _Tally()
            if trial is not None:
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
        self, rng: np.random.Generator, kind: Kind, lines: Lines, attempt: int, small: bool = False
    ) -> Trial | None:
        """None where no sizes, or no inputs that the first program runs on, are found."""
        constants = draw_constants(self.facts, rng, given=attempt % 2 == 0)
        for again in range(6):
            extents = self.sizes.draw(rng, constants, small or again > 2)
            if extents is None:
                return None
            try:
                inputs = self._draw(extents, constants, lines, rng, kind, again)
                results = self._run(0, extents, constants, inputs, lines)
            except (Undefined, TooLarge):
                continue
            self.beyond |= lines.beyond
            return Trial(tuple(extents), constants, inputs, results, lines)
        return None

    def _draw(
        self,
        extents: list[dict[str, int]],
        constants: Mapping[str, int | float | Fraction],
        lines: Lines,
        rng: np.random.Generator,
        kind: Kind,
        attempt: int,
    ) -> dict[str, Tensor]:
        """The inputs of all programs, those that the forward computes included."""
        inputs: dict[str, Tensor] = {}
        order = (2, 0, 1) if self.forward is not None else (0, 1)
        for number in order:
            for i in self.facts[number].program.inputs:
                if i.name not in inputs:
                    inputs[i.name] = self.inputs.draw(
                        i.name, number, extents, constants, lines, rng, kind, attempt
                    )
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
    ) -> dict[str, Tensor]:
        facts = self.facts[number]
        given = {i.name: inputs[i.name] for i in facts.program.inputs}
        return evaluate(facts, Setting(extents[number], constants, given), lines)

    # ----------------------------------------------------------------------------- comparing

    def _compare(self, trial: Trial, tally: _Tally, symmetric: bool) -> None:
        try:
            results = self._run(1, trial.extents, trial.constants, trial.inputs, trial.lines)
        except TooLarge:
            return
        except Undefined as error:
            tally.trials += 1
            tally.counterexample = self._counterexample(
                trial, self.results[0], (), "a number", f"an error: {error}"
            )
            return
        tally.trials += 1
        tally.drawn += sum(t.reals.size for t in trial.inputs.values() if isinstance(t, Numbers))
        self.beyond |= trial.lines.beyond
        for name in self.results:
            self._compare_result(trial, name, trial.results[name], results[name], tally, symmetric)
            if tally.counterexample is not None:
                return

    def _compare_result(
        self,
        trial: Trial,
        name: str,
        before: Tensor,
        after: Tensor,
        tally: _Tally,
        symmetric: bool,
    ) -> None:
        if isinstance(before, Numbers) != isinstance(after, Numbers):
            before, after = _real(before, trial.lines), _real(after, trial.lines)
        different = _difference(before, after, symmetric, self.tolerance)
        if different is not None:
            old, new = _elements_at(before, after, different)
            tally.counterexample = self._counterexample(trial, name, different, old, new)
            return
        if not isinstance(before, Numbers) or not isinstance(after, Numbers):
            tally.complete[name] = tally.compared[name] = True
            return
        finite = _finite(before) & _finite(after)
        if not finite.any():
            return
        tally.compared[name] = True
        known = (before.residues >= 0) & (after.residues >= 0) & finite
        tally.known[name] = tally.known.get(name, 0) + int(known.sum())
        if (known & (before.residues != after.residues)).any():
            tally.residues_differ = True
        if known.any(axis=0)[finite].all():
            tally.complete[name] = True

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


def _why_reals(tally: _Tally, beyond: set[str]) -> str:
    if tally.residues_differ:
        return f"finite fields do not model {listing(sorted(beyond - {'order'}))}; the reals decided"
    return "in some result no residue is known; the reals decided"


def _difference(
    before: Tensor, after: Tensor, symmetric: bool, tolerance: float
) -> tuple[int, ...] | None:
    """The first element at which the reals, or the integers, differ."""
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        assert not isinstance(before, Numbers) and not isinstance(after, Numbers)
        if before.shape != after.shape:
            return ()
        wrong = np.argwhere(before != after)
        return tuple(map(int, wrong[0])) if len(wrong) else None
    if before.reals.shape != after.reals.shape:
        return ()
    if not before.reals.size:
        return None
    old, new = before.reals, after.reals
    finite_old, finite_new = _finite(before), _finite(after)
    one_sided = finite_old & ~finite_new
    not_nan = np.array([not v.is_nan() for v in old.flat], bool).reshape(old.shape)
    one_sided |= ~finite_old & finite_new & (True if symmetric else not_nan)
    both = finite_old & finite_new
    scale = max((abs(v) for v in (*old[both].flat, *new[both].flat)), default=_decimal(0)) + 1
    wrong = np.array(one_sided)
    relative, absolute = _decimal(RELATIVE * tolerance), _decimal(ABSOLUTE * tolerance)
    for place in np.argwhere(both):
        at = tuple(map(int, place))
        a, b = old[at], new[at]
        wrong[at] = abs(a - b) > relative * max(abs(a), abs(b)) + absolute * scale
    places = np.argwhere(wrong)
    return tuple(map(int, places[0])) if len(places) else None


def _decimal(value: float) -> Any:
    return CONTEXT.create_decimal_from_float(value)


def _finite(tensor: Numbers) -> NDArray[np.bool_]:
    flags = [value.is_finite() for value in tensor.reals.flat]
    return np.array(flags, bool).reshape(tensor.reals.shape)


def _real(tensor: Tensor, lines: Lines) -> Numbers:
    """Integers as numbers, where the other program's are."""
    if isinstance(tensor, Numbers):
        return tensor
    flat = lines.of_integers(tensor.reshape(-1))
    rows = len(flat.residues)
    return Numbers(flat.residues.reshape(rows, *tensor.shape), flat.reals.reshape(tensor.shape))


def _elements_at(
    before: Tensor, after: Tensor, at: tuple[int, ...]
) -> tuple[float | int | str, float | int | str]:
    """Both values; in words where floats do not tell them apart, or the shapes differ."""
    old, new = (t.reals if isinstance(t, Numbers) else t for t in (before, after))
    if old.shape != new.shape:
        return f"of shape {old.shape}", f"of shape {new.shape}"
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        return int(old[at]), int(new[at])
    if float(old[at]) == float(new[at]):
        return str(old[at]), str(new[at])
    return float(old[at]), float(new[at])


def _as_array(tensor: Tensor) -> NDArray[Any]:
    return tensor.reals.astype(np.float64) if isinstance(tensor, Numbers) else tensor


def _elements(example: Counterexample) -> int:
    return sum(array.size for array in example.inputs.values())


def _axes(rank: int) -> str:
    return "no axes" if rank == 0 else "1 axis" if rank == 1 else f"{rank} axes"


# --------------------------------------------------------------------------- how many levels are needed


def depth(facts: Facts) -> int:
    """The levels of the chain that a run needs: how deep exps and logs stand in one another.

    For a tensor (lost above, lost below): the levels at which its residues are unknown.
    """
    lost: dict[str, tuple[int, int]] = {}
    deepest = 0
    blocks = any(isinstance(s, Block) for s in all_statements(facts.program.statements))
    for _ in range(3 if blocks else 1):
        for _, statement in accumulates(facts.program.statements):
            above = below = 0
            for expression in statement_expressions(statement):
                levels = _lost(expression, lost)
                above, below = max(above, levels[0]), max(below, levels[1])
            old = lost.get(statement.target.tensor, (0, 0))
            new = max(above, old[0]), max(below, old[1])
            lost[statement.target.tensor] = min(new[0], LONGEST), min(new[1], LONGEST)
            deepest = max(deepest, sum(new))
    return min(deepest + 1, LONGEST)


def _lost(expression: Expression, tensors: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    inner = [_lost(child, tensors) for child in children(expression)]
    above = max((i[0] for i in inner), default=0)
    below = max((i[1] for i in inner), default=0)
    match expression:
        case Read(name):
            own = tensors.get(name, (0, 0))
            return max(above, own[0]), max(below, own[1])
        case Apply("exp" | "expm1" | "tanh" | "sigmoid"):
            return max(above - 1, 0), below + 1
        case Apply("log" | "log1p"):
            return above + 1, max(below - 1, 0)
        case Apply("softplus"):
            return max(above - 1, 0) + 1, below
        case Apply("**", (_, exponent)) if any(True for _ in reads(exponent)):
            return above, below + 1
    return above, below
