"""One assertion per stage, in the order of the flow: the first test to read, and to run."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate

TEXT = """\
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]"""

SOFTMAX = lg.program(TEXT)
S = np.random.default_rng(0).normal(size=(2, 3))
P = np.exp(S) / np.exp(S).sum(1, keepdims=True)


def test_a_text_is_parsed_and_printed() -> None:
    assert str(SOFTMAX) == TEXT
    assert lg.program(str(SOFTMAX)) == SOFTMAX


def test_equations_unfold_into_loops() -> None:
    equation = lg.program("affine(W[J,I], x[I], c[J]) -> y[J]:\n    y[j] = W[j,I] * x[I] - c[j]")
    assert str(equation.unfold()).splitlines()[1:] == [
        "    for j, i:  y[j] += W[j,i] * x[i]",
        "    for j:     y[j] -= c[j]",
    ]


def test_what_the_writer_left_out_is_inferred() -> None:
    tensors = infer(SOFTMAX).tensors
    assert [(t.name, t.role, t.rank) for t in tensors.values()] == [
        ("s", "input", 2),
        ("Z", "temporary", 1),
        ("p", "result", 2),
    ]


def test_the_rules_are_proved() -> None:
    assert not validate(SOFTMAX).tracked


def test_a_mistake_is_shown_with_its_place() -> None:
    with pytest.raises(lg.ProgramError) as caught:
        lg.program(TEXT.replace("/ Z[b]", "/ Y[b]"))
    assert (caught.value.line, caught.value.column) == (3, 40)


def test_the_backward_is_a_program() -> None:
    assert (
        str(SOFTMAX.backward())
        == """\
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])"""
    )


def test_the_reference_runs_it() -> None:
    np.testing.assert_allclose(lg.compile(SOFTMAX, backend="interpret")(S), P, rtol=1e-14)


def test_compiled_it_computes_the_same() -> None:
    np.testing.assert_allclose(SOFTMAX(S), P, rtol=1e-13)


def test_its_derivative_is_right() -> None:
    seed = np.random.default_rng(1).normal(size=P.shape)
    _, pullback = lg.vjp(SOFTMAX, S)
    expected = P * (seed - (P * seed).sum(1, keepdims=True))
    np.testing.assert_allclose(pullback(seed)[0], expected, rtol=1e-12)
