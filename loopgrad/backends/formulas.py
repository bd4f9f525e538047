"""The value of an extent's formula, at a call: `(X - DX) // stride + 1`.

In exact integers that may exceed int64 (memory is refused in bytes, later), yet bounded: `2**S`
never takes long, whatever S is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
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
from loopgrad.ir.printer import show_expression

LARGEST_BITS = 512  # a value with more is refused


class FormulaError(ValueError):
    """A formula without a value: a division by zero, a negative exponent, a giant number."""


def evaluate(
    formula: Expression, extents: Mapping[str, int], constants: Mapping[str, int | float]
) -> int:
    """The formula's value. Raises FormulaError, which names the formula, where it has none."""
    match formula:
        case Extent(name):
            return extents[name]
        case Number(int(value)):
            return value
    try:
        value = _value(formula, extents, constants)
    except FormulaError:
        raise
    except (ArithmeticError, ValueError) as error:
        reason = str(error)
        raise FormulaError(f"`{show_expression(formula, True)}` has no value: {reason}") from None
    if value != int(value):
        raise FormulaError(f"`{show_expression(formula, True)}` is {value}, which is no integer")
    return int(value)


def _value(
    formula: Expression, extents: Mapping[str, int], constants: Mapping[str, int | float]
) -> Any:
    def value(expression: Expression) -> Any:
        return _value(expression, extents, constants)

    match formula:
        case Extent(name):
            return extents[name]
        case Number(number):
            return number
        case Constant(name):
            return constants[name]
        case Conditional(condition, then, otherwise):
            return value(then) if value(condition) else value(otherwise)
        case Compare(operators, operands):
            values = list(map(value, operands))
            pairs = zip(operators, values, values[1:], strict=False)
            return all(_COMPARE[operator](a, b) for operator, a, b in pairs)
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
    if isinstance(base, int) and isinstance(exponent, int):
        if exponent < 0:
            return Fraction(base) ** exponent if exponent > -LARGEST_BITS else 0.0
        if abs(base) > 1 and exponent > LARGEST_BITS:
            raise OverflowError("it is too large")
    return base**exponent


def _divide(a: Any, b: Any) -> Any:
    return a / b if isinstance(a, float) or isinstance(b, float) else Fraction(a) / Fraction(b)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}

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
