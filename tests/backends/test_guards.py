"""Compiled code touches nothing but its arrays and its scratch: all lie between guard pages here.

A fault does not fail a test but ends the process; Python's faulthandler then names the test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.pipeline import compile
from tests.backends import guarded
from tests.backends.test_llvm import PROGRAMS, SIZES, inputs_of, parse

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")

# Around the widths of registers, of tiles and of blocks of rows.
AROUND = [
    dict(zip("BJKT", sizes, strict=True))
    for sizes in ((1, 17, 16, 2), (7, 15, 65, 4), (65, 64, 33, 3))
]

LAYERS = "softmax layer_norm matmul affine causal_attention softmax_cross_entropy embedding ugrnn".split()
LAYER_SIZES = [
    dict(zip("BHITUDEJKNCXYV", sizes, strict=True))
    for sizes in (
        (1, 1, 2, 3, 2, 1, 3, 17, 4, 5, 2, 7, 6, 3),
        (5, 2, 17, 19, 4, 16, 15, 33, 20, 9, 3, 8, 9, 5),
    )
]


@pytest.fixture(params=[(True, 1), (False, 2)], ids=["end", "beginning, 2 threads"])
def at_end(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether arrays lie at a guard with their last element, or with their first."""
    before = lg.get_num_threads()
    lg.set_num_threads(request.param[1])
    yield request.param[0]
    lg.set_num_threads(before)


@pytest.mark.parametrize("ends", [True, False])
def test_a_guard_kills(ends: bool) -> None:
    code = f"""
import ctypes, faulthandler
import numpy as np
from tests.backends import guarded
array = guarded.empty((3, 5), np.float32, {ends})
array[...] = 1
ctypes.memset(array.ctypes.data, 1, array.nbytes)
print("so far", flush=True)
ctypes.memset(array.ctypes.data {"+ array.nbytes" if ends else "- 1"}, 1, 1)
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode < 0
    assert done.stdout == "so far\n"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_construct_stays_inside(name: str, dtype: str, at_end: bool) -> None:
    parsed = parse(name)
    kernel = compile(parsed)
    for seed, sizes in enumerate([*SIZES, *AROUND]):
        given = inputs_of(parsed, sizes, dtype, seed)
        stays_inside(kernel, [given[i.name] for i in parsed.inputs], at_end)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_gradients_stay_inside(name: str, at_end: bool) -> None:
    layer = getattr(lg.lib, name)
    for each in (layer, layer.backward(recompute=True)):
        kernel = compile(each)
        for seed, sizes in enumerate(LAYER_SIZES):
            given = inputs_of(each, Sizes(sizes), "float32", seed)
            stays_inside(kernel, [given[i.name] for i in each.inputs], at_end)


class Sizes(dict[str, int]):
    """Extents with a prime are as large as those without."""

    def __missing__(self, name: str) -> int:
        return self[name.rstrip("'")]


def stays_inside(kernel: Any, arrays: list[np.ndarray], at_end: bool) -> None:
    """Computes the same between guards as elsewhere."""
    try:
        wanted = kernel(*arrays)
    except (IndexError, ZeroDivisionError):  # of data that is not made for these sizes
        return
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    inputs = [guarded.copy(np.asarray(a), at_end) for a in arrays]
    results = [guarded.empty(w.shape, w.dtype, at_end) for w in wanted]
    call = kernel.bind(inputs, {}, results)
    assert all(any(a is r for a in call.arrays.values()) for r in results)
    before, kernel.runner._scratch = kernel.runner._scratch, guarded.Scratch(at_end)
    try:
        kernel.runner.run(call)
    finally:
        kernel.runner._scratch = before
    for found, w in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(found, w)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("columns", [16, 48, 64])
def test_a_mask_stays_on_the_load_that_it_is_for(columns: int, dtype: str) -> None:
    """LLVM makes operands of masked loads, and takes them out again without their masks."""
    kernel = compile(
        lg.program(
            """f(x[J,K], q[J]) -> t[J,K], u[J,K]:
            for j < J, k < K, p < 2:  t[j,k] += x[j,k-2*p+2] * q[j]   if k - 2*p + 2 < K
            for j < J, k < K:  u[j,k] = x[j,k+3] * q[j] if k + 3 < K else 0.0"""
        )
    )
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(17, columns)).astype(dtype), rng.normal(size=17).astype(dtype)
    stays_inside(kernel, [x, q], True)
