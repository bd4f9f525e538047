"""Recurrent cells, and recurrences over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from tests.lib.cases import Case, Values


def cell(v: Any, which: str, squash: Callable[[Any], Any], recurrent: Any = None) -> Any:
    recurrent = v.h if recurrent is None else recurrent
    before = recurrent @ v[f"Wh{which}"].T + v.x @ v[f"Wx{which}"].T - v[f"B{which}"]
    return squash(before)


def ugrnn_cell(v: Any) -> Any:
    R, G = cell(v, "R", np.tanh), cell(v, "G", expit)
    return G * v.h + (1 - G) * R


def ugrnn(v: Any) -> Any:
    h, states = v.h0, []
    for x in v.x:
        h = ugrnn_cell(Values({**v, "h": h, "x": x}))
        states.append(h)
    return np.array(states)


def gru_cell(v: Any) -> Any:
    R, Z = cell(v, "R", expit), cell(v, "Z", expit)
    N = np.tanh(R * (v.h @ v.WhN.T) + v.x @ v.WxN.T - v.BN)
    return Z * v.h + (1 - Z) * N


def lstm_cell(v: Any) -> Any:
    i, f, o = (cell(v, gate, expit) for gate in "IFO")
    c = f * v.c + i * cell(v, "G", np.tanh)
    return o * np.tanh(c), c


def linear_recurrence(v: Any) -> Any:
    h, states = np.zeros_like(v.b[0]), []
    for a, b in zip(v.a, v.b, strict=True):
        h = b + a * h
        states.append(h)
    return np.array(states)


CASES = {
    "rnn_cell": Case(lambda v: np.tanh(v.h @ v.Wh.T + v.x @ v.Wx.T - v.c)),
    "ugrnn_cell": Case(ugrnn_cell),
    "ugrnn": Case(ugrnn),
    "gru_cell": Case(gru_cell),
    "lstm_cell": Case(lstm_cell),
    "linear_recurrence": Case(linear_recurrence),
}
