"""Programs run in floating point, for looking for faults: fast, and nothing is concluded from it alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import erf as scalar_erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.numbers.evaluate import Tensor
from loopgrad.simplify.numbers.lines import Integers, Lines, Mask, Numbers

Array = NDArray[np.float64]

_erf = np.vectorize(scalar_erf, otypes=[np.float64])

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "tanh": np.tanh,
    "sigmoid": lambda a: np.where(a >= 0, 1, raised := np.exp(-np.abs(a))) / (1 + raised),
    "softplus": lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "erf": lambda a: _erf(a) if a.size else a,
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "stop_gradient": lambda a: a,
}


class Floats(Lines):
    """The arithmetic of `Numbers` that have no residues, and floats for reals."""

    dtype: type[np.floating[Any]] = np.float64

    def __init__(self) -> None:
        super().__init__(None)

    def _floats(self, a: Numbers) -> NDArray[Any]:
        return np.asarray(a.reals, self.dtype)

    def _of(self, values: Any) -> Numbers:
        return numbers(np.asarray(values, self.dtype))

    def _number(self, value: int | float | Fraction) -> Numbers:
        return self._of(np.array([float(value)]))

    def of_integers(self, values: Integers) -> Numbers:
        return self._of(values)

    def pi(self) -> Numbers:
        return self._of(np.array([np.pi]))

    def add(self, a: Numbers, b: Numbers) -> Numbers:
        return self._of(self._floats(a) + self._floats(b))

    def subtract(self, a: Numbers, b: Numbers) -> Numbers:
        return self._of(self._floats(a) - self._floats(b))

    def multiply(self, a: Numbers, b: Numbers) -> Numbers:
        return self._of(self._floats(a) * self._floats(b))

    def divide(self, a: Numbers, b: Numbers) -> Numbers:
        return self._of(self._floats(a) / self._floats(b))

    def negate(self, a: Numbers) -> Numbers:
        return self._of(-self._floats(a))

    def total(self, a: Numbers, axes: tuple[int, ...]) -> Numbers:
        return self._of(np.add.reduce(self._floats(a), axis=axes, keepdims=True))

    def integer_power(self, a: Numbers, exponents: Integers) -> Numbers:
        return self._of(self._floats(a) ** exponents.astype(self.dtype))

    def rational_power(self, a: Numbers, exponent: Fraction) -> Numbers:
        return self._of(self._floats(a) ** self.dtype(float(exponent)))

    def power(self, a: Numbers, b: Numbers) -> Numbers:
        return self._of(self._floats(a) ** self._floats(b))

    def function(self, name: str, a: Numbers) -> Numbers:
        if name in ("relu", "sign", "abs"):
            self.order(a, self._zero(a))
        if name == "sign":
            return self._of(np.sign(self._floats(a)))
        if name == "relu":
            return self._of(np.where(self._floats(a) < 0, 0.0, self._floats(a)))
        return self._of(FUNCTIONS[name](self._floats(a)))

    def _order(self, a: Numbers, b: Numbers) -> Integers:
        left, right = self._floats(a), self._floats(b)
        order = np.sign(left - right)
        order = np.where(left == right, 0, order)  # infinities
        return np.where(np.isnan(order), 2, order).astype(np.int64)

    def order(self, a: Numbers, b: Numbers) -> Integers:
        order = self._order(a, b)
        if not self.tied:
            self.tied = bool(((order == 0) & np.isfinite(self._floats(a))).any())
        return order

    def floor(self, a: Numbers) -> Integers | None:
        reals = self._floats(a)
        if not np.isfinite(reals).all():
            return None
        whole = np.floor(reals)
        self.tied |= bool((whole == reals).any())
        found: Integers = whole.astype(np.int64)
        return found

    @staticmethod
    def _nan(a: Numbers) -> Mask:
        return np.isnan(floats(a))


def floats(a: Numbers) -> Array:
    return np.asarray(a.reals, np.float64)


def numbers(reals: Any) -> Numbers:
    return Numbers(None, reals)


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as floats, or as integers where it is one of integers."""
    return floats(tensor) if isinstance(tensor, Numbers) else tensor
