"""Arithmetic in which one kind of operation is inexact, and all others are as exact as floats."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from loopgrad.simplify.numbers.floats import Floats
from loopgrad.simplify.numbers.lines import Integers, Numbers

Inexact: TypeAlias = Literal["sums", "products", "functions"]

INEXACT: tuple[Inexact, ...] = ("sums", "products", "functions")
NOISE = 1e-9  # relative to a result of an operation: far above the roundings of float64
EXACT = frozenset(("abs", "relu", "sign", "stop_gradient"))


class Noisy(Floats):
    """The arithmetic of floats, in which the results of one kind of operation are off by about `NOISE`."""

    repeats = False

    def __init__(self, inexact: Inexact, seed: int):
        super().__init__()
        self.inexact = inexact
        self.rng = np.random.default_rng(seed)

    def _off(self, exact: Numbers, sizes: Any = None) -> Numbers:
        """sizes: what the errors are relative to, if not the results."""
        values = self._floats(exact)
        errors = self.rng.uniform(0.5, 1.0, values.shape) * self.rng.choice((-1, 1), values.shape)
        off = values + NOISE * errors * (values if sizes is None else sizes)
        return self._of(np.where(np.isfinite(values), off, values))

    def _sum(self, exact: Numbers, a: Numbers, b: Numbers) -> Numbers:
        if self.inexact != "sums":
            return exact
        nothing = (self._floats(a) == 0) | (self._floats(b) == 0)
        return self._off(exact, np.where(nothing, 0, self._floats(exact)))

    def add(self, a: Numbers, b: Numbers) -> Numbers:
        return self._sum(super().add(a, b), a, b)

    def subtract(self, a: Numbers, b: Numbers) -> Numbers:
        return self._sum(super().subtract(a, b), a, b)

    def total(self, a: Numbers, axes: tuple[int, ...]) -> Numbers:
        """A sum of several passes through values of the size of its terms."""
        exact = super().total(a, axes)
        if self.inexact != "sums" or prod(a.shape[axis] for axis in axes) < 2:
            return exact
        squares = np.add.reduce(self._floats(a) ** 2, axis=axes, keepdims=True)
        return self._off(exact, np.sqrt(squares))

    def grouped(self, a: Numbers, starts: Integers) -> Numbers:
        exact = super().grouped(a, starts)
        if self.inexact != "sums":
            return exact
        squares = np.add.reduceat(self._floats(a) ** 2, starts)
        several = np.diff(np.r_[starts, len(self._floats(a))]) > 1
        return self._off(exact, np.where(several, np.sqrt(squares), 0))

    def _product(self, exact: Numbers) -> Numbers:
        return self._off(exact) if self.inexact == "products" else exact

    def multiply(self, a: Numbers, b: Numbers) -> Numbers:
        exact = super().multiply(a, b)
        if self.inexact != "products":
            return exact
        scaled = [np.isin(np.abs(self._floats(o)), (0, 0.5, 1, 2)) for o in (a, b)]
        return self._off(exact, np.where(scaled[0] | scaled[1], 0, self._floats(exact)))

    def divide(self, a: Numbers, b: Numbers) -> Numbers:
        return self._product(super().divide(a, b))

    def integer_power(self, a: Numbers, exponents: Integers) -> Numbers:
        return self._product(super().integer_power(a, exponents))

    def rational_power(self, a: Numbers, exponent: Fraction) -> Numbers:
        return self._product(super().rational_power(a, exponent))

    def power(self, a: Numbers, b: Numbers) -> Numbers:
        return self._product(super().power(a, b))

    def function(self, name: str, a: Numbers) -> Numbers:
        exact = super().function(name, a)
        return self._off(exact) if self.inexact == "functions" and name not in EXACT else exact
