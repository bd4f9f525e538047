"""Activations."""

from __future__ import annotations

import numpy as np
from scipy.special import erf, expit

from tests.lib.cases import Case, away_from_zero

NONZERO = {"x": away_from_zero}

CASES = {
    "relu_layer": Case(lambda v: np.maximum(v.x, 0), lambda F, v: F.relu(v.x), draws=NONZERO),
    "tanh_layer": Case(lambda v: np.tanh(v.x), lambda F, v: v.x.tanh()),
    "sigmoid_layer": Case(lambda v: expit(v.x), lambda F, v: v.x.sigmoid()),
    "softplus_layer": Case(lambda v: np.log1p(np.exp(v.x)), lambda F, v: F.softplus(v.x)),
    "leaky_relu": Case(
        lambda v: np.where(v.x > 0, v.x, 0.1 * v.x),
        lambda F, v: F.leaky_relu(v.x, v.slope),
        constants={"slope": 0.1},
        draws=NONZERO,
    ),
    "elu": Case(
        lambda v: np.where(v.x > 0, v.x, 0.6 * (np.exp(v.x) - 1)),
        lambda F, v: F.elu(v.x, v.alpha),
        constants={"alpha": 0.6},
        draws=NONZERO,
    ),
    "gelu": Case(lambda v: v.x * (1 + erf(v.x / np.sqrt(2))) / 2, lambda F, v: F.gelu(v.x)),
    "gelu_tanh": Case(
        lambda v: v.x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v.x + 0.044715 * v.x**3))),
        lambda F, v: F.gelu(v.x, approximate="tanh"),
    ),
    "swish": Case(lambda v: v.x * expit(1.3 * v.x), constants={"beta": 1.3}),
    "swiglu": Case(lambda v: (g := v.x @ v.W.T) * expit(g) * (v.x @ v.V.T)),
}
