"""The shapes of what an operator delivers, from those of its arguments, which may be symbols.

While PyTorch traces, an extent is a `SymInt`: arithmetic on it makes further symbols, and a
comparison would fix it. So formulas are computed without asking what they come to, and what has to
hold is told to PyTorch (`torch._check`), which proves it or checks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from loopgrad.analysis.facts import Facts
from loopgrad.backends.formulas import evaluate
from loopgrad.backends.shapes import label
from loopgrad.ir.nodes import Apply, Constant, Expression, Extent, Number
from loopgrad.ir.printer import show_expression

Values = Mapping[str, Any]  # of extents and constants

_APPLY: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "neg": lambda a: -a,
    "max": torch.sym_max,
    "min": torch.sym_min,
}


def extents_of(facts: Facts, shapes: Mapping[str, Sequence[Any]], numbers: Values) -> Values:
    """The value of every extent and constant, given the shapes of the inputs.

    Raises RuntimeError, or has PyTorch raise it, where shapes do not fit the header or each other.
    """
    name = facts.program.name
    values = dict(numbers)
    for i in facts.program.inputs:
        shape = shapes[i.name]
        torch._check(
            len(shape) == len(i.extents),
            lambda i=i, shape=shape: (
                f"{name}: argument `{label(i)}` has to have {len(i.extents)} axes, "
                f"got shape {tuple(shape)}"
            ),
        )
        for extent, got in zip(i.extents, shape, strict=True):
            if isinstance(extent, Extent):
                _same(name, values.setdefault(extent.name, got), got, extent)
    for defined, formula in facts.defined.items():
        if defined not in values:
            values[defined] = value(formula, values)
    for i in facts.program.inputs:
        for extent, got in zip(i.extents, shapes[i.name], strict=True):
            if not isinstance(extent, Extent):
                # As in `shape_of`, where a temporary comes from.
                _same(name, _at_least_0(value(extent, values)), got, extent)
    for equality in facts.equalities:
        _same(name, value(equality.left, values), value(equality.right, values), equality.left)
    return values


def shape_of(facts: Facts, tensor: str, values: Values) -> tuple[Any, ...]:
    """The shape of a computed tensor."""
    known = facts.tensors[tensor]
    shape = tuple(value(extent, values) for extent in known.extents)
    if known.role == "temporary":  # a largest index + 1 is negative where nothing is written
        return tuple(_at_least_0(extent) for extent in shape)
    return shape


def value(formula: Expression, values: Values) -> Any:
    """The formula's value; a symbol where it hangs on one."""
    match formula:
        case Extent(name) | Constant(name):
            return values[name]
        case Number(number):
            return number
        case Apply(operation, operands) if operation in _APPLY:
            return _APPLY[operation](*(value(e, values) for e in operands))
    return evaluate(formula, values)  # asks for numbers, as such a formula rarely stands


def _at_least_0(extent: Any) -> Any:
    return max(0, extent) if isinstance(extent, int) else torch.sym_max(extent, 0)


def _same(name: str, known: Any, got: Any, extent: Expression) -> None:
    if known is not got:
        text = show_expression(extent, True)
        torch._check(known == got, lambda: f"{name}: extent `{text}` is {known}, but also {got}")


def elements(shape: Sequence[Any]) -> Any:
    """How many elements a tensor has."""
    return math.prod(shape)
