"""The operations of expressions: one table that parser, printer, type inference and backends share."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class ElementType(Enum):
    """What an element of a tensor, or the value of an expression, is."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"


class Typing(Enum):
    """How the element type of an operation follows from those of its operands."""

    PROMOTE = "int for integers (bool counts as int), else float"
    FLOAT = "always float"
    INT = "always int"
    INTEGERS = "int; operands have to be integers"
    BOOL = "bool"


@dataclass(frozen=True)
class Operation:
    """One row: `infix` and its `precedence` (functions have none), operand count, typing rule."""

    name: str
    arity: int
    typing: Typing
    precedence: int | None = None


# Precedences, loosest first; those of Python.
CONDITIONAL, OR, AND, NOT, COMPARISON, SUM, PRODUCT, UNARY, POWER, ATOM = range(10)

_INFIX = [
    Operation("or", 2, Typing.BOOL, OR),
    Operation("and", 2, Typing.BOOL, AND),
    Operation("not", 1, Typing.BOOL, NOT),
    Operation("+", 2, Typing.PROMOTE, SUM),
    Operation("-", 2, Typing.PROMOTE, SUM),
    Operation("*", 2, Typing.PROMOTE, PRODUCT),
    Operation("/", 2, Typing.FLOAT, PRODUCT),
    Operation("//", 2, Typing.INTEGERS, PRODUCT),
    Operation("%", 2, Typing.INTEGERS, PRODUCT),
    Operation("neg", 1, Typing.PROMOTE, UNARY),
    Operation("**", 2, Typing.PROMOTE, POWER),
]

_FUNCTIONS = [
    Operation(name, 1, Typing.FLOAT)
    for name in ("exp log log1p expm1 sqrt rsqrt tanh sigmoid softplus erf sin cos".split())
] + [
    Operation("relu", 1, Typing.PROMOTE),
    Operation("abs", 1, Typing.PROMOTE),
    Operation("sign", 1, Typing.PROMOTE),
    Operation("stop_gradient", 1, Typing.PROMOTE),
    Operation("floor", 1, Typing.INT),
    Operation("max", 2, Typing.PROMOTE),
    Operation("min", 2, Typing.PROMOTE),
    Operation("pi", 0, Typing.FLOAT),
]

OPERATIONS: dict[str, Operation] = {row.name: row for row in _INFIX + _FUNCTIONS}
FUNCTIONS: frozenset[str] = frozenset(row.name for row in _FUNCTIONS if row.arity)
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COMPARISONS = frozenset(COMPARE)
REDUCTION_NAMES: frozenset[str] = frozenset("sum mean max min prod logsumexp softmax".split())

# Words that cannot name a tensor, an index or an extent.
RESERVED: frozenset[str] = (
    FUNCTIONS
    | frozenset("sum mean prod logsumexp".split())
    | frozenset("for if else and or not descending local int bool param size batch pi inf".split())
)
