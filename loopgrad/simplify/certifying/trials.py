"""Trials of two programs: sizes, inputs and the forward's tensors, and both programs run on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from loopgrad.diagnostics import listing
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import all_statements, statement_reads
from loopgrad.simplify.certifying.sampling import Inputs, Sizes, World, draw_constants
from loopgrad.simplify.numbers.alike import Alike
from loopgrad.simplify.numbers.evaluate import (
    Known,
    Prepared,
    Reached,
    Setting,
    Tensor,
    TooLarge,
    computed,
    prepared,
)
from loopgrad.simplify.numbers.fields import fields
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import Space, worlds

SEED = 20240229
BEFORE, AFTER, FORWARD = 0, 1, 2
AGAIN = 6  # draws of inputs, where the program does not run on the first

On: TypeAlias = Literal["both", "residues", "reals"]


@dataclass(frozen=True)
class Draw:
    """What a trial is to be: everything random in it follows from this.

    among: the sizes to choose from; where empty, the usual ones. empty: axes may have no element;
    those over the extent `none` have none.
    like: the number of a draw whose sizes and constants are taken.
    """

    number: int
    worlds: tuple[World, ...]
    on: On = "both"
    levels: int = 1
    copies: int = 1
    small: bool = False
    among: tuple[int, ...] = ()
    empty: bool = False
    none: str = ""
    like: int | None = None

    @property
    def with_defaults(self) -> bool:
        """Whether constants have their defaults."""
        return self.sized % 2 == 0

    @property
    def sized(self) -> int:
        """The number that sizes and constants follow from."""
        return self.number if self.like is None else self.like

    def lines(self) -> Lines:
        field = None if self.on == "reals" else fields(self.levels, self.copies)
        return Lines(field, self.on != "residues")


@dataclass(frozen=True)
class Trial:
    """Inputs, and what the first program makes of them. Tensors have the worlds as axis 0."""

    draw: Draw
    again: int  # the draws before, on which the first program does not run
    extents: tuple[Mapping[str, int], ...]  # of before, after, forward
    constants: Known
    inputs: Mapping[str, Tensor]
    results: Mapping[str, Tensor]  # and all that the first program computes besides
    lines: Lines
    space: Space
    beyond: frozenset[str]
    infinite: bool
    tied: bool  # the forward, or `before` if there is none, put two equal numbers in order
    reached: Reached  # statements that ran
    alike: Alike  # what the first program and the forward have computed


@dataclass
class Memory:
    """Trials of a program and its forward, for all that are compared with it."""

    trials: dict[object, Trial | Undefined | TooLarge] = field(default_factory=dict)


def pairing(before: Program, after: Program, forward: Program | None = None) -> Pairing:
    of = prepared(forward) if forward is not None else None
    return Pairing(prepared(before), prepared(after), of, Memory())


class Pairing:
    """Two programs, and the forward whose tensors they read, made ready to be run together.

    Raises ValueError where they cannot be.
    """

    def __init__(self, before: Prepared, after: Prepared, forward: Prepared | None, memory: Memory):
        self.programs = [before, after, *([forward] if forward is not None else [])]
        self.facts = [p.facts for p in self.programs]
        self.forward = forward
        self.memory = memory
        self.too_large = 0  # trials given up
        self.results = tuple(r.name for r in before.facts.program.results)
        self._same_results()
        shared = self._shared()
        self.sizes = Sizes(self.facts, shared)
        self.inputs = Inputs(self.facts, AFTER)

    def _same_results(self) -> None:
        before, after = (f.program for f in self.facts[:2])
        if set(self.results) != {r.name for r in after.results}:
            first, second = (listing([r.name for r in p.results]) for p in (before, after))
            raise ValueError(
                f"`{before.name}` returns {first}, and `{after.name}` returns {second}: programs "
                "are compared by the names of their results"
            )
        for facts in self.facts:
            used = [r.name for r in facts.program.results]
            for statement in all_statements(facts.program.statements):
                used.extend(read.tensor for read in statement_reads(statement))
            missing = [name for name in dict.fromkeys(used) if name not in facts.tensors]
            if missing:
                raise ValueError(f"`{facts.program.name}` computes no {listing(missing)}")

    def _shared(self) -> dict[str, list[int]]:
        """Tensors that are an input of several programs, or a result of both, or read from forward."""
        holders: dict[str, list[int]] = {}
        for number in (BEFORE, AFTER):
            for i in self.facts[number].program.inputs:
                holders.setdefault(i.name, []).append(number)
        if self.forward is not None:
            for name in self.forward.facts.tensors:
                if name in holders:
                    holders[name].append(FORWARD)
        for name in self.results:
            if name in holders:
                raise ValueError(f"`{name}` is a result, and an input: the two cannot be compared")
            holders[name] = [BEFORE, AFTER]
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

    def zeroed(self) -> list[str]:
        """The inputs that are set to zero in turn. Where a rewriting divides by one of them, it is
        undefined; random numbers do not show it."""
        names = dict.fromkeys(
            i.name for facts in self.facts for i in facts.program.inputs if i.differentiable
        )
        computed = self.forward.facts.tensors if self.forward is not None else {}
        return [n for n in names if n not in computed or computed[n].role == "input"]

    # -------------------------------------------------------------------------------- trials

    def trials(self, draw: Draw) -> list[Trial]:
        """The trial, or one of each world where they do not run together; none where none runs."""
        together = self.trial(draw)
        if together is not None:
            return [together]
        if len(draw.worlds) == 1:
            return []
        alone = (self.trial(replace(draw, worlds=(world,))) for world in draw.worlds)
        return [trial for trial in alone if trial is not None]

    def trial(self, draw: Draw) -> Trial | None:
        """None where no sizes, or no inputs that the first program runs on, are found.

        Raises NeedsReals.
        """
        small = draw.small
        for again in range(AGAIN):
            rng = np.random.default_rng([SEED, draw.sized, again])
            constants = draw_constants(self.facts, rng, given=draw.with_defaults)
            small_ones = small or again > 2
            extents = self.sizes.draw(
                rng, constants, small_ones, among=draw.among, empty=draw.empty, none=draw.none
            )
            if extents is None:
                return None
            try:
                found = self._remembered(draw, extents, constants, again)
                more = self._own_inputs(found, extents)
                return replace(found, extents=tuple(extents), inputs={**found.inputs, **more})
            except Undefined:
                continue
            except TooLarge:
                if small:
                    self.too_large += 1
                    return None
                small = True
        return None

    def _remembered(
        self, draw: Draw, extents: Sequence[Mapping[str, int]], constants: Known, again: int
    ) -> Trial:
        """The trial without the second program's own inputs: it depends on these alone."""
        asked = [
            self.inputs.interval(i.name, extents, constants, {})
            for number in self._others()
            for i in self.facts[number].program.inputs
            if i.kind == "int"
        ]
        sizes = [tuple(extents[number].items()) for number in self._others()]
        key = (draw, again, tuple(sizes), tuple(constants.items()), tuple(asked))
        if key not in self.memory.trials:
            try:
                self.memory.trials[key] = self._made(draw, extents, constants, again)
            except (Undefined, TooLarge) as error:
                self.memory.trials[key] = error
        found = self.memory.trials[key]
        if isinstance(found, Trial):
            return found
        raise found

    def _others(self) -> tuple[int, ...]:
        return (FORWARD, BEFORE) if self.forward is not None else (BEFORE,)

    def _made(
        self, draw: Draw, extents: Sequence[Mapping[str, int]], constants: Known, again: int
    ) -> Trial:
        lines, space = draw.lines(), worlds(len(draw.worlds))
        rng = np.random.default_rng([SEED, draw.number, again, BEFORE])
        inputs: dict[str, Tensor] = {}
        alike = Alike()

        def run(number: int, reached: Reached | None = None) -> dict[str, Tensor]:
            given = {i.name: inputs[i.name] for i in self.facts[number].program.inputs}
            setting = Setting(extents[number], constants, given)
            return computed(self.programs[number], setting, lines, space, reached, alike)

        for number in self._others():
            # Integers first, so that they do not hang on the number of worlds.
            for i in sorted(self.facts[number].program.inputs, key=lambda i: i.differentiable):
                if i.name not in inputs:
                    inputs[i.name] = self.inputs.in_worlds(
                        i.name, number, extents, constants, lines, rng, draw.worlds, again, inputs
                    )
            if number == FORWARD:
                inputs.update(run(FORWARD))
        tied = lines.tied
        reached = Reached()
        results = run(BEFORE, reached)
        return Trial(
            draw,
            again,
            tuple(extents),
            constants,
            inputs,
            results,
            lines,
            space,
            frozenset(lines.beyond),
            lines.infinite,
            tied if self.forward is not None else lines.tied,
            reached,
            replace(alike, grows=False),
        )

    def _own_inputs(self, trial: Trial, extents: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        draw = trial.draw
        rng = np.random.default_rng([SEED, draw.number, AFTER])
        own: dict[str, Tensor] = {}
        for i in self.facts[AFTER].program.inputs:
            if i.name not in trial.inputs:
                own[i.name] = self.inputs.in_worlds(
                    i.name,
                    AFTER,
                    extents,
                    trial.constants,
                    trial.lines,
                    rng,
                    draw.worlds,
                    trial.again,
                    {**trial.inputs, **own},
                )
        return own

    def after(self, trial: Trial) -> tuple[dict[str, Tensor], Reached]:
        """What the second program makes of it, and its statements that ran."""
        if not self.sizes.accepts(trial.extents[AFTER], trial.constants):
            raise Undefined("it runs only where extents are equal that need not be")
        given = {i.name: trial.inputs[i.name] for i in self.facts[AFTER].program.inputs}
        setting = Setting(trial.extents[AFTER], trial.constants, given)
        reached = Reached()
        trial.lines.beyond = set(trial.beyond)
        program, alike = self.programs[AFTER], trial.alike
        found = computed(program, setting, trial.lines, trial.space, reached, alike)
        return found, reached

    @staticmethod
    def world(trial: Trial, number: int) -> Trial:
        """One world of a trial as a trial."""

        def of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            at = slice(number, number + 1)
            return {name: tensor[at] for name, tensor in tensors.items()}

        draw = replace(trial.draw, worlds=trial.draw.worlds[number : number + 1])
        return replace(
            trial,
            draw=draw,
            inputs=of(trial.inputs),
            results=of(trial.results),
            space=worlds(1),
            alike=Alike(grows=False),
        )


def elements(trial: Trial) -> int:
    """Of the inputs that are numbers."""
    return sum(t.size for t in trial.inputs.values() if isinstance(t, Numbers))


def _axes(rank: int) -> str:
    return "no axes" if rank == 0 else "1 axis" if rank == 1 else f"{rank} axes"
