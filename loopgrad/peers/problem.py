"""What contenders are given: a program, its inputs, and the seeds of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.fitting import ANY, Fitting, covered
from loopgrad.analysis.infer import infer
from loopgrad.backends.shapes import Shapes
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType

Array = NDArray[Any]


class NoContender(Exception):
    """A contender that cannot be had, and why: it is missing, or the program is not for it."""


@dataclass(frozen=True)
class Problem:
    """A program with the arguments of one call.

    `keywords`: sizes and constants that the call sets. `seeds`: by name of the result, for those
    that have a gradient; none where only the forward is of interest.
    """

    program: Program
    inputs: Mapping[str, Array]
    keywords: Mapping[str, int | float]
    seeds: Mapping[str, Array]

    @cached_property
    def facts(self) -> Facts:
        return infer(self.program)

    @cached_property
    def constants(self) -> dict[str, int | float]:
        return {c.name: self.keywords.get(c.name, c.value) for c in self.program.constants}

    @cached_property
    def _sized(self) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
        sizes = {s.name: int(self.keywords[s.name]) for s in self.program.sizes}
        return Shapes(self.facts).of_call(dict(self.inputs), sizes, self.constants)

    @property
    def extents(self) -> dict[str, int]:
        return self._sized[0]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._sized[1]

    @property
    def wrt(self) -> tuple[str, ...]:
        """The inputs that have a gradient, in header order."""
        return tuple(i.name for i in self.program.inputs if i.differentiable)

    @property
    def results(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.program.results)

    @property
    def real(self) -> np.dtype[Any]:
        """The element type: that of the first floating input."""
        return next((self.inputs[name].dtype for name in self.wrt), np.dtype(np.float64))

    def widened(self) -> Problem:
        """The same in float64."""
        return Problem(
            self.program,
            {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in self.inputs.items()},
            self.keywords,
            {n: a.astype(np.float64) for n, a in self.seeds.items()},
        )

    def backward(self) -> Program:
        """The program of the gradients: sums, whether or not the program names a batch."""
        return self.program.backward(batch=False)


def draw(
    program: Program,
    keywords: Mapping[str, int | float],
    given: Mapping[str, Array] | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> Problem:
    """A problem of random inputs: normal ones, indices that are in range, fair coins.

    keywords: the value of every extent (`J'` is `J` where it is not told), and constants to set.
    given: inputs that are not drawn.

    Raises KeyError, naming it, for an extent without a value, ValueError for arrays that do not fit.
    """
    from loopgrad.backends.formulas import evaluate

    rng = np.random.default_rng(seed)
    facts = infer(program)
    constants = {c.name: keywords.get(c.name, c.value) for c in program.constants}
    values: dict[str, int | float] = {**constants, **keywords}
    for name, formula in facts.defined.items():
        values.setdefault(name, evaluate(formula, values))
    for name in facts.extents:
        values.setdefault(name, values[name.rstrip("'")])
    inputs: dict[str, Array] = {}
    fitting = Fitting(facts)
    for i in program.inputs:
        if given and i.name in given:
            array = given[i.name]
            inputs[i.name] = np.asarray(array, dtype) if i.differentiable else array
            continue
        shape = tuple(max(0, evaluate(e, values)) for e in i.extents)
        match i.kind:
            case "int":
                asked = fitting.interval(i.name, values, covered(inputs)) or ANY
                low, high = asked.ends()
                inputs[i.name] = rng.integers(low, high + 1, shape)
            case "bool":
                inputs[i.name] = rng.random(shape) < 0.5
            case _:
                inputs[i.name] = np.asarray(rng.normal(size=shape)).astype(dtype)
    own = {s.name for s in program.sizes} | {c.name for c in program.constants}
    problem = Problem(program, inputs, {n: v for n, v in keywords.items() if n in own}, {})
    for name, extent in problem.extents.items():
        if values[name] != extent:
            raise ValueError(f"`{name}` is {values[name]}, and {extent} in the arrays given")
    real = [r for r in problem.results if facts.tensors[r].element is ElementType.FLOAT]
    if not problem.wrt:
        real = []
    seeds = {r: np.asarray(rng.normal(size=problem.shapes[r])).astype(dtype) for r in real}
    return Problem(program, inputs, problem.keywords, seeds)


@dataclass(frozen=True)
class Outcome:
    """What a contender computed: results and gradients by name."""

    results: Mapping[str, Array]
    gradients: Mapping[str, Array]


@dataclass(frozen=True)
class Contender:
    """Somebody who solves a problem.

    `calls`: a function for each of "forward", "backward" (alone, after the forward) and "both", where
    there is one. `outcome` runs it once more and returns arrays of NumPy. `first`: the seconds of its
    first call, what is compiled included.
    """

    name: str
    calls: Mapping[str, Callable[[], Any]]
    outcome: Callable[[], Outcome]
    first: float
