"""Arrays of several shapes in one vector: what an update of all parameters takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Layout:
    """Where each named array lies in a vector.

    >>> layout = Layout({"W": (2, 2), "c": (2,)})
    >>> layout.views(layout.packed([np.eye(2), np.zeros(2)]))["W"]
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = dict(shapes)
        ends = np.cumsum([0, *map(math.prod, self.shapes.values())]).tolist()
        self.places = {name: slice(*ends[i : i + 2]) for i, name in enumerate(self.shapes)}
        self.length = ends[-1]

    def views(self, vector: Array) -> dict[str, Array]:
        """The arrays, in the vector's memory."""
        return {name: vector[self.places[name]].reshape(s) for name, s in self.shapes.items()}

    def packed(self, arrays: Sequence[Array]) -> Array:
        """The vector of arrays in the layout's order."""
        return np.concatenate([array.reshape(-1) for array in arrays])
