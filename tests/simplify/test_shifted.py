"""Recurrences that write the next element, `h[t+1] = ...`: what the forward says of it is put to use."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify

BACKWARD = {
    "a network that keeps h0": (
        """
        rnn(x[T,B,K], h0[B,J], W[J,J'], V[J,K]) -> h[T+1,B,J]:
            for b, j:  h[0,b,j] = h0[b,j]
            for t < T:
                for b, j, i:  a[t,b,j] += W[j,i] * h[t,b,i]
                for b, j, k:  a[t,b,j] += V[j,k] * x[t,b,k]
                for b, j:     h[t+1,b,j] = tanh(a[t,b,j])
        """,
        "for b, j:     a.grad[t,b,j]  += h.grad'[t+1,b,j] * (1 - h[t+1,b,j]**2)",
    ),
    "layers by times": (
        """
        layers(x[T,J], W[L,J,J'], U[L,J,J']) -> y[T,J]:
            local h[L+1,T+1,J]
            for t, j:  h[0,t+1,j] = x[t,j]
            for l < L, t < T:
                for j, i:  a[l,t,j] += W[l,j,i] * h[l,t+1,i] + U[l,j,i] * h[l+1,t,i]
                for j:     h[l+1,t+1,j] = tanh(a[l,t,j])
            for t, j:  y[t,j] = h[L,t+1,j]
        """,
        "for j:     a.grad[l,t,j]   += h.grad[l+1,t+1,j] * (1 - h[l+1,t+1,j]**2)",
    ),
    # No equation for one factor of it, but its tanh is called once at each turn.
    "a gate": (
        """
        gated(x[T,J], g[T,J], U[J,J']) -> h[T+1,J]:
            for j:  h[0,j] = 0
            for t < T:
                for j, i:  a[t,j] += U[j,i] * h[t,i]
                for j:     h[t+1,j] = g[t,j] * x[t,j] + (1 - g[t,j]) * tanh(a[t,j])
        """,
        "for j:     e[t,j]       += tanh(a[t,j])",
    ),
}

# a[t] goes on beyond the turns of the block, where h[t+1] is not what the block would have made it.
SHORT = """
    short(a[N,J]) -> h[N+1,J], y:
        for j:  h[0,j] = 0
        for t < N-1:
            for j:  h[t+1,j] = tanh(a[t,j]) + 0 * h[t,j]
        for n, j:  y += tanh(a[n,j])
    """


@pytest.mark.parametrize("name", BACKWARD)
def test_a_backward_reads_the_next_element(name: str) -> None:
    text, line = BACKWARD[name]
    forward = lg.program(textwrap.dedent(text))
    literal = forward.backward()
    result = literal.simplify()
    assert line in [shown.strip() for shown in str(result).splitlines()]
    assert certify(literal, result, forward, trials=3).kind == "agree"


def test_an_equation_holds_where_the_block_has_turns() -> None:
    forward = lg.program(textwrap.dedent(SHORT))
    literal = forward.backward()
    result = literal.simplify()
    assert "h[" not in str(result).partition(":\n")[0].partition("h.grad")[0]
    assert certify(literal, result, forward, trials=3).kind == "agree"
