"""Handwritten digits, learnt with EDF."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf


def test_a_network_learns_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, digits = datasets.load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(images))
    images, digits = (images[order] / 16).astype(np.float32), digits[order]
    Affine, Relu = edf.component(lg.lib.affine), edf.component(lg.lib.relu_layer)
    Loss = edf.component(lg.lib.softmax_cross_entropy)
    Phi = edf.Package(
        one=edf.initial(lg.lib.affine, random, I=64, J=100, dtype=np.float32),
        two=edf.initial(lg.lib.affine, random, I=100, J=10, dtype=np.float32),
    )
    x, label = edf.Input("x"), edf.Input("label")
    scores = Affine(Phi.two, Relu(Affine(Phi.one, x)))
    model, predict = edf.Model(Loss(scores, label)), edf.Model(scores)
    rule = edf.Momentum(rate=0.1)
    for _ in range(15):
        for rows in np.array_split(360 + random.permutation(len(images) - 360), 45):
            x.value, label.value = images[rows], digits[rows]
            model.forward()
            model.backward()
            model.update(rule)
    x.value = images[:360]
    right = float(np.mean(predict.forward().argmax(1) == digits[:360]))
    assert right > 0.96
