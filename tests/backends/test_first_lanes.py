"""Stores of the first lanes of a vector, in pieces: so many elements, and no other."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.writing.pieces import store_first
from loopgrad.backends.llvm.writing.text import Body, vector
from tests.backends.guarded import empty

KINDS = {"float": np.float32, "double": np.float64, "i64": np.int64, "i8": np.int8}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("at_end", [False, True])
def test_no_element_more(kind: str, lanes: int, at_end: bool) -> None:
    """The array begins, or ends, with a page."""
    dtype = np.dtype(KINDS[kind])
    module = engine.new_module("double")
    pointer = module.pointer(kind)
    head = f"void @first({pointer} %from, {pointer} %to, i64 %count)"
    body, full = Body(module, "first", head), vector(kind, lanes)
    source = "%from"
    if not module.opaque_pointers:
        source = body.value(f"bitcast {pointer} %from to {full}*")
    place = f"{module.pointer(full)} {source}"
    value = body.value(f"load {full}, {place}, align {dtype.itemsize}")
    store_first(body, kind, dtype.itemsize, "%to", value, lanes, "%count")
    body.do("ret void")
    body.finish()
    loaded = engine.load(module.text())
    kinds = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
    first = ctypes.CFUNCTYPE(None, *kinds)(loaded.address("first"))
    given = np.arange(1, lanes + 1).astype(dtype)
    for count in range(lanes + 1):
        found = empty((count,), dtype, at_end=at_end)
        first(given.ctypes.data, found.ctypes.data, count)
        assert found.tolist() == given[:count].tolist()
    more = np.zeros(lanes + 1, dtype)
    first(given.ctypes.data, more.ctypes.data, lanes + 5)
    assert more.tolist() == [*given.tolist(), 0]


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_processors_have_them_that_have_no_quick_masks(
    vector_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = this_machine()
    if here.vector_bytes < vector_bytes:
        pytest.skip("this processor has no such vectors")
    lesser = replace(here, wide_vectors=vector_bytes == 64, vector_bytes=vector_bytes)
    monkeypatch.setattr(engine, "this_machine", lambda: lesser)
    kernel = lg.compile(lg.program("f(x[B,J], w[J]) -> y[B,J]:\n    y[b,j] = x[b,j] * w[j]"))
    assert ("llvm.masked.store" in kernel.runner.text("float")) == (vector_bytes == 64)
    for columns in range(40):
        x, w = np.ones((3, columns), np.float32), np.arange(columns, dtype=np.float32)
        np.testing.assert_array_equal(kernel(x, w), x * w)


PAIRS = """f(x[N], w[N]) -> y[2*N]:
    for n:  y[2*n] = x[n] if w[n] > 0
    for n:  y[2*n+1] = -x[n] if w[n] > 1"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_side_by_side_of_the_first_lanes_or_of_any(dtype: type) -> None:
    """Some first ones, those of a last vector, every second, and none."""
    program = lg.program(PAIRS.replace(" if", "   if"))
    assert "ctpop" in lg.compile(program).runner.text("float") or this_machine().vector_bytes == 64
    literal, rng = lg.compile(program, optimize=False), np.random.default_rng(3)
    for length in (1, 3, 8, 11, 16, 21):
        x = rng.normal(size=length).astype(dtype)
        for first in range(length + 1):
            prefix = np.where(np.arange(length) < first, 2.0, 0.0).astype(dtype)
            one_more = np.where(np.arange(length) == first, 1.0, prefix).astype(dtype)
            for w in (prefix, one_more, 2 - prefix, rng.integers(0, 3, length).astype(dtype)):
                assert np.array_equal(program(x, w), literal(x, w))
