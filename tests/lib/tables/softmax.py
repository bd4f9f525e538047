"""Softmax and its kin."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from tests.lib.cases import Case, kept_somewhere, lengths


def masked(v: Any) -> Any:
    return softmax(np.where(v.keep, v.s, -np.inf), axis=1)


def of_lengths(v: Any) -> Any:
    p = np.zeros_like(v.s)
    for row, length, out in zip(v.s, v.length, p, strict=True):
        out[:length] = softmax(row[:length]) if length else 0
    return p


CASES = {
    "softmax": Case(lambda v: softmax(v.s, axis=1), lambda F, v: F.softmax(v.s, 1)),
    "stable_softmax": Case(lambda v: softmax(v.s, axis=1), lambda F, v: F.softmax(v.s, 1)),
    "log_sum_exp": Case(lambda v: logsumexp(v.s, axis=1), lambda F, v: v.s.logsumexp(1)),
    "log_softmax": Case(lambda v: log_softmax(v.s, axis=1), lambda F, v: F.log_softmax(v.s, 1)),
    "softmax_with_temperature": Case(
        lambda v: softmax(v.s / 0.7, axis=1),
        lambda F, v: F.softmax(v.s / v.temperature, 1),
        constants={"temperature": 0.7},
    ),
    "softmin": Case(lambda v: softmax(-v.s, axis=1), lambda F, v: F.softmin(v.s, 1)),
    "masked_softmax": Case(
        masked,
        lambda F, v: F.softmax(v.s.masked_fill(~v.keep, -np.inf), 1),
        draws={"keep": kept_somewhere},
    ),
    "softmax_of_lengths": Case(of_lengths, draws={"length": lengths(3)}),
    "channel_softmax": Case(lambda v: softmax(v.s, axis=1), lambda F, v: F.softmax(v.s, 1)),
    "gumbel_softmax": Case(
        lambda v: softmax((v.s + v.g) / 0.7, axis=1),
        lambda F, v: F.softmax((v.s + v.g) / v.temperature, 1),
        constants={"temperature": 0.7},
    ),
}
