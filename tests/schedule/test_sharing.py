"""What is computed once, and where that stands; which side of a product holds a factor."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

SUMS = """sums(x[B,K,N], w[K], v[B], u[B]) -> s[K], e[B], d[B]:
    for b, k, n:  s[k] += x[b,k,n]
    for b, k, n:  e[b] += w[k] / (1 + v[b]**2) * x[b,k,n]
    for b, k, n:  d[b] += w[k] / (2 + u[b]**2) * x[b,k,n]"""

ROWS = """scaled(x[B,J], w[J], v[B]) -> y[B,J]:
    for b, j:  y[b,j] = w[j] / sqrt(v[b]) * x[b,j]"""

COLUMNS = """columns(x[B,J], w[J], v[B]) -> y[B,J]:
    for b, j:  y[b,j] = v[b] / sqrt(w[j]) * x[b,j]"""

WEIGHTS = """weights(x[B,N], e[B], u[B,D]) -> y[N,D], z[B,D]:
    for b, n, d:  y[n,d] += x[b,n] * e[b] * u[b,d]
    for b, n, d:  z[b,d] += x[b,n] * e[b] * u[n,d]"""


def shown(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


def test_what_is_hoisted_stands_before_the_sums_that_share_a_loop() -> None:
    """Were it in front of the one that needs it, its lanes would part that sum from the others."""
    assert shown(SUMS).startswith(
        """\
for b < B parallel:
    h4[b] = 1 / (2 + u[b]**2)
    h2[b] = 1 / (1 + v[b]**2)
    for k < K vector:
        h3[b,k] = w[k] * h4[b]
        h[b,k] = w[k] * h2[b]
"""
    )
    assert shown(SUMS).count("for n < N vector:") == 1


def test_a_division_by_what_has_fewer_indices_than_the_product_is_a_multiplication() -> None:
    rows = """\
for b < B parallel:
    h[b] = 1 / sqrt(v[b])
    for j < J vector:  y[b,j] = w[j] * h[b] * x[b,j]
"""
    assert shown(ROWS).startswith(rows)
    assert "v[b] * h[j] * x[b,j]" in shown(COLUMNS)
    alone = ROWS.replace(" * x[b,j]", " + x[b,j]")  # as exact as it is written
    assert "w[j] / h[b] + x[b,j]" in shown(alone)


def test_a_factor_of_the_sum_alone_goes_to_the_right_of_a_transposed_matrix() -> None:
    text = shown(WEIGHTS)
    assert "y[n,d] = x[b,n] * (u[b,d] * e[b])" in text
    assert "z[b,d] = x[b,n] * e[b] * u[n,d]" in text  # `e` is of the rows there


@pytest.mark.parametrize("text", [SUMS, ROWS, COLUMNS, WEIGHTS])
@pytest.mark.parametrize("extent", [0, 1, 17, 50])
def test_as_the_interpreter(text: str, extent: int) -> None:
    program = lg.program(text)
    rng = np.random.default_rng(extent)
    sizes = {"B": 17 if extent == 50 else extent, "K": 5, "N": extent, "J": 37, "D": 20}
    if "z[B,D]" in text:
        sizes["B"] = sizes["N"]
    inputs = {
        i.name: rng.uniform(0.5, 2, [sizes[str(e.name)] for e in i.extents]) for i in program.inputs
    }
    found = lg.compile(program)(**inputs)
    right = lg.compile(program, backend="interpret")(**inputs)
    several = isinstance(right, tuple)
    for got, wanted in zip(*((found, right) if several else ([found], [right])), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
