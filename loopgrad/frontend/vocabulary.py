"""The notation's functions, reductions and numbers, for Python functions that are traced.

`exp(e)`, `max(a, b)`; `sum[i](e)`, `max[i](e)`, `softmax[u](e)` with the indices in brackets.
"""

from __future__ import annotations

import math
from typing import Any

from loopgrad.frontend.python_places import refuse
from loopgrad.frontend.symbolic import IndexSymbol, Symbol, node_of
from loopgrad.ir.nodes import Apply, Number, Reduce
from loopgrad.ir.operations import OPERATIONS


class Function:
    """A function of the notation, applied to symbols and numbers."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *operands: Any) -> Symbol:
        arity = OPERATIONS[self.name].arity
        if len(operands) != arity:
            refuse(
                f"`{self.name}` takes {arity} operand{'s' * (arity != 1)}, here it has "
                f"{len(operands)}",
                f"write `lg.{self.name}({', '.join('uv'[:arity])})`",
            )
        return Symbol(Apply(self.name, tuple(map(node_of, operands))))

    def __repr__(self) -> str:
        return f"lg.{self.name}"


class Reduction:
    """`sum[i](e)`: a reduction, its indices in the brackets."""

    def __init__(self, name: str):
        self.name = name

    def __getitem__(self, given: Any) -> Over:
        found = given if isinstance(given, tuple) else (given,)
        for one in found:
            if not isinstance(one, IndexSymbol):
                refuse(
                    f"`{self.name}[...]` needs indices, and is given {one!r}",
                    f"write `lg.{self.name}[i](...)` with `i = lg.index('i')`",
                )
        return Over(self.name, found)

    def __call__(self, *operands: Any) -> Symbol:
        refuse(
            f"`{self.name}` names no index to reduce over",
            f"write `lg.{self.name}[i](...)` with `i = lg.index('i')`",
        )

    def __repr__(self) -> str:
        return f"lg.{self.name}"


class Over:
    """A reduction over indices, waiting for what it reduces."""

    def __init__(self, name: str, indices: tuple[IndexSymbol, ...]):
        self.name = name
        self.indices = indices

    def __call__(self, body: Any) -> Symbol:
        return Symbol(Reduce(self.name, tuple(i.range for i in self.indices), node_of(body)))


class FunctionAndReduction(Function, Reduction):
    """`max(a, b)` of two values, `max[i](e)` over an index."""


exp, log, log1p, expm1 = map(Function, ("exp", "log", "log1p", "expm1"))
sqrt, rsqrt, tanh, sigmoid = map(Function, ("sqrt", "rsqrt", "tanh", "sigmoid"))
relu, softplus, erf, sin, cos = map(Function, ("relu", "softplus", "erf", "sin", "cos"))
abs, sign, floor, stop_gradient = map(Function, ("abs", "sign", "floor", "stop_gradient"))
max, min = map(FunctionAndReduction, ("max", "min"))
sum, mean, prod = map(Reduction, ("sum", "mean", "prod"))
logsumexp, softmax = map(Reduction, ("logsumexp", "softmax"))
pi, inf = Symbol(Apply("pi", ())), Symbol(Number(math.inf))
