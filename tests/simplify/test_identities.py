"""Equalities of two programs as a chain; logarithms of products."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.simplify.reading.forms import equal_forms
from loopgrad.simplify.telling.identities import identity

HEAD = "f(P[N], Q[N]) -> H:\n    for n:  H += "


def programs(one: str, other: str) -> tuple[lg.Program, lg.Program]:
    return lg.program(HEAD + one), lg.program(HEAD + other)


def test_a_chain_goes_from_the_statements_of_one_to_those_of_the_other() -> None:
    p = lg.program(
        "f(x[B,N]) -> y[B]:\n    for b, n:  s[b] += x[b,n]\n    for b:  y[b] = s[b] / N + s[b]**2"
    )
    q = lg.program(
        "g(x[B,N]) -> y[B]:\n    for b, n:  m[b] += x[b,n] / N\n    for b:  y[b] = m[b] + (N * m[b])**2"
    )
    derivation = identity(p, q)
    assert derivation is not None and derivation.certified
    assert [step.rule for step in derivation] == ["put in s", "put in m", "collect"]
    (chain,) = derivation.chains
    assert str(chain).splitlines()[0] == "y[b] = s[b] / N + s[b]**2"
    here = chain.start
    for step in chain.steps:
        assert step.before == here
        here = step.after


def test_what_is_not_equal_has_no_chain() -> None:
    assert identity(*programs("P[n] * Q[n]", "P[n] - Q[n]")) is None
    assert identity(*programs("P[n] * Q[n]", "P[n] * Q[n] * N / N")) is not None


@pytest.mark.parametrize(
    "one, other",
    [
        ("log(P[n] / Q[n])   if P[n] > 0", "log(P[n]) - log(Q[n])   if P[n] > 0"),
        ("log(P[n] * Q[n])   if 0 < P[n]", "log(P[n]) + log(Q[n])   if 0 < P[n]"),
        ("log(exp(P[n]) * Q[n])", "P[n] + log(Q[n])"),
        ("log(P[n]**2 * Q[n])   if P[n] > 0", "2 * log(P[n]) + log(Q[n])   if P[n] > 0"),
        ("log(Q[n]**3 * P[n])   if P[n] > 0", "3 * log(Q[n]) + log(P[n])   if P[n] > 0"),
    ],
)
def test_a_logarithm_comes_apart_where_a_factor_is_above_0(one: str, other: str) -> None:
    p, q = programs(one, other)
    assert equal_forms(p, q) and lg.equal(p, q).verdict == "proved"


@pytest.mark.parametrize(
    "one, other",
    [
        # Both may be below 0; P may be 0; the guard is of another tensor; Q**2 is above 0 where Q is not.
        ("log(P[n] / Q[n])", "log(P[n]) - log(Q[n])"),
        ("log(P[n] * Q[n])   if P[n] >= 0", "log(P[n]) + log(Q[n])   if P[n] >= 0"),
        ("log(P[n] * Q[n]**2)   if P[n] > 0", "log(P[n]) + 2 * log(Q[n])   if P[n] > 0"),
        ("log(P[n] + Q[n])   if P[n] > 0", "log(P[n]) + log(Q[n])   if P[n] > 0"),
    ],
)
def test_a_logarithm_stays_whole_elsewhere(one: str, other: str) -> None:
    p, q = programs(one, other)
    assert not equal_forms(p, q) and lg.equal(p, q).verdict != "proved"
