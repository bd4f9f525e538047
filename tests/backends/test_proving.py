"""Calls whose constants break what proofs took of them are proved anew, and run as fast as others."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm import LLVMRunner

WINDOWS = """
windows(x[B,X], width = 3, stride = 1, padding = 1) -> y[B, width, (X + 2*padding - width) // stride + 1]:
    for b, d, n:  y[b,d,n] = x[b,stride*n+d-padding] if 0 <= stride*n+d-padding < X else 0
"""


def runner(kernel: lg.Kernel) -> LLVMRunner:
    found = kernel.runner
    assert isinstance(found, LLVMRunner)
    return found


@pytest.mark.parametrize(
    "constants", [{"padding": 0}, {"padding": -1}, {"padding": 0, "stride": 2}]
)
@pytest.mark.parametrize("X", [5, 16, 33])
def test_no_padding_where_some_is_usual(constants: dict[str, int], X: int) -> None:
    program = lg.program(WINDOWS)
    x = np.random.default_rng(0).normal(size=(3, X))
    kernel = lg.compile(program)
    expected = lg.compile(program, backend="interpret")(x, **constants)
    np.testing.assert_array_equal(kernel(x, **constants), expected)
    np.testing.assert_array_equal(kernel(x, **constants), expected)  # as a call that is known
    (proved,) = runner(kernel)._proved.values()
    assert proved is not None


def test_what_is_out_of_range_is_told_in_the_programs_own_words() -> None:
    program = lg.program(
        "shifted(x[B,X], s = 1) -> y[B,X]:\n    for b, n:  y[b,n] = x[b,n-s] if n >= 1 else 0\n"
    )
    x = np.ones((2, 4))
    for backend in ("interpret", "llvm"):
        kernel = lg.compile(program, backend=backend)
        np.testing.assert_array_equal(kernel(x, s=0)[:, 0], 0.0)
        with pytest.raises(IndexError, match=r"x\[b, ?n-s\]"):
            kernel(x, s=-1)


def test_gradients_without_padding() -> None:
    program = lg.program(WINDOWS)
    x = np.random.default_rng(1).normal(size=(2, 9))
    y, pullback = lg.vjp(program, x, padding=0)
    seed = np.random.default_rng(2).normal(size=y.shape)
    expected = np.zeros_like(x)
    for d in range(3):
        expected[:, d : d + 7] += seed[:, d]
    np.testing.assert_allclose(pullback(seed)[0], expected, rtol=1e-12)
