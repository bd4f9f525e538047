"""What is equal to 50 digits may have lost all of those that a float has."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import Certifier, certify
from loopgrad.simplify.searching.cost import cost

PLAIN = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]")
VARIANCE = lg.program(
    "f(x[N]) -> v:\n    m = mean[n](x[n] + 1e9)\n    v = mean[n]((x[n] + 1e9 - m)**2)"
)
CASES = {
    "the same": (PLAIN, PLAIN, True),
    "half a digit": (PLAIN, "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 10 - 10", True),
    "twelve digits": (PLAIN, "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 1e12 - 1e12", False),
    "an overflow": (
        PLAIN,
        "f(x[N]) -> y[N]:\n    for n:  y[n] = log(exp(x[n] + 800)) - 800",
        False,
    ),
    "a variance with an offset": (
        VARIANCE,
        "f(x[N]) -> v:\n    m = mean[n](x[n] + 1e9)\n    v = mean[n]((x[n] + 1e9)**2) - m**2",
        False,
    ),
    "the literal one is as bad": (
        lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 1e12 - 1e12"),
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] - 1e12 + 1e12",
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_digits_are_kept(name: str) -> None:
    before, text, keeps = CASES[name]
    after = text if isinstance(text, lg.Program) else lg.program(text)
    certifier = Certifier(before)
    assert certifier.compare(after).kind == "agree"
    assert certifier.keeps_digits(after) == keeps


HEADER = "f(x[B,I], z[C,I], s[B,C]) -> y[B,I]:\n"
KEPT = HEADER + "    for b, c, i:  y[b,i] += s[b,c] * (1 - tanh(x[b,i] + z[c,i])**2)"
# The sum of s in another order than that of the products: what is left is a rounding.
APART = (
    HEADER + "    for b, c < C, i:  y[b,i] += s[b,C-1-c]\n"
    "    for b, c, i:  y[b,i] -= s[b,c] * tanh(x[b,i] + z[c,i])**2"
)


def test_what_saturates_is_not_taken_apart() -> None:
    certifier = Certifier(lg.program(KEPT))
    assert certifier.compare(lg.program(APART)).kind == "agree"
    assert not certifier.keeps_digits(lg.program(APART))


# Some of these read a stored y, where 1 - y is as exact as y is; a loss on top of it still cancels.
SATURATING = {
    "tanh, and a softmax of its sum": (
        """
        f(x[B,I], z[C,I], w[I], int l[B]) -> L[B]:
            for b, c, i:  s[b,c] += w[i] * tanh(x[b,i] + z[c,i])
            for b, c:     Z[b]   += exp(s[b,c])
            for b, c:     p[b,c] += exp(s[b,c]) / Z[b]
            for b:        L[b]   -= log(p[b,l[b]])
        """,
        "for b, c, i:  x.grad[b,i]    += w[i] * s.grad[b,c] * (1 - e[b,c,i]**2)",
    ),
    "a stored tanh": (
        """
        f(x[B,I], z[C,I], w[I]) -> s[B,C]:
            for b, c, i:  y[b,c,i] = tanh(x[b,i] + z[c,i])
            for b, c, i:  s[b,c] += w[i] * y[b,c,i]
        """,
        "for b, c, i:  x.grad[b,i] += w[i] * s.grad[b,c] * (1 - y[b,c,i]**2)",
    ),
    "a sigmoid": (
        """
        f(x[B,I], z[C,I], w[I]) -> s[B,C]:
            for b, c, i:  s[b,c] += w[i] * sigmoid(x[b,i] + z[c,i])
        """,
        # As the literal loops have it, and not as 1 - sigmoid(x).
        "for b, c, i:  e[b,c,i]    += w[i] * s.grad[b,c] * sigmoid(-(x[b,i] + z[c,i])) * e2[b,c,i]",
    ),
}


@pytest.mark.parametrize("name", SATURATING)
def test_simplify_keeps_factors_that_vanish(name: str) -> None:
    text, line = SATURATING[name]
    forward = lg.program(textwrap.dedent(text))
    literal = forward.backward()
    result = literal.simplify()
    assert line in [shown.strip() for shown in str(result).splitlines()]
    assert certify(literal, result, forward).kind == "agree"
    assert cost(result).value < cost(literal).value
    assert all(step.certified for step in result.derivation.steps)


def test_additive_attention_keeps_its_factor() -> None:
    result = lg.lib.additive_attention.backward().simplify()
    assert "w[d] * s.grad[b,t,u] * (1 - e3[b,u,t,d]**2)" in str(result)
    assert all(step.certified for step in result.derivation.steps)
