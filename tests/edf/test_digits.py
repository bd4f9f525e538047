"""Handwritten digits, learnt with EDF."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf


def test_a_network_learns_digits() -> None:
    pytest.importorskip("sklearn")
    from loopgrad.examples.digits import data

    train, test = data(np.float32)
    random = np.random.default_rng(0)
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
        for rows in np.array_split(random.permutation(len(train.x)), 45):
            x.value, label.value = train.x[rows], train.label[rows]
            model.forward()
            model.backward()
            model.update(rule)
    x.value = test.x
    right = float(np.mean(predict.forward().argmax(1) == test.label))
    assert right > 0.96
