"""The value of an extent's formula, at a call: `(X - DX) // stride + 1`.

In exact integers that may exceed int64 (memory is refused in bytes, later), yet bounded: `2**S`
never takes long, whatever S is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Number,
)
from loopgrad.ir.operations import COMPARE
from loopgrad.ir.printer import show_expression

LARGEST_BITS = 512  # a value with more is refused


class FormulaError(ValueError):
    """A formula without a value: a division by zero, a negative exponent, a giant number."""

    def __init__(self, message: str, too_large: bool = False):
        super().__init__(message)
        self.too_large = too_large


def evaluate(formula: Expression, values: Mapping[str, int | float]) -> int:
    """The formula's value, given those of extents and constants.

    Raises FormulaError, which names the formula, where it has none.
    """
    if isinstance(formula, Extent):
        return int(values[formula.name])
    try:
        value = _value(formula, values)
        whole = int(value)
    except (ArithmeticError, ValueError) as error:
        text = show_expression(formula, True)
        too_large = isinstance(error, OverflowError)
        raise FormulaError(f"`{text}` has no value: {error}", too_large) from None
    if value != whole:
        raise FormulaError(f"`{show_expression(formula, True)}` is {value}, which is no integer")
    return whole


def _value(formula: Expression, values: Mapping[str, int | float]) -> Any:
    def value(expression: Expression) -> Any:
        return _value(expression, values)

    match formula:
        case Extent(name) | Constant(name):
            return values[name]
        case Number(number):
            return number
        case Conditional(condition, then, otherwise):
            return value(then) if value(condition) else value(otherwise)
        case Compare(operators, operands):
            sides = list(map(value, operands))
            pairs = zip(operators, sides, sides[1:], strict=False)
            return all(COMPARE[operator](a, b) for operator, a, b in pairs)
        case Apply("and", (left, right)):
            return bool(value(left)) and bool(value(right))
        case Apply("or", (left, right)):
            return bool(value(left)) or bool(value(right))
        case Apply(operation, operands) if operation in _APPLY:
            return _bounded(_APPLY[operation](*map(value, operands)))
    raise ValueError(f"`{show_expression(formula, True)}` cannot stand in an extent")


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise OverflowError("it is too large")
    return value


def _power(base: Any, exponent: Any) -> Any:
    if not (isinstance(base, int) and isinstance(exponent, int)) or exponent < 0:
        return math.pow(base, exponent)
    if abs(base) > 1 and exponent > LARGEST_BITS:
        raise OverflowError("it is too large")
    return base**exponent


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    from fractions import Fraction  # seldom needed: not at each start

    return Fraction(a) / Fraction(b)


_APPLY: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": _power,
    "neg": lambda a: -a,
    "not": lambda a: not a,
    "max": max,
    "min": min,
    "abs": abs,
    "relu": lambda a: max(a, 0),
    "sign": lambda a: (a > 0) - (a < 0),
    "floor": math.floor,
    "stop_gradient": lambda a: a,
}
