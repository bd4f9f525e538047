"""Further functions of PyTorch's in terms of `lg.lib`: losses and distances. As in translations.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.torch.translations import needs, of, reduced

torch = pytest.importorskip("torch")


def single(name: str, *tensors: Any, **constants: Any) -> Any:
    """Of a loss that is a sum over a row, here of one element."""
    tensors = torch.broadcast_tensors(*tensors)
    losses = of(name)(*(t.reshape(-1, 1) for t in tensors), **constants)
    return losses.reshape(tensors[0].shape)


def binary(name: str) -> Callable[..., Any]:
    def call(x: Any, y: Any, weight: Any = None, **others: Any) -> Any:
        reduction = others.pop("reduction", "mean")
        needs(not any(value is not None for value in others.values()))
        losses = single(name, x, y)
        return reduced(losses if weight is None else losses * weight, reduction)

    return call


def gaussian_nll(μ: Any, x: Any, v: Any, full: bool = False, **others: Any) -> Any:
    reduction = others.pop("reduction", "mean")
    needs(not full)
    if v.shape != μ.shape and v.shape == μ.shape[:-1]:
        v = v[..., None]  # one for each row
    return reduced(single("gaussian_nll", x, μ, v, **others), reduction)


def poisson_nll(s: Any, y: Any, log_input: bool = True, full: bool = False, **others: Any) -> Any:
    needs(log_input and not full)
    return reduced(single("poisson_nll", s, y), others.pop("reduction", "mean"))


def kl_div(s: Any, y: Any, log_target: bool = False, reduction: str = "mean") -> Any:
    needs(not log_target and s.ndim)
    losses = single("kl_divergence", y, s.exp())
    return losses.sum() / len(s) if reduction == "batchmean" else reduced(losses, reduction)


def nll(q: Any, target: Any, weight: Any = None, reduction: str = "mean", **others: Any) -> Any:
    needs(not any(v not in (None, -100) for v in others.values()) and q.ndim >= 1)
    if q.ndim == 1:
        needs(reduction != "none")
        q, target = q[None], target[None]
    rows = q.movedim(1, -1).reshape(-1, q.shape[1])
    losses = of("negative_log_likelihood")(rows, target.reshape(-1)).reshape(target.shape)
    if weight is None:
        return reduced(losses, reduction)
    each = weight[target]
    return (
        (losses * each).sum() / each.sum()
        if reduction == "mean"
        else reduced(losses * each, reduction)
    )


def cosine_embedding(u: Any, v: Any, y: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    needs(u.ndim == 2)
    return reduced(of("cosine_embedding")(u, v, y, margin=margin), reduction)


def cosine_similarity(x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    x, y = torch.broadcast_tensors(x, y)
    needs(x.ndim)
    x, y = x.movedim(dim, -1), y.movedim(dim, -1)
    J = x.shape[-1]
    c = of("cosine_similarity")(x.reshape(-1, J), y.reshape(-1, J), eps=eps)
    return c.reshape(x.shape[:-1])


def multi_margin(s: Any, label: Any, p: int = 1, margin: float = 1.0, **others: Any) -> Any:
    reduction = others.pop("reduction", "mean")
    needs(p == 1 and s.ndim == 2 and not any(v is not None for v in others.values()))
    return reduced(of("hinge")(s, label, margin=margin) / s.shape[1], reduction)


def cdist(x: Any, y: Any, p: float = 2.0, mode: Any = None) -> Any:
    needs(p in (1, 2) and x.ndim == y.ndim == 2)
    if p == 1:
        return of("pairwise_absolute_distance")(x, y)
    return of("pairwise_squared_distance")(x, y).sqrt()


ROWS: dict[str, Callable[..., Any]] = {
    "nn.functional.binary_cross_entropy": binary("binary_cross_entropy"),
    "nn.functional.binary_cross_entropy_with_logits": binary("binary_cross_entropy_with_logits"),
    "nn.functional.gaussian_nll_loss": gaussian_nll,
    "nn.functional.poisson_nll_loss": poisson_nll,
    "nn.functional.kl_div": kl_div,
    "nn.functional.nll_loss": nll,
    "nn.functional.cosine_embedding_loss": cosine_embedding,
    "nn.functional.cosine_similarity": cosine_similarity,
    "nn.functional.multi_margin_loss": multi_margin,
    "cdist": cdist,
}
