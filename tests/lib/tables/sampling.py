"""Images sampled at places."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from tests.lib.cases import Case, uniform


def affine_grid(v: Any) -> Any:
    y, x = ((2 * np.arange(n) + 1) / n - 1 for n in (v.Y, v.X))
    ones = np.ones((v.Y, v.X))
    places = np.stack([ones * x, ones * y[:, None], ones], -1)
    return np.einsum("bck,yxk->byxc", v.θ, places)


def grid_sample(v: Any, mode: str) -> Any:
    """By SciPy's interpolation, with the image in a frame of zeros where these are outside."""
    B, C, Y, X = v.v.shape
    found = np.zeros((B, C, *v.grid.shape[1:3]))
    for b in range(B):
        rows = ((v.grid[b, :, :, 1] + 1) * Y - 1) / 2
        columns = ((v.grid[b, :, :, 0] + 1) * X - 1) / 2
        if mode == "constant":
            rows, columns = rows + 1, columns + 1
        for c in range(C):
            image = np.pad(v.v[b, c], 1) if mode == "constant" else v.v[b, c]
            found[b, c] = map_coordinates(image, [rows, columns], order=1, mode=mode, cval=0.0)
    return found


EXTENTS = {"B": 2, "C": 2, "X": 4, "Y": 3, "M": 3, "N": 5}
PLACES = {"grid": uniform(-1.4, 1.4)}

CASES = {
    "affine_grid": Case(
        affine_grid,
        lambda F, v: F.affine_grid(v.θ, [len(v.θ), 1, v.Y, v.X], align_corners=False),
        constants={"Y": 3, "X": 4},
    ),
    "grid_sample": Case(
        lambda v: grid_sample(v, "constant"),
        lambda F, v: F.grid_sample(v.v, v.grid, align_corners=False),
        extents=EXTENTS,
        draws=PLACES,
    ),
    "grid_sample_border": Case(
        lambda v: grid_sample(v, "nearest"),
        lambda F, v: F.grid_sample(v.v, v.grid, padding_mode="border", align_corners=False),
        extents=EXTENTS,
        draws=PLACES,
    ),
}
