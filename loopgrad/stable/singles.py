"""Arithmetic in float32, in the place of decimals: what a compiled program makes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.lines import Integers, Lines, Mask, Numbers

Array = NDArray[Any]
SINGLE = np.float32


def _sigmoid(a: Array) -> Array:
    raised = np.exp(-np.abs(a))
    return np.asarray(np.where(a >= 0, 1, raised) / (1 + raised))


def _softplus(a: Array) -> Array:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


_ERF = np.frompyfunc(math.erf, 1, 1)

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "erf": lambda a: np.asarray(_ERF(a)),
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "relu": lambda a: np.maximum(a, 0),
    "sign": np.sign,
    "stop_gradient": lambda a: a,
}


class Singles(Lines):
    """`Lines` whose reals are float32."""

    def __init__(self) -> None:
        super().__init__(None)

    def number(self, value: int | float | Fraction) -> Numbers:
        return _numbers(np.array([float(value)]))

    def of_integers(self, values: Integers) -> Numbers:
        return _numbers(values)

    def pi(self) -> Numbers:
        return self.number(math.pi)

    def add(self, a: Numbers, b: Numbers) -> Numbers:
        return _numbers(_array(a) + _array(b))

    def subtract(self, a: Numbers, b: Numbers) -> Numbers:
        return _numbers(_array(a) - _array(b))

    def multiply(self, a: Numbers, b: Numbers) -> Numbers:
        return _numbers(_array(a) * _array(b))

    def negate(self, a: Numbers) -> Numbers:
        return _numbers(-_array(a))

    def divide(self, a: Numbers, b: Numbers) -> Numbers:
        return _numbers(_array(a) / _array(b))

    def integer_power(self, a: Numbers, exponents: Integers) -> Numbers:
        return _numbers(_array(a) ** exponents.astype(SINGLE))

    def rational_power(self, a: Numbers, exponent: Fraction) -> Numbers:
        return _numbers(_array(a) ** SINGLE(float(exponent)))

    def power(self, a: Numbers, b: Numbers) -> Numbers:
        return _numbers(_array(a) ** _array(b))

    def function(self, name: str, a: Numbers) -> Numbers:
        return _numbers(_FUNCTIONS[name](_array(a)))

    def order(self, a: Numbers, b: Numbers) -> Integers:
        one, other = _array(a), _array(b)
        order = (one > other).astype(np.int64) - (one < other)
        return np.where(np.isnan(one) | np.isnan(other), 2, order)

    _order = order

    def floor(self, a: Numbers) -> Integers | None:
        values = _array(a)
        return np.floor(values).astype(np.int64) if np.isfinite(values).all() else None

    @staticmethod
    def _nan(a: Numbers) -> Mask:
        return np.isnan(_array(a))


def _array(a: Numbers) -> Array:
    """Where some are chosen among others, they come as objects."""
    assert a.reals is not None
    return a.reals.astype(SINGLE, copy=False)


def _numbers(values: Array) -> Numbers:
    return Numbers(None, np.asarray(values).astype(SINGLE))
