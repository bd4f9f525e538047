"""Where a sum has no terms it is 0: nothing that is taken out of it may make that no number."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.simplify.certifying.certificate import Certifier
from loopgrad.simplify.certifying.edges import at_empty_axes_alone, empty_axes
from loopgrad.simplify.reading.empty_sums import EmptySums
from loopgrad.simplify.searching.cost import cost

NORM = """
    f(v[J,I], g[J], u[J,I], eps = 1e-5) -> W[J,I]:
        for j, i:  q[j]   += v[j,i]**2
        for j, i:  r[j,i] += v[j,i] / sqrt(q[j])
        for j, i:  W[j,i] += g[j] * u[j,i] * r[j,i] / sqrt(q[j] + eps)
    """
LOW_RANK = """
    f(x[B,I], U[J,R], V[R,I], W[J,I]) -> y[B,J]:
        for b, r, i:  z[b,r] += V[r,i] * x[b,i]
        for b, j, r:  y[b,j] += U[j,r] * z[b,r] / R
        for b, j, i:  y[b,j] += W[j,i] * x[b,i]
    """
MEAN = """
    f(x[B,J], g[J], h[J], m[J]) -> y[B,J]:
        for b, j:  y[b,j] += (exp(g[j]) + h[j]) * (x[b,j] - m[j]) / B
    """
DISTANCE = """
    f(x[B,J], g[B], h[B]) -> y[B,J]:
        for b, j:  s[b]   += x[b,j]**2
        for b, j:  y[b,j] += g[b] * h[b] * x[b,j] * log(s[b])
    """


@pytest.mark.parametrize("text", [NORM, LOW_RANK, MEAN, DISTANCE])
def test_the_simplified_backward_is_what_the_literal_one_is(text: str) -> None:
    forward = lg.program(textwrap.dedent(text))
    literal = forward.backward()
    certifier = Certifier(literal, forward)
    draws = empty_axes(certifier.extents, 0)
    assert [d.none for d in draws] == list(certifier.extents)
    assert certifier.counterexample(literal.simplify(), draws) is None


def test_it_is_simplified_without_what_needs_an_element() -> None:
    """`sum[j](q) = 1` would leave log(Z), infinite without a j, in T.grad: the rest is simplified."""
    forward = lg.program(
        textwrap.dedent("""
        distil(s[B,J], t[B,J], T) -> L:
            for b, j:  Z[b]   += exp(s[b,j] / T)
            for b, j:  Y[b]   += exp(t[b,j] / T)
            for b, j:  q[b,j] += exp(t[b,j] / T) / Y[b]
            for b, j:  L      += T**2 * q[b,j] * (log(q[b,j]) - s[b,j] / T + log(Z[b])) / B
        """)
    )
    literal = forward.backward()
    result = literal.simplify()
    assert cost(result).value < cost(literal).value
    assert "t.grad[b,j] += q[b,j] * (q.grad[b,j] + e[b]) / T" in str(result)
    certifier = Certifier(literal, forward)
    assert certifier.counterexample(result, empty_axes(certifier.extents)) is None


def test_a_size_outside_of_its_sum_is_found() -> None:
    forward = lg.program(textwrap.dedent(LOW_RANK))
    literal = forward.backward()
    wrong = f"""{str(literal).partition(":")[0]}:
        for b, r, j:  U.grad[j,r] += z[b,r] * y.grad[b,j] / R
        for b, r, j:  e[b,r]      += U[j,r] * y.grad[b,j]
        for b, r, i:  V.grad[r,i] += x[b,i] * e[b,r] / R
        for b, j, i:  W.grad[j,i] += x[b,i] * y.grad[b,j]
        for r, j, i:  e2[j,i]     += U[j,r] * V[r,i]
        for b, j, i:  x.grad[b,i] += y.grad[b,j] * (W[j,i] + e2[j,i] / R)
        """
    answer = lg.equal(literal, wrong)
    assert answer.verdict == "tested"
    assert "empty axes" in answer.reason


def test_what_may_go_out_of_a_sum() -> None:
    program = lg.program(textwrap.dedent(NORM))
    empty = EmptySums(infer(program).program.statements)
    assert empty.sums == {"q": {"I"}, "r": {"I"}, "W": {"I"}}
    assert empty.divided == {"r", "W"}

    def defined(value: str, *extents: str) -> bool:
        read = [f"{name}[J]" for name in "qrgW" if f"{name}[j]" in value]
        read += ["eps = 1e-5"] if "eps" in value else []
        text = f"f({', '.join(read)}) -> y[J]:\n    for j:  y[j] = {value}"
        (statement,) = lg.program(text).statements
        return empty.defined(statement.value, extents)  # type: ignore[union-attr]

    assert defined("g[j] / sqrt(q[j] + eps)", "I")
    assert defined("q[j] * exp(q[j]) / 2", "I")
    assert defined("g[j] / q[j]", "J")
    assert not defined("g[j] / (2 * sqrt(q[j]))", "I")
    assert not defined("g[j] * q[j]**-1.5", "I")
    assert not defined("g[j] * log(q[j])", "I")
    assert not defined("g[j] / J", "J")
    assert not defined("W[j]", "I")
    assert defined("q[j]**2", "I")


def test_statements_that_run_over_empty_axes_alone_are_not_waited_for() -> None:
    last = """
    f(x[T,J], h[J]) -> y[J]:
        for j:  y[j] = x[T-1,j]   if T > 0
        for j:  y[j] += h[j]      if T <= 0
        for j:  y[j] += 2 * h[j]  if T <= 1
        for j:  y[j] += 3 * h[j]  if J < 1 or T < 1
    """
    program = lg.program(textwrap.dedent(last))
    facts = infer(program)
    never = at_empty_axes_alone(facts)
    assert [id(s) in never for s in facts.program.statements] == [False, True, False, True]
    verdict = Certifier(program).compare(lg.program(textwrap.dedent(last)))
    assert verdict.kind == "agree"
    other = lg.program(textwrap.dedent(last).replace("2 * h[j]", "4 * h[j]"))
    assert Certifier(program).compare(other).kind == "differ"
