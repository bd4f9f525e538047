"""Learning curves as a picture, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def learning_curves(
    path: Path, losses: Array, in_epoch: int, curves: Mapping[str, Array], unit: float = 1.0
) -> None:
    """Writes the loss of each step, and each of `curves`, a number an epoch, under it.

    Losses are in nats. Raises ImportError without matplotlib, OSError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.5 * (1 + len(curves))), layout="constrained")
    FigureCanvasAgg(figure)
    first, *others = figure.subplots(1 + len(curves), 1, sharex=True, squeeze=False)[:, 0]
    epochs = np.arange(1, len(losses) + 1) / in_epoch
    first.plot(epochs, losses, linewidth=0.5, alpha=0.5, label="a step")
    means = [part.mean() for part in np.split(losses, range(in_epoch, len(losses), in_epoch))]
    first.plot(np.arange(1, len(means) + 1), means, label="mean of an epoch")
    first.set_ylabel("training loss (nats)")
    first.legend()
    for axes, (name, values) in zip(others, curves.items(), strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, marker=".")
        axes.set_ylabel(name)
    figure.axes[-1].set_xlabel("epochs")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
