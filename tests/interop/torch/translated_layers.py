"""Further functions of PyTorch's in terms of `lg.lib`: layers. As in translations.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.torch.translations import elements, needs, of, one

torch = pytest.importorskip("torch")


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return torch.where(beta * x > threshold, x, elements("softplus_layer")(beta * x) / beta)


def batch_norm(
    x: Any,
    mean: Any,
    variance: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    needs(x.ndim >= 2)
    C = x.shape[1]
    γ = x.new_ones(C) if weight is None else weight
    β = x.new_zeros(C) if bias is None else bias
    if training:
        y = of("batch_norm_of_channels")(x.reshape(*x.shape[:2], -1), γ, β, eps=eps)
        return y.reshape(x.shape)
    rows = x.movedim(1, -1)
    y = of("batch_norm_with")(rows.reshape(-1, C), mean, variance, γ, β, eps=eps)
    return y.reshape(rows.shape).movedim(-1, 1)


def conv3d(x: Any, k: Any, c: Any = None, **others: Any) -> Any:
    padding = others.pop("padding", 0)
    needs(x.ndim == 5 and not isinstance(padding, str) and others.pop("groups", 1) == 1)
    constants = {name: one(value) for name, value in {**others, "padding": padding}.items()}
    return of("conv3d")(x, k, x.new_zeros(len(k)) if c is None else c, **constants)


def conv_transpose1d(x: Any, k: Any, c: Any = None, **others: Any) -> Any:
    needs(x.ndim == 3 and others.pop("groups", 1) == 1 and one(others.pop("dilation", 1)) == 1)
    padding, more = one(others.pop("padding", 0)), one(others.pop("output_padding", 0))
    y = of("conv_transpose1d")(x, k, stride=one(others.pop("stride", 1)))
    y = torch.nn.functional.pad(y, (-padding, more - padding))
    return y if c is None else y + c[:, None]


def conv_transpose2d(x: Any, k: Any, c: Any = None, **others: Any) -> Any:
    needs(x.ndim == 4 and others.pop("groups", 1) == 1)
    constants = {name: one(value) for name, value in others.items()}
    return of("conv_transpose2d")(x, k, x.new_zeros(k.shape[1]) if c is None else c, **constants)


def adaptive(name: str, rank: int) -> Callable[..., Any]:
    def call(x: Any, size: Any, indices: bool = False) -> Any:
        needs(x.ndim == rank + 2 and not indices)
        sizes = [size] * rank if isinstance(size, int) else list(size)
        sizes = [e if n is None else n for n, e in zip(sizes, x.shape[2:], strict=True)]
        return of(name)(x, **dict(zip("MN"[2 - rank :], sizes, strict=True)))

    return call


def local_response_norm(x: Any, size: int, **constants: Any) -> Any:
    needs(x.numel())
    rows = x.reshape(*x.shape[:2], -1)
    return of("local_response_norm")(rows, width=size, **constants).reshape(x.shape)


def normalize(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    needs(p == 2 and x.ndim)
    rows = x.movedim(dim, -1)
    y = of("l2_normalize")(rows.reshape(-1, rows.shape[-1]), eps=eps)
    return y.reshape(rows.shape).movedim(-1, dim)


def grid_sample(v: Any, grid: Any, **others: Any) -> Any:
    needs(others.pop("mode", "bilinear") == "bilinear" and v.ndim == 4)
    needs(not others.pop("align_corners", False))
    programs = {"zeros": "grid_sample", "border": "grid_sample_border"}
    padding = others.pop("padding_mode", "zeros")
    needs(padding in programs)
    return of(programs[padding])(v, grid)


def embedding_bag(E: Any, w: Any, mode: str = "mean", **others: Any) -> Any:
    needs(w.ndim == 2 and not any(value is not None for value in others.values()))
    programs = {"mean": "embedding_bag", "sum": "embedding_bag_sum"}
    needs(mode in programs)
    return of(programs[mode])(w, torch.full((len(w),), w.shape[1]), E)


def masked_softmax(x: Any, dim: int, mask: Any = None, **others: Any) -> Any:
    needs(mask is not None and mask.shape == x.shape and x.ndim and x.numel() and not others)
    rows, keep = x.movedim(dim, -1), mask.movedim(dim, -1)
    needs(keep.any(-1).all())
    J = rows.shape[-1]
    y = of("masked_softmax")(rows.reshape(-1, J), keep.reshape(-1, J))
    return y.reshape(rows.shape).movedim(-1, dim)


ROWS: dict[str, Callable[..., Any]] = {
    "nn.functional.celu": elements("celu", "alpha"),
    "nn.functional.softplus": softplus,
    "nn.functional.batch_norm": batch_norm,
    "nn.functional.conv3d": conv3d,
    "nn.functional.conv_transpose1d": conv_transpose1d,
    "nn.functional.conv_transpose2d": conv_transpose2d,
    "nn.functional.adaptive_avg_pool1d": adaptive("adaptive_mean_pool1d", 1),
    "nn.functional.adaptive_avg_pool2d": adaptive("adaptive_mean_pool2d", 2),
    "nn.functional.adaptive_max_pool1d": adaptive("adaptive_max_pool1d", 1),
    "nn.functional.local_response_norm": local_response_norm,
    "nn.functional.normalize": normalize,
    "nn.functional.grid_sample": grid_sample,
    "nn.functional.embedding_bag": embedding_bag,
    "masked.softmax": masked_softmax,
    "outer": lambda u, v: of("outer")(u[None], v[None])[0],
}
