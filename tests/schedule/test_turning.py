"""Maps that read across run in blocks, through a copy of what a block reads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import Choices, choices_of
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends.test_forced_schedules import forced
from tests.literal import literally
from tests.schedule.test_walking import check

TRANSPOSE = """turn(x[B,J]) -> y[J,B]:
    for b, j:  y[j,b] = x[b,j]"""
BATCH = """turn(x[B,T,J]) -> y[B,J,T]:
    for b, t, j:  y[b,j,t] = x[b,t,j]"""
HEADS = """turn(x[B,H,T,D], z[B,D,T,H]) -> y[B,H,D,T]:
    for b, h, t, d:  y[b,h,d,t] += x[b,h,t,d] - z[b,d,t,h]"""
CHAIN = """turn(x[B,J], z[J,B], w[J]) -> y[J,B], n[J,B]:
    for b, j:  a[j,b] = x[b,j] * z[j,b] + w[j]
    for b, j:  y[j,b] += tanh(a[j,b]) + a[j,b]
    for b, j:  n[j,b] -= x[b,j] * a[j,b]"""
DEEP = """turn(x[A,B,C,E,K]) -> y[A,C,B,K,E]:
    for a, b, c, e, k:  y[a,c,b,k,e] = 2 * x[a,b,c,e,k]"""
GUARDED = """turn(x[B,J]) -> y[J,B]:
    for b, j:  y[j,b] += x[b,j]   if b < j"""
PROGRAMS = [TRANSPOSE, BATCH, HEADS, CHAIN, DEEP, GUARDED]


def scheduled(text: str, words: str = "") -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program), choices_of(words)))


def even(extent: str) -> str:
    """Blocks of about 64, none of a few elements."""
    return f"max((({extent} - 1) // max(({extent} + 48) // 64, 1) + 16) // 16 * 16, 1)"


def test_a_transpose() -> None:
    assert (
        scheduled(TRANSPOSE)
        == f"""\
for j < J in blocks of 32 parallel:
    for b < B in blocks of {even("B")}:
        for b.from <= b < b.to:  for j.from <= j < j.to vector:  x.turned[b,j] = x[b,j]
        for j.from <= j < j.to:  for b.from <= b < b.to vector:  y[j,b] = x.turned[b,j]
  # x.turned[{even("B")},32] in a row of each thread"""
    )


def test_blocks_are_even() -> None:
    for extent in range(300):
        size = eval(even("B"), {"B": extent, "max": max})
        last = extent % size
        assert size <= 80
        assert extent <= 80 or last == 0 or last >= 16


def test_threads_take_pairs_of_a_matrix_and_a_block() -> None:
    assert scheduled(BATCH).startswith(f"""\
for b < B parallel:
    for j < J in blocks of 32 parallel:
        for t < T in blocks of {even("T")}:
""")


@pytest.mark.parametrize("text", PROGRAMS)
def test_what_reads_across_is_turned(text: str) -> None:
    assert " // 16 * 16, 1),32] in a row of each thread" in scheduled(text)
    assert "turned" not in scheduled(text, "no turning")
    assert "turned" not in scheduled(text, "vector b" if "[B,J]" in text else "parallel b")


@pytest.mark.parametrize(
    "text",
    [
        # rows stay rows
        "f(x[B,T,J]) -> y[T,B,J]:\n    for b, t, j:  y[t,b,j] = x[b,t,j]",
        # what a guard keeps from being read need not be there
        "f(x[B,J]) -> y[J,B]:\n    for b, j:  y[j,b] += x[b,j+1]   if j + 1 < J",
        # data say where
        "f(x[B,J], int w[J]) -> y[J,B]:\n    for b, j:  y[j,b] = x[b,w[j]]",
        # a part of what is there
        "f(x[B,J]) -> y[J,B-1]:\n    for b < B - 1, j:  y[j,b] = x[b,j]",
        # one element twice
        "f(x[N,N]) -> y[N,N]:\n    for i, j:  y[i,j] = x[j,j] + x[i,i]",
        # sums
        "f(x[B,J], z[J,B]) -> y[B]:\n    for b, j:  y[b] += x[b,j] * z[j,b]",
        # integers
        "f(int x[B,J]) -> y[J,B]:\n    for b, j:  y[j,b] = x[b,j]",
    ],
)
def test_what_is_not(text: str) -> None:
    assert "turned" not in scheduled(text)


def test_what_is_written_is_not_read_across() -> None:
    text = """f(x[N,N]) -> y[N,N], z[N,N]:
    for i, j:  y[i,j] = x[i,j] + x[j,i]
    for i, j:  z[j,i] = y[i,j]"""
    program = lg.program(text)
    x = np.random.default_rng(0).normal(size=(70, 70))
    y, z = program(x)
    np.testing.assert_array_equal(y, x + x.T)
    np.testing.assert_array_equal(z, y.T)


def given(text: str, sizes: dict[str, int], dtype: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    program = lg.program(text)
    shapes = {i.name: [sizes[e.name] for e in i.extents] for i in program.inputs}  # type: ignore[union-attr]
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("text", PROGRAMS)
def test_walked(text: str) -> None:
    for sizes in ((3, 2, 2, 2, 35, 33, 2, 2, 2), (1, 1, 0, 2, 66, 2, 2, 1, 0)):
        values = dict(zip("ABCEJTHDK", sizes, strict=True))
        check(lg.program(text), given(text, values, float), 2, Choices())


SIZES = [*itertools.permutations((1, 33, 65, 2), 3)][::5] + [(32, 64, 96), (0, 5, 3)]  # noqa: RUF005


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("text", PROGRAMS)
def test_compiled_to_the_bit(text: str, dtype: Any) -> None:
    program = lg.program(text)
    literal = literally(program)
    for threads in (1, 3):
        with forced(threads):
            kernel = lg.compile(program)
            for b, j, other in SIZES:
                sizes = {
                    **dict.fromkeys("ACHDK", 3),
                    "B": b,
                    "J": j,
                    "T": other,
                    "D": j,
                    "E": other,
                }
                inputs = given(text, sizes, dtype)
                rough = {"rtol": 1e-5, "atol": 1e-5} if "tanh" in text else {"rtol": 0, "atol": 0}
                for got, wanted in zip(
                    all_of(kernel(**inputs)), all_of(literal(**inputs)), strict=True
                ):
                    np.testing.assert_allclose(got, wanted, **rough)
        program.__dict__.pop("_kernels", None)


def all_of(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def test_its_gradient_is_turned_back() -> None:
    program = lg.program(BATCH)
    rng = np.random.default_rng(2)
    x, seed = rng.normal(size=(3, 40, 70)), rng.normal(size=(3, 70, 40))
    y, pullback = lg.vjp(program, x)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 1))
    np.testing.assert_array_equal(pullback(seed)[0], seed.transpose(0, 2, 1))
