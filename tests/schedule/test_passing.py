"""Sums that join an earlier pass, since they read what a map is made of."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.schedule.test_walking import check

HEAD = "f(x[B,J], g[B,J]) -> p[B,J], c[B], z[B]:\n    for b, j:  z[b] += exp(x[b,j])\n"


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def agrees(program: lg.Program) -> None:
    rng = np.random.default_rng(0)
    for columns in (0, 1, 5, 70):
        given = {name: rng.normal(size=(3, columns)) for name in "xg"}
        check(program, given, 2, Choices())
        wanted = lg.compile(program, backend="interpret")(**given)
        for one, other in zip(program(**given), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_a_sum_of_a_quotient_shares_the_pass_of_its_divisor() -> None:
    program = lg.program(
        HEAD + "    for b, j:  p[b,j] = exp(x[b,j]) / z[b]\n    for b, j:  c[b] -= p[b,j] * g[b,j]"
    )
    assert (
        scheduled(program)
        == """for b < B parallel:
    for j < J vector:
        e[b,j] = exp(x[b,j])
        z[b] += e[b,j]
        sum[b] += e[b,j] * g[b,j]
    h[b] = 1 / z[b]
    c[b] = -(h[b] * sum[b] if 0 < J else 0.0)
    for j < J vector:  p[b,j] = e[b,j] * h[b]
  # e[J] in a row of each thread
  # sum in registers
  # h in registers"""
    )
    agrees(program)


@pytest.mark.parametrize(
    "lines",
    [
        "p[b,j] = tanh(x[b,j]) / z[b];  c[b] += p[b,j] * g[b,j]",  # tanh twice is dear
        "p[b,j] = x[b,j] - z[b];        c[b] += p[b,j] * g[b,j]",  # no factor
        "p[b,j] = exp(x[b,j]) / z[b];   c[b] max= p[b,j] * g[b,j]",  # no sum
        "p[b,j] = exp(x[b,j] - z[b]);   c[b] += p[b,j] * g[b,j]",  # waits in any case
        "p[b,j] = exp(x[b,j]) / 3;      c[b] += p[b,j] * g[b,j]",  # waits for nothing
    ],
)
def test_what_stays_where_it_is(lines: str) -> None:
    first, second = lines.split(";")
    program = lg.program(HEAD + f"    for b, j:  {first}\n    for b, j:  {second}")
    assert "sum[b]" not in scheduled(program)
    agrees(program)
