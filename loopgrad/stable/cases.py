"""Inputs that stable forms are tried on, of six kinds in worlds side by side, and programs run on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Apply, Expression, Read
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    reads,
    statement_expressions,
    statement_reads,
    subexpressions,
)
from loopgrad.simplify.certifying.sampling import Inputs, Sizes, World, draw_constants
from loopgrad.simplify.numbers.alike import Alike
from loopgrad.simplify.numbers.evaluate import (
    Known,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    computed,
    integer,
    prepared_of,
    shape_of,
)
from loopgrad.simplify.numbers.floats import Floats
from loopgrad.simplify.numbers.lines import Lines, Numbers, as_decimals
from loopgrad.simplify.numbers.spaces import Space, worlds
from loopgrad.stable.candidates import candidates, remainders
from loopgrad.stable.near_one import of_distance
from loopgrad.stable.singles import Singles

Array = NDArray[Any]

LARGE = 1e4
SIZES = (3, 4, 5)
EVEN_SIZES = (2, 4)  # one divides another
DEEP = 4  # loops around a statement; from more of them on, sizes are smaller
EVENLY = 12  # draws of sizes, until each group has as many elements as the others
SATURATING = frozenset("exp sigmoid softplus tanh".split())
PATTERNS = 12  # of integers, tried until the program runs

Kind = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _mixed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values = rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.4, LARGE * np.sign(values), values)


MODERATE: tuple[Kind, ...] = (
    lambda rng, shape: rng.normal(size=shape),
    lambda rng, shape: 8 * rng.normal(size=shape),
)
KINDS: dict[str, Kind] = {
    "ordinary": lambda rng, shape: rng.normal(size=shape),
    "large": lambda rng, shape: LARGE * rng.normal(size=shape),
    "offset": lambda rng, shape: LARGE + rng.normal(size=shape),
    "large, offset": lambda rng, shape: LARGE * (rng.normal(size=shape) - 1),
    "tiny": lambda rng, shape: 1e-3 * rng.normal(size=shape),
    "mixed": _mixed,
}
# One choice of inputs of each kind; a second with an offset, as rounding may be kind to one, and as scores
# saturate where a factor of theirs has one too: there only the inputs of most axes have it.
MEASURED = {**KINDS, "offset below": lambda rng, shape: 2 * rng.normal(size=shape) - LARGE}
WORLDS = (*MODERATE, *MEASURED.values())
ALL_WORLDS = tuple(range(len(WORLDS)))
MODERATE_WORLDS = ALL_WORLDS[: len(MODERATE)]
MEASURED_WORLDS = ALL_WORLDS[len(MODERATE) :]


@dataclass(frozen=True)
class View:
    """The inputs of some worlds, in one arithmetic, and what programs have made of them."""

    inputs: Mapping[str, Tensor]
    lines: Lines
    space: Space
    alike: Alike = field(default_factory=Alike)


@dataclass(frozen=True)
class Case:
    """Sizes, constants, and inputs of which axis 0 is the world's: one of each of `WORLDS`."""

    extents: Mapping[str, int]
    constants: Known
    inputs: Mapping[str, Tensor]
    views: dict[object, View] = field(default_factory=dict, init=False, compare=False)

    def run(
        self, facts: Facts, arithmetic: type[Lines], chosen: tuple[int, ...]
    ) -> Mapping[str, Tensor]:
        """All tensors, in the chosen worlds; raises Undefined or TooLarge."""
        view = self.view(arithmetic, chosen)
        given = {i.name: view.inputs[i.name] for i in facts.program.inputs}
        setting = Setting(self.extents, self.constants, given)
        return computed(prepared_of(facts), setting, view.lines, view.space, alike=view.alike)

    def view(self, arithmetic: type[Lines], chosen: tuple[int, ...]) -> View:
        """The inputs of the chosen worlds in this arithmetic."""
        key = arithmetic, chosen
        if key not in self.views:
            space = worlds(len(chosen))
            inputs = {name: tensor[list(chosen)] for name, tensor in self.inputs.items()}
            if issubclass(arithmetic, Floats):
                lines: Lines = arithmetic()
                inputs = {name: _rounded(t, arithmetic.dtype) for name, t in inputs.items()}
            else:
                lines = Lines(None)
            self.views[key] = View(inputs, lines, space)
        return self.views[key]


def draw(
    literal: Facts,
    rng: np.random.Generator,
    among: Sequence[int] = SIZES,
    only: str | None = None,
) -> Case | None:
    """A case of sizes among these, if one is found; where the program sums groups, of groups of one size.

    The forward-computed inputs of a backward are what its forward computes. Integers are such that the
    program runs. only: the input that is drawn as the kinds say; None for all that matter.
    """
    if all(i.differentiable for i in literal.program.inputs):
        return _drawn(literal, rng, among, 0, only)
    for attempt in range(PATTERNS):
        case = _drawn(literal, rng, among, attempt, only)
        try:
            if case is not None:
                case.run(literal, Singles, ALL_WORLDS)
                return case
        except (Undefined, TooLarge):
            continue
    return None


def _drawn(
    literal: Facts,
    rng: np.random.Generator,
    among: Sequence[int],
    attempt: int,
    only: str | None,
) -> Case | None:
    programs = [literal]
    primal = literal.program.primal
    if primal is not None:
        forward = infer(primal)
        made = {t.name for t in forward.tensors.values() if t.role != "input"}
        if any(i.name in made for i in literal.program.inputs):
            programs.append(forward)
    constants = draw_constants(programs, rng, given=True)
    even = remainders(literal)
    extents = _sizes(
        programs, rng, constants, EVEN_SIZES if even else _fewer(among, programs), even
    )
    if extents is None:
        return None
    drawing = Drawing(programs, extents, constants, rng, attempt, only)
    inputs: dict[str, Tensor] = {}
    for number in reversed(range(len(programs))):
        for i in programs[number].program.inputs:
            if i.name not in inputs:
                inputs[i.name] = drawing.input(i.name, number, inputs)
        if number == 1:
            try:
                inputs.update(
                    Case(extents[1], constants, inputs).run(programs[1], Lines, ALL_WORLDS)
                )
            except (Undefined, TooLarge):
                return None
    return Case(extents[0], constants, inputs)


def _fewer(sizes: Sequence[int], programs: list[Facts]) -> Sequence[int]:
    """Smaller ones where many loops are nested, as in a convolution: the decimals take long."""
    deepest = max(
        len(s.ranges) + sum(len(b.ranges) for b in blocks)
        for facts in programs
        for blocks, s in accumulates(facts.program.statements)
    )
    less = min(max(deepest - DEEP, 0), 2)
    return tuple(dict.fromkeys(max(size - less, 2) for size in sizes))


def _sizes(
    programs: list[Facts],
    rng: np.random.Generator,
    constants: Known,
    among: Sequence[int],
    even: Sequence[Expression],
) -> list[dict[str, int]] | None:
    """Extents for each of the programs, for which `even` are 0 if such are found. `Sizes` trusts the
    header of the second alone, which is here the literal program's."""
    turned = programs[::-1]
    shared: dict[str, list[int]] = {}
    if len(turned) == 2:
        for i in turned[1].program.inputs:
            if i.name in turned[0].tensors:
                shared[i.name] = [0, 1]
    sizes = Sizes(turned, shared)
    for _ in range(EVENLY if even else 1):
        found = sizes.draw(rng, constants, among=among) or sizes.draw(rng, constants)
        if found is None or all(integer(e, {**found[-1], **constants}) == 0 for e in even):
            break
    return None if found is None else found[::-1]


class Drawing:
    """Draws inputs, in all worlds."""

    def __init__(
        self,
        among: list[Facts],
        extents: list[dict[str, int]],
        constants: Known,
        rng: np.random.Generator,
        attempt: int,
        only: str | None,
    ):
        self.among, self.extents, self.constants, self.rng = among, extents, constants, rng
        self.attempt = attempt
        self.integers = Inputs(among)
        self.positive = _positive(among[0]) | _positive(among[-1])
        self.varied = {name for facts in among for name in varied(facts)}
        if only is not None:
            self.varied &= {only}
        given = (i for facts in among for i in facts.program.inputs if i.name in self.varied)
        self.most_axes = max((len(i.extents) for i in given), default=0)

    def input(self, name: str, number: int, given: Mapping[str, Tensor]) -> Tensor:
        facts = self.among[number]
        if not next(i for i in facts.program.inputs if i.name == name).differentiable:
            kinds = [World("signed")] * len(WORLDS)
            return self.integers.in_worlds(
                name,
                number,
                self.extents,
                self.constants,
                Lines(None),
                self.rng,
                kinds,
                self.attempt,
                given,
            )
        known = {**self.extents[number], **self.constants}
        shape = shape_of(facts.tensors[name].extents, known)
        values = [self._values(name, kind, shape) for kind in WORLDS]
        return as_decimals(np.stack(values).astype(np.float32))

    def _values(self, name: str, kind: Kind, shape: tuple[int, ...]) -> Array:
        if name.endswith((".grad", ".dot")):
            return self.rng.normal(size=shape)
        if name in self.positive:
            return self.rng.uniform(0.3, 1, size=shape)
        if name not in self.varied or (kind is WORLDS[-1] and len(shape) < self.most_axes):
            return self.rng.normal(size=shape)
        return kind(self.rng, shape)


def varied(facts: Facts) -> set[str]:
    """Inputs that exponentials or distances from 1 are of, or that a constant may be taken off: others
    are ordinary."""
    found = {shift.tensor for shift in candidates(facts)}
    sources: dict[str, set[str]] = {}
    for _, statement in accumulates(facts.program.statements):
        read = {r.tensor for r in statement_reads(statement)}
        sources.setdefault(statement.target.tensor, set()).update(read)
        for node in subexpressions(statement.value):
            saturates = isinstance(node, Apply) and node.operation in SATURATING
            if saturates or of_distance(node) is not None:
                found.update(r.tensor for r in reads(node))
    todo = list(found)
    while todo:
        new = sources.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def _positive(facts: Facts) -> set[str]:
    """Inputs that are divided by, or of which a root or a logarithm is taken, as they are."""
    found: set[str] = set()
    for statement in all_statements(facts.program.statements):
        for expression in statement_expressions(statement):
            for node in subexpressions(expression):
                match node:
                    case Apply("log" | "sqrt" | "rsqrt", (operand,)) | Apply("/", (_, operand)):
                        found.update(r.tensor for r in _factors(operand))
    return found


def _factors(expression: Expression) -> list[Read]:
    match expression:
        case Read():
            return [expression]
        case Apply("*" | "/" | "**", (left, right)):
            return [*_factors(left), *_factors(right)]
    return []


def as_floats(tensor: Tensor) -> Array:
    values = tensor.reals if isinstance(tensor, Numbers) else tensor
    assert values is not None
    return values.astype(np.float64)


def _rounded(tensor: Tensor, dtype: type[np.floating[Any]]) -> Tensor:
    if not isinstance(tensor, Numbers):
        return tensor
    return Numbers(None, as_floats(tensor).astype(dtype))
