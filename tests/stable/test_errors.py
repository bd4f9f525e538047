"""What runs is accurate where the written loops overflow or cancel: in float32, on six kinds of inputs."""

from __future__ import annotations

import pytest

from tests.stable.corpus import SIGMOIDS, SOFTMAX, Case
from tests.stable.measuring import KINDS, forward_errors

ACCURATE = 1e-6


@pytest.mark.parametrize("case", SOFTMAX[:6] + SIGMOIDS, ids=lambda case: case.name)
def test_values(case: Case) -> None:
    for kind in KINDS:
        literal, stable = forward_errors(case, kind, seed=0)
        assert stable <= max(ACCURATE, 2 * literal), kind
