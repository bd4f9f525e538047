"""Attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

from tests.lib.cases import Case


def attention(v: Any, mask: Any = None) -> Any:
    s = np.einsum("bhtd,bhud->bhtu", v.q, v.k) / np.sqrt(v.q.shape[-1])
    s = s if mask is None else np.where(mask, s, -np.inf)
    return softmax(s, axis=-1) @ v.v


CASES = {
    "attention": Case(attention),
    "causal_attention": Case(lambda v: attention(v, np.tri(v.q.shape[2], dtype=bool))),
}
