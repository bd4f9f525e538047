"""Sums of what another line sums on the way read its sums."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

MLP = """\
mlp(x[B,I], param W[H,I], param c[H], param V[O,H]) -> y[B,O]:
    for b, h, i:  a[b,h] += W[h,i] * x[b,i]
    for b, o, h:  y[b,o] += V[o,h] * relu({})
"""
HEAD = "f(u[B,O], V[O,H], a[B,H]) -> s[B,H], t[H]:\n"
ON_THE_WAY = {
    "guarded": (
        "    for b, o, h:  s[b,h] += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, o, h:  t[h]   += u[b,o] * V[o,h]   if a[b,h] > 0\n"
    ),
    "before": (
        "    for b, o, h:  t[h]   -= u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, o, h:  s[b,h] += u[b,o] * V[o,h]   if a[b,h] > 0\n"
    ),
    "a sum of sums": (
        "    for b, o, h:  s[b,h] -= u[b,o] * V[o,h] * a[b,h]\n"
        "    for b, o, h:  t[h]   -= u[b,o] * V[o,h] * a[b,h]\n"
    ),
}
OTHERWISE = {
    "other guards": (
        "    for b, o, h:  s[b,h] += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, o, h:  t[h]   += u[b,o] * V[o,h]   if a[b,h] < 0\n"
    ),
    "written twice": (
        "    for b, o, h:  s[b,h] += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, o, h:  t[h]   += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, h:     s[b,h] += a[b,h]\n"
    ),
    "read between": (
        "    for b, o, h:  t[h]   += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for h:        z[h]   += t[h]\n"
        "    for b, o, h:  s[b,h] += u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, h:     s2[b,h] = s[b,h] + z[h]\n"
    ),
    "an extremum": (
        "    for b, o, h:  s[b,h] max= u[b,o] * V[o,h]   if a[b,h] > 0\n"
        "    for b, o, h:  t[h]   +=   u[b,o] * V[o,h]   if a[b,h] > 0\n"
    ),
}


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


@pytest.mark.parametrize("inside", ["a[b,h] + c[h]", "c[h] + a[b,h]"])
def test_the_gradient_of_a_bias_is_the_sum_of_what_it_is_added_to(inside: str) -> None:
    shown = scheduled(lg.program(MLP.format(inside)).backward())
    assert "c.grad[h] += a.grad[b,h]" in shown
    assert shown.count("y.grad[b,o] * V[o,h]") == 1


@pytest.mark.parametrize("name", [*ON_THE_WAY, *OTHERWISE])
@pytest.mark.parametrize("sizes", [(7, 5, 3), (1, 1, 1), (0, 3, 2), (4, 0, 5), (30, 20, 40)])
def test_it_comes_to_the_same(name: str, sizes: tuple[int, int, int]) -> None:
    body = {**ON_THE_WAY, **OTHERWISE}[name]
    head = HEAD.replace("t[H]:", "t[H], s2[B,H]:") if "s2" in body else HEAD
    program = lg.program(head + body)
    assert (
        ("t[h] += s[b,h]" in scheduled(program)) or ("t[h] -= s[b,h]" in scheduled(program))
    ) is (name in ON_THE_WAY)
    (B, O, H), rng = sizes, np.random.default_rng(0)
    inputs = [rng.normal(size=shape) for shape in ((B, O), (O, H), (B, H))]
    for found, wanted in zip(program(*inputs), literally(program)(*inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
