"""Products with their sides exchanged, against NumPy in float64; and convolutions by either way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.products import exchanging, weighing
from loopgrad.backends.llvm.products.callable import Functions, functions
from loopgrad.backends.llvm.products.exchanged import MOST_ROWS
from loopgrad.backends.llvm.products.tiling import packed_size
from loopgrad.schedule.tree import Product, steps
from tests.backends.test_products import CANARY, DTYPES, GUARD, guarded, narrow, strides
from tests.literal import literally


def check(made: Functions, m: int, n: int, k: int, real: str, mode: int, seed: int) -> None:
    """mode: 0 to store, 1 to add, 2 to take away."""
    rng, dtype, lanes = np.random.default_rng(seed), DTYPES[real], made.tiling.lanes
    a = rng.standard_normal((m, k)).astype(dtype)
    at_n, at_k = rng.integers(0, 900, n), rng.integers(0, 900, k)
    memory = rng.standard_normal(1800).astype(dtype)
    b = memory[at_k[:, None] + at_n[None, :]]
    packed, _ = guarded((packed_size(k, m, lanes),), dtype)
    made.pack(k, m, a.ctypes.data, *strides(a)[::-1], packed.ctypes.data, 0, k)
    filled = -(-m // lanes) * lanes
    room = max(n + MOST_ROWS - 1, -(-n // lanes) * lanes)
    turned, around = guarded((room, filled), dtype)
    half = k // 3
    for first, some in ((0, half), (half, k - half)) if half else ((0, k),):
        made.product_turned(
            m, n, some, packed.ctypes.data, first, k, memory.ctypes.data,
            np.ascontiguousarray(at_k[first:]).ctypes.data, None, at_n.ctypes.data, None,
            turned.ctypes.data, filled, first > 0,
        )  # fmt: skip
    wide, memory_c = guarded((m, n + 3), dtype)
    wide[:, :n] = before = np.full((m, n), np.nan) if mode == 0 else rng.standard_normal((m, n))
    scale = -1.0 if mode == 2 else 1.0
    made.put_turned(
        m, n, turned.ctypes.data, filled, wide.ctypes.data, n + 3, scale, mode > 0
    )  # fmt: skip
    exact = scale * (a.astype(float) @ b.astype(float))
    wanted = exact if mode == 0 else before + exact
    size = np.abs(a).astype(float) @ np.abs(b).astype(float) + 3
    assert (np.abs(wide[:, :n] - wanted) <= 4 * np.finfo(dtype).eps * size * max(k, 1) ** 0.5).all()
    assert (wide[:, n:] == CANARY).all()
    for line in (around, memory_c):
        assert (line[:GUARD] == CANARY).all() and (line[len(line) - GUARD :] == CANARY).all()


@pytest.mark.parametrize("real", DTYPES)
def test_sizes_around_tiles(real: str) -> None:
    made = functions(real)
    lanes, width = made.tiling.lanes, made.tiling.width
    rows = (1, lanes - 1, lanes, 2 * lanes + 1, 3 * lanes, width - 1, width, width + 1, 2 * width)
    columns = (*range(1, 15), lanes - 1, lanes, lanes + 1, 49)
    for i, (m, n, k) in enumerate(product(rows, columns, (0, 1, 7, 50))):
        check(made, m, n, k, real, i % 3, seed=i)


@pytest.mark.parametrize(("vector_bytes", "registers"), [(16, 16), (16, 32), (32, 16)])
@pytest.mark.parametrize("real", DTYPES)
def test_lesser_processors(real: str, vector_bytes: int, registers: int) -> None:
    if this_machine().vector_bytes < vector_bytes:
        pytest.skip("this processor has no such vectors")
    made = narrow(real, vector_bytes, registers)
    for i, (m, n, k) in enumerate(product((3, 8, 21, 33), (1, 5, 7, 20), (1, 9))):
        check(made, m, n, k, real, i % 3, seed=i)


# What turning a sum counts for, and reading a right side where it lies, to have each.
WAYS = {"exchanged": (-(10**6), 17), "packed": (10**9, 10**6), "lying": (10**9, -(10**6))}

SIZES = [  # B, C, X, Y, O, taps, and constants
    (2, 3, 7, 9, 5, (3, 3), {"padding": 1}),
    (3, 17, 6, 5, 33, (3, 2), {"stride": 2}),
    (1, 2, 31, 45, 70, (3, 3), {"padding": 1}),
    (2, 70, 4, 4, 300, (3, 3), {"padding": 1}),
    (2, 1, 40, 30, 1, (1, 7), {"stride": 2}),
    (0, 3, 7, 9, 5, (3, 3), {"padding": 1}),
    (2, 0, 7, 9, 5, (3, 3), {"padding": 1}),
]


@pytest.mark.parametrize(
    ("way", "dtype"),
    [
        ("exchanged", "float32"),
        ("exchanged", "float64"),
        ("packed", "float32"),
        ("lying", "float32"),
        ("lying", "float64"),
    ],
)
def test_convolutions_either_way(way: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are those of the literal loops, in float64."""
    monkeypatch.setattr(weighing, "TURNED", WAYS[way][0])
    monkeypatch.setattr(weighing, "LYING", WAYS[way][1])
    program = replace(lg.lib.conv2d)  # with nothing kept of other tests
    backward = program.backward(batch=False)
    runs = lg.compile(program), lg.compile(backward)
    literal = literally(program), literally(backward)
    for seed, (B, C, X, Y, O, taps, given) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        x, k, c = (rng.normal(size=s) for s in ((B, C, X, Y), (O, C, *taps), (O,)))
        wanted = literal[0](x, k, c, **given)
        g = rng.normal(size=wanted.shape)
        gradients = literal[1](x, k, g, **given)
        some = [a.astype(dtype) for a in (x, k, c, g)]
        found = runs[0](*some[:3], **given), *runs[1](*some[:2], some[3], **given)
        for mine, right in zip(found, (wanted, *gradients), strict=True):
            bound = 2e-6 if dtype == "float32" else 1e-14
            largest = np.abs(right).max(initial=1e-30)
            np.testing.assert_allclose(mine, right, rtol=0, atol=bound * 10 * largest)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_finite_stays_where_it_belongs(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a tile that stand for others, and columns behind the last, reach no sum."""
    monkeypatch.setattr(weighing, "TURNED", WAYS[way][0])
    monkeypatch.setattr(weighing, "LYING", WAYS[way][1])
    program = replace(lg.lib.conv2d)
    rng = np.random.default_rng(3)
    x, k = rng.normal(size=(2, 3, 7, 7)), rng.normal(size=(19, 3, 3, 3))
    x[1, 2, 6, 6], k[18, 0, 0, 0] = np.nan, np.inf
    given = x, k, np.zeros(19)
    with np.errstate(invalid="ignore"):
        wanted = literally(program)(*given)
    np.testing.assert_allclose(lg.compile(program)(*given), wanted, rtol=1e-12, atol=1e-12)


def test_a_left_side_is_kept_where_no_loop_around_changes_it() -> None:
    """The kernel of a convolution over a batch; not what is computed for each example."""
    from loopgrad.analysis.infer import infer
    from loopgrad.analysis.validity import validate
    from loopgrad.schedule.default import optimized
    from loopgrad.schedule.tree import Fused

    plain = "f(x[B,C,X], k[O,C,P]) -> y[B,O,X-P+1]:\n    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p]"
    own = "f(x[B,C,X], k[B,O,C,P]) -> y[B,O,X-P+1]:\n    for b, o, n, i, p:  y[b,o,n] += k[b,o,i,p] * x[b,i,n+p]"
    for text, kept in ((plain, True), (own, False)):
        program = lg.program(text)
        (phase,) = optimized(infer(program), validate(program)).phases
        assert isinstance(phase, Fused)
        (found,) = (s for s in steps(phase.body) if isinstance(s, Product))
        assert (id(found) in exchanging.kept_sides(phase.body)) is kept
