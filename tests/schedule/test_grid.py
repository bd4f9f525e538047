"""Grids of threads: rows times columns times parts of the sum, of products that phases are nothing else than."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.kernel import BoundCall
from loopgrad.backends.llvm.compiling import engine, generating, objects
from loopgrad.backends.llvm.fused import grid, phase
from loopgrad.cache import files
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.threads import grid as cuts
from tests.schedule import walking

# A sum over a batch, as of the gradients of weights; one that adds to what is there; two into targets of
# their own; one over windows.
WEIGHTS = """
weights(a[B,J], x[B,I]) -> W[J,I]:
    for b, j, i:  W[j,i] += a[b,j] * x[b,i]
"""
MINUS = WEIGHTS.replace("+=", "-=")
TWO = """
two(a[B,J], c[B,J], x[B,I]) -> W[J,I], V[J,I]:
    for b, j, i:  W[j,i] += a[b,j] * x[b,i]
    for b, j, i:  V[j,i] += c[b,j] * x[b,i]
"""
TAPS = """
taps(g[B,O,N], x[B,C,N+4]) -> k[O,C,5]:
    for b, o, n, i, p < 5:  k[o,i,p] += g[b,o,n] * x[b,i,n+p]
"""
TEXTS = {"weights": WEIGHTS, "minus": MINUS, "two": TWO, "taps": TAPS}


def test_shown() -> None:
    program = lg.program(WEIGHTS)
    assert show(optimized(infer(program), validate(program))).splitlines() == [
        "for j < J in blocks parallel as rows:",
        "    for i < I in blocks parallel as columns:",
        "        for b < B in blocks parallel as sums:",
        "            product:  W[j,i] = a[b,j] * x[b,i]",
        "  # W[J if J * I <= 262144 and B >= 1024 else 0,I] a copy for each part of the sums but the first",
    ]


def given(
    name: str, rng: np.random.Generator, sizes: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    B, J, I = sizes
    if name == "taps":
        return {"g": rng.standard_normal((3, J, B)), "x": rng.standard_normal((3, I, B + 4))}
    found = {"a": rng.standard_normal((B, J)), "x": rng.standard_normal((B, I))}
    return found | ({"c": rng.standard_normal((B, J))} if name == "two" else {})


def wanted(name: str, a: dict[str, np.ndarray]) -> list[np.ndarray]:
    if name == "taps":
        N = a["g"].shape[2]
        windows = np.stack([a["x"][:, :, p : p + N] for p in range(5)])
        return [np.einsum("bon,pbin->oip", a["g"], windows)]
    sums = [a[n].T @ a["x"] for n in ("a", "c") if n in a]
    return [-s for s in sums] if name == "minus" else sums


SIZES = [(0, 5, 70), (1, 1, 1), (70, 0, 5), (70, 5, 0), (200, 7, 130), (1500, 9, 65), (33, 90, 300)]


@pytest.mark.parametrize("forced", [None, (1, 1), (3, 1), (1, 5), (2, 3)])
@pytest.mark.parametrize("name", TEXTS)
def test_results(
    name: str, forced: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As chosen, and with so many columns and sums, of any number of threads; of nothing, too."""
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(phase, "SMALL_WORK", 0)
    monkeypatch.setattr(grid, "LARGE_WORK", 0)
    monkeypatch.setattr(cuts, "DEEP", 0)
    before = lg.get_num_threads()
    if forced is not None:
        monkeypatch.setattr(
            grid, "chosen", lambda *_: (str(2 * forced[0] * forced[1]), *map(str, forced))
        )
        monkeypatch.setattr(phase, "chosen", grid.chosen)
    rng = np.random.default_rng(0)
    kernel = lg.compile(lg.program(TEXTS[name]))
    try:
        for sizes in SIZES:
            inputs = given(name, rng, sizes)
            for threads in (2, 3, 5, 16) if forced is None else (2 * forced[0] * forced[1],):
                lg.set_num_threads(threads)
                found, again = kernel(**inputs), kernel(**inputs)
                results = found if name == "two" else (found,)
                for one, two in zip(results, again if name == "two" else (again,), strict=True):
                    np.testing.assert_array_equal(one, two)
                for one, other in zip(results, wanted(name, inputs), strict=True):
                    np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
    finally:
        lg.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", TEXTS)
def test_trees(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "DEEP", 0)
    program = lg.program(TEXTS[name])
    inputs = given(name, np.random.default_rng(1), (5, 4, 3))
    call: BoundCall = lg.compile(program, backend="interpret").bind(
        (), inputs, (None,) * len(program.results)
    )
    scheduled = optimized(infer(program), validate(program))
    results = walking.run(scheduled, call, threads)
    for got, other in zip(results.values(), wanted(name, inputs), strict=True):
        np.testing.assert_allclose(got, other, rtol=1e-12)


def least(
    threads: int, rows: int, columns: int, depth: int, most: tuple[int, int]
) -> tuple[int, int]:
    """The parts of sums and of columns with the least work, one way after the other."""
    up = lambda count, by: (count + by - 1) // by

    def work(sums: int, across: int) -> int:
        each = up(rows, threads // across // sums)
        wide, deep = 16 * up(up(columns, across), 16), up(depth, sums)
        total = ((each + up(each, 6) + 10) * wide + 8 * each) * deep
        return total + (15 * rows * columns * sums // threads if sums > 1 else 0)

    ways = [
        (s, c)
        for s in range(1, min(threads, most[1]) + 1)
        for c in range(1, min(threads // s, most[0]) + 1)
        if threads % s == 0 and threads // s % c == 0
    ]
    return min(ways, key=lambda way: work(*way))


def test_least() -> None:
    """The choice, compiled, of all sizes; and that it is one of columns, of sums, and of both."""
    name = "loopgrad_test_grid"
    module = engine.new_module("float")
    text = module.functions.pop(grid._function(module))
    module.functions[name] = text.replace("internal void @grid", f"void @{name}")
    address = engine.library(module.text(), [name])[name]
    integer = ctypes.c_int64
    function = ctypes.CFUNCTYPE(None, *[integer] * 6, ctypes.POINTER(integer))(address)
    rng = np.random.default_rng(2)
    sizes = [
        (16, 1024, 1024, 1024, 16, 1),
        (16, 64, 320, 16320, 64, 16),
        (16, 64, 576, 8192, 64, 8),
    ]
    chosen = []
    for _ in range(300):
        threads, *most = rng.integers(1, 40, 3)
        sizes.append((threads, *rng.integers(1, 3000, 3), *most))
    for given_sizes in sizes:
        found = (integer * 2)()
        function(*map(int, given_sizes), found)
        threads, rows, columns, depth, *most = map(int, given_sizes)
        assert tuple(found) == least(threads, rows, columns, depth, (most[0], most[1]))
        chosen.append(tuple(found))
    assert chosen[:3] == [(1, 4), (16, 1), (8, 2)]


STEPS = """
steps(x[B,C,X], k[O,C,P]) -> y[B,O,(X-P)//2+1]:
    for b, o, n <= (X-P)//2, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,2*n+p]
"""


def test_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known on one way of the code alone, as where copies pay, is not used on another."""
    monkeypatch.setattr(files, "folder", lambda: None)
    seen = []

    def verified(*given: Any) -> Any:
        module = generating.parsed(*given)
        module.verify()
        seen.append(module)
        return module

    monkeypatch.setattr(objects, "parsed", verified)
    kernel = lg.compile(lg.program(STEPS).backward())
    shapes = {"x": (2, 3, 9), "k": (4, 3, 3), "y.grad": (2, 4, 4)}
    kernel(**{n: np.random.default_rng(3).standard_normal(s) for n, s in shapes.items()})
    assert seen
