"""Bounds and declarations that inference finds again are left out of derived programs."""

from __future__ import annotations

import pytest

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
    program = parse(text)[-1]
    assert show_one(tidy(infer(program).program)) == text
