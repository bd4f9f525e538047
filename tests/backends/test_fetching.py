"""The next row is asked for where a loop leaves memory idle, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.machine import this_machine

HEAD = "f(x[B,J], g[B,J]) -> y[B,J], z[B]:\n    for b, j:  m[b] max= x[b,j]\n"


def asked(lines: str, head: str = HEAD) -> int:
    program = lg.program(head + lines)
    kernel = lg.compile(program)
    rng = np.random.default_rng(0)
    for columns in (1, 70, 5000):  # below what is asked for, and above
        x, g = rng.normal(size=(2, 3, columns))
        wanted = lg.compile(program, backend="interpret")(x, g) if columns < 100 else None
        found = kernel(x, g)
        if wanted is not None:
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12)
    return kernel.runner.text("double").count("call void @llvm.prefetch")


def lines_of(copies: int) -> int:
    """How many lines of memory a loop goes over at a time."""
    return max(1, copies * this_machine().vector_bytes // 64)


def test_a_loop_that_computes() -> None:
    lines = "    for b, j:  y[b,j] = exp(x[b,j] - m[b]) * g[b,j]\n    for b:  z[b] = m[b]"
    # For x; g is read for the first time. The loop is there twice, for stores past the caches.
    assert asked(lines) == 2 * lines_of(1)


def test_a_loop_that_only_adds_up() -> None:
    lines = "    for b, j:  z[b] += (x[b,j] - m[b]) ** 2\n    for b, j:  y[b,j] = g[b,j] * z[b] - x[b,j]"
    assert asked(lines) == lines_of(4)  # in the loop of z, none in that of y


@pytest.mark.parametrize(
    "lines",
    [
        "    for b, j:  y[b,j] = x[b,j] - m[b] * g[b,j]\n    for b:  z[b] = m[b]",  # it stores
        "    for b, j:  z[b] += g[b,j] * m[b]\n    for b, j:  y[b,j] = x[b,j] * z[b]",  # other rows
        "    for b, j < J:  z[b] += x[b,J-1-j] - m[b]\n    for b, j:  y[b,j] = g[b,j]",  # another read
    ],
)
def test_loops_that_leave_memory_no_time(lines: str) -> None:
    assert asked(lines) == 0


def test_rows_along_no_axis_of_their_own() -> None:
    head = "f(x[B,J], g[B,J]) -> y[B,J], z[B]:\n    for b < B, j:  m[b] max= x[B-1-b,j]\n"
    assert (
        asked(
            "    for b < B, j:  z[b] += exp(x[B-1-b,j] - m[b])\n    for b, j:  y[b,j] = g[b,j]",
            head,
        )
        == 0
    )
