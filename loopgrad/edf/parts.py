"""Components that graphs are put together with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loopgrad.edf.component import component
from loopgrad.edf.graph import Array

ADD = """
add(x[B,J], y[B,J]) -> z[B,J]:
    for b, j:  z[b,j] = x[b,j] + y[b,j]
"""
CONCAT = """
concat(x[B,J], y[B,K]) -> z[B,J+K]:
    for b, j < J:  z[b,j] = x[b,j]
    for b, k:      z[b,J+k] = y[b,k]
"""

Add = component(ADD)
Concat = component(CONCAT)


class _Sum:
    """The sum of any number of objects of one shape: `Sum(*losses)`."""

    def forward(self, *inputs: Array) -> Array:
        shapes = {x.shape for x in inputs}
        if len(shapes) != 1:
            raise ValueError(f"Sum needs objects of one shape, got {sorted(shapes)}")
        self.number = len(inputs)
        return sum(inputs[1:], start=inputs[0])

    def backward(self, gradient: Array) -> Sequence[Array]:
        return [gradient] * self.number


Sum = component(_Sum, name="Sum")


class _Zeros:
    """Zeros of shape [B,size], with the batch of x: `ZERO = Zeros(X[0], size=J)`."""

    def forward(self, x: Array, size: int = 1) -> Array:
        return np.zeros((len(x), size), x.dtype)

    def backward(self, gradient: Array) -> Any:
        return None


Zeros = component(_Zeros, name="Zeros")
