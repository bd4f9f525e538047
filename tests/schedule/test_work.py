"""How long a phase takes, of programs of any length."""

from __future__ import annotations

import os

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import Expression
from loopgrad.ir.walk import children
from loopgrad.schedule.default import optimized
from loopgrad.schedule.tree import Fused


def chain(length: int) -> str:
    lines = [f"    for n:  y{i}[n] = tanh(y{i + 1}[n]) * x[n]" for i in range(length - 1, 0, -1)]
    return f"long(x[N]) -> y1[N]:\n    for n:  y{length}[n] = x[n]\n" + "\n".join(lines)


def depth(expression: Expression) -> int:
    return 1 + max(map(depth, children(expression)), default=0)


@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_a_long_program_has_no_deep_formula(length: int) -> None:
    program = lg.program(chain(length))
    for one in (program, program.backward(), program.backward(recompute=True)):
        for phase in optimized(infer(one), validate(one)).phases:
            assert isinstance(phase, Fused)
            assert depth(phase.work) < 10


@pytest.mark.skipif(not os.environ.get("LOOPGRAD_FULL"), reason="takes some seconds")
def test_gradients_of_a_long_program() -> None:
    """200 statements, in one loop: a call of their formula took more of Python's stack than there is."""
    length = 200
    x = np.random.default_rng(0).normal(size=3)
    seed = np.random.default_rng(1).normal(size=3)
    y, pullback = lg.vjp(chain(length), x)
    (found,) = pullback(seed)
    values, slopes = x, np.ones(3)
    for _ in range(length - 1):
        slopes = (1 - np.tanh(values) ** 2) * slopes * x + np.tanh(values)
        values = np.tanh(values) * x
    np.testing.assert_allclose(y, values, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(found, slopes * seed, rtol=1e-10, atol=1e-300)
