"""A loss and its gradients as one program."""

from __future__ import annotations

import numpy as np

import loopgrad as lg
from loopgrad.functions.losses import Joint
from loopgrad.grad.seeding import loss_and_gradients

LOSS = """loss(x[B,J], param w[J], y[B]) -> L:
    for b, j:  p[b] += x[b,j] * w[j]
    for b:     L += (p[b] - y[b]) ** 2 / B"""


def test_the_seed_is_one_and_no_input() -> None:
    program = lg.program(LOSS)
    both = loss_and_gradients(program, program.backward("w"))
    assert str(both) == (
        "loss.backward(x[B,J], param w[J], y[B]) -> L, w.grad[J]:\n"
        "    local p[B]\n"
        "    for b < B, j < J:  p[b]      += x[b,j] * w[j]\n"
        "    for b < B:         L         += (p[b] - y[b])**2 / B\n"
        "    for b < B:         p.grad[b] += 2 * (p[b] - y[b]) / B\n"
        "    for b < B, j < J:  w.grad[j] += p.grad[b] * x[b,j]"
    )


def test_what_an_index_goes_over_in_the_loss_it_need_not_in_its_backward() -> None:
    """`φ.grad[2*M]` of the backward says nothing of the forward's bare `m` in `φ[m]`."""
    program = lg.program("""f(x[N], s[M]) -> y:
    for m, n:  z[m] += x[n] * s[m]
    for m:     φ[m] = sin(z[m])
    for m:     φ[M+m] = cos(z[m])
    for c < 2*M:  y += φ[c]**2 * c""")
    x, s = np.arange(3.0) / 7, np.arange(4.0) / 5
    y, gradients = lg.value_and_grad(program)(x, s)
    result, pullback = lg.vjp(program, x, s)
    np.testing.assert_allclose(y, result, rtol=1e-12)
    for got, wanted in zip(gradients, pullback(1.0), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_one_kernel_gives_what_two_give() -> None:
    program = lg.program(LOSS)
    rng = np.random.default_rng(0)
    x, w, y = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=5)
    value, gradients = lg.value_and_grad(program)(x, w, y)
    result, pullback = lg.vjp(program, x, w, y)
    np.testing.assert_allclose(value, result, rtol=1e-12)
    for got, wanted in zip(gradients, pullback(1.0), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_sizes_and_integers_are_passed_on() -> None:
    program = lg.program(
        "spread(x[N], int g[N], size M) batch N -> y[N]:\n    y[n] = x[n] * (1 + g[n]) / M"
    )
    assert Joint(program, ("x",), None).kernel is not None
    value, gradient = lg.value_and_grad(program, "x")(np.ones(3), [0, 1, 2], M=2)
    assert value.tolist() == [0.5, 1.0, 1.5]
    np.testing.assert_allclose(gradient, [0.5, 1.0, 1.5])


def test_an_input_that_no_result_hangs_on_has_a_gradient_of_zeros() -> None:
    program = lg.program("half(x[N], z[N]) -> L:\n    L += x[n] / 2 + 0 * stop_gradient(z[n])")
    value, (x, z) = lg.value_and_grad(program)([1.0, 3.0], [1.0, 1.0])
    assert value == 2.0
    assert x.tolist() == [0.5, 0.5]
    assert z.tolist() == [0.0, 0.0]
