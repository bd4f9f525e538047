"""Matrices of weights are made ready for products by all threads together, where they are large."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.formulas import evaluate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.account import account
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.threads.preparing import LARGE

LINEAR = """
linear(x[B,I], param W[J,I]) -> y[B,J]:
    for b, j, i:  a[b,j] += x[b,i] * W[j,i]
    for b, j:     y[b,j] += tanh(a[b,j])
"""


def shown(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


def test_weights_of_all_rows() -> None:
    assert (
        shown(LINEAR)
        == """\
pack parallel, where large:  packed = W[j,i]
for b < B in blocks parallel:
    pack, where small:  packed = W[j,i]
    for b.from <= b < b.to in blocks of 96:
        product:  a[b,j] = x[b,i] * W[j,i]
        for b.from <= b < b.to:  for j < J vector:  y[b,j] = tanh(a[b,j])
  # a[96,J] in a row of each thread"""
    )


@pytest.mark.parametrize(
    "text",
    [
        # A matrix for each value of the index that threads share.
        LINEAR.replace("W[J,I]", "W[B,J,I]").replace("W[j,i]", "W[b,j,i]"),
        # One that is computed first, by each thread in its own memory.
        LINEAR.replace("W[j,i]", "W[j,i] * c[j]").replace("W[J,I]", "W[J,I], c[J]"),
    ],
)
def test_others_are_not_made_together(text: str) -> None:
    assert "pack parallel" not in shown(text)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(
    ("inner", "columns"),
    [(LARGE // 64 + 7, 61), (61, LARGE // 64 + 7), (520, 519), (3, LARGE // 3 + 65), (512, 511)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results(inner: int, columns: int, threads: int, dtype: type) -> None:
    """Around the size from which on it counts as large; few columns or few values of the sum; odd ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3 * threads + 1, inner)).astype(dtype)
    W = rng.standard_normal((columns, inner)).astype(dtype) / np.sqrt(inner).astype(dtype)
    wanted = np.tanh(x.astype(float) @ W.T.astype(float))
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    try:
        found = lg.compile(lg.program(LINEAR))(x, W)
    finally:
        lg.set_num_threads(before)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_memory_is_taken_for_one_of_both() -> None:
    """What all share, where it is large; else what each thread has for itself."""
    program = lg.program(LINEAR)
    memory = account(optimized(infer(program), validate(program))).memory
    for count, extent, copies in ((1, 512, 1), (4, 512, 1), (1, 256, 1), (4, 256, 4)):
        sizes = {"B": 64, "I": extent, "J": extent}
        expected = 4 * (copies * extent * extent + count * 96 * extent)
        assert memory.at(lambda e, sizes=sizes: evaluate(e, sizes), count) == expected
