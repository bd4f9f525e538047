"""Vector loops begin where memory does, and what they give hangs on no address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.fused import heads, streaming
from loopgrad.backends.llvm.writing import layout
from loopgrad.cache import files
from tests.backends import guarded
from tests.backends.test_guards import stays_inside
from tests.backends.test_llvm import PROGRAMS, inputs_of, parse

HEAD = "\npiece"  # begins the block of a loop that runs a head and what is left

MAPS = {
    "a map": """
        f(x[B,J], t[J], u[B]) -> y[B,J]:
            for b, j:  y[b,j] = x[b,j] * t[j] - u[b]
        """,
    "added to": """
        f(x[B,J], t[B,J]) -> y[B,J]:
            for b, j:  y[b,j] = x[b,j]**2 if x[b,j] > 0 else -1
            for b, j:  y[b,j] += x[b,j] * t[b,j]   if j != 2
        """,
    "two results": """
        f(x[B,J]) -> y[B,J], z[J,B]:
            for b, j:  y[b,j] = tanh(x[b,j])
            for b, j:  z[j,b] = y[b,j] * 3
        """,
    "neighbours": """
        f(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] = x[b,J-1-j] + (x[b,j+1] if j + 1 < J else 0) * (x[b,j-1] if j > 0 else 1)
        """,
    "columns": """
        f(x[B,J], t[B,J]) -> s[J], m[J]:
            for b, j:  s[j] += x[b,j] * t[b,j]
            for b, j:  m[j] max= x[b,j]
        """,
    "moments": """
        f(x[B,J]) -> y[B,J]:
            for b, j:  m[j] += x[b,j] / B
            for b, j:  v[j] += (x[b,j] - m[j])**2 / B
            for b, j:  y[b,j] = (x[b,j] - m[j]) / sqrt(v[j] + 1e-3)
        """,
    "rows and back": """
        f(x[B,J], g[B,J]) -> y[B,J], d[B,J]:
            for b, j:  m[b]   max= x[b,j]
            for b, j:  Z[b]   += exp(x[b,j] - m[b])
            for b, j:  y[b,j] = exp(x[b,j] - m[b]) / Z[b]
            for b, j:  s[b]   += y[b,j] * g[b,j]
            for b, j:  d[b,j] = y[b,j] * (g[b,j] - s[b])
        """,
}
LENGTHS = (0, 1, 3, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 70, 129)


@pytest.fixture(autouse=True)
def all_rows_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a vector, too, and no code of before."""
    monkeypatch.setattr(heads, "FEWEST", 1)
    monkeypatch.setattr(heads, "FEWEST_READ_BACK", 1)
    monkeypatch.setattr(heads, "FEWEST_SLOW", 1)
    monkeypatch.setattr(files, "folder", lambda: None)


@pytest.fixture(params=[1, 2], ids=["a thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = lg.get_num_threads()
    lg.set_num_threads(request.param)
    yield
    lg.set_num_threads(before)


def at(array: np.ndarray, offset: int) -> np.ndarray:
    """A copy so many bytes behind a line of memory; there are as many around it that nobody owns."""
    block = np.full(array.nbytes + 192, 0xFF, np.uint8)
    start = -block.ctypes.data % 64 + 64 + offset
    made = block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def untouched(array: np.ndarray) -> bool:
    """Is what lies around it as it was?"""
    block = array.base
    while block.base is not None:
        block = block.base
    first = array.ctypes.data - block.ctypes.data
    return bool((block[:first] == 0xFF).all() and (block[first + array.nbytes :] == 0xFF).all())


def as_tuple(found: Any) -> tuple[np.ndarray, ...]:
    return found if isinstance(found, tuple) else (found,)


def the_same_everywhere(kernel: Any, given: list[np.ndarray], rng: np.random.Generator) -> None:
    """To the bit, wherever arrays lie."""
    wanted = as_tuple(kernel(*(at(np.asarray(a), 0) for a in given)))
    wanted = tuple(map(np.copy, wanted))
    for trial in range(4):
        arrays = [*map(np.asarray, given), *wanted]
        offsets = [trial * 16] * len(arrays)
        if trial % 2:
            offsets = [int(rng.integers(0, 64 // a.itemsize)) * a.itemsize for a in arrays]
        placed = [at(a, offset) for a, offset in zip(arrays, offsets, strict=True)]
        inputs, results = placed[: len(given)], placed[len(given) :]
        for result in results:
            result[...] = 5
        kernel(*inputs, out=tuple(results) if len(results) > 1 else results[0])
        for found, w in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(found, w)
        assert all(map(untouched, placed))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MAPS)
def test_results_are_the_same_wherever_arrays_lie(name: str, dtype: str, threads: None) -> None:
    program = lg.program(MAPS[name])
    kernel, rng = lg.compile(program), np.random.default_rng(0)
    reference = lg.compile(program, backend="interpret")
    for length in LENGTHS:
        given = inputs_of(program, {"B": 3, "J": length}, dtype, length)
        arrays = [given[i.name] for i in program.inputs]
        the_same_everywhere(kernel, arrays, rng)
        wanted = as_tuple(reference(*(a.astype(np.float64) for a in arrays)))
        for found, w in zip(as_tuple(kernel(*arrays)), wanted, strict=True):
            np.testing.assert_allclose(
                found, w, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6
            )
    text = kernel.runner.text("float" if dtype == "float32" else "double")
    if this_machine().vector_bytes > heads.ALIKE:
        assert (HEAD in text) == (name != "columns")  # scratch memory's is most of the traffic


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_construct_gives_the_same_wherever_arrays_lie(name: str) -> None:
    parsed, rng = parse(name), np.random.default_rng(0)
    kernel = lg.compile(parsed)
    for seed, sizes in enumerate(((3, 65, 5, 4), (20, 33, 17, 3))):
        given = inputs_of(parsed, dict(zip("BJKT", sizes, strict=True)), "float32", seed)
        the_same_everywhere(kernel, [given[i.name] for i in parsed.inputs], rng)


@pytest.mark.parametrize("name", ["layer_norm", "softmax", "softmax_cross_entropy", "ugrnn"])
def test_layers_and_gradients_give_the_same_wherever_arrays_lie(name: str, threads: None) -> None:
    layer, rng = getattr(lg.lib, name), np.random.default_rng(0)
    for each in (layer, layer.backward(recompute=True)):
        kernel = lg.compile(each)
        for seed, size in enumerate((19, 70)):
            sizes = dict.fromkeys((e.name for i in each.inputs for e in i.extents), size)
            given = inputs_of(each, sizes, "float32", seed)
            the_same_everywhere(kernel, [given[i.name] for i in each.inputs], rng)


@pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", MAPS)
def test_heads_stay_inside(name: str, at_end: bool) -> None:
    """Arrays that end with a page begin anywhere."""
    program = lg.program(MAPS[name])
    kernel = lg.compile(program)
    for length in range(0, 71, 1 if at_end else 9):
        given = inputs_of(program, {"B": 2, "J": length}, "float32", length)
        stays_inside(kernel, [given[i.name] for i in program.inputs], at_end)


def test_stores_past_the_caches_behind_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LARGE", 0)
    monkeypatch.setattr(streaming, "LONG", 0)
    rng = np.random.default_rng(0)
    for name in ("a map", "rows and back"):
        program = lg.program(MAPS[name])
        kernel = lg.compile(program)
        for length in LENGTHS[1:]:
            given = inputs_of(program, {"B": 3, "J": length}, "float32", length)
            the_same_everywhere(kernel, [given[i.name] for i in program.inputs], rng)
        text = kernel.runner.text("float")
        # Of two results in a loop over a row, only as whole lines.
        assert ("!nontemporal" in text) == (name == "a map" or this_machine().vector_bytes == 64)
        assert HEAD in text


@pytest.mark.parametrize(
    "text",
    [
        # In which lane an element is added must not hang on its address.
        "f(x[B,J]) -> s[B]:\n    for b, j:  s[b] += x[b,j]",
        "f(x[B,J]) -> s[B]:\n    for b, j:  s[b] max= x[b,j]",
        "f(x[B,J], n) -> s[B], y[B,J]:\n    for b, j:  s[b] += x[b,j]   if x[b,j] > n\n    for b, j:  y[b,j] = x[b,j]",
        # It computes on a row of scratch memory, which begins at a line.
        "f(x[B,J,2], w[J], h[J]) -> y[B]:\n    for b, j:  e[b,j] = exp(x[b,j,0] - x[b,j,1])\n"
        "    for b, j:  y[b] += e[b,j] * w[j]\n    for b, j:  y[b] += e[b,j]**2 * h[j]",
    ],
)
def test_loops_without_a_head(text: str) -> None:
    assert HEAD not in lg.compile(lg.program(text)).runner.text("float")
