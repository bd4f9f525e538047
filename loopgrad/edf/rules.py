"""Rules of learning for `Model.update`, each a program: from a parameter to its next value."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from loopgrad.edf.graph import Array, Parameter
from loopgrad.pipeline import as_program, compile

MOMENTUM = """
# Polyak 1964
momentum(w[N], g[N], v[N], rate, keep) -> w'[N], v'[N]:
    for n:  v'[n] = keep * v[n] - rate * g[n]
    for n:  w'[n] = w[n] + v'[n]
"""
ADAM = """
# Kingma, Ba 2015. u and z are 1 - a**t and 1 - c**t, for the step t = 1, 2, ...
adam(w[N], g[N], m[N], v[N], rate, a, c, u, z, eps) -> w'[N], m'[N], v'[N]:
    for n:  m'[n] = a * m[n] + (1 - a) * g[n]
    for n:  v'[n] = c * v[n] + (1 - c) * g[n]**2
    for n:  w'[n] = w[n] - rate * (m'[n] / u) / (sqrt(v'[n] / z) + eps)
"""


class Rule:
    """What the rules have in common: they remember arrays for each parameter."""

    program: str
    memories: int  # arrays of the size of the parameter, that start at zero

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers
        self._kept: WeakKeyDictionary[Parameter, tuple[int, list[Array]]] = WeakKeyDictionary()

    def scalars(self, step: int) -> tuple[float, ...]:
        """The program's scalars at a step, which counts from 1."""
        return self.numbers

    def __call__(self, p: Parameter) -> Array:
        kernel = compile(as_program(self.program))
        w, g = p.value.reshape(-1), p.grad.reshape(-1)
        step, arrays = self._kept.get(p) or (0, [np.zeros_like(w) for _ in range(self.memories)])
        scalars = [np.asarray(number, w.dtype) for number in self.scalars(step + 1)]
        new, *arrays = kernel(w, g, *arrays, *scalars)
        self._kept[p] = step + 1, arrays
        return new.reshape(p.value.shape)  # type: ignore[no-any-return]


class Momentum(Rule):
    """Gradient descent with momentum: `model.update(momentum)`, with one object for all steps.

    >>> from loopgrad import edf
    >>> momentum = edf.Momentum(rate=0.1, keep=0.9)
    """

    program, memories = MOMENTUM, 1

    def __init__(self, rate: float, keep: float = 0.9) -> None:
        super().__init__(rate, keep)


class Adam(Rule):
    """Adam, with the step counted for each parameter.

    >>> from loopgrad import edf
    >>> adam = edf.Adam(rate=0.001)
    """

    program, memories = ADAM, 2

    def __init__(
        self, rate: float = 1e-3, means: float = 0.9, squares: float = 0.999, eps: float = 1e-8
    ) -> None:
        super().__init__(rate, means, squares, eps)

    def scalars(self, step: int) -> tuple[float, ...]:
        rate, a, c, eps = self.numbers
        return rate, a, c, 1 - a**step, 1 - c**step, eps
