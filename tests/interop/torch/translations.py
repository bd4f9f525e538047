"""PyTorch's functions in terms of `lg.lib`: what our programs make of the arguments of theirs.

A row takes what PyTorch's function takes. It raises NotOurs for what the library has no program for, such
as a ceiling in a pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import loopgrad as lg

torch = pytest.importorskip("torch")


class NotOurs(Exception):
    """A variant that is not in the library."""


def needs(condition: Any) -> None:
    if not condition:
        raise NotOurs


def of(name: str) -> Any:
    return lg.torch.function(lg.lib[name])


def elements(name: str, *names: str) -> Callable[..., Any]:
    """Of a function element by element, whose constants come in the order of `names`."""

    def call(x: Any, *values: Any, inplace: bool = False, **named: Any) -> Any:
        constants = dict(zip(names, (*values, *named.values()), strict=False))
        needs(len(constants) == len(values) + len(named))
        return of(name)(x.reshape(1, -1), **constants).reshape(x.shape)

    return call


def along(name: str, keeps: bool = True) -> Callable[..., Any]:
    """Of a function of rows, along any axis."""

    def call(x: Any, dim: Any = None, dtype: Any = None, keepdim: bool = False, **_: Any) -> Any:
        needs(dim is not None and dtype is None)
        axes = [dim] if isinstance(dim, int) else list(dim)
        needs(len(axes) == 1 or not keeps)
        rank = max(1, x.ndim)
        axes = [axis % rank for axis in axes] or list(range(x.ndim))
        last = x.reshape(x.shape or (1,)).movedim(axes, list(range(-len(axes), 0)))
        shape = last.shape
        inner = math.prod(shape[rank - len(axes) :])
        outer = math.prod(shape[: rank - len(axes)])
        y = of(name)(last.reshape(outer, inner))
        if keeps:
            back = y.reshape(shape).movedim(list(range(-len(axes), 0)), axes)
            return back.reshape(x.shape)
        y = y.reshape(shape[: rank - len(axes)])
        if keepdim:
            for axis in sorted(axes):
                y = y.unsqueeze(axis)
            return y.reshape([1 if n in axes else e for n, e in enumerate(x.shape)])
        return y

    return call


def reduced(losses: Any, reduction: str) -> Any:
    return {"none": lambda: losses, "mean": losses.mean, "sum": losses.sum}[reduction]()


def pairwise(name: str, constant: str = "") -> Callable[..., Any]:
    """Of a loss element by element: ours are means over a row, here of one element."""

    def call(x: Any, y: Any, *values: Any, reduction: str = "mean", **named: Any) -> Any:
        given = [*values, *named.values()]
        needs(len(given) <= (1 if constant else 0))
        constants = {constant: float(given[0])} if given else {}
        x, y = torch.broadcast_tensors(x, y)
        losses = of(name)(x.reshape(-1, 1), y.reshape(-1, 1), **constants).reshape(x.shape)
        return reduced(losses, reduction)

    return call


def layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    J = math.prod(shape)
    γ = x.new_ones(J) if weight is None else weight.reshape(J)
    β = x.new_zeros(J) if bias is None else bias.reshape(J)
    return of("layer_norm")(x.reshape(-1, J), γ, β, eps=eps).reshape(x.shape)


def rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    J = math.prod(shape)
    γ = x.new_ones(J) if weight is None else weight.reshape(J)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return of("rms_norm")(x.reshape(-1, J), γ, eps=eps).reshape(x.shape)


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    B, C = x.shape[:2]
    K = C // groups
    γ = (x.new_ones(C) if weight is None else weight).reshape(groups, K)
    β = (x.new_zeros(C) if bias is None else bias).reshape(groups, K)
    N = math.prod(x.shape[2:])
    return of("group_norm")(x.reshape(B, groups, K, N), γ, β, eps=eps).reshape(x.shape)


def linear(x: Any, W: Any, c: Any = None) -> Any:
    needs(W.ndim == 2)
    rows = x.reshape(-1, x.shape[-1])
    y = of("linear")(rows, W) if c is None else of("affine")(rows, W, c)
    return y.reshape(*x.shape[:-1], len(W))


def bilinear(u: Any, v: Any, A: Any, c: Any = None) -> Any:
    y = of("bilinear")(u.reshape(-1, u.shape[-1]), v.reshape(-1, v.shape[-1]), A)
    y = y if c is None else y + c
    return y.reshape(*u.shape[:-1], len(A))


def embedding(E: Any, w: Any, padding_idx: Any = None, **others: Any) -> Any:
    needs(padding_idx is None and not any(others.values()))
    return of("embedding")(w.reshape(1, -1), E).reshape(*w.shape, E.shape[1])


def one(value: Any, count: int = 1) -> int:
    """The number that stands for all axes alike."""
    values = {value} if isinstance(value, int) else set(value)
    needs(len(values) == 1)
    return values.pop()


def conv(rank: int) -> Callable[..., Any]:
    def call(
        x: Any,
        k: Any,
        c: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        needs(not isinstance(padding, str) and x.ndim == rank + 2)
        c = x.new_zeros(len(k)) if c is None else c
        constants = {"stride": one(stride), "padding": one(padding), "dilation": one(dilation)}
        if rank == 1:
            x, k = x.unsqueeze(-2), k.unsqueeze(-2)
            needs(constants["padding"] == 0 and groups == 1)
            y = (
                of("conv2d")(x, k, c, **{**constants, "padding": 0})
                if constants["stride"] == 1
                else None
            )
            needs(y is not None)
            return y.squeeze(-2)
        if groups == 1:
            return of("conv2d")(x, k, c, **constants)
        O = len(k) // groups
        x = x.reshape(len(x), groups, -1, *x.shape[2:])
        y = of("grouped_conv2d")(
            x, k.reshape(groups, O, *k.shape[1:]), c.reshape(groups, O), **constants
        )
        return y.flatten(1, 2)

    return call


def pool(name: str, rank: int) -> Callable[..., Any]:
    def call(
        x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, *more: Any, **others: Any
    ) -> Any:
        needs(not more)
        needs(x.ndim == rank + 2 and others.pop("dilation", 1) in (1, (1,), (1, 1)))
        needs(others.pop("count_include_pad", True) and not any(others.values()))
        width = one(kernel_size)
        stride = width if stride is None or stride == () else one(stride)
        return of(name)(x, width=width, stride=stride, padding=one(padding))

    return call


def cross_entropy(s: Any, target: Any, weight: Any = None, **others: Any) -> Any:
    needs(target.dtype == torch.int64 and s.ndim >= 1)
    needs(others.pop("reduction", "mean") == "mean")
    if s.ndim == 1:
        s, target = s[None], target[None]
    s = s.movedim(1, -1).reshape(-1, s.shape[1])
    w = s.new_ones(s.shape[1]) if weight is None else weight
    names = {"ignore_index": "ignore", "label_smoothing": "smoothing"}
    constants = {names[name]: value for name, value in others.items()}
    return of("softmax_cross_entropy_mean")(s, target.reshape(-1), w, **constants)


def attention(q: Any, k: Any, v: Any, mask: Any = None, **others: Any) -> Any:
    needs(q.ndim == 4 and k.ndim == 4 and mask is None and others.pop("attn_mask", None) is None)
    needs(not others.pop("dropout_p", 0))
    causal = others.pop("is_causal", False)
    needs(not any(others.values()) and q.shape[1] == k.shape[1] == v.shape[1])
    needs(not causal or q.shape[2] == k.shape[2])
    return of("causal_attention" if causal else "attention")(q, k, v)


def glu(x: Any, dim: int = -1) -> Any:
    parts = x.movedim(dim, -1)
    shape = parts.shape
    outer, inner = math.prod(shape[:-1]), shape[-1] // 2
    y = of("glu")(parts.reshape(outer, 2, inner))
    return y.reshape(*shape[:-1], inner).movedim(-1, dim)


def gelu(x: Any, approximate: str = "none") -> Any:
    return elements("gelu" if approximate == "none" else "gelu_tanh")(x)


def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    R = upscale_factor
    *batch, C, X, Y = x.shape
    y = of("pixel_shuffle")(x.reshape(math.prod(batch), C // R**2, R, R, X, Y))
    return y.reshape(*batch, C // R**2, X * R, Y * R)


def triplet(a: Any, p: Any, n: Any, **others: Any) -> Any:
    reduction, margin = others.pop("reduction", "mean"), others.pop("margin", 1.0)
    eps = others.pop("eps", 1e-6)
    needs(a.ndim == 2 and others.pop("p", 2) == 2 and not any(others.values()))
    return reduced(of("triplet")(a, p, n, margin=margin, eps=eps), reduction)


def margin_ranking(x: Any, y: Any, target: Any, *values: Any, **named: Any) -> Any:
    needs(not values and x.shape == y.shape == target.shape)
    reduction, margin = named.pop("reduction", "mean"), named.pop("margin", 0.0)
    flat = (t.reshape(-1) for t in (x, y, target))
    return reduced(of("margin_ranking")(*flat, margin=margin).reshape(x.shape), reduction)


def prelu(x: Any, weight: Any) -> Any:
    slope = weight
    needs(x.ndim >= 1 and (slope.numel() == 1 or x.ndim >= 2))
    if slope.numel() == 1:
        return of("prelu")(x.reshape(-1, 1), slope.reshape(1)).reshape(x.shape)
    rows = x.movedim(1, -1)
    return of("prelu")(rows.reshape(-1, len(slope)), slope).reshape(rows.shape).movedim(-1, 1)


def instance_norm(x: Any, *moments: Any, **others: Any) -> Any:
    eps = others.pop("eps", 1e-5)
    needs(all(m is None for m in moments) and not any(v is not None for v in others.values()))
    return of("instance_norm")(x.reshape(*x.shape[:2], -1), eps=eps).reshape(x.shape)


ROWS: dict[str, Callable[..., Any]] = {
    "tanh": elements("tanh_layer"),
    "sigmoid": elements("sigmoid_layer"),
    "nn.functional.relu": elements("relu_layer"),
    "nn.functional.relu6": elements("relu6"),
    "nn.functional.silu": elements("silu"),
    "nn.functional.hardswish": elements("hard_swish"),
    "nn.functional.hardsigmoid": elements("hard_sigmoid"),
    "nn.functional.logsigmoid": elements("log_sigmoid"),
    "nn.functional.mish": elements("mish"),
    "nn.functional.softsign": elements("softsign"),
    "nn.functional.tanhshrink": elements("tanh_shrink"),
    "nn.functional.selu": elements("selu"),
    "nn.functional.elu": elements("elu", "alpha"),
    "nn.functional.leaky_relu": elements("leaky_relu", "slope"),
    "nn.functional.hardtanh": elements("hard_tanh", "low", "high"),
    "nn.functional.threshold": elements("thresholded", "threshold", "value"),
    "nn.functional.softshrink": elements("soft_shrink", "threshold"),
    "nn.functional.hardshrink": elements("hard_shrink", "threshold"),
    "nn.functional.gelu": gelu,
    "nn.functional.glu": glu,
    "nn.functional.prelu": prelu,
    "softmax": along("softmax"),
    "log_softmax": along("log_softmax"),
    "logsumexp": lambda x, dim, keepdim=False: along("log_sum_exp", False)(x, dim, keepdim=keepdim),
    "nn.functional.softmin": along("softmin"),
    "nn.functional.layer_norm": layer_norm,
    "nn.functional.rms_norm": rms_norm,
    "nn.functional.group_norm": group_norm,
    "nn.functional.instance_norm": instance_norm,
    "nn.functional.linear": linear,
    "nn.functional.bilinear": bilinear,
    "nn.functional.embedding": embedding,
    "mm": lambda A, B: of("matmul")(A, B),
    "bmm": lambda A, B: torch.vmap(of("matmul"))(A, B),
    "nn.functional.conv1d": conv(1),
    "nn.functional.conv2d": conv(2),
    "nn.functional.max_pool1d": pool("strided_max_pool1d", 1),
    "nn.functional.max_pool2d": pool("strided_max_pool2d", 2),
    "nn.functional.avg_pool1d": pool("strided_mean_pool1d", 1),
    "nn.functional.avg_pool2d": pool("strided_mean_pool2d", 2),
    "nn.functional.pixel_shuffle": pixel_shuffle,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.mse_loss": pairwise("squared_error"),
    "nn.functional.l1_loss": pairwise("absolute_error"),
    "nn.functional.smooth_l1_loss": pairwise("smooth_l1", "beta"),
    "nn.functional.huber_loss": pairwise("huber", "delta"),
    "nn.functional.margin_ranking_loss": margin_ranking,
    "nn.functional.triplet_margin_loss": triplet,
    "nn.functional.scaled_dot_product_attention": attention,
}
