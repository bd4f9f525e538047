"""Exact arithmetic of integers, as arrays of int64: what does not fit is refused."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from loopgrad.ir.nodes import Reduction
from loopgrad.simplify.numbers.spaces import Integers, Mask

LARGEST_INTEGER = 2.0**62


class Undefined(Exception):
    """The inputs are none that the program can be run on."""


COMPARE: dict[str, Callable[[Integers, Integers], Mask]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _fitting(estimate: NDArray[np.float64]) -> None:
    if estimate.size and float(np.abs(estimate).max()) > LARGEST_INTEGER:
        raise Undefined("an integer gets too large")


def _exact(function: Callable[[Integers, Integers], Integers]) -> Callable[..., Integers]:
    """The operation, refused where a result may not fit."""

    def checked(a: Integers, b: Integers) -> Integers:
        _fitting(function(a.astype(np.float64), b.astype(np.float64)))  # type: ignore[arg-type]
        return function(a, b)

    return checked


def _divided(function: Callable[[Integers, Integers], Integers]) -> Callable[..., Integers]:
    def checked(a: Integers, b: Integers) -> Integers:
        if (b == 0).any():
            raise Undefined("an integer is divided by zero")
        return function(a, b)

    return checked


def integer_power(base: Integers, exponent: Integers) -> Integers:
    if (exponent < 0).any():
        raise Undefined("an integer to a negative power")
    with np.errstate(over="ignore"):
        _fitting(base.astype(np.float64) ** exponent.astype(np.float64))
    return np.asarray(base**exponent)


INTEGER: dict[str, Callable[..., Integers]] = {
    "+": _exact(operator.add),
    "-": _exact(operator.sub),
    "*": _exact(operator.mul),
    "//": _divided(operator.floordiv),
    "%": _divided(operator.mod),
    "neg": operator.neg,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sign": np.sign,
    "relu": lambda a: np.maximum(a, 0),
    "stop_gradient": lambda a: a,
    "floor": lambda a: a,
}


def _setting(array: Integers, cells: Integers, values: Integers) -> None:
    array[cells] = values


UPDATES: dict[Reduction, Callable[[Integers, Integers, Integers], None]] = {
    Reduction.ADD: np.add.at,
    Reduction.SUBTRACT: np.subtract.at,
    Reduction.MULTIPLY: np.multiply.at,
    Reduction.MAXIMUM: np.maximum.at,
    Reduction.MINIMUM: np.minimum.at,
    Reduction.SET: _setting,
}
