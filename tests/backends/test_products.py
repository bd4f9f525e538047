"""The shared product of matrices, against NumPy in float64, with guards around what it writes."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling import engine, symbols
from loopgrad.backends.llvm.compiling.doors import lead_to, with_doors
from loopgrad.backends.llvm.compiling.machine import Machine, this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, SOON
from loopgrad.backends.llvm.products.callable import (
    NAMES,
    Functions,
    callable_from,
    functions,
)
from loopgrad.backends.llvm.products.exchanged import MOST_ROWS
from loopgrad.backends.llvm.products.library import PARTS, doors_of, tiling_here, whole
from loopgrad.backends.llvm.products.modules import EMITTED, emit
from loopgrad.backends.llvm.products.narrow import few_columns
from loopgrad.backends.llvm.products.tiles import first_shapes, shapes
from loopgrad.backends.llvm.products.tiling import DEPTH, ROWS, SUFFIX, Tiling, packed_size, tiling

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


@pytest.mark.parametrize("part", ["product", "exchanged"])
@pytest.mark.parametrize("real", DTYPES)
def test_sums_stay_in_registers(real: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a full tile where there are sixteen registers: one that goes through memory with every k costs a
    quarter to a half of the speed."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("instructions are read as those of x86")
    this_machine()  # makes LLVM ready
    usual = Machine("x86-64-v3", "", True, False, 32, 16)
    monkeypatch.setattr(engine, "this_machine", lambda: usual)
    text = EMITTED[part](engine.new_module(real), tiling(real, 32, 16), False)
    blocks = re.split(r"^[\w.]+:", engine.assembly(text, FINAL), flags=re.MULTILINE)
    loops = [block for block in blocks if block.count("vfmadd") == 4 * ROWS * 2]
    assert loops  # four values of k, each of six rows and two vectors
    through_memory = re.compile(r"\(%rsp\).*%ymm|%ymm.*\(%rsp\)")  # addresses may be kept there
    assert not [line for block in loops for line in through_memory.findall(block)]


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
        m, n, half, a.ctypes.data, *strides(a), packed.ctypes.data, 0, k, n, 0,
        wide.ctypes.data, n + 3, scale, mode > 0,
    )  # fmt: skip
    if half < k:
        rest = a[:, half:]
        made.product(
            m, n, k - half, rest.ctypes.data, *strides(a), packed.ctypes.data, half, k, n, 0,
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


@pytest.mark.parametrize("real", DTYPES)
def test_rows_longer_than_are_read_at_a_time(real):
    """Of a left side that lies in equal parts, of one that is packed in parts of `DEPTH`."""
    made = functions(real)
    tile, few = made.tiling, few_columns(made.tiling)
    columns = (1, few, tile.lanes + 1, tile.width, tile.width + few)
    depths = (2 * tile.deepest, 2 * tile.deepest + 3)
    for i, (m, n, k) in enumerate(product((1, ROWS - 2, ROWS + 3), columns, depths)):
        for order in ("C", "F"):
            check(made, m, n, k, (order, "C"), i % 3, real, seed=i)


@pytest.mark.parametrize("subscripts", ["n,k", "k,n"])
def test_long_sums_in_programs(subscripts):
    """Parts of k that are packed at a time, some columns at a time, on each of two threads."""
    parsed = lg.program(
        f"f(x[{subscripts.upper()}], w[K,J]) -> y[N,J]:\n"
        f"    for n, k, j:  y[n,j] += x[{subscripts}] * w[k,j]"
    )
    kernel, rng, before = lg.compile(parsed), np.random.default_rng(0), lg.get_num_threads()
    try:
        for threads, (n, k, j) in product((1, 2), ((7, 1024, 300), (9, 1025, 70), (13, 2051, 5))):
            lg.set_num_threads(threads)
            x, w = rng.normal(size=(n, k)).astype("f"), rng.normal(size=(k, j)).astype("f")
            found = kernel(x if subscripts == "n,k" else x.T.copy(), w)
            np.testing.assert_allclose(found, x.astype(float) @ w, atol=2e-3)
    finally:
        lg.set_num_threads(before)


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
            m, some, k, a.ctypes.data, *strides(a), packed.ctypes.data, 0, k, n, 0,
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


def test_parts_that_are_compiled_soon_have_few_tiles():
    tile = tiling_here("float")
    for part, write in EMITTED.items():
        few, every = (write(engine.new_module("float"), tile, few) for few in (True, False))
        tiles = [
            len(re.findall(r"^define .*@(?:tile|direct|turned)_", t, re.M)) for t in (few, every)
        ]
        assert tiles[0] < tiles[1] or tiles == [0, 0], part
    assert set(first_shapes(tile)) < set(shapes(tile))


@pytest.fixture(scope="module", params=DTYPES)
def soon(request) -> tuple[str, Functions]:
    """The products as they are at first."""
    real, found = request.param, {}
    for part in PARTS:
        doors = doors_of(real, part)
        text = EMITTED[part](engine.new_module(real), tiling_here(real), True)
        text = with_doors(text, doors, engine.new_module(real).opaque_pointers)
        loaded = engine.load(text, SOON)
        KEPT.append(loaded)
        found |= {name: loaded.address(name) for name in doors.names}
    addresses = [found[f"loopgrad_{name}_{SUFFIX[real]}"] for name in NAMES]
    return real, callable_from(real, tiling_here(real), *addresses)


def test_a_result_does_not_tell_whether_all_tiles_were_there(soon):
    """Bit for bit."""
    real, made = soon
    tile, dtype, rng = tiling_here(real), DTYPES[real], np.random.default_rng(4)
    every = functions(real)
    for m, n, k in product(
        (1, 3, 5, 7, 20), (1, tile.lanes, tile.width - 1, tile.width + 3), (1, 70)
    ):
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
        for mode, order in ((0, "C"), (2, "C"), (0, "F")):
            a = np.asarray(a, order=order)
            c = rng.standard_normal((m, n)).astype(dtype)
            assert (run(made, a, b, c, mode) == run(every, a, b, c, mode)).all(), (m, n, k)


def test_products_at_are_the_same_by_few_tiles(soon):
    real, made = soon
    dtype, rng, every = DTYPES[real], np.random.default_rng(5), functions(real)
    lanes = made.tiling.lanes
    for m, runs, run_length, k in product((1, 3, 8, 13), (1, 5), (1, lanes, lanes + 3), (1, 300)):
        a = rng.standard_normal((m, k)).astype(dtype)
        b = rng.standard_normal(4000).astype(dtype)
        at_k = rng.integers(0, 1000, k)
        pieces = [(r, v) for r in range(runs) for v in range(0, run_length, lanes)]
        starts = np.array([100 * r + v for r, v in pieces])
        targets = np.array([run_length * r + v for r, v in pieces])
        found = []
        for each in (made, every):
            c, around = guarded((m, runs * run_length), dtype)
            c[:] = 0.5
            each.product_at(
                m, len(pieces), k, a.ctypes.data, *strides(a), b.ctypes.data, at_k.ctypes.data,
                starts.ctypes.data, targets.ctypes.data, run_length, c.ctypes.data,
                runs * run_length, -1.0, True,
            )  # fmt: skip
            found.append(around)
        assert (found[0] == found[1]).all()


def test_packing_anywhere_is_the_same_in_code_for_a_while(soon):
    real, made = soon
    dtype, rng, every = DTYPES[real], np.random.default_rng(6), functions(real)
    b = rng.standard_normal(3000).astype(dtype)
    for k, n, apart in product((1, 7, 40), (1, 5, 70), (1, 2, 9)):
        at_k, at_n = np.arange(k) * apart, rng.integers(0, 2000, n)
        found = []
        for each in (made, every):
            packed, around = guarded((packed_size(k, n, made.tiling.lanes),), dtype)
            given = (at_k.ctypes.data, at_n.ctypes.data, packed.ctypes.data)
            each.pack_at(k, n, b.ctypes.data, *given)
            assert (around[:GUARD] == CANARY).all() and (around[-GUARD:] == CANARY).all()
            found.append(unpacked(made.tiling, packed, k, n))
        assert (found[0] == found[1]).all()


@pytest.mark.parametrize("bk_is_one", [False, True])
def test_packing_is_the_same_in_code_for_a_while(soon, bk_is_one):
    real, made = soon
    dtype, rng, tile = DTYPES[real], np.random.default_rng(8), made.tiling
    for k, n in product((1, tile.group, 41), (1, tile.lanes, tile.width, 2 * tile.width + 5)):
        b = rng.standard_normal((n, k) if bk_is_one else (k, n)).astype(dtype)
        b = b.T if bk_is_one else b
        packed, around = guarded((packed_size(k, n, tile.lanes),), dtype)
        made.pack(k, n, b.ctypes.data, *strides(b), packed.ctypes.data, 0, k)
        assert (around[:GUARD] == CANARY).all() and (around[-GUARD:] == CANARY).all()
        assert (unpacked(tile, packed, k, n) == b).all()


def test_turned_sums_are_the_same_by_few_tiles(soon):
    real, made = soon
    dtype, rng, every = DTYPES[real], np.random.default_rng(7), functions(real)
    lanes = made.tiling.lanes
    counts = product((1, lanes, 3 * lanes + 2), (*range(1, 9), 13, 20), (1, 50), (False, True))
    for m, n, k, adds in counts:
        a = rng.standard_normal((m, k)).astype(dtype)
        a[-1] = 0  # the sign of a zero tells, too
        memory = rng.standard_normal(1800).astype(dtype)
        at_n, at_k = rng.integers(0, 900, n), rng.integers(0, 900, k)
        packed, _ = guarded((packed_size(k, m, lanes),), dtype)
        every.pack(k, m, a.ctypes.data, *strides(a)[::-1], packed.ctypes.data, 0, k)
        filled = -(-m // lanes) * lanes
        found = []
        for each in (made, every):
            turned, around = guarded((max(n + MOST_ROWS, -(-n // lanes) * lanes), filled), dtype)
            each.product_turned(
                m, n, k, packed.ctypes.data, 0, k, memory.ctypes.data, at_k.ctypes.data, None,
                at_n.ctypes.data, None, turned.ctypes.data, filled, False,
            )  # fmt: skip
            c, around_c = guarded((m, n), dtype)
            c[:] = 0.3
            each.put_turned(m, n, turned.ctypes.data, filled, c.ctypes.data, n, -0.5, adds)
            assert (around[:GUARD] == CANARY).all() and (around[-GUARD:] == CANARY).all()
            found.append(around_c.tobytes())
        assert found[0] == found[1]


def test_a_program_that_was_linked_soon_runs_the_better_code_later():
    """Its door leads there."""
    doors = doors_of("float", "bordered")
    text = EMITTED["bordered"](engine.new_module("float"), tiling_here("float"), True)
    text = with_doors(text, doors, engine.new_module("float").opaque_pointers)
    loaded = engine.load(text, SOON)
    KEPT.append(loaded)
    found = {name: loaded.address(name) for name in doors.defined}
    called = []
    better = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)(lambda *given: called.append(given))
    (name,) = doors.names
    door = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)(found[name])
    lead_to(doors, found, {name: ctypes.cast(better, ctypes.c_void_p).value})
    door(1, 2, 3, 4, 5, 6)
    assert called == [(1, 2, 3, 4, 5, 6)]


CHILD = """
import ctypes, numpy as np, loopgrad as lg
lg.set_num_threads(2)
product = lg.program("f(A[I,K], B[K,J]) -> C[I,J]:\\n    C[i,j] += A[i,k] * B[k,j]")
a, b = np.ones((9, 70), np.float32), np.ones((70, 37), np.float32)
assert (product(a, b) == 70).all()
from loopgrad.backends.llvm.compiling.later import LATER
with LATER:
    pass  # all is there
from loopgrad.backends.llvm.products import library
doors = library.doors_of("float", "product")
cells = ctypes.CFUNCTYPE(ctypes.c_void_p)(library.soon("float", "product")[doors.cells])()
kept = library.whole("float", "product")
leads = list((ctypes.c_void_p * len(kept)).from_address(cells))
assert leads == list(kept.values())
assert (product(a, b) == 70).all()
"""


def test_better_code_is_made_behind_the_first_call(tmp_path):
    environment = {**os.environ, "LOOPGRAD_CACHE_DIR": str(tmp_path), "LOOPGRAD_CACHE": "1"}
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


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
    assert set(whole("float", "product")).isdisjoint(whole("float", "scattered"))
    assert len({parts["pack_at"], parts["product_turned"], parts["pack"]}) == 3
