"""Beside PyTorch: the same losses from the same start.

Rounding errors grow in a training, by how much hangs on the training; they grow in proportion to what they
begin with. So what float64's become in it says what float32's may: 2**29 times that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from loopgrad.examples import comparing
from loopgrad.examples.text import Settings, TextJob
from tests.examples.test_text import CORPUS

FINER = 2.0**29  # float32's spacing, in that of float64
SLACK = 8  # sums in another order differ by other multiples of the spacing


def text(dtype: str) -> TextJob:
    return TextJob(CORPUS, Settings(epochs=16, hidden=16, batch=4, length=37, dtype=dtype))


def digits(dtype: str, model: str) -> Any:
    pytest.importorskip("sklearn")
    from loopgrad.examples.digits import DigitsJob, Settings

    return DigitsJob(Settings(model=model, epochs=3, dtype=dtype))


@pytest.mark.parametrize("model", ["text", "mlp", "conv"])
def test_losses_agree_to_the_accuracy_of_the_type(model: str) -> None:
    steps = 100 if model != "conv" else 12
    exact, rounded = (
        comparing.beside_torch(text(dtype) if model == "text" else digits(dtype, model), steps)
        for dtype in ("float64", "float32")
    )
    assert len(exact.ours) == steps
    assert exact.ours[-1] < exact.ours[0]
    spacing = np.finfo(np.float64).eps * exact.ours.max()
    grown = max(exact.largest, spacing)
    assert exact.largest <= 1e3 * spacing
    assert rounded.largest <= SLACK * FINER * grown
    assert np.abs(rounded.ours - exact.ours).max() <= SLACK * FINER * grown


def test_another_start_is_seen() -> None:
    """The comparison would notice a difference of one part in a million in one weight."""
    job = text("float64")
    import torch

    from loopgrad.examples import torch_twins

    twin = torch_twins.twin(job)
    with torch.no_grad():
        twin.w["U"][0, 0] *= 1 + 1e-6
    ours, theirs = ([step(i) for i in range(20)] for step in (job.step, twin.step))
    assert np.abs(np.subtract(ours, theirs)).max() > 1e-10
