"""The library where it is hard: huge scores in float32, zeros of distributions, ties and kinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import loopgrad as lg
from tests.effort import FULL
from tests.lib.test_library import ROWS

HUGE = np.array(
    [[1e4, -1e4, 0.0], [-1e4, -1e4 + 2, -1e4 + 1], [3.0, 1e4, 1e4 - 3], [1.0, 0.5, 0.0]]
)
LABEL = np.array([1, 0, 2, 1])
P = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.25, 0.75]])
KEEP = np.array([[True, True, False], [True, False, True], [False] * 3, [True, True, True]])
LENGTH = np.array([2, 3, 0, 1])


def picked(s: Any) -> Any:
    return s[np.arange(len(LABEL)), LABEL]


def masked(s: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.nan_to_num(softmax(np.where(KEEP, s, -np.inf), axis=1))


def entropy(s: Any) -> Any:
    q = log_softmax(s, axis=1)
    return -(np.exp(q) * q).sum(1)


# What is called beside the scores, and the value in float64.
HARD: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "softmax": ({}, lambda s: softmax(s, axis=1)),
    "stable_softmax": ({}, lambda s: softmax(s, axis=1)),
    "softmin": ({}, lambda s: softmax(-s, axis=1)),
    "log_sum_exp": ({}, lambda s: s.max(1) - log_softmax(s, axis=1).max(1)),
    "log_softmax": ({}, lambda s: log_softmax(s, axis=1)),
    "softmax_with_temperature": ({"temperature": 2.0}, lambda s: softmax(s / 2, axis=1)),
    "masked_softmax": ({"keep": KEEP}, masked),
    "softmax_of_lengths": (
        {"length": LENGTH},
        lambda s: np.stack(
            [
                np.append(softmax(r[:n]) if n else [], [0.0] * (3 - n))
                for r, n in zip(s, LENGTH, strict=True)
            ]
        ),
    ),
    "gumbel_softmax": ({"g": np.zeros((4, 3), "f")}, lambda s: softmax(s, axis=1)),
    "softmax_cross_entropy": ({"label": LABEL}, lambda s: -picked(log_softmax(s, axis=1))),
    "softmax_cross_entropy_with": (
        {"P": np.float32(P)},
        lambda s: -(P * log_softmax(s, axis=1)).sum(1),
    ),
    "softmax_cross_entropy_smoothed": (
        {"label": LABEL, "smoothing": 0.3},
        lambda s: -0.7 * picked(log_softmax(s, axis=1)) - 0.3 * log_softmax(s, axis=1).mean(1),
    ),
    "softmax_cross_entropy_weighted": (
        {"label": LABEL, "w": np.float32([1, 2, 3])},
        lambda s: -(1.0 + LABEL) * picked(log_softmax(s, axis=1)),
    ),
    "softmax_cross_entropy_ignoring": (
        {"label": LABEL, "ignore": 0},
        lambda s: np.where(LABEL == 0, 0, -picked(log_softmax(s, axis=1))),
    ),
    "focal": (
        {"label": LABEL},
        lambda s: -((1 - picked(softmax(s, axis=1))) ** 2) * picked(log_softmax(s, axis=1)),
    ),
    "binary_cross_entropy_with_logits": (
        {"y": np.float32(P)},
        lambda s: (np.logaddexp(0, s) - P * s).sum(1),
    ),
    "binary_cross_entropy_weighted": (
        {"y": np.float32(P), "w": np.float32([1, 2, 3])},
        lambda s: ((1 - P) * np.logaddexp(0, s) + [1, 2, 3] * P * np.logaddexp(0, -s)).sum(1),
    ),
    "binary_focal": (
        {"y": np.float32(P > 0.4)},
        lambda s: (
            np.where(P > 0.4, 0.25, 0.75)
            * np.logaddexp(0, -(z := np.where(P > 0.4, s, -s)))
            * np.exp(-2 * np.logaddexp(0, z))
        ).sum(1),
    ),
    "entropy_from_logits": ({}, entropy),
    "cross_entropy_from_logits": (
        {"P": np.float32(P)},
        lambda s: -(P * log_softmax(s, axis=1)).sum(1),
    ),
    "kl_from_logits": (
        {"P": np.float32(P)},
        lambda s: np.where(
            P > 0, P * (np.log(np.where(P > 0, P, 1)) - log_softmax(s, axis=1)), 0
        ).sum(1),
    ),
    "kl_of_logits": (
        {"t": np.float32([[1, 2, 3]] * 4)},
        lambda s: (softmax(s, axis=1) * (log_softmax(s, axis=1) - log_softmax([1.0, 2, 3]))).sum(1),
    ),
    "log_sigmoid": ({"x": HUGE.astype("f")}, lambda s: -np.logaddexp(0, -s)),
    "softplus_layer": ({"x": HUGE.astype("f")}, lambda s: np.logaddexp(0, s)),
    "mish": ({"x": HUGE.astype("f")}, lambda s: s * np.tanh(np.logaddexp(0, s))),
}


@pytest.mark.parametrize("name", HARD)
def test_huge_scores_in_float32(name: str) -> None:
    """As it is compiled without being asked: values, and gradients of random seeds, right in float32."""
    program, (more, formula) = lg.lib[name], HARD[name]
    inputs = more if "x" in more else {"s": HUGE.astype("f"), **more}
    values, pullback = lg.vjp(program, **inputs)
    wanted = formula(HUGE)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, wanted, rtol=2e-6, atol=1e-6)
    seed = np.random.default_rng(len(name)).normal(size=np.shape(values))
    exact = {
        k: np.float64(v) if np.asarray(v).dtype == np.float32 else v for k, v in inputs.items()
    }
    _, exactly = lg.vjp(program, **exact)
    for found, right in zip(pullback(np.float32(seed)), exactly(seed), strict=True):
        if found is not None:
            assert np.isfinite(found).all()
            scale = max(1, abs(right).max())  # `y`, say, is multiplied by scores
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=2e-6 * scale)


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
    np.testing.assert_allclose(lg.lib.entropy(P, base=2.0), 1)
    assert lg.lib.cross_entropy(P, Q) == np.inf
    assert lg.lib.kl_divergence(P, Q) == np.inf
    np.testing.assert_allclose(lg.lib.kl_divergence(P, P), 0, atol=1e-15)
    np.testing.assert_allclose(lg.lib.js_divergence(P, Q, base=2.0), 0.5)
    np.testing.assert_allclose(lg.lib.binary_entropy(np.array([0.0, 0.5, 1.0])), [0, np.log(2), 0])


def test_information_of_two_variables_at_its_edges() -> None:
    """The same variable twice, and independent ones; values of no mass do no harm."""
    p = np.array([0.25, 0.75, 0.0])
    joints = np.stack([np.diag(p), np.outer(p, p)])
    h = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(lg.lib.mutual_information(joints), [h, 0], atol=1e-15)
    np.testing.assert_allclose(lg.lib.conditional_entropy(joints), [0, h], atol=1e-15)
    np.testing.assert_allclose(lg.lib.joint_entropy(joints), [h, 2 * h])
    tiny = np.float32([[[1e-30, 0], [0, 1 - 1e-30]]])
    _, pullback = lg.vjp(lg.lib.mutual_information, tiny)
    assert np.isfinite(pullback(np.float32([1]))[0]).all()


def test_scores_of_minus_infinity_are_probabilities_of_zero() -> None:
    s, P = np.array([[0.0, -np.inf, 1.0]]), np.array([[0.5, 0.0, 0.5]])
    q = log_softmax([0.0, 1.0])
    two = np.exp(q)
    for name, inputs, wanted in [
        ("entropy_from_logits", {"s": s}, -(two * q).sum()),
        ("cross_entropy_from_logits", {"s": s, "P": P}, -q.mean()),
        ("kl_from_logits", {"s": s, "P": P}, np.log(0.5) - q.mean()),
        ("kl_of_logits", {"s": s, "t": np.zeros((1, 3))}, (two * (q - np.log(1 / 3))).sum()),
    ]:
        value, pullback = lg.vjp(lg.lib[name], **inputs)
        np.testing.assert_allclose(value, [wanted], err_msg=name)
        gradient = pullback([1.0])[[i.name for i in lg.lib[name].inputs].index("s")]
        assert np.isfinite(gradient).all() and gradient[0, 1] == 0, name
    assert lg.lib.kl_of_logits(np.zeros((1, 3)), s) == np.inf
    assert lg.lib.cross_entropy_from_logits(np.full((1, 3), 1 / 3), s) == np.inf


def test_binary_cross_entropy_of_hard_targets() -> None:
    from sklearn.metrics import log_loss

    p, y = np.array([[0.0, 1.0, 0.3, 0.8]]), np.array([[0.0, 1.0, 1.0, 0.0]])
    (value, pullback) = lg.vjp(lg.lib.binary_cross_entropy, p, y)
    np.testing.assert_allclose(value, 4 * log_loss(y[0], p[0]))
    np.testing.assert_allclose(pullback([1.0])[0], [[1, -1, -1 / 0.3, 5]])
    assert lg.lib.binary_cross_entropy(np.array([[0.0]]), np.array([[0.5]])) == np.inf


@pytest.mark.parametrize("row", [0, 1])
def test_a_vector_of_zeros_is_normalised_to_zeros_with_a_gradient(row: int) -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    y, pullback = lg.vjp(lg.lib.l2_normalize, x)
    np.testing.assert_allclose(y, [[0, 0], [0.6, 0.8]])
    seed = np.zeros((2, 2))
    seed[row, 0] = 1
    np.testing.assert_allclose(pullback(seed)[0][row], [[1e12, 0], [0.128, -0.096]][row])


def test_an_empty_window_or_bag() -> None:
    assert (lg.lib.embedding_bag([[5, 5]], [0], np.ones((6, 2))) == 0).all()
    x = np.ones((1, 1, 2, 2))
    top = lg.lib.strided_max_pool2d(x, width=1, stride=1, padding=1)
    assert top[0, 0, 0, 0] == -np.inf and top[0, 0, 1, 1] == 1


def test_ties_of_windows_give_the_gradient_to_the_first() -> None:
    _, pullback = lg.vjp(lg.lib.max_pool1d, np.array([[[2.0, 2.0, 1.0, 3.0, 9.0]]]))
    assert pullback([[[5.0, 7.0]]])[0].tolist() == [[[5, 0, 0, 7, 0]]]


KINKS = [
    *(("relu_layer", "relu", [0.0]), ("leaky_relu", "leaky_relu", [0.0]), ("elu", "elu", [0.0])),
    *(("celu", "celu", [0.0]), ("selu", "selu", [0.0]), ("softsign", "softsign", [0.0])),
    *(("relu6", "relu6", [0.0, 6.0]), ("hard_tanh", "hardtanh", [-1.0, 1.0])),
    *(("hard_sigmoid", "hardsigmoid", [-3.0, 3.0]), ("soft_shrink", "softshrink", [-0.5, 0.5])),
    *(("hard_shrink", "hardshrink", [-0.5, 0.5]),),
]


@pytest.mark.parametrize("ours, theirs, at", KINKS)
def test_gradients_at_kinks_are_those_of_pytorch(ours: str, theirs: str, at: list[float]) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([at])
    given = torch.tensor(x, requires_grad=True)
    getattr(torch.nn.functional, theirs)(given).sum().backward()
    _, pullback = lg.vjp(lg.lib[ours], x)
    np.testing.assert_allclose(pullback(np.ones_like(x))[0], given.grad, rtol=1e-6)


@pytest.mark.skipif(not FULL, reason="LOOPGRAD_FULL=1")
@pytest.mark.parametrize("name", sorted(set(lg.lib) & set(ROWS)))
def test_compiled_in_float32(name: str) -> None:
    """All of the library that has a row, optimised and not, gives the same within float32."""
    program, case = lg.lib[name], ROWS[name]
    inputs = {
        k: np.float32(v) if np.asarray(v).dtype == np.float64 else v
        for k, v in case.inputs(program, 8).items()
    }
    values = [lg.compile(program, optimize=o)(**inputs, **case.constants) for o in (True, False)]
    for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in values), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
