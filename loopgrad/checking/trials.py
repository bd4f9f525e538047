"""Inputs on which the right program and a claim are run side by side, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Expression, Extent, Program
from loopgrad.simplify.certifying.sampling import Inputs, Kind, Sizes, draw_constants
from loopgrad.simplify.numbers.evaluate import (
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    evaluate,
    integer,
    shape_of,
)
from loopgrad.simplify.numbers.floats import Floats, array, numbers
from loopgrad.simplify.numbers.lines import Numbers

Known = Mapping[str, int | float | Fraction]
Shape = tuple[int, ...]

KINDS: tuple[Kind, ...] = ("signed", "unit", "large", "zeros")
SIZES_TRIED = 12


@dataclass(frozen=True)
class Trial:
    """A call: the extents and constants of the forward, and every tensor that is known of it.

    tensors: inputs, seeds, what the forward computes and what its backward computes, each as it has
    to be. tied: the forward put two equal numbers in order.
    """

    extents: Mapping[str, int]
    constants: Known
    tensors: Mapping[str, Tensor]
    tied: bool

    def shape(self, name: str) -> Shape:
        return array(self.tensors[name]).shape


class Misfit(Exception):
    """A tensor of a claim's header that has not the shape it says, at the sizes of a trial."""

    def __init__(self, tensor: str, axis: int):
        super().__init__(tensor, axis)
        self.tensor, self.axis = tensor, axis


class Trials:
    """Draws trials of a forward and the program that is right."""

    def __init__(self, forward: Program, right: Program, seed: int = 7):
        self.forward, self.right = infer(forward), infer(right)
        self.backward = forward is not right
        self.sizes = Sizes([self.forward], {})
        self.inputs = Inputs([self.forward, self.right])
        self.rng = np.random.default_rng(seed)
        self.chosen = np.random.default_rng(seed)  # apart, so that examples hang on nothing else
        self.lines = Floats()

    def draw(
        self,
        kind: Kind,
        attempt: int = 0,
        *,
        extents: Mapping[str, int] | None = None,
        values: Sequence[float] | None = None,
        dominant: bool = False,
    ) -> Trial | None:
        """A trial, of distinct extents if none are given; None where it cannot be run.

        values: what the elements of floating inputs are taken from. dominant: square matrices get a
        large diagonal, so that they have inverses, and roots.
        """
        constants = draw_constants([self.forward], self.rng, given=attempt % 2 == 0)
        extents = extents or self._extents(constants)
        if extents is None:
            return None

        def given(drawn: Numbers) -> NDArray[Any]:
            made = array(drawn) if values is None else self._some(values, drawn.shape)
            return _dominant(made) if dominant else made

        own = [extents, {n: extents.get(n, 1) for n in self.right.extents}]
        tensors: dict[str, Tensor] = {}
        lines, lines.tied = self.lines, False
        try:
            self._inputs(0, own, constants, kind, attempt, given, tensors)
            tensors |= evaluate(
                self.forward, _setting(self.forward, own[0], constants, tensors), lines
            )
            tied = lines.tied
            if self.backward:
                self._inputs(1, own, constants, kind, attempt, given, tensors)
                setting = _setting(self.right, own[1], constants, tensors)
                tensors |= evaluate(self.right, setting, lines)
        except (Undefined, TooLarge):
            return None
        return Trial(extents, constants, tensors, tied)

    def smallest(self) -> Iterator[Mapping[str, int]]:
        """Extents that the forward can have, the smallest first."""
        constants = {c.name: c.value for c in self.forward.program.constants}
        found: dict[tuple[int, ...], Mapping[str, int]] = {}
        for attempt in range(41):
            every = {0: 1, 1: 2, 40: 3}.get(attempt)
            drawn = self.sizes.draw(self.rng, constants, True, every)
            if drawn is not None:
                found.setdefault(tuple(drawn[0].values()), drawn[0])
        for sizes in sorted(found, key=lambda s: (sum(s), s)):
            yield found[sizes]

    def _extents(self, constants: Known) -> Mapping[str, int] | None:
        """Distinct ones above 1, if a few tries find some."""
        best: Mapping[str, int] | None = None
        score = -1
        for _ in range(SIZES_TRIED):
            drawn = self.sizes.draw(self.rng, constants)
            if drawn is not None:
                values = list(drawn[0].values())
                distinct = 2 * len(set(values)) - 3 * values.count(1) - 3 * values.count(0)
                if distinct > score or best is None:
                    best, score = drawn[0], distinct
        return best

    def _inputs(
        self,
        number: int,
        extents: Sequence[Mapping[str, int]],
        constants: Known,
        kind: Kind,
        attempt: int,
        given: Callable[[Numbers], NDArray[Any]],
        tensors: dict[str, Tensor],
    ) -> None:
        facts = (self.forward, self.right)[number]
        for i in facts.program.inputs:
            if i.name in tensors:
                continue
            drawn = self.inputs.draw(
                i.name, number, extents, constants, self.lines, self.rng, kind, attempt, tensors
            )
            if isinstance(drawn, Numbers):
                drawn = numbers(given(drawn))
            tensors[i.name] = drawn

    def _some(self, values: Sequence[float], shape: Shape) -> NDArray[Any]:
        """Elements of the values, no two alike where there are enough."""
        count = int(np.prod(shape))
        return self.chosen.choice(values, count, replace=count > len(values)).reshape(shape)


def _dominant(matrix: NDArray[Any]) -> NDArray[Any]:
    """The last two axes, where they are alike, with more on the diagonal than a row beside it sums to."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        return matrix
    rows = float(np.abs(matrix).sum(axis=-1).max(initial=0.0))
    larger: NDArray[Any] = matrix + (1.0 + np.ceil(rows)) * np.eye(matrix.shape[-1])
    return larger


def _setting(
    facts: Facts, extents: Mapping[str, int], constants: Known, tensors: Mapping[str, Tensor]
) -> Setting:
    return Setting(extents, constants, {i.name: tensors[i.name] for i in facts.program.inputs})


# ------------------------------------------------------------------------------------- claims


def bound(facts: Facts, trial: Trial) -> dict[str, int]:
    """The claim's extents in a trial, as a call would find them. Raises Misfit."""
    program = facts.program
    known: dict[str, int] = {}
    declared = [(i.name, i.extents) for i in program.inputs]
    declared += [(r.name, r.extents) for r in program.results]
    constants = constants_of(facts, trial)
    for size in program.sizes:
        if size.name in trial.extents:
            known[size.name] = trial.extents[size.name]
    for name, extents in declared:
        for axis, (extent, value) in enumerate(zip(extents, trial.shape(name), strict=True)):
            if isinstance(extent, Extent) and known.setdefault(extent.name, value) != value:
                raise Misfit(name, axis)
    for name, formula in facts.defined.items():
        if name not in known:
            known[name] = integer(formula, {**known, **constants})
    for name, extents in declared:
        for axis, (extent, value) in enumerate(zip(extents, trial.shape(name), strict=True)):
            if not isinstance(extent, Extent) and _value(extent, {**known, **constants}) != value:
                raise Misfit(name, axis)
    return known


def _value(extent: Expression, known: Known) -> int | None:
    try:
        return integer(extent, known)
    except (Undefined, KeyError):
        return None


def constants_of(facts: Facts, trial: Trial) -> Known:
    """Those of the forward as in the trial; the claim's own have their defaults."""
    own = {c.name: c.value for c in facts.program.constants}
    return {**own, **trial.constants}


def run(facts: Facts, trial: Trial, lines: Floats) -> dict[str, Tensor]:
    """Every tensor of the claim. Raises Undefined or TooLarge."""
    try:
        extents = bound(facts, trial)
    except Misfit as misfit:
        raise Undefined(f"`{misfit.tensor}` has another shape") from None
    for equality in facts.equalities:
        known = {**extents, **constants_of(facts, trial)}
        if integer(equality.left, known) != integer(equality.right, known):
            raise Undefined(f"{equality.reason}, whose extents differ")
    given = {i.name: trial.tensors[i.name] for i in facts.program.inputs}
    return evaluate(facts, Setting(extents, constants_of(facts, trial), given), lines)


# ----------------------------------------------------------------------------------- comparing

TOLERANCE = 1e-8
LEAST = 1e-3  # the size of numbers below which all are taken for zeros with roundings


def close(one: NDArray[Any], other: NDArray[Any], scale: float | None = None) -> bool:
    """Do two arrays agree, where the first is finite?"""
    if one.shape != other.shape:
        return False
    return not differing(one, other, scale).any()


def differing(
    right: NDArray[Any], claimed: NDArray[Any], scale: float | None = None
) -> NDArray[np.bool_]:
    """The elements that differ, where `right` is finite; integers differ at all."""
    if right.dtype.kind in "biu" and claimed.dtype.kind in "biu":
        return np.asarray(right != claimed)
    finite = np.isfinite(right)
    if scale is None:
        scale = float(np.max(np.abs(right[finite]), initial=0.0))
        both = finite & np.isfinite(claimed)
        scale = max(scale, float(np.max(np.abs(claimed[both]), initial=0.0)), LEAST)
    with np.errstate(invalid="ignore", over="ignore"):
        agree = np.abs(right - claimed) <= TOLERANCE * scale
    return np.asarray(finite & ~agree)


def shape_in(extents: Sequence[Expression], known: Known) -> Shape:
    return shape_of(extents, known)
