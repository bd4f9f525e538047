"""The same program with other results."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from tests.frontend.test_unfold import program

RNG = np.random.default_rng(3)
SOFTMAX = """
    softmax(s[B,J]) -> p[B,J]:
        for b, j:  Z[b]   += exp(s[b,j])
        for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""


def test_computed_tensors_become_results_in_the_order_named() -> None:
    s = RNG.normal(size=(2, 3))
    total, p = lg.compile(program(SOFTMAX).returning("Z", "p"), backend="interpret")(s)
    assert np.allclose(total, np.exp(s).sum(1))
    assert np.allclose(p, np.exp(s) / total[:, None])
    assert str(program(SOFTMAX).returning("Z")).startswith("softmax(s[B,J]) -> Z[B]:\n    for b, j")


def test_the_same_results_are_the_same_program() -> None:
    softmax = program(SOFTMAX)
    assert softmax.returning("p") is softmax


def test_a_result_that_told_extents_becomes_a_local() -> None:
    """Without its declaration, `y[N+2]` would be `[N]`, and the range of `m` would be unknown."""
    text = """
        f(x[N]) -> y[N+2], z, w[4]:
            for n < N:  y[n] = x[n]
            for n < N + 2:  z += y[n]
            for m:  w[m] = m * 2
    """
    summed = program(text).returning("z")
    assert str(summed).splitlines()[1].strip() == "local y[N+2], w[4]"
    assert lg.compile(summed, backend="interpret")(np.array([1.0, 2.0])) == 3.0


def test_a_local_that_becomes_a_result_is_declared_once() -> None:
    text = """
        f(x[N], int w[N]) -> y:
            local h[5], int k[N]
            for n:  k[n] = w[n] % 5
            for n:  h[k[n]] += x[n]
            for i:  y += h[i]**2
    """
    counted = program(text).returning("h", "k")
    assert str(counted).splitlines()[0] == "f(x[N], int w[N]) -> h[5], k[N]:"
    h, k = lg.compile(counted, backend="interpret")(np.array([1.0, 2.0, 4.0]), np.array([7, 2, 3]))
    assert np.array_equal(h, [0, 0, 3, 4, 0])
    assert np.array_equal(k, [2, 2, 3])


def test_temporaries_of_equations_can_be_asked_for() -> None:
    text = "f(x[B,J]) -> y[B]:\n    y[b] = tanh(sum[j](x[b,j]))"
    x = RNG.normal(size=(2, 3))
    found = lg.compile(program(text).returning("y1", "y"), backend="interpret")(x)
    assert np.allclose(found, [x.sum(1), np.tanh(x.sum(1))])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("q",), "computes no tensor `q`"),
        (("z",), "did you mean `Z`"),
        (("s",), "is an input"),
        (("p", "p"), "twice"),
        ((), "none"),
    ],
)
def test_other_names_are_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        program(SOFTMAX).returning(*names)
