"""Updates of all parameters at once, by the programs of `optimisers.loops`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopgrad.frontend.library import Module, load

Array = NDArray[Any]


@cache
def programs() -> Module:
    return load(Path(__file__).with_name("optimisers.loops"))


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
        self.w, self.u = programs().momentum(self.w, g, self.u, rate)

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
        scale = 1.0
        if math.isfinite(self.clip):
            norm = math.sqrt(programs().squared_norm(g))
            scale = min(1.0, self.clip / norm) if norm > 0 else 1.0
        self.w, self.m, self.v = programs().adam(self.w, g, self.m, self.v, rate, scale, step)

    def arrays(self) -> Mapping[str, Array]:
        return {"w": self.w, "m": self.m, "v": self.v}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.w, self.m, self.v = arrays["w"], arrays["m"], arrays["v"]
