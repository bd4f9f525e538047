"""Products of few rows, whose right side is read where it lies: against NumPy, at the end and at the beginning of memory."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.products.callable import Functions, functions
from loopgrad.backends.llvm.products.dots import COLUMNS, rows_of_dots
from loopgrad.backends.llvm.products.in_place import DEPTH_OF_ROW, ROWS
from loopgrad.backends.llvm.products.library import tiling_here
from loopgrad.backends.llvm.products.tiling import DEPTH
from tests.backends import guarded
from tests.backends.test_products import DTYPES, narrow, strides

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="memory cannot be guarded here")

LESSER = [(16, 16), (16, 32), (32, 16)]


def made_for(real: str, bytes_and_registers: tuple[int, int] | None) -> Functions:
    if bytes_and_registers is None:
        return functions(real)
    if this_machine().vector_bytes < bytes_and_registers[0]:
        pytest.skip("this processor has no such vectors")
    return narrow(real, *bytes_and_registers)


def matrices(m: int, n: int, k: int, real: str, seed: int, at_end: bool, turned: str = "ij"):
    """A[m,k], B[k,n] and C[m,n] beside guards; those of A and B stored by columns that `turned` names."""
    rng, dtype = np.random.default_rng(seed), DTYPES[real]
    shapes = (m, k), (k, n), (m, n)
    found = []
    for shape, letter in zip(shapes, "ABC", strict=True):
        stored = shape[::-1] if letter in turned else shape
        array = guarded.copy(rng.standard_normal(stored).astype(dtype), at_end)
        found.append(array.T if letter in turned else array)
    return found


def check(got, a, b, before, scale, adds):
    exact = a.astype(float) @ b.astype(float)
    size = np.abs(a).astype(float) @ np.abs(b).astype(float)
    wanted = scale * exact + (before if adds else 0)
    bound = 4 * np.finfo(got.dtype).eps * (abs(scale) * size + np.abs(before) + 1e-30)
    assert (np.abs(got - wanted) <= bound * max(1, a.shape[1]) ** 0.5).all(), (a.shape, b.shape)


@pytest.mark.parametrize("lesser", [None, *LESSER])
@pytest.mark.parametrize("real", DTYPES)
def test_rows_of_a_right_side_that_is_not_packed(real, lesser):
    made = made_for(real, lesser)
    lanes, width = made.tiling.lanes, made.tiling.width
    columns = (lanes, lanes + 1, 2 * lanes - 1, width, width + 1, width + lanes, 2 * width + 3)
    cases = product((1, 2, 5, 6, 7, 13), columns, (0, 1, 2, DEPTH - 1, DEPTH + 2))
    for i, (m, n, k) in enumerate(cases):
        a, b, c = matrices(m, n, k, real, i, at_end=i % 2 == 0, turned="A" if i % 3 == 0 else "")
        before, adds, scale = c.copy(), i % 4 > 1, (1.0, -2.5)[i % 5 == 0]
        if not adds:
            c[...] = np.nan  # what is stored does not look at what was there
        made.product(
            m, n, k, a.ctypes.data, *strides(a), b.ctypes.data, 0, 0, 0, n, c.ctypes.data, n, scale, adds
        )  # fmt: skip
        check(c, a, b, before, scale, adds)


@pytest.mark.parametrize("lesser", [None, *LESSER])
@pytest.mark.parametrize("real", DTYPES)
def test_sums_over_pairs_of_rows(real, lesser):
    made = made_for(real, lesser)
    lanes, rows = made.tiling.lanes, rows_of_dots(made.tiling)
    depths = (0, 1, lanes - 1, lanes, lanes + 1, 5 * lanes + 3)
    cases = product(
        (0, 1, rows, rows + 1, 3 * rows - 1), (0, 1, COLUMNS - 1, COLUMNS, 2 * COLUMNS + 1), depths
    )
    for i, (m, n, k) in enumerate(cases):
        a, b, c = matrices(m, n, k, real, i, at_end=i % 2 == 0, turned="B")
        before, adds, scale = c.copy(), i % 3 == 1, (1.0, -2.5)[i % 5 == 0]
        if not adds:
            c[...] = np.nan
        made.dots(
            m, n, k, a.ctypes.data, k, b.ctypes.data, k, c.ctypes.data, n, scale, adds
        )  # fmt: skip
        check(c, a, b, before, scale, adds)


@pytest.mark.parametrize("real", DTYPES)
def test_what_is_not_finite_stays_in_its_row_and_column(real):
    """Zero times infinity is no number; what lanes hold beyond a row's end reaches nobody."""
    made, dtype = functions(real), DTYPES[real]
    rng = np.random.default_rng(1)
    m, n, k = 5, 3 * made.tiling.lanes + 1, 2 * made.tiling.lanes + 3
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
    a[1, k - 1], a[2, 0], b[k - 1, n - 1], b[3, 0] = np.inf, np.nan, -np.inf, np.inf
    a[4] = 0
    with np.errstate(invalid="ignore"):
        wanted = a.astype(float) @ b.astype(float)
    lies, dots, turned = np.empty((m, n), dtype), np.empty((m, n), dtype), b.T.copy()
    made.product(
        m, n, k, a.ctypes.data, k, 1, b.ctypes.data, 0, 0, 0, n, lies.ctypes.data, n, 1.0, False
    )  # fmt: skip
    made.dots(m, n, k, a.ctypes.data, k, turned.ctypes.data, k, dots.ctypes.data, n, 1.0, False)
    for got in (lies, dots):
        assert (np.isnan(got) == np.isnan(wanted)).all()
        assert (np.isinf(got) == np.isinf(wanted)).all()
        finite = np.isfinite(wanted)
        np.testing.assert_allclose(got[finite], wanted[finite], rtol=1e-3, atol=1e-4)


SIDES = {
    "nn": ("a[M,K], b[K,N]", "a[m,k] * b[k,n]"),
    "nt": ("a[M,K], b[N,K]", "a[m,k] * b[n,k]"),
    "tn": ("a[K,M], b[K,N]", "a[k,m] * b[k,n]"),
    "tt": ("a[K,M], b[N,K]", "a[k,m] * b[n,k]"),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sides", SIDES)
def test_programs_of_few_rows_or_columns(sides, threads):
    arguments, value = SIDES[sides]
    text = f"f({arguments}, y0[M,N]) -> y[M,N]:\n    for m, n:  y[m,n] = y0[m,n]\n"
    plain = lg.compile(
        lg.program(f"f({arguments}) -> y[M,N]:\n    for m, n, k:  y[m,n] += {value}")
    )
    added = lg.compile(lg.program(f"{text}    for m, n, k:  y[m,n] -= 2 * {value}"))
    before, lanes = lg.get_num_threads(), tiling_here("float").lanes
    lg.set_num_threads(threads)
    rows = (0, 1, 2, COLUMNS + 1, ROWS, ROWS + 1)
    columns = (0, 1, 3, COLUMNS + 1, lanes, lanes + 1, 9 * lanes - 1)
    try:
        for i, (m, n, k) in enumerate(
            product(rows, columns, (0, 1, lanes, DEPTH_OF_ROW * ROWS, 300))
        ):
            turned = "".join(letter for letter, t in zip("AB", sides, strict=True) if t == "t")
            a, b, c = matrices(m, n, k, "float", i, at_end=i % 2 == 0, turned=turned)
            given = [x.T if letter in turned else x for x, letter in ((a, "A"), (b, "B"))]
            out = guarded.empty((m, n), np.float32, at_end=i % 2 == 0)
            check(plain(*given, out=out), a, b, np.zeros_like(c), 1.0, False)
            check(added(*given, c, out=out), a, b, c, -2.0, True)
    finally:
        lg.set_num_threads(before)
