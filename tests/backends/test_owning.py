"""Sums into rows that data pick: threads have rows of their own, and all come to the literal loops' bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.fused import own_rows
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.cache import files
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally
from tests.schedule import walking
from tests.schedule.test_walking import interpreted

SUM = "for n, d:  y[w[n],d] += x[n,d]"
STATEMENTS = {
    "sum": SUM,
    "difference": "for n, d:  y[w[n],d] -= x[n,d]",
    "maximum": "for n, d:  y[w[n],d] max= x[n,d]",
    "minimum": "for n, d:  y[w[n],d] min= x[n,d]",
    "guarded": "for n, d:  y[w[n],d] += x[n,d]   if x[n,d] > 0 and n > 1",
    "twice": "for n, d:  y[w[n],d] += x[n,d]\n    for n, d:  y[(w[n] + 1) % G,d] += 2 * x[n,d]",
    "behind a map": "for g, d:  y[g,d] += z[g,d]\n    for n, d:  y[w[n],d] += x[n,d]",
    "computed": "for n, d:  y[w[n] // 2 + w[0] % 2,d] += exp(x[n,d] + z[w[n],d])",
}


def scatter(statement: str) -> lg.Program:
    return lg.program(
        f"scatter(x[N,D], int w[N], z[G,D]) -> y[G,D]:\n    local y[G,D]\n    {statement}\n"
    )


BAGS = lg.program(
    "bags(x[B,D], int w[B,T], int length[B], size G) -> y[G,D]:\n    local y[G,D]\n"
    "    for b, t < length[b], d:  y[w[b,t],d] += x[b,d]\n"
)


@pytest.fixture(autouse=True)
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However little there is to do, and to write; no code of others' is taken."""
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(fused, "SMALL_WORK", 0)
    monkeypatch.setattr(fused, "APART", 1)
    before = lg.get_num_threads()
    yield
    lg.set_num_threads(before)


def drawn(count: int, width: int, rows: int, seed: int = 0) -> list[Any]:
    """Ties, zeros of both signs, and what is not finite."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, width)) * 0.37
    x[rng.random(x.shape) < 0.03] = np.nan
    x[rng.random(x.shape) < 0.03] = -np.inf
    x[rng.random(x.shape) < 0.1] = -0.0
    return [x, rng.integers(0, max(rows, 1), count), rng.normal(size=(rows, width))]


def test_each_thread_looks_for_its_rows() -> None:
    program = scatter(SUM)
    assert show(optimized(infer(program), validate(program))).splitlines()[-2:] == [
        "for y.0 < max(G, 1) in blocks parallel:",
        "    for n < N where y.0.from <= w[n] < y.0.to:  for d < D vector:  y[w[n],d] += x[n,d]",
    ]


def test_the_words_of_a_user_come_first() -> None:
    program = scatter(SUM)
    scheduled = optimized(infer(program), validate(program), Choices(parallel="d"))
    assert "for d < D in blocks parallel:" in show(scheduled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_rows_come_to_what_the_literal_loops_make(statement: str, dtype: Any) -> None:
    program = scatter(statement)
    literal, compiled = literally(program), lg.compile(program)
    ahead = own_rows.AHEAD
    for seed, count in enumerate((0, 1, 2, ahead - 1, ahead, ahead + 1, 2 * ahead + 1)):
        for width in (0, 1, 3, 16, 33):
            x, w, z = drawn(count, width, 7, seed)
            given = [x.astype(dtype), np.sort(w) if seed % 2 else w, z.astype(dtype)]
            if count == 0 and "w[0]" in statement:
                continue
            expected = literal(*given)
            for threads in (1, 2, 3, 9):
                lg.set_num_threads(threads)
                found = compiled(*given)
                np.testing.assert_allclose(
                    found, expected, rtol=1e-5 if dtype is np.float32 else 1e-12
                )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_row_is_added_up_in_order(threads: int) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(1000, 5)).astype(np.float32), rng.integers(0, 7, 1000)
    given = [x, w, np.zeros((7, 5), np.float32)]
    lg.set_num_threads(threads)
    expected = literally(scatter(SUM))(*given)
    assert np.array_equal(scatter(SUM)(*given), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("wrong", [-1, 7, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("place", [0, 300, 599])
def test_a_row_that_does_not_exist_is_found(threads: int, wrong: int, place: int) -> None:
    x, w, z = drawn(600, 4, 7)
    w[place] = wrong
    lg.set_num_threads(threads)
    with pytest.raises(IndexError, match=r"y\[w\[n\],d\]"):
        scatter(SUM)(x, w, z)


@pytest.mark.parametrize("threads", [1, 2])
def test_without_rows(threads: int) -> None:
    lg.set_num_threads(threads)
    assert scatter(SUM)(*drawn(0, 4, 0)).shape == (0, 4)
    with pytest.raises(IndexError):
        scatter(SUM)(*drawn(5, 4, 0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_of_bags(threads: int) -> None:
    rng = np.random.default_rng(0)
    lg.set_num_threads(threads)
    for bags, most in [(0, 3), (1, 1), (5, 0), (40, 9), (3, 300)]:
        w, length = rng.integers(0, 11, (bags, most)), rng.integers(0, most + 1, bags)
        x = rng.normal(size=(bags, 6))
        expected = lg.compile(BAGS, backend="interpret")(x, w, length, G=11)
        np.testing.assert_allclose(BAGS(x, w, length, G=11), expected, rtol=1e-12)
    with pytest.raises(IndexError, match=r"w\[b,t\]"):
        BAGS(x, w, np.full(bags, most + 1), G=11)


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_trees_by_the_letter(statement: str) -> None:
    program = scatter(statement)
    given = drawn(9, 3, 4)
    call = interpreted(program, dict(zip("xwz", given, strict=True)))
    scheduled = optimized(infer(program), validate(program))
    for threads in (1, 2, 5):
        found = walking.run(scheduled, call, threads)["y"]
        np.testing.assert_allclose(found, call.arrays["y"], rtol=1e-12)


def test_gradients_of_rows_that_are_looked_up() -> None:
    program = lg.program(
        "rows(E[V,K], int w[B,T]) -> y[B,T,K]:\n    for b, t, k:  y[b,t,k] += E[w[b,t],k]\n"
    )
    backward = program.backward()
    rng = np.random.default_rng(1)
    w, seed = rng.integers(0, 50, (30, 20)), rng.normal(size=(30, 20, 17))
    expected = np.zeros((50, 17))
    np.add.at(expected, w, seed)
    for threads in (1, 2, 4):
        lg.set_num_threads(threads)
        np.testing.assert_allclose(lg.compile(backward)(w, seed, V=50), expected, rtol=1e-12)
