"""Bounds and declarations that inference finds again are left out of derived programs."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import tidy
from loopgrad.frontend.parser import parse
from loopgrad.ir.printer import show_one

TIDY = [
    """\
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]""",
    # The range of a reversed loop is not that of its axis; neither is a triangle's.
    """\
f(x[T], q[N,N]) -> h[T], y[N]:
    for t < T-1 descending:
        h[t] = x[t] + h[t+1]
    for n, m <= n:  y[n] += q[n,m]""",
    # A scatter's target has to be declared, and an index says that it is one.
    """\
f(x[N], int w[N], size V) -> y:
    local s[V], int k[N]
    for n:  s[w[n]] += x[n]
    for n:  k[n]    = w[n]
    for n:  y       += x[k[n]]""",
]


@pytest.mark.parametrize("text", TIDY)
def test_spelling_out_and_tidying_is_the_identity(text: str) -> None:
    facts = infer(parse(text)[-1])
    assert show_one(tidy(facts.program, facts)) == text


def test_a_derived_program_asks_no_more_of_a_call_than_its_source() -> None:
    """Bare, `i` would make N and M one extent, and a call with two would be refused."""
    program = lg.program(
        "f(x[N], y[M]) -> z:\n    for i < N:  z += x[i] * (y[i] if i < M else 0)\n"
    )
    x, y = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])
    _, pullback = lg.vjp(program, x, y)
    given, other = pullback(2.0)
    np.testing.assert_array_equal(given, [8.0, 10.0, 0.0])
    np.testing.assert_array_equal(other, [2.0, 4.0])


def test_one_conflict_leaves_the_other_ranges_bare() -> None:
    program = lg.program(
        "f(x[N,3], y[N,2]) -> z[N]:\n"
        "    for n, k < 2:  z[n] += x[n,k] * y[n,k]\n"
        "    for n, i:      z[n] += x[n,i]\n"
    )
    heads = [line.strip().split(":")[0] for line in str(program.backward()).splitlines()[1:]]
    assert heads == ["for n, i", "for n, k < 2", "for n, k < 2"]
