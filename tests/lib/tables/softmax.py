"""Softmax and its kin."""

from __future__ import annotations

from scipy.special import log_softmax, logsumexp, softmax

from tests.lib.cases import Case

CASES = {
    "softmax": Case(lambda v: softmax(v.s, axis=1), lambda F, v: F.softmax(v.s, 1)),
    "stable_softmax": Case(lambda v: softmax(v.s, axis=1), lambda F, v: F.softmax(v.s, 1)),
    "log_sum_exp": Case(lambda v: logsumexp(v.s, axis=1), lambda F, v: v.s.logsumexp(1)),
    "log_softmax": Case(lambda v: log_softmax(v.s, axis=1), lambda F, v: F.log_softmax(v.s, 1)),
}
