"""Products that read their right side where it lies, in runs, against NumPy in float64."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.products.callable import Functions, functions
from tests.backends.guarded import empty
from tests.backends.test_products import CANARY, DTYPES, GUARD, guarded, narrow

SCALES = {0: 1.0, 1: 1.0, 2: -1.0}  # to store, to add, to take away


def check(
    made: Functions, m: int, lines: int, run: int, k: int, real: str, mode: int, seed: int
) -> None:
    """`lines` runs, anywhere in a memory that holds NaN but for their elements, behind which is a guard."""
    rng, dtype, lanes = np.random.default_rng(seed), DTYPES[real], made.tiling.lanes
    a = rng.standard_normal((m, k)).astype(dtype)
    lying = rng.permutation(lines) * (run + 3)
    at_k = rng.permutation(k) * lines * (run + 3)
    columns = (lying[:, None] + np.arange(run)).ravel()
    memory = empty((at_k.max(initial=0) + columns.max() + 1,), dtype, at_end=True)
    memory[:] = np.nan
    places = at_k[:, None] + columns
    memory[places] = rng.standard_normal(places.shape)
    pieces = [(line, v) for line in range(lines) for v in range(0, run, lanes)]
    starts = np.array([lying[line] + v for line, v in pieces])
    targets = np.array([line * run + v for line, v in pieces])
    n = lines * run
    wide, around = guarded((m, n + 3), dtype)
    wide[:, :n] = before = np.full((m, n), np.nan) if mode == 0 else rng.standard_normal((m, n))
    made.product_at(
        m, len(pieces), k, a.ctypes.data, k, 1, memory.ctypes.data, at_k.ctypes.data,
        starts.ctypes.data, targets.ctypes.data, run, wide.ctypes.data, n + 3, SCALES[mode], mode > 0,
    )  # fmt: skip
    b = memory[places].astype(float)
    exact = SCALES[mode] * (a.astype(float) @ b)
    wanted = exact if mode == 0 else before + exact
    size = np.abs(a).astype(float) @ np.abs(b) + 3
    assert (np.abs(wide[:, :n] - wanted) <= 4 * np.finfo(dtype).eps * size * max(k, 1) ** 0.5).all()
    assert (wide[:, n:] == CANARY).all()
    assert (around[:GUARD] == CANARY).all() and (around[len(around) - GUARD :] == CANARY).all()


@pytest.mark.parametrize("real", DTYPES)
def test_sizes_around_tiles(real: str) -> None:
    made = functions(real)
    lanes = made.tiling.lanes
    runs = (1, 3, lanes - 2, lanes, lanes + 1, 2 * lanes, 3 * lanes + 5)
    for i, (m, lines, run, k) in enumerate(
        product((*range(1, 10), 16, 23), (1, 2, 5), runs, (0, 1, 9))
    ):
        check(made, m, lines, run, k, real, i % 3, seed=i)
    for i, k in enumerate((255, 256, 257, 600)):
        check(made, 9, 3, lanes - 1, k, real, i % 3, seed=i)


@pytest.mark.parametrize(("vector_bytes", "registers"), [(16, 16), (16, 32), (32, 16)])
@pytest.mark.parametrize("real", DTYPES)
def test_lesser_processors(real: str, vector_bytes: int, registers: int) -> None:
    if this_machine().vector_bytes < vector_bytes:
        pytest.skip("this processor has no such vectors")
    made = narrow(real, vector_bytes, registers)
    for i, (m, lines, run, k) in enumerate(product((3, 8, 13), (1, 4), (2, 4, 9), (1, 9))):
        check(made, m, lines, run, k, real, i % 3, seed=i)
