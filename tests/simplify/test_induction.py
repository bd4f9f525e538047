"""Recurrences proved equal, and what is not proved of them."""

from __future__ import annotations

import random

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.reading.induction import equal_by_induction
from tests.simplify.mutations import mutations
from tests.simplify.test_blocks import forward_of

RNN = """rnn(x[T,B,J], W[J,J], c[J]) -> h[T,B,J]:
    for t:
        for b, j:     a[t,b,j] += x[t,b,j] + c[j]
        for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i]   if t > 0
        for b, j:     h[t,b,j] = tanh(a[t,b,j])"""
OTHERWISE = """rnn(x[T,B,J], W[J,J], c[J]) -> h[T,B,J]:
    for t:
        for b, j, i:  s[t,b,j] += (W[j,i] * h[t-1,b,i] if t > 0 else 0)
        for b, j:     h[t,b,j] = tanh(c[j] + x[t,b,j] + s[t,b,j])"""


def test_another_way_to_write_a_recurrence() -> None:
    answer = lg.equal(RNN, OTHERWISE)
    assert answer.verdict == "proved" and answer.reason == ""
    for wrong in (("c[j] + x", "c[j] - x"), ("W[j,i] * h", "W[i,j] * h"), ("if t > 0", "if t > 1")):
        assert lg.equal(RNN, OTHERWISE.replace(*wrong)).verdict == "refuted"
        assert not equal_by_induction(lg.program(RNN), lg.program(OTHERWISE.replace(*wrong)))


@pytest.mark.parametrize("name", ["an LSTM", "both directions", "a selective scan"])
def test_the_simplified_backward_of_a_recurrence(name: str) -> None:
    literal = forward_of(name).backward()
    assert lg.equal(literal, literal.simplify()).verdict == "proved"


def test_a_check_of_a_recurrence() -> None:
    forward = lg.program(RNN)
    assert lg.check(forward, str(forward.backward().simplify())).method == "proved"


# Equal, and not to be proved so: what is passed on may be no number, or infinite, or read out of range.
UNPROVED = {
    "a logarithm": ("x[t] + log(h[t-1]) if t > 0 else x[t]", "log(h[t-1]) + x[t] if t > 0 else x[t]"),
    "a division": ("x[t] / h[t-1] if t > 0 else x[t]", "h[t-1]**-1 * x[t] if t > 0 else x[t]"),
    "an infinity": ("max(-inf, x[t]) + (h[t-1] if t > 0 else 0)", "(h[t-1] if t > 0 else 0) + max(-inf, x[t])"),
    "a gather": ("x[t] + h[g[t]] if t > 0 else x[t]", "h[g[t]] + x[t] if t > 0 else x[t]"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNPROVED)
def test_what_is_not_proved(name: str) -> None:
    header = "f(x[T], int g[T]) -> h[T]:" if name == "a gather" else "f(x[T]) -> h[T]:"
    one, other = (f"{header}\n    for t:\n        h[t] = {value}" for value in UNPROVED[name])
    assert not equal_by_induction(lg.program(one), lg.program(other))
    assert lg.equal(one, other).verdict == "tested"


@pytest.mark.parametrize("name", ["a GRU", "a selective scan", "what is the same at each turn"])
def test_no_fault_is_proved_right(name: str) -> None:
    forward = forward_of(name)
    for program, of in ((forward, None), (forward.backward(), forward)):
        every = list(mutations(program.unfold()))
        for _, wrong in random.Random(name).sample(every, 4):
            if equal_by_induction(program, wrong, of):
                assert certify(program, wrong, of, symmetric=True).kind == "agree"
