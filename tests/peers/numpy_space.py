"""The operations of `loopgrad.peers.arrays`, by NumPy: so its programs run where nothing else is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erf, expit

from loopgrad.peers.namespaces import Namespace

UFUNCS = {
    "+=": np.add,
    "-=": np.subtract,
    "max=": np.maximum,
    "min=": np.minimum,
    "*=": np.multiply,
}


class NumPy(Namespace):
    sigmoid, erf = staticmethod(expit), staticmethod(erf)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def rsqrt(self, a: Any) -> Any:
        return 1 / np.sqrt(a)

    def relu(self, a: Any) -> Any:
        return np.maximum(a, 0)

    def softplus(self, a: Any) -> Any:
        return np.logaddexp(a, 0)

    def stop_gradient(self, a: Any) -> Any:
        return a

    def floor(self, a: Any) -> Any:
        return np.floor(a).astype(int)

    def neither(self, a: Any) -> Any:
        return np.logical_not(a)

    def real(self, a: Any) -> Any:
        return a.astype(float)

    def scalar(self, a: Any) -> Any:
        return np.asarray(a)

    def full(self, shape: Any, value: Any) -> Any:
        return np.full(shape, value, float)

    def integers(self, shape: Any, value: Any) -> Any:
        return np.full(shape, value, np.int64)

    def within(self, place: Any, extent: int) -> Any:
        return np.clip(place, 0, max(extent - 1, 0))

    def expand(self, a: Any, shape: Any) -> Any:
        return np.broadcast_to(a, shape)

    def permute(self, a: Any, order: Any) -> Any:
        return np.transpose(a, order)

    def put(self, array: Any, places: Any, value: Any, operator: str) -> Any:
        made = array.copy()
        if operator == "=":
            made[places] = value
        else:
            UFUNCS[operator].at(made, places, value)
        return made

    def scan(
        self, step: Any, lower: int, upper: int, carried: Any, descending: bool = False
    ) -> Any:
        made = []
        for t in range(upper - 1, lower - 1, -1) if descending else range(lower, upper):
            carried, slices = step(t, carried)
            made.append(slices)
        return carried, [
            np.stack(one) for one in zip(*made[:: -1 if descending else 1], strict=True)
        ]

    def place(self, array: Any, axis: int, lower: int, stacked: Any) -> Any:
        made = array.copy()
        moved = np.moveaxis(stacked, 0, axis)
        made[(*[slice(None)] * axis, slice(lower, lower + moved.shape[axis]))] = moved
        return made


assert math.inf == NumPy.inf
