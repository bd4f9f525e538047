"""How others name gradients: `dW`, `grad_x`, `x_grad`, and `dout` for the seed of the only result."""

from __future__ import annotations

import re
from collections.abc import Iterable

OF = re.compile(r"(?:d|d_|grad_|grad_of_|g_)(.+)|(.+?)(?:_grad|_bar|_g)")
SEEDS = frozenset("dout d_out do gout grad_out grad_output g grad upstream".split())


def gradient_meant(name: str, possible: Iterable[str]) -> str | None:
    """The gradient among the possible names that the name stands for, if there is one.

    >>> gradient_meant("dW", ["x.grad", "W.grad"]), gradient_meant("grad_output", ["x", "y.grad"])
    ('W.grad', 'y.grad')
    """
    gradients = [other for other in possible if other.endswith(".grad")]
    if name in SEEDS and len(gradients) == 1:
        return gradients[0]
    match = OF.fullmatch(name)
    meant = f"{match[1] or match[2]}.grad" if match else None
    return meant if meant in gradients else None
