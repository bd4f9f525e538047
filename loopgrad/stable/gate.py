"""Is a stabilised program equal to what was written, and never worse? Both are run, and measured.

Equal: both are run in decimals of 50 digits, on inputs that are moderate enough for the written loops
to keep 20 of them. Not worse: float32 runs of both, on six kinds of inputs, are compared with the new
form in decimals (the written one cancels there, however many digits one has: `1 - sigmoid(1e4)`).
Accepted is what is better somewhere, and nowhere worse than twice the written loops (or than 1e-6
of the largest value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Apply, Expression, Program, Read
from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.evaluate import (
    Known,
    Prepared,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    computed,
    shape_of,
)
from loopgrad.simplify.lines import Lines, Numbers
from loopgrad.simplify.sampling import Inputs, Sizes, World, draw_constants
from loopgrad.simplify.spaces import worlds
from loopgrad.stable.singles import Singles

Array = NDArray[Any]

ACCURATE = 1e-6  # of the largest value: as good as float32 gets
WORSE = 2.0  # how many times the literal error is still no loss
BETTER = 4.0  # how many times smaller an error has to be somewhere
EQUAL = Decimal("1e-20")
LARGE = 1e4
AGAIN = 3  # draws of inputs, where the program does not run on the first

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
WORLDS = (*MODERATE, *KINDS.values())  # one choice of inputs of each kind


@dataclass(frozen=True)
class Case:
    """Sizes, constants, and inputs of which axis 0 is the world's."""

    extents: Mapping[str, int]
    constants: Known
    inputs: Mapping[str, Tensor]

    def run(self, facts: Facts, lines: Lines, chosen: slice) -> Mapping[str, Tensor]:
        """All tensors, in the chosen worlds; raises Undefined or TooLarge."""
        given = {i.name: self.inputs[i.name][chosen] for i in facts.program.inputs}
        if isinstance(lines, Singles):
            given = {name: _single(tensor) for name, tensor in given.items()}
        count = len(range(len(WORLDS))[chosen])
        return computed(
            Prepared(facts), Setting(self.extents, self.constants, given), lines, worlds(count)
        )


class Gate:
    """What is to stand for a literal program has to pass it."""

    def __init__(self, literal: Facts):
        self.literal = literal
        self.results = tuple(r.name for r in literal.program.results)
        self.rng = np.random.default_rng(20240229)

    def passes(self, stable: Program) -> bool:
        """Whether the program may run instead of the literal one, and is worth it."""
        other = infer(stable)
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            for _ in range(AGAIN):
                case = draw(self.literal, self.rng)
                if case is None:
                    return False
                try:
                    written = case.run(self.literal, Lines(None), slice(len(MODERATE)))
                except (Undefined, TooLarge):
                    continue
                return self._is_equal(case, written, other) and self._is_better(case, other)
        return False

    def _is_equal(self, case: Case, written: Mapping[str, Tensor], other: Facts) -> bool:
        try:
            found = case.run(other, Lines(None), slice(len(MODERATE)))
        except (Undefined, TooLarge):
            return False
        return all(
            equal(before, after)
            for name in self.results
            for before, after in zip(in_worlds(written[name]), in_worlds(found[name]), strict=True)
        )

    def _is_better(self, case: Case, other: Facts) -> bool:
        better = False
        for old, new in zip(*self.errors(case, other), strict=True):
            if new > max(ACCURATE, WORSE * old):
                return False
            better = better or old > max(ACCURATE, BETTER * new)
        return better

    def errors(self, case: Case, other: Facts) -> tuple[list[float], list[float]]:
        """Of the literal program and of the other: one error for each result and kind of inputs."""
        chosen = slice(len(MODERATE), None)
        exact = case.run(other, Lines(None), chosen)
        old = case.run(self.literal, Singles(), chosen)
        new = case.run(other, Singles(), chosen)
        found: tuple[list[float], list[float]] = ([], [])
        for name in self.results:
            expected = as_floats(exact[name])
            one, two = as_floats(old[name]), as_floats(new[name])
            for world in range(len(expected)):
                # What is no number in either form says nothing of them, unless one made it so.
                known = ~np.isnan(expected[world]) | np.isfinite(one[world])
                found[0].append(error_of(one[world][known], expected[world][known]))
                found[1].append(error_of(two[world][known], expected[world][known]))
        return found


# ------------------------------------------------------------------------------------ inputs


def draw(literal: Facts, rng: np.random.Generator) -> Case | None:
    """A case in which the forward-computed inputs of a backward are what its forward computes."""
    among = [literal]
    primal = literal.program.primal
    if primal is not None:
        forward = infer(primal)
        made = {t.name for t in forward.tensors.values() if t.role != "input"}
        if any(i.name in made for i in literal.program.inputs):
            among.append(forward)
    constants = draw_constants(among, rng, given=True)
    extents = _sizes(among, rng, constants)
    if extents is None:
        return None
    drawing = Drawing(among, extents, constants, rng)
    inputs: dict[str, Tensor] = {}
    for number in reversed(range(len(among))):
        for i in among[number].program.inputs:
            if i.name not in inputs:
                inputs[i.name] = drawing.input(i.name, number)
        if number == 1:
            try:
                inputs.update(
                    Case(extents[1], constants, inputs).run(among[1], Lines(None), slice(None))
                )
            except (Undefined, TooLarge):
                return None
    return Case(extents[0], constants, inputs)


def _sizes(
    among: list[Facts], rng: np.random.Generator, constants: Known
) -> list[dict[str, int]] | None:
    """Extents for each of `among`. `Sizes` trusts the header of the second alone, which is here the
    literal program's."""
    turned = among[::-1]
    shared: dict[str, list[int]] = {}
    if len(turned) == 2:
        for i in turned[1].program.inputs:
            if i.name in turned[0].tensors:
                shared[i.name] = [0, 1]
    found = Sizes(turned, shared).draw(rng, constants)
    return None if found is None else found[::-1]


class Drawing:
    """Draws inputs, in all worlds."""

    def __init__(
        self,
        among: list[Facts],
        extents: list[dict[str, int]],
        constants: Known,
        rng: np.random.Generator,
    ):
        self.among, self.extents, self.constants, self.rng = among, extents, constants, rng
        self.integers = Inputs(among)
        self.positive = _positive(among[0]) | _positive(among[-1])

    def input(self, name: str, number: int) -> Tensor:
        facts = self.among[number]
        if not next(i for i in facts.program.inputs if i.name == name).differentiable:
            kinds = [World("signed")] * len(WORLDS)
            return self.integers.in_worlds(
                name, number, self.extents, self.constants, Lines(None), self.rng, kinds, 0
            )
        known = {**self.extents[number], **self.constants}
        shape = shape_of(facts.tensors[name].extents, known)
        values = [self._values(name, kind, shape) for kind in WORLDS]
        return as_decimals(np.stack(values).astype(np.float32))

    def _values(self, name: str, kind: Kind, shape: tuple[int, ...]) -> Array:
        if name.endswith((".grad", ".dot")):
            return self.rng.normal(size=shape)
        if name in self.positive:
            return self.rng.uniform(0.05, 1, size=shape)
        return kind(self.rng, shape)


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


# ---------------------------------------------------------------------------------- numbers


def as_decimals(values: Array) -> Numbers:
    reals = np.empty(values.shape, object)
    reals.reshape(-1)[:] = [Decimal(float(v)) for v in values.flat]
    return Numbers(None, reals)


def as_floats(tensor: Tensor) -> Array:
    values = tensor.reals if isinstance(tensor, Numbers) else tensor
    assert values is not None
    return values.astype(np.float64)


def _single(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, Numbers):
        return tensor
    return Numbers(None, as_floats(tensor).astype(np.float32))


def in_worlds(tensor: Tensor) -> list[Tensor]:
    """The tensor of each world, with an axis of one."""
    return [tensor[world : world + 1] for world in range(tensor.shape[0])]


def error_of(found: Array, exact: Array) -> float:
    """The largest difference, relative to the largest value; what float32 cannot hold is infinite."""
    with np.errstate(all="ignore"):
        expected = exact.astype(np.float32).astype(np.float64)
        finite = np.isfinite(expected)
        found = found.astype(np.float64)
        if not np.array_equal(found[np.isinf(expected)], expected[np.isinf(expected)]):
            return float("inf")
        if np.isnan(expected).any():
            return float("inf") if np.isfinite(found[np.isnan(expected)]).any() else 0.0
        scale = float(np.max(np.abs(exact[finite]), initial=0.0))
        differences = np.abs(found[finite] - exact[finite])
        if np.isnan(differences).any():
            return float("inf")
        largest = float(np.max(differences, initial=0.0))
        if largest <= 1e-37:  # nothing that float32 could tell from 0
            return 0.0
        return largest / scale if scale else float("inf")


def equal(one: Tensor, other: Tensor) -> bool:
    """Do they agree to 20 digits, wherever the first is a number?"""
    if not isinstance(one, Numbers) or not isinstance(other, Numbers):
        return np.array_equal(as_floats(one), as_floats(other))
    assert one.reals is not None and other.reals is not None
    before: list[Decimal] = list(one.reals.flat)  # type: ignore[arg-type]
    after: list[Decimal] = list(other.reals.flat)  # type: ignore[arg-type]
    scale = max((abs(x) for x in before if x.is_finite()), default=Decimal(0))
    return all(
        y.is_finite() and abs(x - y) <= EQUAL * scale
        for x, y in zip(before, after, strict=True)
        if x.is_finite()
    )
