"""The examples' models and optimisers as one would write them in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from loopgrad.examples.digits import DigitsJob
from loopgrad.examples.optimisers import Adam
from loopgrad.examples.text import TextJob

Array = NDArray[Any]


class Twin:
    """The same training from the same start: its steps and their losses.

    loss: from the weights and the step's data to a scalar.
    data: of a step, by its number.
    """

    def __init__(self, job: TextJob | DigitsJob):
        weights = job.layout.views(job.optimiser.w)
        self.job = job
        self.w = {n: torch.tensor(value, requires_grad=True) for n, value in weights.items()}
        adam = isinstance(job.optimiser, Adam)
        make: Callable[..., Any] = torch.optim.Adam if adam else torch.optim.SGD
        more = {"betas": (0.9, 0.999), "eps": 1e-8} if adam else {"momentum": 0.9}
        self.optimiser = make(self.w.values(), lr=job.rate(0), **more)
        self.clip = getattr(job.optimiser, "clip", float("inf"))

    def step(self, number: int) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.job.rate(number)
        self.optimiser.zero_grad()
        loss = self.loss(number)
        loss.backward()
        _clip((w.grad for w in self.w.values() if w.grad is not None), self.clip)
        self.optimiser.step()
        return float(loss.detach())

    def loss(self, number: int) -> Tensor:
        raise NotImplementedError


class TextTwin(Twin):
    """The UGRNN with both gates in one product, its inputs gathered for all times at once."""

    job: TextJob

    def __init__(self, job: TextJob):
        super().__init__(job)
        self.h = torch.tensor(job.h)

    def loss(self, number: int) -> Tensor:
        x, y, anew = (_tensor(a) for a in self.job.batches.at(number, self.job.rows))
        if anew:
            self.h = torch.zeros_like(self.h)
        s, h = ugrnn_scores(self.w, x, self.h)
        self.h = h.detach()
        return F.cross_entropy(s.flatten(0, 1), y.flatten())


def ugrnn_scores(w: Mapping[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Scores at all times, and the last state."""
    R, G = w["ER"][x] - w["BR"], w["EG"][x] - w["BG"]
    W = torch.cat([w["WR"], w["WG"]]).T
    states = []
    for r, g in zip(R, G, strict=True):
        of_r, of_g = (h @ W).chunk(2, dim=1)
        gate = torch.sigmoid(of_g + g)
        h = gate * h + (1 - gate) * torch.tanh(of_r + r)
        states.append(h)
    return F.linear(torch.stack(states), w["U"], w["c"]), h


class DigitsTwin(Twin):
    """Both networks of the digits."""

    job: DigitsJob

    def loss(self, number: int) -> Tensor:
        x, label = (_tensor(a) for a in self.job.batch(number))
        network = {"mlp": mlp_scores, "conv": conv_scores}[self.job.settings.model]
        smoothing = self.job.settings.smoothing
        return F.cross_entropy(network(self.w, x), label, label_smoothing=smoothing)


def mlp_scores(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    a = F.linear(x, w["W1"], w["c1"])
    # Not F.batch_norm: that divides by B, and the problem set by B - 1.
    y = (a - a.mean(0)) / torch.sqrt(a.var(0, correction=1))
    return F.linear(F.relu(y * w["γ"] + w["β"]), w["W2"], w["c2"])


def conv_scores(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    y = torch.tanh(F.conv2d(x, w["k1"], w["c1"], padding=1))
    y = F.avg_pool2d(torch.tanh(F.conv2d(y, w["k2"], w["c2"], padding=1)), 2)
    y = F.avg_pool2d(torch.tanh(F.conv2d(y, w["k3"], w["c3"], padding=1)), 2)
    return F.linear(y.flatten(1), w["W"].flatten(1), w["c"])


def twin(job: TextJob | DigitsJob) -> Twin:
    return TextTwin(job) if isinstance(job, TextJob) else DigitsTwin(job)


def _tensor(value: Any) -> Any:
    return value if isinstance(value, bool) else torch.from_numpy(value)


def _clip(gradients: Iterable[Tensor], most: float) -> None:
    """To norm `most`. As `clip_grad_norm_`, but for the 1e-6 that it adds to the norm."""
    if most == float("inf"):
        return
    found = list(gradients)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
    torch._foreach_mul_(found, torch.clamp(most / norm, max=1.0))
