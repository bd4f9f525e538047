"""Every program of `lg.lib`: its values against a NumPy formula, its gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import erf, expit, log_softmax, logsumexp, softmax

import loopgrad as lg
from loopgrad.ir.nodes import Extent, Number
from tests.derivatives import check_backward

SIZES = {"B": 4, "J": 3, "J'": 3, "I": 5, "K": 6, "T": 5, "U": 3, "H": 2, "D": 3, "E": 2, "V": 7}
SIZES |= {"N": 5, "C": 4, "G": 2, "O": 3, "X": 8, "Y": 7, "DX": 3, "DY": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "group_norm": {"G": 2},
    "conv1d": {"stride": 2},
    "conv2d": {"stride": 2, "padding": 1, "dilation": 2},
    "conv_transpose1d": {"stride": 3},
    "max_pool2d": {"width": 3},
    "mean_pool2d": {"width": 2},
    "huber": {"delta": 0.7},
    "hinge": {"margin": 1.5},
    "swish": {"beta": 1.3},
    "elu": {"alpha": 0.6},
    "leaky_relu": {"slope": 0.1},
}
NAMES = sorted(lg.lib)


def inputs_of(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Random inputs, distinct extents, positive where the program wants it."""
    values: dict[str, Any] = {}
    for i in lg.lib[name].inputs:
        shape = []
        for e in i.extents:
            assert isinstance(e, Extent | Number), "the library's inputs have named extents"
            shape.append(SIZES[e.name] if isinstance(e, Extent) else int(e.value))
        if i.kind == "int":
            values[i.name] = rng.integers(0, 3, shape)
        elif i.name in ("P", "Q"):
            # Need not sum to 1; away from 0, where differences would say little.
            values[i.name] = rng.uniform(0.5, 1.5, shape)
        elif name == "batchnorm_with" and i.name == "s":
            values[i.name] = rng.uniform(0.5, 2, shape)
        else:
            values[i.name] = rng.normal(size=shape)
    return values


def cell(v: Any, which: str, squash: Callable[[Any], Any], recurrent: Any = None) -> Any:
    recurrent = v["h"] if recurrent is None else recurrent
    before = recurrent @ v[f"Wh{which}"].T + v["x"] @ v[f"Wx{which}"].T - v[f"B{which}"]
    return squash(before)


def ugrnn_cell(v: Any) -> Any:
    R, G = cell(v, "R", np.tanh), cell(v, "G", expit)
    return G * v["h"] + (1 - G) * R


def ugrnn(v: Any) -> Any:
    h, states = v["h0"], []
    for x in v["x"]:
        h = ugrnn_cell({**v, "h": h, "x": x})
        states.append(h)
    return np.array(states)


def gru_cell(v: Any) -> Any:
    R, Z = cell(v, "R", expit), cell(v, "Z", expit)
    N = np.tanh(R * (v["h"] @ v["WhN"].T) + v["x"] @ v["WxN"].T - v["BN"])
    return Z * v["h"] + (1 - Z) * N


def lstm_cell(v: Any) -> Any:
    i, f, o = (cell(v, gate, expit) for gate in "IFO")
    c = f * v["c"] + i * cell(v, "G", np.tanh)
    return o * np.tanh(c), c


def linear_recurrence(v: Any) -> Any:
    h, states = np.zeros_like(v["b"][0]), []
    for a, b in zip(v["a"], v["b"], strict=True):
        h = b + a * h
        states.append(h)
    return np.array(states)


def attention(v: Any, mask: Any = None) -> Any:
    s = np.einsum("bhtd,bhud->bhtu", v["q"], v["k"]) / np.sqrt(v["q"].shape[-1])
    s = s if mask is None else np.where(mask, s, -np.inf)
    return softmax(s, axis=-1) @ v["v"]


def normalised(x: Any, axis: Any, eps: float = 1e-5) -> Any:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def windows(x: Any, width: int) -> Any:
    """[B, C, X // width, Y // width, width * width]"""
    B, C, X, Y = x.shape
    x = x[:, :, : X // width * width, : Y // width * width]
    x = x.reshape(B, C, X // width, width, Y // width, width).swapaxes(3, 4)
    return x.reshape(*x.shape[:4], width * width)


def group_norm(v: Any) -> Any:
    B, C, N = v["x"].shape
    x = normalised(v["x"].reshape(B, 2, C // 2, N), (2, 3)).reshape(B, C, N)
    return v["γ"][:, None] * x + v["β"][:, None]


def conv2d(v: Any) -> Any:
    x = np.pad(v["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    O, _, DX, DY = v["k"].shape
    rows, columns = (
        (x.shape[2] - 2 * (DX - 1) - 1) // 2 + 1,
        (x.shape[3] - 2 * (DY - 1) - 1) // 2 + 1,
    )
    y = np.zeros((len(x), O, rows, columns)) + v["c"][:, None, None]
    for m in range(rows):
        for n in range(columns):
            seen = x[:, :, 2 * m : 2 * m + 2 * DX - 1 : 2, 2 * n : 2 * n + 2 * DY - 1 : 2]
            y[:, :, m, n] += np.einsum("bcxy,ocxy->bo", seen, v["k"])
    return y


def conv1d(v: Any) -> Any:
    seen = np.lib.stride_tricks.sliding_window_view(v["x"], v["k"].shape[2], axis=2)[:, :, ::2]
    return np.einsum("bcnd,ocd->bon", seen, v["k"]) + v["c"][:, None]


def conv_transpose1d(v: Any) -> Any:
    B, _, X = v["x"].shape
    _, O, DX = v["k"].shape
    y = np.zeros((B, O, (X - 1) * 3 + DX))
    for n in range(X):
        y[:, :, 3 * n : 3 * n + DX] += np.einsum("bc,cod->bod", v["x"][:, :, n], v["k"])
    return y


def depthwise_conv2d(v: Any) -> Any:
    seen = np.lib.stride_tricks.sliding_window_view(v["x"], v["k"].shape[1:], axis=(2, 3))
    return np.einsum("bcmnxy,cxy->bcmn", seen, v["k"])


def picked(s: Any, label: Any) -> Any:
    return s[np.arange(len(label)), label]


FORMULAS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "linear": lambda v: v["x"] @ v["W"].T,
    "affine": lambda v: v["x"] @ v["W"].T + v["c"],
    "bilinear": lambda v: np.einsum("bi,kij,bj->bk", v["u"], v["A"], v["v"]),
    "matmul": lambda v: v["A"] @ v["B"],
    "embedding": lambda v: v["E"][v["w"]],
    "mlp": lambda v: np.maximum(v["x"] @ v["W1"].T + v["c1"], 0) @ v["W2"].T + v["c2"],
    "relu_layer": lambda v: np.maximum(v["x"], 0),
    "tanh_layer": lambda v: np.tanh(v["x"]),
    "sigmoid_layer": lambda v: expit(v["x"]),
    "softplus_layer": lambda v: np.log1p(np.exp(v["x"])),
    "leaky_relu": lambda v: np.where(v["x"] > 0, v["x"], 0.1 * v["x"]),
    "elu": lambda v: np.where(v["x"] > 0, v["x"], 0.6 * (np.exp(v["x"]) - 1)),
    "gelu": lambda v: v["x"] * (1 + erf(v["x"] / np.sqrt(2))) / 2,
    "gelu_tanh": lambda v: (
        v["x"] / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v["x"] + 0.044715 * v["x"] ** 3)))
    ),
    "swish": lambda v: v["x"] * expit(1.3 * v["x"]),
    "swiglu": lambda v: (g := v["x"] @ v["W"].T) * expit(g) * (v["x"] @ v["V"].T),
    "softmax": lambda v: softmax(v["s"], axis=1),
    "stable_softmax": lambda v: softmax(v["s"], axis=1),
    "log_sum_exp": lambda v: logsumexp(v["s"], axis=1),
    "log_softmax": lambda v: log_softmax(v["s"], axis=1),
    "softmax_cross_entropy": lambda v: -picked(log_softmax(v["s"], axis=1), v["label"]),
    "softmax_cross_entropy_with": lambda v: -(v["P"] * log_softmax(v["s"], axis=1)).sum(1),
    "binary_cross_entropy": lambda v: (
        -(v["y"] * np.log(expit(v["s"])) + (1 - v["y"]) * np.log(expit(-v["s"]))).sum(1)
    ),
    "squared_error": lambda v: ((v["x"] - v["y"]) ** 2).mean(1),
    "absolute_error": lambda v: abs(v["x"] - v["y"]).mean(1),
    "huber": lambda v: np.where((d := abs(v["x"] - v["y"])) <= 0.7, d**2 / 2, 0.7 * (d - 0.35)).sum(
        1
    ),
    "hinge": lambda v: (
        np.maximum(1.5 + v["s"] - picked(v["s"], v["label"])[:, None], 0).sum(1) - 1.5
    ),
    "entropy": lambda v: -(v["P"] * np.log(v["P"])).sum(1),
    "cross_entropy": lambda v: -(v["P"] * np.log(v["Q"])).sum(1),
    "kl_divergence": lambda v: (v["P"] * np.log(v["P"] / v["Q"])).sum(1),
    "batchnorm": lambda v: (v["x"] - v["x"].mean(0)) / v["x"].std(0, ddof=1),
    "batchnorm_with": lambda v: (v["x"] - v["μ"]) / np.sqrt(v["s"]),
    "scale_shift": lambda v: v["γ"] * v["x"] + v["β"],
    "layer_norm": lambda v: v["γ"] * normalised(v["x"], 1) + v["β"],
    "rms_norm": lambda v: v["γ"] * v["x"] / np.sqrt((v["x"] ** 2).mean(1, keepdims=True) + 1e-5),
    "group_norm": group_norm,
    "instance_norm": lambda v: normalised(v["x"], 2),
    "rnn_cell": lambda v: np.tanh(v["h"] @ v["Wh"].T + v["x"] @ v["Wx"].T - v["c"]),
    "ugrnn_cell": ugrnn_cell,
    "ugrnn": ugrnn,
    "gru_cell": gru_cell,
    "lstm_cell": lstm_cell,
    "linear_recurrence": linear_recurrence,
    "attention": attention,
    "causal_attention": lambda v: attention(v, np.tri(SIZES["T"], dtype=bool)),
    "conv1d": conv1d,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv_transpose1d": conv_transpose1d,
    "max_pool2d": lambda v: windows(v["x"], 3).max(-1),
    "mean_pool2d": lambda v: windows(v["x"], 2).mean(-1),
}


def test_every_program_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_values(name: str) -> None:
    program, values = lg.lib[name], inputs_of(name, np.random.default_rng(0))
    wanted = FORMULAS[name](values)
    for backend in ("llvm", "interpret"):
        got = lg.compile(program, backend=backend)(**values, **OPTIONS.get(name, {}))
        assert isinstance(got, tuple) == isinstance(wanted, tuple)
        for g, w in zip(
            *((got, wanted) if isinstance(got, tuple) else ([got], [wanted])), strict=True
        ):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    values = inputs_of(name, np.random.default_rng(1))
    check_backward(lg.lib[name], values, OPTIONS.get(name, {}), seed=2)


@pytest.mark.parametrize("name", NAMES)
def test_the_backward_reads_back(name: str) -> None:
    backward = lg.lib[name].backward()
    assert lg.program(str(backward)) == backward


@pytest.mark.parametrize("name", ["softmax", "stable_softmax"])
def test_softmax_sums_to_one(name: str) -> None:
    s = np.random.default_rng(3).normal(size=(5, 4))
    np.testing.assert_allclose(lg.lib[name](s).sum(1), 1)


def test_large_scores_are_no_trouble_where_the_maximum_is_taken_off() -> None:
    s = np.array([[1e4, 0.0], [-1e4, -1e4 + 1]])
    p = lg.lib.stable_softmax(s)
    np.testing.assert_allclose(p, [[1, 0], [1 / (1 + np.e), np.e / (1 + np.e)]], atol=1e-15)
    loss, pullback = lg.vjp(lg.lib.softmax_cross_entropy, s, [0, 0])
    np.testing.assert_allclose(loss, [0, np.log(1 + np.e)])
    (gradient, none) = pullback([1.0, 1.0])
    np.testing.assert_allclose(gradient, p - [[1, 0], [1, 0]], atol=1e-12)
    assert none is None


def test_entropies_at_their_edges() -> None:
    P, Q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    np.testing.assert_allclose(lg.lib.entropy(P), np.log(2))
    assert lg.lib.cross_entropy(P, Q) == np.inf
    assert lg.lib.kl_divergence(P, Q) == np.inf
    np.testing.assert_allclose(lg.lib.kl_divergence(P, P), 0, atol=1e-15)


def test_every_program_says_what_it_is() -> None:
    for file in sorted(Path(lg.__file__).with_name("lib").glob("*.loops")):
        assert file.read_text(encoding="utf-8").startswith("# ")
