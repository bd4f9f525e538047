"""The next row is asked for where a loop leaves memory idle, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.machine import this_machine

ASKED = "call void @llvm.prefetch"
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
    return kernel.runner.text("double").count(ASKED)


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


GROUPS = "f(x[B,J]) -> v[J]:\n    for b, j:  m[j] += x[b,j] / B\n    for b, j:  v[j] += (x[b,j] - m[j])**2 / B\n"


def test_rows_that_are_read_together_are_asked_for_as_they_lie() -> None:
    text = lg.compile(lg.program(GROUPS)).runner.text("double")
    assert text.count(ASKED) == lines_of(8)


def test_rows_together_of_a_part_of_an_array() -> None:
    """Rows that do not follow each other in memory, of which a loop reads some columns."""
    program = lg.program(GROUPS.replace("for b, j:", "for b, 1 <= j < J:"))
    assert ASKED not in lg.compile(program).runner.text("double")


@pytest.mark.parametrize(
    "shape", [(33001, 131), (4099, 1031)]
)  # rows that share pages, and that do not
def test_more_rows_than_caches_hold(shape: tuple[int, int]) -> None:
    """Rows of moments are asked for; those of sums run one by one, or several together."""
    x = np.random.default_rng(1).normal(3.0, 2.0, size=shape)
    program = lg.program(
        GROUPS.replace("-> v[J]", "-> v[J], s[J]") + "    for b, j:  s[j] += x[b,j] * m[j]\n"
    )
    v, s = lg.compile(program)(x)
    np.testing.assert_allclose(v, x.var(0), rtol=1e-12)
    np.testing.assert_allclose(s, x.sum(0) * x.mean(0), rtol=1e-12)
