"""Information of discrete distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import entr, log_softmax, rel_entr, softmax
from scipy.stats import entropy

from tests.lib.cases import Case, Draw, distributions, joints, uniform

P = {"P": distributions}
PQ = {"P": distributions, "Q": distributions}
JOINT: dict[str, Draw] = {"P": joints}
SMALL = {"X": 2, "Y": 3}  # so that no step of a difference is large beside a probability
BITS = {"base": 2.0}


def margins(P: Any) -> tuple[Any, Any]:
    return P.sum(2), P.sum(1)


def conditional(v: Any) -> Any:
    return entr(v.P).sum((1, 2)) - entr(margins(v.P)[0]).sum(1)


def mutual(v: Any) -> Any:
    p, q = margins(v.P)
    return rel_entr(v.P, p[:, :, None] * q[:, None, :]).sum((1, 2))


CASES = {
    "entropy": Case(lambda v: entropy(v.P, axis=1), draws=P),
    "entropy: bits": Case(lambda v: entropy(v.P, base=2, axis=1), constants=BITS, draws=P),
    "cross_entropy": Case(lambda v: entropy(v.P, axis=1) + rel_entr(v.P, v.Q).sum(1), draws=PQ),
    "cross_entropy: bits, of weights": Case(
        lambda v: -(v.P * np.log2(v.Q)).sum(1),
        constants=BITS,
        draws={"P": uniform(0.5, 1.5), "Q": uniform(0.5, 1.5)},
    ),
    "kl_divergence": Case(
        lambda v: entropy(v.P, v.Q, axis=1),
        lambda F, v: F.kl_div(v.Q.log(), v.P, reduction="none").sum(1),
        draws=PQ,
    ),
    "js_divergence": Case(lambda v: jensenshannon(v.P, v.Q, axis=1) ** 2, draws=PQ),
    "js_divergence: bits": Case(
        lambda v: jensenshannon(v.P, v.Q, base=2, axis=1) ** 2, constants=BITS, draws=PQ
    ),
    "perplexity": Case(lambda v: np.exp(entropy(v.P, axis=1)), draws=P),
    "binary_entropy": Case(lambda v: entr(v.p) + entr(1 - v.p), draws={"p": uniform(0.05, 0.95)}),
    "joint_entropy": Case(
        lambda v: entropy(v.P.reshape(len(v.P), -1), axis=1), draws=JOINT, extents=SMALL
    ),
    "conditional_entropy": Case(conditional, draws=JOINT, extents=SMALL),
    "mutual_information": Case(mutual, draws=JOINT, extents=SMALL),
    "mutual_information: bits": Case(
        lambda v: mutual(v) / np.log(2), constants=BITS, draws=JOINT, extents=SMALL
    ),
    "entropy_from_logits": Case(lambda v: entropy(softmax(v.s, axis=1), axis=1)),
    "cross_entropy_from_logits": Case(
        lambda v: -(v.P * log_softmax(v.s, axis=1)).sum(1),
        lambda F, v: F.cross_entropy(v.s, v.P, reduction="none"),
        draws=P,
    ),
    "kl_from_logits": Case(
        lambda v: entropy(v.P, softmax(v.s, axis=1), axis=1),
        lambda F, v: F.kl_div(F.log_softmax(v.s, 1), v.P, reduction="none").sum(1),
        draws=P,
    ),
    "kl_of_logits": Case(
        lambda v: entropy(softmax(v.s, axis=1), softmax(v.t, axis=1), axis=1),
        lambda F, v: F.kl_div(
            F.log_softmax(v.t, 1), F.log_softmax(v.s, 1), reduction="none", log_target=True
        ).sum(1),
    ),
}
