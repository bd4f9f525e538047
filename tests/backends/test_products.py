"""The shared product of matrices, against NumPy in float64, with guards around what it writes."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from loopgrad.backends.llvm.compiling import engine, symbols
from loopgrad.backends.llvm.compiling.later import LATER
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL
from loopgrad.backends.llvm.products.callable import (
    NAMES,
    Functions,
    _product,
    callable_from,
    functions,
)
from loopgrad.backends.llvm.products.library import provide, tiling_here
from loopgrad.backends.llvm.products.modules import emit, emit_edges, emit_product_and_pack
from loopgrad.backends.llvm.products.narrow import few_columns
from loopgrad.backends.llvm.products.tiles import first_shapes, shapes
from loopgrad.backends.llvm.products.tiling import DEPTH, SUFFIX, Tiling, packed_size, tiling

DTYPES = {"float": np.float32, "double": np.float64}
GUARD = 64  # elements on each side of what is written
CANARY = 12345.0
KEPT: list[engine.Loaded] = []


def narrow(real: str, vector_bytes: int, registers: int) -> Functions:
    """The products for a lesser processor; not known to LLVM by name."""
    tile = tiling(real, vector_bytes, registers)
    loaded = engine.load(emit(engine.new_module(real), tile), FINAL)
    found = [loaded.address(f"loopgrad_{name}_{SUFFIX[real]}") for name in NAMES]
    KEPT.append(loaded)
    return callable_from(real, tile, *found)


def strided(rng, rows, columns, order, dtype):
    """A matrix whose elements stand by rows, by columns, or apart from each other."""
    if order == "apart":
        return rng.standard_normal((rows, 2, columns, 3)).astype(dtype)[:, 1, :, 2]
    return np.asarray(rng.standard_normal((rows, columns)), dtype, order=order)


def guarded(shape, dtype):
    """An array of its own memory with canaries around it, and that memory."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, CANARY, dtype)
    return memory[GUARD : GUARD + size].reshape(shape), memory


def strides(a):
    return tuple(s // a.itemsize for s in a.strides)


def run(made: Functions, a, b, c_before, mode):
    """`c_before` after the product, and whether canaries, beside columns of C too, still sing."""
    (m, k), n, dtype = a.shape, b.shape[1], a.dtype
    packed, around = guarded((packed_size(k, n, made.tiling.lanes),), dtype)
    half = k // 2
    for first, part in ((0, b[:half]), (half, b[half:])):
        made.pack(len(part), n, part.ctypes.data, *strides(b), packed.ctypes.data, first, k)
    wide, memory = guarded((m, n + 3), dtype)
    wide[:, :n] = c_before
    scale = -1.0 if mode == 2 else 1.0
    made.product(
        m, n, half, a.ctypes.data, *strides(a), packed.ctypes.data, 0, k, n,
        wide.ctypes.data, n + 3, scale, mode > 0,
    )  # fmt: skip
    if half < k:
        rest = a[:, half:]
        made.product(
            m, n, k - half, rest.ctypes.data, *strides(a), packed.ctypes.data, half, k, n,
            wide.ctypes.data, n + 3, scale, True,
        )  # fmt: skip
    for line in (around, memory):
        assert (line[:GUARD] == CANARY).all() and (line[len(line) - GUARD :] == CANARY).all()
    assert (wide[:, n:] == CANARY).all()
    return wide[:, :n]


def check(made: Functions, m, n, k, orders, mode, real, seed=0):
    rng, dtype = np.random.default_rng(seed), DTYPES[real]
    a, b = strided(rng, m, k, orders[0], dtype), strided(rng, k, n, orders[1], dtype)
    c = rng.standard_normal((m, n)).astype(dtype)
    if mode == 0:
        c[...] = np.nan  # what is stored must not look at what was there
    exact = a.astype(float) @ b.astype(float)
    size = np.abs(a).astype(float) @ np.abs(b).astype(float)
    with np.errstate(invalid="ignore"):
        wanted = {0: exact, 1: c + exact, 2: c - exact}[mode]
    got = run(made, a, b, c, mode)
    bound = 4 * np.finfo(dtype).eps * (size + (mode > 0) * np.abs(np.nan_to_num(c)) + 1e-30)
    assert (np.abs(got - wanted) <= bound * max(1, k) ** 0.5).all(), (m, n, k, orders, mode)


def around_tiles(tile: Tiling):
    """Sizes on both sides of every boundary."""
    lanes, width = tile.lanes, tile.width
    rows = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, tile.rows_packed + 1)
    columns = (0, 1, lanes - 1, lanes, lanes + 1, 3 * lanes, width - 1, width, width + 1, 2 * width)
    return rows, columns, (0, 1, 2, lanes - 1, lanes, lanes + 1, DEPTH, 2 * DEPTH + 3)


ORDERS = list(product(("C", "F", "apart"), repeat=2))


@pytest.mark.parametrize("real", DTYPES)
def test_sizes_around_tiles(real):
    made = functions(real)
    rows, columns, depths = around_tiles(made.tiling)
    for i, (m, n, k) in enumerate(product(rows, columns, depths)):
        check(made, m, n, k, ORDERS[i % len(ORDERS)], i // len(ORDERS) % 3, real, seed=i)


@pytest.mark.parametrize("real", DTYPES)
def test_few_columns_behind_the_last_whole_vector(real):
    """Lanes run over k, or over rows, where there are enough of them: sizes on both sides of that."""
    made = functions(real)
    lanes, few = made.tiling.lanes, few_columns(made.tiling)
    rows = (5, 6, 7, lanes - 1, lanes, lanes + 1, 4 * lanes + 1, made.tiling.rows_packed + lanes)
    columns = (*range(1, 2 * few + 2), lanes + 1, lanes + few, lanes + few + 1, 4 * lanes + few)
    depths = (2 * lanes - 1, 2 * lanes, 2 * lanes + 3, DEPTH + 1, 2 * DEPTH + 5 * lanes)
    for i, (m, n, k) in enumerate(product(rows, columns, depths)):
        check(made, m, n, k, ORDERS[i % len(ORDERS)], i // len(ORDERS) % 3, real, seed=i)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("real", DTYPES)
def test_what_is_not_finite_stays_in_its_row_where_columns_are_few(real, order):
    made, rng = functions(real), np.random.default_rng(1)
    a, b = (rng.standard_normal(s).astype(DTYPES[real]) for s in ((37, 45), (45, 18)))
    a[2, 44], a[36, 0], b[7, 17] = np.inf, np.nan, -np.inf
    got = run(made, np.asarray(a, order=order), b, np.zeros((37, 18)), 0)
    with np.errstate(invalid="ignore"):
        wanted = a.astype(float) @ b.astype(float)
    assert (np.isnan(got) == np.isnan(wanted)).all()
    assert (np.isfinite(got) == np.isfinite(wanted)).all()


@pytest.mark.parametrize("real", DTYPES)
def test_every_layout_and_mode(real):
    for orders, mode in product(ORDERS, (0, 1, 2)):
        for m, n, k in ((7, 70, 19), (40, 33, 300), (1, 1, 1)):
            check(functions(real), m, n, k, orders, mode, real)


@pytest.mark.parametrize(("vector_bytes", "registers"), [(16, 16), (16, 32), (32, 16)])
@pytest.mark.parametrize("real", DTYPES)
def test_lesser_processors(real, vector_bytes, registers):
    """Their vectors are run by this one too."""
    if this_machine().vector_bytes < vector_bytes:
        pytest.skip("this processor has no such vectors")
    made = narrow(real, vector_bytes, registers)
    rows, columns, depths = around_tiles(made.tiling)
    for i, (m, n, k) in enumerate(product(rows[1::2], columns[1::2], depths[::3])):
        check(made, m, n, k, ORDERS[i % len(ORDERS)], i % 3, real, seed=i)


@pytest.mark.parametrize("real", DTYPES)
@pytest.mark.parametrize("run", [1, 2, 5, 16, 17, 28, 100])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize(
    ("deep", "apart"), [(1, 1), (3, 1), (4, 2), (7, 1), (16, 2), (40, 1), (40, 2), (9, 3)]
)
def test_packing_from_anywhere(real, run, step, deep, apart):
    """Columns in runs whose elements have one distance in memory, at any distance; rows in such runs."""
    made, dtype, rng = functions(real), DTYPES[real], np.random.default_rng(run)
    for n, k in ((1, 1), (16, 3), (100, 7), (131, 43), (64, 0), (0, 5)):
        at_n = step * np.arange(n) + 3 * (np.arange(n) // run)
        at_k = rng.integers(0, 3000, k)[np.arange(k) // deep] + apart * (np.arange(k) % deep)
        last = int(at_n.max(initial=0) + at_k.max(initial=0))
        memory = rng.standard_normal(last + 1).astype(dtype)
        packed, around = guarded((packed_size(k, n, made.tiling.lanes),), dtype)
        tables = (np.ascontiguousarray(t, np.int64) for t in (at_k, at_n))
        at_k, at_n = tables
        made.pack_at(
            k, n, memory.ctypes.data, at_k.ctypes.data, at_n.ctypes.data, packed.ctypes.data
        )
        wanted = memory[at_k[:, None] + at_n[None, :]]
        assert (unpacked(made.tiling, packed, k, n) == wanted).all()
        assert (around[:GUARD] == CANARY).all() and (around[len(around) - GUARD :] == CANARY).all()


@pytest.mark.parametrize("depth", [9, 41])
@pytest.mark.parametrize("real", DTYPES)
def test_the_first_columns_of_what_is_packed(real, depth):
    made, dtype, rng = functions(real), DTYPES[real], np.random.default_rng(2)
    n, k, m = 150, depth, 7
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
    packed, _ = guarded((packed_size(k, n, made.tiling.lanes),), dtype)
    made.pack(k, n, b.ctypes.data, *strides(b), packed.ctypes.data, 0, k)
    for some in (1, 16, 40, 64, 65, 66, 129, 149, 150):
        c, memory = guarded((m, some), dtype)
        made.product(
            m, some, k, a.ctypes.data, *strides(a), packed.ctypes.data, 0, k, n,
            c.ctypes.data, some, 1.0, False,
        )  # fmt: skip
        np.testing.assert_allclose(c, a @ b[:, :some], rtol=1e-4, atol=1e-5)
        assert (memory[:GUARD] == CANARY).all() and (memory[len(memory) - GUARD :] == CANARY).all()


def unpacked(tile, packed, k, n):
    """B[k,n] of its panels."""
    columns = []
    for first in range(0, n, tile.width):
        count = min(tile.width, n - first)
        wide = -(-count // tile.lanes) * tile.lanes
        panel = packed[first * k : first * k + wide * k].reshape(k, wide)
        columns.append(panel[:, :count])
    return np.concatenate(columns, 1) if columns else np.empty((k, 0))


@pytest.mark.parametrize("real", DTYPES)
def test_what_is_not_finite_stays_in_its_row_and_column(real):
    """Beyond the last column, infinity times a filler of 0 must not reach C."""
    made, rng = functions(real), np.random.default_rng(1)
    a, b = (rng.standard_normal(s).astype(DTYPES[real]) for s in ((9, 21), (21, 37)))
    a[2, 3], a[5, 20], b[7, 30] = np.inf, np.nan, -np.inf
    got = run(made, a, b, np.zeros((9, 37)), 0)
    with np.errstate(invalid="ignore"):
        wanted = a.astype(float) @ b.astype(float)
    assert (np.isnan(got) == np.isnan(wanted)).all()
    assert (np.isfinite(got) == np.isfinite(wanted)).all()


@pytest.mark.parametrize("real", DTYPES)
def test_a_result_does_not_tell_whether_all_tiles_were_there(real):
    """Bit for bit; and they all come into the table."""
    tile, dtype, rng = tiling_here(real), DTYPES[real], np.random.default_rng(4)
    first = engine.load(emit_product_and_pack(engine.new_module(real), tile), FINAL)
    others = engine.load(emit_edges(engine.new_module(real), tile), FINAL)
    address = first.address(f"loopgrad_product_{SUFFIX[real]}")
    every = functions(real)
    with LATER:
        pass  # now it has them
    made = replace(every, product=_product(real)(address))
    where = ctypes.CFUNCTYPE(ctypes.c_void_p)(first.address(f"loopgrad_tiles_{SUFFIX[real]}"))()
    table = (ctypes.c_void_p * len(shapes(tile))).from_address(where)
    before = list(table)
    assert len(set(before)) == len(first_shapes(tile)) + 1
    for m, n, k in product(
        (1, 3, 5, 7, 20), (1, tile.lanes, tile.width - 1, tile.width + 3), (1, 70)
    ):
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
        for mode in (0, 2):
            c = rng.standard_normal((m, n)).astype(dtype)
            assert (run(made, a, b, c, mode) == run(every, a, b, c, mode)).all(), (m, n, k)
    put = others.address(f"loopgrad_edges_{SUFFIX[real]}")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(put)(where)
    assert len(set(table)) == len(table)
    kept = {s for s, a, b in zip(shapes(tile), before, table, strict=True) if a == b}
    assert kept == set(first_shapes(tile))


def test_modules_that_declare_it_get_it():
    module = engine.new_module("float")
    pointer = module.pointer("float")
    module.declare(
        f"declare void @loopgrad_pack_f32(i64, i64, {pointer}, i64, i64, {pointer}, i64, i64)"
    )
    arguments = f"i64 0, i64 0, {pointer} null, i64 0, i64 0, {pointer} null, i64 0, i64 0"
    call = f"call void @loopgrad_pack_f32({arguments})"
    text = f"{module.text()}\ndefine void @packs_nothing() {{ {call} ret void }}"
    text = text.replace("ret void }", "\n ret void\n}")
    loaded = engine.load(text)
    ctypes.CFUNCTYPE(None)(loaded.address("packs_nothing"))()


def test_packing_what_lies_anywhere_is_compiled_where_it_is_called() -> None:
    parts = {name: symbols.PROVIDERS[f"loopgrad_{name}_f32"] for name in NAMES}
    assert parts["pack"] == parts["product"] != parts["pack_at"]
    assert set(provide("float", "product")).isdisjoint(provide("float", "scattered"))
    assert len({parts["pack_at"], parts["product_turned"], parts["pack"]}) == 3
