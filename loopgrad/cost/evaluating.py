"""The numbers that SymPy's formulas come to, sums over many terms a row at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

NEAR = 1e-9  # a quotient that is off an integer by less is rounded off it: sizes are integers


def number_of(formula: Any, sizes: Mapping[str, int | float]) -> Any:
    """The value at these sizes: an int where it is one, `inf` for what has no bound."""
    import sympy

    free = {s: sympy.nsimplify(sizes[s.name]) for s in formula.free_symbols}
    if not formula.has(sympy.Sum):
        value = formula.subs(free, simultaneous=True)
        if value.is_Integer:
            return int(value)
        return float(value)
    value = _value(formula, {s.name: float(v) for s, v in free.items()})
    return round(value) if abs(value - round(value)) < 1e-6 else float(value)


def _value(e: Any, at: Mapping[str, Any]) -> Any:
    """The value, or a row of them where `at` has rows."""
    if e.is_Symbol:
        return at[e.name]
    if e.is_Number:
        return float(e)
    name = e.func.__name__
    if name == "Sum":
        return _sum(e.args[0], list(e.args[1:]), at)
    if name == "Piecewise":
        found: Any = np.nan
        for value, condition in reversed(e.args):
            found = np.where(_value(condition, at), _value(value, at), found)
        return found
    if name in ("BooleanTrue", "BooleanFalse"):
        return name == "BooleanTrue"
    return FUNCTIONS[name]([_value(a, at) for a in e.args])


def _sum(body: Any, limits: list[Any], at: Mapping[str, Any]) -> Any:
    """One sum after the other, the outermost one first; the innermost as a row."""
    *inner, (index, lower, upper) = limits
    low, high = (round(float(_value(b, at))) for b in (lower, upper))
    if low > high:
        return 0.0
    if inner:
        return sum(_sum(body, inner, {**at, index.name: float(i)}) for i in range(low, high + 1))
    rows = any(part.func.__name__ == "Sum" for part in _parts(body))
    if rows:
        return sum(_value(body, {**at, index.name: float(i)}) for i in range(low, high + 1))
    row = np.arange(low, high + 1, dtype=np.float64)
    return float(np.sum(np.broadcast_to(_value(body, {**at, index.name: row}), row.shape)))


def _parts(e: Any) -> list[Any]:
    return [e, *(part for a in e.args for part in _parts(a))]


def _rounds(values: list[Any]) -> Any:
    return np.ceil(np.log2(np.maximum(values[0], 1)) - NEAR)


FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "Add": lambda v: reduce(lambda x, y: x + y, v),
    "Mul": lambda v: reduce(lambda x, y: x * y, v),
    "Pow": lambda v: v[0] ** v[1],
    "Max": lambda v: reduce(np.maximum, v),
    "Min": lambda v: reduce(np.minimum, v),
    "Abs": lambda v: np.abs(v[0]),
    "floor": lambda v: np.floor(v[0] + NEAR),
    "ceiling": lambda v: np.ceil(v[0] - NEAR),
    "Mod": lambda v: v[0] - v[1] * np.floor(v[0] / v[1] + NEAR),
    "ceil_log2": _rounds,
    "And": lambda v: reduce(np.logical_and, v),
    "Or": lambda v: reduce(np.logical_or, v),
    "Not": lambda v: np.logical_not(v[0]),
    "Equality": lambda v: np.abs(v[0] - v[1]) < NEAR,
    "Unequality": lambda v: np.abs(v[0] - v[1]) >= NEAR,
    "StrictLessThan": lambda v: v[0] < v[1] - NEAR,
    "LessThan": lambda v: v[0] <= v[1] + NEAR,
    "StrictGreaterThan": lambda v: v[0] > v[1] + NEAR,
    "GreaterThan": lambda v: v[0] >= v[1] - NEAR,
    "sign": lambda v: np.sign(v[0]),
    "exp": lambda v: np.exp(v[0]),
    "log": lambda v: np.log(v[0]),
}
