"""A derived gradient against central differences of the program it was derived from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.ir.nodes import Program
from loopgrad.pipeline import compile

STEP = 1e-5
TOLERANCE = 1e-6

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Check:
    """The derivative along one random direction of one input, by two ways."""

    input: str
    derived: float
    differences: float

    @property
    def relative(self) -> float:
        scale = max(abs(self.derived), abs(self.differences))
        return abs(self.derived - self.differences) / scale if scale else 0.0

    @property
    def passed(self) -> bool:
        return self.relative <= TOLERANCE


def check(
    program: Program, sizes: dict[str, int], seed: int = 0, positive: Collection[str] = ()
) -> list[Check]:
    """Compares the gradient of every input of the program, whose axes all have named extents.

    positive: the inputs that are drawn above 0.

    Both are derivatives of `Σ seed * result` with random seeds. Under a batch, those by a parameter
    are averages: 1/B of the derivative.
    """
    rng = np.random.default_rng(seed)
    inputs: Arrays = {i.name: rng.normal(size=_shape(i, sizes)) for i in program.inputs}
    inputs |= {name: np.abs(inputs[name]) + 0.1 for name in positive}
    seeds: Arrays = {r.name: rng.normal(size=_shape(r, sizes)) for r in program.results}
    gradients = _gradients(program, inputs, seeds)
    checks = []
    for i in program.inputs:
        direction = rng.normal(size=inputs[i.name].shape)
        derived = float(np.sum(gradients[f"{i.name}.grad"] * direction))
        ends = [
            _weighted(program, {**inputs, i.name: inputs[i.name] + h * direction}, seeds)
            for h in (STEP, -STEP)
        ]
        average = sizes[program.batch] if program.batch and i.kind == "param" else 1
        checks.append(Check(i.name, derived, (ends[0] - ends[1]) / (2 * STEP * average)))
    return checks


def _shape(tensor: Any, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[e.name] for e in tensor.extents)


def _gradients(program: Program, inputs: Arrays, seeds: Arrays) -> Arrays:
    backward = program.backward(recompute=True)
    given = {**inputs, **{f"{name}.grad": value for name, value in seeds.items()}}
    returned = compile(backward)(**given)
    names = [r.name for r in backward.results]
    return dict(zip(names, returned if len(names) > 1 else [returned], strict=True))


def _weighted(program: Program, inputs: Arrays, seeds: Arrays) -> float:
    returned = compile(program)(**inputs)
    results = returned if len(program.results) > 1 else [returned]
    pairs = zip(results, seeds.values(), strict=True)
    return float(sum(np.sum(value * seed) for value, seed in pairs))
