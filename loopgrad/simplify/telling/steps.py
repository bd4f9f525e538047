"""Each line of a derivation against the one before it, in the certificate's arithmetic.

The lines of a chain are expressions in tensors of the forward, of the literal program and of the
simplified one. All three are run on the same random inputs; then every line is evaluated on their
tensors, and has to equal the line before it. None of this knows a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import localcontext

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Argument,
    Compare,
    Conditional,
    Expression,
    Extent,
    Index,
    Input,
    Number,
    Program,
    Read,
    Reduction,
    Result,
    Size,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import reads as reads_of
from loopgrad.ir.walk import rebuild, rename_tensors
from loopgrad.simplify.certifying.comparison import COPIES
from loopgrad.simplify.certifying.sampling import KINDS, World, turn
from loopgrad.simplify.certifying.trials import Draw, Trial, pairing
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.differences import STRICT, difference, finite, real
from loopgrad.simplify.numbers.evaluate import (
    Prepared,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    computed,
)
from loopgrad.simplify.numbers.fields import LONGEST
from loopgrad.simplify.numbers.levels import depth
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.telling.derivation import Chain, Derivation, Step
from loopgrad.simplify.telling.derivation import Lines as Certified

TRIALS = 3
ATTEMPTS = 12
LAST = "of the result "  # before the name of a tensor of the simplified program


def certified(
    derivation: Derivation, program: Program, result: Program, forward: Program | None
) -> Derivation:
    """The derivation with what each step was checked by; lines that do not hold are left out.

    Nothing is marked as certified where the lines cannot be run.
    """
    chains = tuple(map(_unchecked, derivation.chains))
    derivation = replace(derivation, chains=chains)
    try:
        return replace(derivation, chains=_Check(derivation, program, result, forward).chains())
    except (ProgramError, ValueError):
        return derivation


def _unchecked(chain: Chain) -> Chain:
    steps = tuple(replace(step, certified="") for step in chain.steps)
    return replace(chain, steps=steps, certified="")


@dataclass
class _Values:
    """One line, or what a program computes: its value in each trial."""

    values: list[Tensor] = field(default_factory=list)


class _Check:
    def __init__(
        self, derivation: Derivation, program: Program, result: Program, forward: Program | None
    ):
        self.derivation = derivation
        self.pairing = pairing(program, result, forward)
        self.lines = [_lines_of(chain) for chain in derivation.chains]
        self.program = self._program()
        self.prepared = Prepared(infer(self.program))
        self.arithmetics: list[Lines] = []

    def chains(self) -> tuple[Chain, ...]:
        found = self._values()
        if not self.arithmetics:
            return self.derivation.chains
        with localcontext(CONTEXT):
            return tuple(
                self._chain(chain, values)
                for chain, values in zip(self.derivation.chains, found, strict=True)
            )

    # --------------------------------------------------------------------------- the lines' program

    def _program(self) -> Program:
        """All lines of all chains as results of one program, whose inputs are the tensors they read."""
        results: list[Result] = []
        statements: list[Accumulate] = []
        read: dict[str, None] = {}
        for number, (chain, lines) in enumerate(
            zip(self.derivation.chains, self.lines, strict=True)
        ):
            for at, line in enumerate(lines):
                name = _name(number, at)
                target = Read(name, tuple(Index(r.index) for r in chain.ranges))
                results.append(Result(name, chain.extents))
                statements.append(Accumulate(target, Reduction.SET, _as_number(line), chain.ranges))
                read.update((r.tensor, None) for r in reads_of(line))
        inputs = [self._input(name) for name in read]
        constants = {c.name: c for f in self.pairing.facts for c in f.program.constants}
        fixed = {e.name for i in inputs for e in i.extents if isinstance(e, Extent)}
        extents = dict.fromkeys(name for f in self.pairing.facts for name in f.extents)
        sizes = [Size(name) for name in extents if name not in fixed]
        arguments: tuple[Argument, ...] = (*inputs, *sizes, *constants.values())
        return Program("lines", arguments, tuple(results), tuple(statements))

    def _input(self, name: str) -> Input:
        facts = self.pairing.facts
        if name.startswith(LAST):
            fact = facts[1].tensors[name.removeprefix(LAST)]
        else:
            fact = next(f.tensors[name] for f in facts if name in f.tensors)
        kinds = {ElementType.FLOAT: "input", ElementType.INT: "int", ElementType.BOOL: "bool"}
        return Input(name, fact.extents, kinds[fact.element])  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------- trials

    def _values(self) -> list[list[_Values]]:
        """For each chain what the literal program computes, the lines, what the result computes."""
        found = [[_Values() for _ in range(len(lines) + 2)] for lines in self.lines]
        levels = max(depth(f) for f in (*self.pairing.facts, self.prepared.facts))
        levels = min(levels + 1, LONGEST)
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            for attempt in range(ATTEMPTS):
                if len(self.arithmetics) == TRIALS:
                    break
                world = World(KINDS[turn(attempt, len(KINDS))])
                trial = self.pairing.trial(Draw(attempt, (world,), "both", levels, COPIES))
                if trial is not None:
                    try:
                        self._trial(trial, found)
                    except (Undefined, TooLarge):
                        continue
        return found

    def _trial(self, trial: Trial, found: list[list[_Values]]) -> None:
        extents = _joined(trial.extents)
        after, _ = self.pairing.after(trial)
        tensors = {**{LAST + n: t for n, t in after.items()}, **after}
        tensors |= {**trial.inputs, **trial.results}
        inputs = {i.name: tensors[i.name] for i in self.program.inputs}
        setting = Setting(extents, trial.constants, inputs)
        made = computed(self.prepared, setting, trial.lines, trial.space)
        for number, (chain, values) in enumerate(zip(self.derivation.chains, found, strict=True)):
            name = chain.target.tensor
            lines = [made[_name(number, at)] for at in range(len(self.lines[number]))]
            ends = lines[0], lines[-1]
            literal, result = trial.results.get(name, lines[0]), after[name]
            # A block may leave the end of an axis unwritten: the lines say nothing of that.
            alike = literal.shape == lines[0].shape == result.shape
            if chain.whole and _in_order(chain) and alike:
                ends = literal, result
            row = [ends[0], *lines, ends[1]]
            for each, value in zip(values, row, strict=True):
                each.values.append(value)
        self.arithmetics.append(trial.lines)

    # ----------------------------------------------------------------------------------- verdicts

    def _chain(self, chain: Chain, values: list[_Values]) -> Chain:
        literal, first, *others = values
        result = others.pop()
        start = self._agree(literal, first)
        steps: list[Step] = []
        here, left_out = first, ()
        for step, line in zip(chain.steps, others, strict=True):
            lines = self._agree(here, line)
            if not lines:
                left_out = (*left_out, *step.says, "; ")  # type: ignore[assignment]
                continue
            before = steps[-1].after if steps else chain.start
            says = (*left_out, *step.says)
            steps.append(replace(step, before=before, says=says, certified=lines))
            here, left_out = line, ()
        return replace(
            chain, steps=tuple(steps), certified=_weaker(start, self._agree(here, result))
        )

    def _agree(self, one: _Values, other: _Values) -> Certified:
        """On which lines of numbers the two agree in all trials; "" where they do not."""
        complete, reals_only = False, False
        for before, after, lines in zip(one.values, other.values, self.arithmetics, strict=True):
            if isinstance(before, Numbers) or isinstance(after, Numbers):
                before, after = real(before, lines), real(after, lines)
            if difference(before, after, False, 1.0) is not None:
                return ""
            if not isinstance(before, Numbers) or not isinstance(after, Numbers):
                complete = True
                continue
            numbers = finite(before) & finite(after)
            assert before.residues is not None and after.residues is not None
            known = (before.residues >= 0) & (after.residues >= 0) & numbers
            if (known & (before.residues != after.residues)).any():
                if not lines.beyond - {"order"} or _strictly(before, after):
                    return ""
                reals_only = True
            if numbers.any() and np.asarray(known.any(axis=0), bool)[numbers].all():
                complete = True
        return "fields and reals" if complete and not reals_only else "reals"


def _weaker(one: Certified, other: Certified) -> Certified:
    order: tuple[Certified, ...] = ("", "reals", "fields and reals")
    return min(one, other, key=order.index)


def _in_order(chain: Chain) -> bool:
    """Has an array over its ranges the axes of the tensor, in their order?"""
    return chain.target.subscripts == tuple(Index(r.index) for r in chain.ranges)


def _name(chain: int, line: int) -> str:
    return f"line {chain} {line}"


def _lines_of(chain: Chain) -> list[Expression]:
    """The lines; in the last, written as the statements are, tensors are those of the result."""
    lines = [chain.start, *(step.after for step in chain.steps)]
    if chain.steps and any(rule.name == "factor" for rule in chain.steps[-1].applied):
        names = {r.tensor: LAST + r.tensor for s in chain.statements for r in reads_of(s.value)}
        made = {s.target.tensor for s in chain.statements}
        lines[-1] = rename_tensors(lines[-1], {n: to for n, to in names.items() if n in made})
    return lines


def _joined(extents: Sequence[Mapping[str, int]]) -> dict[str, int]:
    joined: dict[str, int] = {}
    for own in extents:
        for name, value in own.items():
            if joined.setdefault(name, value) != value:
                raise Undefined(f"`{name}` is one extent here and another there")
    return joined


def _as_number(expression: Expression) -> Expression:
    """Conditions that stand for 1 or 0 as a conditional."""

    def change(node: Expression) -> Expression:
        match node:
            case Compare() | Apply("and" | "or" | "not"):
                return Conditional(node, Number(1), Number(0))
            case Conditional(condition, then, otherwise):
                return Conditional(condition, change(then), change(otherwise))
        return rebuild(node, change)

    return change(expression)


def _strictly(before: Numbers, after: Numbers) -> bool:
    """Do the reals differ by more than rounding at 50 digits?"""
    return difference(before, after, False, STRICT) is not None
