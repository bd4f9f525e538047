"""Recurrent networks of any cell, against one program over time and against formulas."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf

T, B, J, K = 6, 5, 4, 3
Squares = edf.component(lg.lib.squared_error)
CELLS = [
    name
    for name in lg.lib
    if name.endswith("_cell")
    and {i.name for i in lg.lib[name].inputs if i.kind == "input"} <= set("hcx")
]
OVER_TIME = [cell.removesuffix("_cell") for cell in CELLS if cell.removesuffix("_cell") in lg.lib]
QUICK = ("ugrnn", "lstm", "mingru")


def sequence(T: int = T, width: int = K) -> list[edf.Input]:
    random = np.random.default_rng(0)
    return [edf.Input(f"x{t}", random.normal(size=(B, width))) for t in range(T)]


def target(width: int = J) -> edf.Input:
    return edf.Input("target", np.random.default_rng(1).normal(size=(B, width)))


def model_of(H: Any) -> edf.Model:
    goal = target()
    return edf.Model(edf.Sum(*(Squares(h, goal) for h in H)))


def test_the_equations() -> None:
    """With a cell that only writes down what it was given."""
    X = list("abc")
    assert edf.RNN(lambda Phi, x, h: (Phi, x, h), "Phi", X, "0") == [
        ("Phi", "a", "0"),
        ("Phi", "b", ("Phi", "a", "0")),
        ("Phi", "c", ("Phi", "b", ("Phi", "a", "0"))),
    ]
    assert edf.RNN(lambda Phi, x, h: x, None, [], "0") == []


@pytest.mark.parametrize("name", OVER_TIME)
def test_a_chain_of_cells_is_the_program_over_time(name: str) -> None:
    if name not in QUICK and not os.environ.get("LOOPGRAD_FULL"):
        pytest.skip("LOOPGRAD_FULL=1 runs it")
    cell, program = lg.lib[f"{name}_cell"], lg.lib[name]
    random = np.random.default_rng(2)
    Phi = edf.initial(cell, random, J=J, K=K)
    X = sequence()
    ZERO = tuple(edf.Input(r.name[0], random.normal(size=(B, J))) for r in cell.results)
    chain = model_of(edf.outputs(edf.RNN(cell, Phi, X, ZERO)))
    chain.forward()
    chain.backward()
    gradients = {name: p.grad for name, p in Phi.parameters().items()}
    of_inputs, of_zero = np.stack([x.grad for x in X]), [zero.grad for zero in ZERO]

    Error = edf.component(
        "error(h[T,B,J], y[B,J]) -> L[B]:\n    for t, b, j:  L[b] += (h[t,b,j] - y[b,j])**2 / J"
    )
    Xs = edf.Input("X", np.stack([x.value for x in X]))
    H = edf.component(program)(Phi, Xs, *ZERO)
    one = edf.Model(Error(H[0] if isinstance(H, tuple) else H, target()))
    one.forward()
    one.backward()
    tight = {"rtol": 1e-11, "atol": 1e-13}
    np.testing.assert_allclose(one.loss.value, chain.loss.value, **tight)
    np.testing.assert_allclose(Xs.grad, of_inputs, **tight)
    for zero, gradient in zip(ZERO, of_zero, strict=True):
        np.testing.assert_allclose(zero.grad, gradient, **tight)
    for name, p in Phi.parameters().items():
        np.testing.assert_allclose(p.grad, gradients[name], err_msg=name, **tight)


def test_a_cell_that_returns_more_than_its_state_needs_a_function_around_it() -> None:
    with pytest.raises(ValueError, match="it is not plain which of"):
        edf.cell(lg.lib.selective_scan_cell)
    with pytest.raises(ValueError, match="an input for each of `h'` and `y`, got `h`"):
        edf.cell(lg.lib.selective_scan_cell, state="h")


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_the_library(name: str) -> None:
    program = getattr(lg.lib, name)
    Phi = edf.initial(program, 3, J=J, K=K)
    X = sequence(3)
    H = edf.RNN(program, Phi, X, edf.Zeros(X[0], size=J))
    assert len(H) == 3
    report = model_of(edf.outputs(H)).verify()
    assert report, str(report)
    assert {c.component for c in report.comparisons} >= {name, "the whole"}


def test_there_are_the_cells_that_are_promised() -> None:
    promised = {"rnn", "ugrnn", "gru", "lstm", "mingru"}
    assert promised <= set(OVER_TIME) and set(QUICK) < promised


def test_the_state_of_the_lstm_is_a_pair() -> None:
    def σ(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    Phi = edf.initial(lg.lib.lstm_cell, 3, J=J, K=K)
    X = sequence()
    ZERO = (edf.Input("h", np.ones((B, J))), edf.Input("c", np.zeros((B, J))))
    H = edf.RNN(lg.lib.lstm_cell, Phi, X, ZERO)
    edf.Model(H[-1][0]).forward()
    h, c = ZERO[0].value, ZERO[1].value
    v = {name: p.value for name, p in Phi.parameters().items()}
    for x in X:
        a = {g: h @ v["Wh" + g].T + x.value @ v["Wx" + g].T - v["B" + g] for g in "IFOG"}
        c = σ(a["F"]) * c + σ(a["I"]) * np.tanh(a["G"])
        h = σ(a["O"]) * np.tanh(c)
    np.testing.assert_allclose(H[-1][0].value, h, rtol=1e-12)
    np.testing.assert_allclose(H[-1][1].value, c, rtol=1e-12)


def test_a_users_cell_as_a_function() -> None:
    Affine, Tanh = edf.component(lg.lib.affine), edf.component(lg.lib.tanh_layer)

    def CELL(Phi: Any, X: Any, H: Any) -> Any:
        return Tanh(edf.Add(Affine(Phi.h, H), Affine(Phi.x, X)))

    Phi = edf.Package(
        h=edf.initial(lg.lib.affine, 1, I=J, J=J), x=edf.initial(lg.lib.affine, 2, I=K, J=J)
    )
    X = sequence()
    model = model_of(edf.RNN(CELL, Phi, X, edf.Zeros(X[0], size=J)))
    assert model.verify()
    assert [p.name for p in model.parameters] == ["h.W", "h.c", "x.W", "x.c"]


def test_a_users_cell_as_a_text_and_as_a_class() -> None:
    text = (
        "leaky(u[B,K], s[B,J], param W[J,K], keep = 0.5) batch B -> out[B,J]:\n"
        "    out[b,j] = keep * s[b,j] + (1 - keep) * tanh(W[j,K] * u[b,K])"
    )

    class Leaky:
        def forward(self, u: Any, s: Any, W: Any) -> Any:
            self.u, self.W, self.h = u, W, np.tanh(u @ W.T)
            return 0.5 * s + 0.5 * self.h

        def backward(self, gradient: Any) -> Any:
            inner = 0.5 * gradient * (1 - self.h**2)
            return inner @ self.W, 0.5 * gradient, inner.T @ self.u

    Phi = edf.initial(text, 0, J=J, K=K)
    X, ZERO = sequence(), edf.Input("zero", np.ones((B, J)))
    found = []
    for cell in (
        text,
        edf.cell(text),
        edf.component(text),
        edf.cell(edf.component(Leaky), state="s"),
    ):
        model = model_of(edf.RNN(cell, Phi, X, ZERO))
        model.forward()
        model.backward()
        found.append((model.loss.value, Phi.W.grad, X[0].grad, ZERO.grad))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_where_it_is_not_plain_what_the_state_is() -> None:
    text = "f(a[B,J], b[B,J]) -> y[B,J]:\n    for b', j:  y[b',j] = a[b',j] + 2 * b[b',j]"
    with pytest.raises(
        ValueError, match=r"f: it is not plain which of `a` and `b` is the state before `y`"
    ):
        edf.cell(text)
    with pytest.raises(
        ValueError, match="f: the state has to be an input for each of `y`, got `c`"
    ):
        edf.cell(text, state=["c"])
    CELL = edf.cell(text, state=["b"])
    X = sequence(2, J)
    H = edf.RNN(CELL, edf.Package(), X, edf.Input("zero", np.ones((B, J))))
    edf.Model(H[1]).forward()
    np.testing.assert_allclose(H[1].value, X[1].value + 2 * (X[0].value + 2))


def test_on_top_of_each_other() -> None:
    random = np.random.default_rng(0)
    X = sequence()
    PHIS = [
        edf.initial(lg.lib.gru_cell, random, J=J, K=K),
        edf.initial(lg.lib.gru_cell, random, J=J, K=J),
    ]
    ZERO = edf.Zeros(X[0], size=J)
    H = edf.stacked(lg.lib.gru_cell, PHIS, X, ZERO)
    below = edf.RNN(lg.lib.gru_cell, PHIS[0], X, ZERO)
    above = edf.RNN(lg.lib.gru_cell, PHIS[1], below, ZERO)
    model = model_of(H)
    assert model.verify()
    edf.Model(above[-1]).forward()
    np.testing.assert_array_equal(above[-1].value, H[-1].value)


def test_different_cells_on_top_of_each_other() -> None:
    random = np.random.default_rng(0)
    X = sequence()
    PHIS = [
        edf.initial(lg.lib.lstm_cell, random, J=J, K=K),
        edf.initial(lg.lib.rnn_cell, random, J=2, K=J),
    ]
    ZEROS = [edf.Zeros(X[0], size=J), edf.Zeros(X[0], size=2)]
    H = edf.stacked([lg.lib.lstm_cell, lg.lib.rnn_cell], PHIS, X, ZEROS)
    assert edf.Model(H[-1]).forward().shape == (B, 2)
    with pytest.raises(ValueError):
        edf.stacked([lg.lib.lstm_cell], PHIS, X, ZEROS)


def test_residual() -> None:
    random = np.random.default_rng(0)
    X = sequence(3, J)
    PHIS = [edf.initial(lg.lib.rnn_cell, random, J=J, K=J) for _ in range(2)]
    ZERO = edf.Zeros(X[0], size=J)
    Y = edf.stacked(lg.lib.rnn_cell, PHIS, X, ZERO, skip=True)
    H = edf.RNN(lg.lib.rnn_cell, PHIS[0], X, ZERO)
    G = edf.residual(X, H)
    Z = edf.residual(G, edf.RNN(lg.lib.rnn_cell, PHIS[1], G, ZERO))
    assert model_of(Y).verify()
    edf.Model(Z[2]).forward()
    np.testing.assert_array_equal(Z[2].value, Y[2].value)
    np.testing.assert_array_equal(G[1].value, X[1].value + H[1].value)


def test_in_both_directions() -> None:
    random = np.random.default_rng(0)
    X = sequence()
    PHIS = [edf.initial(lg.lib.rnn_cell, random, J=2, K=K) for _ in range(2)]
    ZERO = edf.Zeros(X[0], size=2)
    H = edf.bidirectional(lg.lib.rnn_cell, PHIS, X, ZERO)
    assert model_of(H).verify()  # of width 4
    v = {name: p.value for name, p in PHIS[1].parameters().items()}
    h = np.zeros((B, 2))
    for t in reversed(range(T)):
        h = np.tanh(h @ v["Wh"].T + X[t].value @ v["Wx"].T - v["c"])
        np.testing.assert_allclose(H[t].value[:, 2:], h, rtol=1e-12)


def test_batches_may_change_size_with_zeros_that_follow() -> None:
    Phi = edf.initial(lg.lib.gru_cell, 0, J=J, K=K)
    X = sequence(3)
    H = edf.RNN(lg.lib.gru_cell, Phi, X, edf.Zeros(X[0], size=J))
    model = edf.Model(H[-1])
    for examples in (5, 2, 0, 9):
        for x in X:
            x.value = np.ones((examples, K))
        assert model.forward().shape == (examples, J)


def test_long_sequences() -> None:
    """Far deeper than Python's recursion goes."""
    random = np.random.default_rng(0)
    Phi = edf.initial(lg.lib.ugrnn_cell, 0, J=J, K=K)
    steps = 5000
    X = [edf.Input(f"x{t}", x) for t, x in enumerate(random.normal(size=(steps, 2, K)))]
    ZERO = edf.Input("zero", np.zeros((2, J)))
    H = edf.RNN(lg.lib.ugrnn_cell, Phi, X, ZERO)
    model = edf.Model(Squares(H[-1], edf.Input("t", np.zeros((2, J)))))
    model.forward()
    model.backward()
    whole, pullback = lg.vjp(
        lg.lib.ugrnn,
        np.stack([x.value for x in X]),
        ZERO.value,
        *(p.value for p in Phi.parameters().values()),
    )
    seed = np.zeros_like(whole)
    seed[-1] = 2 * whole[-1] / J
    np.testing.assert_allclose(H[-1].value, whole[-1], rtol=1e-12)
    for p, gradient in zip(Phi.parameters().values(), pullback(seed)[2:], strict=True):
        np.testing.assert_allclose(p.grad, gradient, rtol=1e-9, atol=1e-12)
