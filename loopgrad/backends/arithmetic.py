"""What the operations compute, in tables: the reference's arithmetic (docs/decisions/0002)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from loopgrad.ir.nodes import Reduction

LEAST, GREATEST = -(2**63), 2**63 - 1  # of int64

# What a tensor starts with, floating and integer.
IDENTITIES = {
    Reduction.ADD: (0.0, 0),
    Reduction.SUBTRACT: (0.0, 0),
    Reduction.SET: (0.0, 0),
    Reduction.MULTIPLY: (1.0, 1),
    Reduction.MAXIMUM: (-math.inf, LEAST),
    Reduction.MINIMUM: (math.inf, GREATEST),
}


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), where exp never overflows."""
    one = type(x)(1)
    if x >= 0:
        return one / (one + np.exp(-x))
    return np.exp(x) / (one + np.exp(x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), where exp never overflows."""
    return np.maximum(x, type(x)(0)) + np.log1p(np.exp(-abs(x)))


# On scalars of one floating type, with NumPy's errors ignored.
REAL: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    # Not np.power, which takes the square root for 0.5: NaN at -inf.
    "**": lambda a, b: type(a)(np.float_power(a, b)),
    "neg": operator.neg,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sign": np.sign,
    "relu": lambda a: np.maximum(a, type(a)(0)),
    "stop_gradient": lambda a: a,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: type(a)(1) / np.sqrt(a),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": lambda a: type(a)(math.erf(a)),
    "sin": np.sin,
    "cos": np.cos,
    "pi": lambda: math.pi,
}

# On Python's integers, exactly; the caller sees to it that the value fits int64.
INTEGER: dict[str, Callable[..., int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "neg": operator.neg,
    "max": max,
    "min": min,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "relu": lambda a: max(a, 0),
    "stop_gradient": lambda a: a,
}

_UPDATES = {
    Reduction.ADD: "+",
    Reduction.SUBTRACT: "-",
    Reduction.MULTIPLY: "*",
    Reduction.MAXIMUM: "max",
    Reduction.MINIMUM: "min",
}
REAL_UPDATES = {reduction: REAL[name] for reduction, name in _UPDATES.items()}
INTEGER_UPDATES = {reduction: INTEGER[name] for reduction, name in _UPDATES.items()}
