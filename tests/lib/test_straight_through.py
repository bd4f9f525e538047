"""Programs whose gradient is, by design, not that of their value."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg

TIGHT = {"rtol": 1e-12, "atol": 1e-14}


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_hard_choice_has_the_gradient_of_the_soft_one() -> None:
    s, g, seed = normal(0, 5, 4), normal(1, 5, 4), normal(2, 5, 4)
    y, pullback = lg.vjp(lg.lib.gumbel_softmax_hard, s, g, temperature=0.7)
    np.testing.assert_allclose(y, np.eye(4)[(s + g).argmax(1)], **TIGHT)
    _, soft = lg.vjp(lg.lib.gumbel_softmax, s, g, temperature=0.7)
    np.testing.assert_allclose(pullback(seed), soft(seed), **TIGHT)


def test_of_equal_scores_the_first_is_chosen() -> None:
    y = lg.lib.gumbel_softmax_hard([[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]])
    np.testing.assert_allclose(y, [[1, 0, 0]], **TIGHT)


@pytest.mark.parametrize("backend", ["llvm", "interpret"])
def test_rounded_numbers(backend: str) -> None:
    x, seed = normal(3, 4, 6), normal(4, 4, 6)
    quantize = lg.compile(lg.lib.quantize, backend=backend)
    np.testing.assert_allclose(quantize(x, step=0.25), np.floor(4 * x + 0.5) / 4, **TIGHT)
    _, pullback = lg.vjp(lg.lib.quantize, x, step=0.25)
    np.testing.assert_array_equal(pullback(seed)[0], seed)


def test_the_nearest_vector() -> None:
    z, E = normal(5, 6, 3), normal(6, 4, 3)
    costs = ((z[:, None] - E) ** 2).sum(2)
    nearest = costs.argmin(1)
    results, pullback = lg.vjp(lg.lib.vector_quantize, z, E, batch=False)
    for found, wanted in zip(results[:3], (E[nearest], costs.min(1), costs.min(1)), strict=True):
        np.testing.assert_allclose(found, wanted, **TIGHT)
    np.testing.assert_array_equal(results[3], nearest)

    through, codebook, commitment = normal(7, 6, 3), normal(8, 6), normal(9, 6)
    of_z, of_E = pullback(through, codebook, commitment, None)
    away = 2 * (z - E[nearest])
    np.testing.assert_allclose(of_z, through + commitment[:, None] * away, **TIGHT)
    wanted = np.zeros_like(E)
    np.add.at(wanted, nearest, -codebook[:, None] * away)
    np.testing.assert_allclose(of_E, wanted, **TIGHT)
