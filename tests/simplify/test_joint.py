"""A backward that computes its forward again, simplified: it stays whole, and the forward's equations hold."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.searching.cost import cost

GOLDEN = {
    "softmax": """
        for b, j:  e2[b,j]     += exp(s[b,j])
        for b, j:  Z[b]        += e2[b,j]
        for b, j:  e[b]        -= p.grad[b,j] * e2[b,j]
        for b, j:  s.grad[b,j] += e2[b,j] * (p.grad[b,j] + e[b] / Z[b]) / Z[b]
        """,
    # Problem 3's fifth statement is zero here, too.
    "batchnorm": """
        for b, j:  μ[j]        += x[b,j] / B
        for b, j:  s[j]        += (x[b,j] - μ[j])**2 / (B - 1)
        for b, j:  e[j]        -= x'.grad[b,j] * (x[b,j] - μ[j]) / (B - 1)
        for b, j:  e2[j]       -= x'.grad[b,j] / B
        for b, j:  x.grad[b,j] += (x'.grad[b,j] + e[j] / s[j] * (x[b,j] - μ[j]) + e2[j]) / sqrt(s[j])
        """,
    # The path through the maximum is dead; the result y is not computed for the row sum's sake.
    "attention": """
        for b, h, t, u, d:  s[b,h,t,u]      += q[b,h,t,d] * k[b,h,u,d] / sqrt(D)
        for b, h, t, u:     m[b,h,t]        max= s[b,h,t,u]
        for b, h, t, u:     e3[b,h,t,u]     += exp(s[b,h,t,u] - m[b,h,t])
        for b, h, t, u:     Z[b,h,t]        += e3[b,h,t,u]
        for b, h, t, u:     p[b,h,t,u]      += e3[b,h,t,u] / Z[b,h,t]
        for b, h, t, u, e:  p.grad[b,h,t,u] += v[b,h,u,e] * y.grad[b,h,t,e]
        for b, h, t, u, e:  v.grad[b,h,u,e] += p[b,h,t,u] * y.grad[b,h,t,e]
        for b, h, t, u:     e2[b,h,t]       -= p[b,h,t,u] * p.grad[b,h,t,u]
        for b, h, t, u:     s.grad[b,h,t,u] += p[b,h,t,u] * (p.grad[b,h,t,u] + e2[b,h,t])
        for b, h, t, u, d:  q.grad[b,h,t,d] += k[b,h,u,d] * s.grad[b,h,t,u] / sqrt(D)
        for b, h, t, u, d:  k.grad[b,h,u,d] += q[b,h,t,d] * s.grad[b,h,t,u] / sqrt(D)
        """,
}

REST = ("layer_norm", "ugrnn_cell", "softmax_cross_entropy", "swiglu", "ugrnn", "log_softmax")


def joint(name: str) -> tuple[lg.Program, lg.Program]:
    literal = getattr(lg.lib, name).backward(recompute=True)
    return literal, literal.simplify()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_simplified_whole_is(name: str) -> None:
    _, result = joint(name)
    body = str(result).partition(":\n")[2]
    assert textwrap.dedent(body) == textwrap.dedent(GOLDEN[name]).strip()


@pytest.mark.parametrize("name", [*GOLDEN, *REST])
def test_it_stays_whole(name: str) -> None:
    literal, result = joint(name)
    assert result.inputs == literal.inputs
    assert result.results == literal.results
    assert cost(result).value < cost(literal).value
    assert certify(literal, result, trials=3).kind == "agree"


def test_it_is_differentiated_again() -> None:
    literal, result = joint("softmax")
    assert lg.equal(literal.backward(recompute=True), result.backward(recompute=True))


def test_a_result_of_given_extents_is_a_local_of_them() -> None:
    forward = lg.program(
        "unpool(x[B,M], int at[B,M], size N) -> y[B,N]:\n"
        "    for b, m:  z[b,m]       += exp(x[b,m])\n"
        "    for b, m:  y[b,at[b,m]] += z[b,m] * z[b,m]\n"
    )
    literal = forward.backward(recompute=True)
    assert certify(literal, literal.simplify(), trials=3).kind == "agree"
