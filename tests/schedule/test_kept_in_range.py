"""What only a guard keeps in range is read where the guard holds, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.schedule.choices import Choices
from tests.schedule.test_walking import check

# Which rule would do without the guard, or with its parts in another order.
PROGRAMS = {
    "a sum within a sum": """f(A[I,J], x[R,J], m[J], int w[N]) -> y[I]:
        for r, j, i:  y[i] += A[i,j] * (x[r,j] - m[j-2])   if j - 2 >= 0""",
    "an element that data pick": """f(A[I,J], x[R,J], m[J], int w[N]) -> y[I]:
        for i, j:  y[i] += A[i,j]   if i + 2 < N and j == w[i+2]""",
    "the same, compared before": """f(A[I,J], x[R,J], m[J], int w[N]) -> y[I]:
        for i, j:  y[i] max= A[i,j]   if A[i,j] > 0 and i + 2 < N and w[i+2] == j""",
    "a place that data pick": """f(A[I,J], x[R,J], m[J], int w[N]) -> y[I,J+40]:
        for i, j, p < 40:  y[i,j+p] += A[i,j]   if i + 2 < N and p == w[i+2]""",
}


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")  # of inputs that are not used
@pytest.mark.parametrize("name", PROGRAMS)
def test_reads_that_a_guard_keeps_in_range(name: str) -> None:
    program = lg.program(PROGRAMS[name])
    rng = np.random.default_rng(0)
    for i, j, n in ((4, 3, 4), (3, 5, 1), (2, 1, 9), (3, 2, 5)):
        inputs = {
            "A": rng.normal(size=(i, j)),
            "x": rng.normal(size=(3, j)),
            "m": rng.normal(size=j),
            "w": rng.integers(0, j, n),
        }
        check(program, inputs, 2, Choices())
