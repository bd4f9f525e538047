"""A row of the tables of `lg.lib`: a program, what it is called with, and an independent reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Extent
from loopgrad.ir.printer import show_expression

Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]

# Where a row says nothing else: distinct, and some equal.
EXTENTS = {"B": 4, "J": 3, "J'": 3, "I": 5, "K": 6, "T": 5, "U": 3, "H": 2, "D": 3, "E": 2, "V": 7}
EXTENTS |= {"N": 5, "M": 4, "R": 2, "C": 4, "G": 2, "O": 3, "X": 8, "Y": 7, "Z": 6}
EXTENTS |= {"DX": 3, "DY": 2, "DZ": 2}


class Values(dict[str, Any]):
    """Inputs, sizes and constants of a call by name: `v.x`, or `v["h'"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Case:
    """`reference` is of NumPy or SciPy and never of loopgrad; `torch`, where there is one, of tensors.

    Both are given the inputs and constants, as `v.x`, and return what the program does. Inputs are
    normal, integers from 0, masks of both values, unless `draws` says otherwise.
    """

    reference: Callable[[Any], Any]
    torch: Callable[[Any, Any], Any] | None = None  # of torch.nn.functional, and the values
    constants: Mapping[str, Any] = field(default_factory=dict)  # sizes too
    extents: Mapping[str, int] = field(default_factory=dict)
    draws: Mapping[str, Draw] = field(default_factory=dict)
    below: int = 3  # integers are drawn below this
    fixed: tuple[str, ...] = ()  # inputs in which PyTorch does not differentiate

    def inputs(
        self, program: lg.Program, seed: int, extents: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        known = EXTENTS | self.extents | self.constants if extents is None else extents
        return {i.name: self._input(i, rng, known) for i in program.inputs}

    def _input(self, i: Any, rng: np.random.Generator, known: Mapping[str, Any]) -> Any:
        shape = tuple(_length(e, known) for e in i.extents)
        if i.name in self.draws:
            return self.draws[i.name](rng, shape)
        if i.kind == "int":
            return rng.integers(0, self.below, shape)
        if i.kind == "bool":
            return rng.random(shape) < 0.6
        return rng.normal(size=shape)

    def values(self, program: lg.Program, inputs: Mapping[str, Any]) -> Values:
        """What a reference is given: defaults too."""
        defaults = {c.name: c.value for c in program.constants}
        return Values({**defaults, **self.constants, **inputs})


def _length(extent: Any, known: Mapping[str, Any]) -> int:
    """Of an axis, whose extent may be a formula such as `G*K`."""
    if isinstance(extent, Extent):
        return int(known[extent.name])
    return int(eval(show_expression(extent), {}, dict(known)))


def named_extents(program: lg.Program) -> list[str]:
    """Those that the inputs' shapes fix, and sizes."""
    found = dict.fromkeys(
        e.name for i in infer(program).program.inputs for e in i.extents if isinstance(e, Extent)
    )
    return list(found)


def uniform(low: float, high: float) -> Draw:
    return lambda rng, shape: rng.uniform(low, high, shape)


def away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Normal, and at least 0.1 from the kink at zero."""
    x = rng.normal(size=shape)
    return x + 0.1 * np.sign(x)


def distributions(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Along the last axis, positive."""
    p = rng.uniform(0.2, 1.5, shape)
    return p / p.sum(-1, keepdims=True)


def joints(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Distributions over the last two axes together."""
    p = rng.uniform(0.2, 1.5, shape)
    return p / p.sum((-2, -1), keepdims=True)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """-1 and 1."""
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """0.0 and 1.0."""
    return (rng.random(shape) < 0.5).astype(float)


def lengths(limit: int) -> Draw:
    """From 0 to the limit, both among them."""
    return lambda rng, shape: np.resize(np.array([limit, 0, 1, limit - 1]), shape)


def kept_somewhere(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """A mask that keeps something in every row."""
    keep = rng.random(shape) < 0.5
    keep[..., :1] |= ~keep.any(-1, keepdims=True)
    return keep
