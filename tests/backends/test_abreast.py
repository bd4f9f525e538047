"""Short rows run several at a time, and each is what it is alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends import llvm
from loopgrad.backends.llvm.calling.shaping import shaping_of, summed_rows
from loopgrad.backends.llvm.fused import phase, trees
from loopgrad.backends.llvm.fused.abreast import Abreast
from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.writing import layout
from loopgrad.schedule.tree import Over, Step
from tests.backends import guarded
from tests.backends.test_guards import stays_inside
from tests.effort import sample
from tests.literal import literally

SOFTMAX = """f(x[B,J]) -> y[B,J]:
    for b, j:  m[b]   max= x[b,j]
    for b, j:  Z[b]   += exp(x[b,j] - m[b])
    for b, j:  y[b,j] += exp(x[b,j] - m[b]) / Z[b]"""

COLUMNS = """f(x[B,J], g[B,J], t[J]) -> y[B,J], c[J], s:
    for b, j:  m[b]   += x[b,j] / J
    for b, j:  v[b]   += (x[b,j] - m[b])**2
    for b, j:  c[j]   += (x[b,j] - m[b]) * g[b,j]
    for b, j:  s      += g[b,j] * v[b]
    for b, j:  y[b,j] += (x[b,j] - m[b]) / sqrt(v[b] + 1) * t[j]"""

TWICE = """f(x[B,J], g[B,J]) -> y[B,J]:
    for b, j:  m[b]   max= x[b,j]
    for b, j:  Z[b]   += exp(x[b,j] - m[b])
    for b, j:  y[b,j] = x[b,j] / Z[b]
    for b, j:  y[b,j] += g[b,j] * m[b]   if j != 2"""

PICKED = """f(x[B,J], int w[B]) -> l[B], y[B,J]:
    for b, j:  m[b]   max= x[b,j]   if x[b,j] < 9
    for b, j:  Z[b]   += exp(x[b,j] - m[b])   if x[b,j] < 9
    for b:     l[b]   = log(Z[b]) + m[b] - x[b,w[b]]
    for b, j:  y[b,j] = exp(x[b,j] - m[b]) / Z[b] - (1 if j == w[b] else 0)"""

HEADS = """f(x[B,H,J]) -> y[B,H,J], r[B]:
    for b, h, j:  m[b,h]   max= x[b,h,j]
    for b, h, j:  Z[b,h]   += exp(x[b,h,j] - m[b,h])
    for b, h, j:  y[b,h,j] += exp(x[b,h,j] - m[b,h]) / Z[b,h]
    for b, h:     r[b]     += Z[b,h]"""

PAIRS = """f(x[B,H,J]) -> y[B,H,J]:
    for b, h, j:  m[b,h]   max= x[b,h,j]
    for b, h, j:  Z[b,h]   += exp(x[b,h,j] - m[b,h])
    for b, h, j:  y[b,h,j] += exp(x[b,h,j] - m[b,h]) / Z[b,h]"""

LOGS = """f(x[B,J]) -> q[B,J], n[J]:
    for b, j:  m[b]   max= x[b,j]
    for b, j:  Z[b]   += exp(x[b,j] - m[b])
    for b:     L[b]   = m[b] + log(Z[b])
    for b, j:  q[b,j] = x[b,j] - L[b]
    for b, j:  n[j]   += x[b,j] * L[b]"""

OVER = """f(x[B,N,H,J], g[N,H,J]) -> y[B,H,J], z[B,N,H]:
    for b, n, h, j:  z[b,n,h] += exp(x[b,n,h,j])
    for b, n, h, j:  q[b,h]   += x[b,n,h,j]**2 * g[n,h,j]
    for b, n, h:     q[b,h]   += 1 / z[b,n,h]
    for b, h, j:     y[b,h,j] += q[b,h] * g[0,h,j]"""

NEXT = """f(x[B,J]) -> y[B,J], d[B]:
    for b, j:  m[b]   += x[b,j] / J
    for b, j:  v[b]   += x[b,j] * m[b]
    for b, j:  y[b,j] = x[b,j] - v[b]
    for b:     d[b]   = y[b+1,0] - y[b,0]   if b + 1 < B"""

MOVED = """f(x[B,H,J]) -> y[H,B,J], z[B,H,J]:
    for b, h, j:  y[h,b,j] = x[b,h,j]
    for b, h, j:  z[b,h,j] = x[b,h,j]**2 - x[b,0,j]"""

GATHERED = """f(E[J,J], int w[B]) -> y[B,J]:
    for b, j:  y[b,j] = 2 * E[w[b],j] + E[0,j]"""

INDIRECT = """f(E[J,J], int w[B], x[B,J]) -> y[B,J]:
    for b < B, j < J:  k[b,j] = w[b] // 2
    for b, j:  y[b,j] = x[b,j] * E[k[b,j],j]"""

SCATTERED = """f(E[J,J], x[B,J], int w[B], g[B,J]) -> y[J,J], z[J,J]:
    for i, j:  y[i,j] = E[i,j]
    for b, j:  y[w[b],j] += x[b,j] * E[w[b],j]   if g[b,j] < 1
    for b, j:  z[w[b],j] += g[b,j]"""

GREATEST = """f(x[B,J], int w[B]) -> y[J,J]:
    for b, j:  y[w[b],j] max= x[b,j]"""

PROGRAMS = {
    "moved": MOVED,
    "gathered": GATHERED,
    "indirect": INDIRECT,
    "scattered": SCATTERED,
    "greatest": GREATEST,
    "softmax": SOFTMAX,
    "columns": COLUMNS,
    "twice": TWICE,
    "picked": PICKED,
    "heads": HEADS,
    "pairs": PAIRS,
    "logs": LOGS,
    "over": OVER,
    "next": NEXT,
}
SIZES = [(b, j) for b in (1, 2, 3, 4, 5, 9) for j in (2, 15, 16, 17, 33, 128)]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were many elements in every call."""
    for name in ("SOME", "MANY", "PLENTY"):
        monkeypatch.setattr(layout, name, 1)


def drawn(program: lg.Program, b: int, j: int, dtype: str = "float32") -> dict[str, Any]:
    rng = np.random.default_rng([b, j])
    sizes = {"B": b, "J": j, "H": 5, "N": 3}
    given: dict[str, Any] = {}
    for i in program.inputs:
        shape = [sizes[str(e.name)] for e in i.extents]
        whole = i.kind == "int"
        given[i.name] = rng.integers(0, j, shape) if whole else rng.normal(size=shape).astype(dtype)
    return given


def results(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple) else [found]


def rows_at_a_time(text: str, **sizes: int) -> list[int]:
    """Of each loop that takes several: how many."""
    found: list[int] = []
    looking = trees.abreast

    def watched(loop: Over, frame: Frame) -> Abreast | None:
        rows = looking(loop, frame)
        if rows is not None:
            found.append(rows.count)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "abreast", watched)
        runner = lg.compile(lg.program(text)).runner
        fitted = shaping_of(runner.task).fitted(sizes, layout.PLENTY, 1)
        runner.emitted(llvm._made_for(fitted, llvm.Variant("float", False, False)))
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "SMALL_WORK", 0)
    program = lg.program(PROGRAMS[name])
    fast, slow = lg.compile(program), lg.compile(program, backend="interpret")
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    try:
        for b, j in sample(SIZES, 2):
            given = drawn(program, b, j, "float64")
            for got, wanted in zip(results(fast(**given)), results(slow(**given)), strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)
    finally:
        lg.set_num_threads(before)


@pytest.mark.parametrize("name", ["softmax", "twice", "picked"])
def test_a_row_is_what_it_is_alone(name: str) -> None:
    program = lg.program(PROGRAMS[name])
    kernel, alone = lg.compile(program), lg.compile(program)
    for b, j in ((7, 17), (6, 64)):
        given = drawn(program, b, j)
        given["x"][2, 1], given["x"][3, j - 1] = np.nan, np.inf
        found = results(kernel(**given))
        for row in range(b):
            single = results(alone(**{n: a[row : row + 1] for n, a in given.items()}))
            for got, wanted in zip(found, single, strict=True):
                np.testing.assert_array_equal(got[row : row + 1], wanted)


@pytest.mark.skipif(not guarded.POSSIBLE, reason="no guard pages here")
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_rows_stay_inside(name: str, at_end: bool) -> None:
    program = lg.program(PROGRAMS[name])
    for b, j in ((5, 19), (3, 16)):
        stays_inside(lg.compile(program), list(drawn(program, b, j).values()), at_end)


def test_how_many() -> None:
    few = {"B": 100, "J": 40, "H": 5}
    assert rows_at_a_time(SOFTMAX, **few) == [4]
    assert rows_at_a_time(COLUMNS, **few) == [2]
    assert rows_at_a_time(TWICE, **few) == [4]
    assert rows_at_a_time(PICKED, **few) == [4]
    assert rows_at_a_time(PAIRS, **few) == [4]
    assert rows_at_a_time(SOFTMAX, B=100, J=129) == []


HANGING = """f(x[B,J]) -> n[B]:
    for b:
        for j:  y[b,j] = x[b,j] * (n[b-1] if b > 0 else 1)
        for j:  n[b] += y[b,j] / J"""


def test_rows_that_hang_on_each_other_run_one_by_one() -> None:
    assert rows_at_a_time(HANGING, B=100, J=40) == []


@pytest.mark.parametrize("wrong", [-1, 17, 2**63 - 1])
@pytest.mark.parametrize("place", [0, 5, 7, 8])
def test_a_row_that_does_not_exist_is_found(place: int, wrong: int) -> None:
    program = lg.program(GREATEST)
    given = drawn(program, 9, 17)
    given["w"][place] = wrong
    with pytest.raises(IndexError, match=r"y\[w\[b\],j\]"):
        lg.compile(program)(**given)


def test_long_rows_that_lie_apart_run_one_by_one() -> None:
    """As the code of both is there, their bits tell nothing; but that rows of any length are right."""
    program = lg.program(MOVED)
    kernel = lg.compile(program)
    for j in (8, 16, 23, 24, 25, 31, 32):
        given = drawn(program, 6, j)
        y, z = kernel(**given)
        np.testing.assert_array_equal(y, given["x"].swapaxes(0, 1))
        np.testing.assert_array_equal(z, given["x"] ** 2 - given["x"][:, :1])


def test_functions_of_rows_are_in_lanes() -> None:
    found: list[bool] = []
    asked = Abreast.in_lanes

    def watched(rows: Abreast, step: Step, frame: Frame) -> bool:
        found.append(asked(rows, step, frame))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Abreast, "in_lanes", watched)
        rows_at_a_time(LOGS, B=100, J=40)
        assert True in found
        found.clear()
        rows_at_a_time(PICKED, B=100, J=40)
    assert True not in found


def test_which_rows_are_summed_along() -> None:
    def found(text: str) -> tuple[tuple[str, bool], ...]:
        return summed_rows(infer(lg.program(text).unfold()))

    assert found(SOFTMAX) == (("J", True),)
    assert found("f(x[B,J]) -> s[B]:\n    for b, j:  s[b] += x[b,j]**2") == (("J", False),)
    assert found("f(x[B,J]) -> s[J]:\n    for b, j:  s[j] += x[b,j]**2") == ()
    assert found("f(x[J]) -> s:\n    for j:  s += x[j]**2") == ()
    picked = "f(x[B,J], int w[B], size V) -> y[V,J]:\n    for b, j:  y[w[b],j] += x[b,j]"
    assert found(picked) == (("J", True),)
    product = "f(x[B,J], w[K,J]) -> y[B,K]:\n    for b, k, j:  y[b,k] += x[b,j] * w[k,j]"
    assert found(product) == ()


NONE_AT_ALL = {
    "beyond the last": (
        "f(x[H,B,I], c[H,J,I], g[H,J,B]) -> y[H,B,I], d[H,J,B]:\n"
        "    for h, j, b:              d[h,j,b] = 2 * g[h,j,b]\n"
        "    for h, j, j <= b < B, i:  y[h,b,i] += d[h,j,b] * (1 if x[h,b,i] < c[h,j,i] else 0.5)",
        {"H": 2, "I": 15},
    ),
    "fewer than are left out": (
        "f(x[B,I]) -> y[B,I]:\n"
        "    for 6 <= b < B, i:  m[b]   max= x[b,i]\n"
        "    for 6 <= b < B, i:  Z[b]   += exp(x[b,i] - m[b])\n"
        "    for 6 <= b < B, i:  y[b,i] += exp(x[b,i] - m[b]) / Z[b]",
        {"I": 15},
    ),
}


@pytest.mark.parametrize("name", NONE_AT_ALL)
def test_where_there_are_none_at_all_none_run(name: str) -> None:
    """The lower bound may be as far beyond the upper one as it likes."""
    text, extents = NONE_AT_ALL[name]
    program, rng = lg.program(text), np.random.default_rng(5)
    fast, slow = lg.compile(program), literally(program)
    for b, j in ((1, 3), (2, 9), (5, 64), (47, 64), (47, 12)):
        sizes = {**extents, "B": b, "J": j}
        given = {
            i.name: rng.standard_normal([sizes[e.name] for e in i.extents]) for i in program.inputs
        }
        for got, wanted in zip(results(fast(**given)), results(slow(**given)), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)
