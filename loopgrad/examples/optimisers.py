"""Updates of all parameters at once, by programs of the library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopgrad.frontend.library import lib

Array = NDArray[Any]


class Optimiser(Protocol):
    """w: the parameters, in one vector."""

    w: Array

    def update(self, g: Array, rate: float, step: int) -> None:
        """One step, counted from 1, down the gradient g."""

    def arrays(self) -> Mapping[str, Array]:
        """The parameters and all else that changes."""

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from what `arrays` gave."""


class Momentum:
    """Gradient descent with momentum."""

    def __init__(self, w: Array):
        self.w, self.u = w, np.zeros_like(w)

    def update(self, g: Array, rate: float, step: int) -> None:
        self.w, self.u = lib.momentum_sgd(self.w, g, self.u, rate=rate)

    def arrays(self) -> Mapping[str, Array]:
        return {"w": self.w, "u": self.u}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.w, self.u = arrays["w"], arrays["u"]


class Adam:
    """Adam, the gradient's norm first clipped to `clip`."""

    def __init__(self, w: Array, clip: float = math.inf):
        self.w, self.m, self.v = w, np.zeros_like(w), np.zeros_like(w)
        self.clip = clip

    def update(self, g: Array, rate: float, step: int) -> None:
        if math.isfinite(self.clip):
            g = lib.clip_by_norm(g, np.sqrt(lib.squared_norm(g)), limit=self.clip)
        self.w, self.m, self.v = lib.adam(self.w, g, self.m, self.v, step, rate=rate)

    def arrays(self) -> Mapping[str, Array]:
        return {"w": self.w, "m": self.m, "v": self.v}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.w, self.m, self.v = arrays["w"], arrays["m"], arrays["v"]
