"""Attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import softmax

from tests.lib.cases import Case, Values


def attention(v: Any, seen: Any = None, bias: Any = 0) -> Any:
    s = np.einsum("bhtd,bhud->bhtu", v.q, v.k) / np.sqrt(v.q.shape[-1]) + bias
    s = s if seen is None else np.where(seen, s, -np.inf)
    return softmax(s, axis=-1) @ v.v


def past(v: Any, window: int | None = None) -> Any:
    """u <= t, and not more than the window ago."""
    T = v.q.shape[2]
    seen = np.tri(T, dtype=bool)
    return seen if window is None else seen & ~np.tri(T, k=-window, dtype=bool)


def grouped(v: Any) -> Any:
    y = [attention(Values(q=v.q[:, :, r], k=v.k, v=v.v)) for r in range(v.q.shape[2])]
    return np.stack(y, 2)


def multi_head(v: Any, z: Any, seen: Any = None) -> Any:
    q, k, u = (
        np.einsum("hdi,bti->bhtd", v[f"W{n}"], x) + v[f"c{n}"][:, None]
        for n, x in (("q", v.x), ("k", z), ("v", z))
    )
    return np.einsum("ohe,bhte->bto", v.Wo, attention(Values(q=q, k=k, v=u), seen)) + v.co


def turned(x: Any, base: float) -> Any:
    """Pairs of features as complex numbers."""
    *_, T, D = x.shape
    half = D // 2
    pairs = x[..., 0 : 2 * half : 2] + 1j * x[..., 1 : 2 * half : 2]
    pairs = pairs * np.exp(1j * np.arange(T)[:, None] * base ** (-2 * np.arange(half) / D))
    y = x.copy()
    y[..., 0 : 2 * half : 2], y[..., 1 : 2 * half : 2] = pairs.real, pairs.imag
    return y


def rotary_attention(v: Any) -> Any:
    now = Values(q=turned(v.q, v.base), k=turned(v.k, v.base), v=v.v)
    return attention(now, past(v))


def falling(v: Any) -> Any:
    H, T = v.q.shape[1:3]
    slopes = 0.5 ** (8 * np.arange(1, H + 1) / H)
    return slopes[:, None, None] * np.minimum(np.arange(T) - np.arange(T)[:, None], 0)


def linear_attention(v: Any, seen: Any = None) -> Any:
    φq, φk = (np.where(x > 0, x + 1, np.exp(x)) for x in (v.q, v.k))
    w = np.einsum("bhtd,bhud->bhtu", φq, φk) * (1 if seen is None else seen)
    return w / w.sum(-1, keepdims=True) @ v.v


def additive_attention(v: Any) -> Any:
    hidden = np.tanh((v.q @ v.Wq.T)[:, :, None] + (v.k @ v.Wk.T)[:, None])
    return softmax(hidden @ v.w, axis=-1) @ v.v


def padded(v: Any) -> Any:
    y = np.zeros((*v.q.shape[:3], v.v.shape[3]))
    some = v.seen.any(1)
    y[some] = attention(Values(q=v.q[some], k=v.k[some], v=v.v[some]), v.seen[some][:, None, None])
    return y


def torch_multi_head(z: str, causal: bool = False) -> Callable[[Any, Any], Any]:
    def multi_head(F: Any, v: Any) -> Any:
        import torch

        H, D, I = v.Wq.shape
        y, _ = F.multi_head_attention_forward(
            v.x.transpose(0, 1), v[z].transpose(0, 1), v[z].transpose(0, 1),
            embed_dim_to_check=I, num_heads=H, in_proj_weight=None,
            in_proj_bias=torch.cat([v[f"c{n}"].reshape(-1) for n in "qkv"]),
            bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0, training=False,
            out_proj_weight=v.Wo.reshape(len(v.Wo), -1), out_proj_bias=v.co, need_weights=False,
            use_separate_proj_weight=True,
            attn_mask=torch.ones(v.x.shape[1], v.x.shape[1]).triu(1).bool() if causal else None,
            **{f"{n}_proj_weight": v[f"W{n}"].reshape(H * D, -1) for n in "qkv"},
        )  # fmt: skip
        return y.transpose(0, 1)

    return multi_head


def torch_grouped(F: Any, v: Any) -> Any:
    B, G, R, T, D = v.q.shape
    q = v.q.reshape(B, G * R, T, D)
    y = F.scaled_dot_product_attention(q, v.k, v.v, enable_gqa=True)
    return y.reshape(B, G, R, T, -1)


def torch_with(mask: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def attention(F: Any, v: Any) -> Any:
        import torch

        return F.scaled_dot_product_attention(v.q, v.k, v.v, torch.as_tensor(mask(v)))

    return attention


def some_seen(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    seen = rng.random(shape) < 0.5
    seen[:, :1] = True
    return seen


SMALL = {"B": 2, "T": 4, "U": 3, "I": 6, "J": 3, "D": 3, "E": 3, "O": 6}

CASES = {
    "attention": Case(attention, lambda F, v: F.scaled_dot_product_attention(v.q, v.k, v.v)),
    "causal_attention": Case(
        lambda v: attention(v, past(v)),
        lambda F, v: F.scaled_dot_product_attention(v.q, v.k, v.v, is_causal=True),
    ),
    "sliding_window_attention": Case(
        lambda v: attention(v, past(v, v.window)),
        torch_with(lambda v: past(v, v.window)),
        constants={"window": 3},
    ),
    "padded_attention": Case(
        padded,
        torch_with(lambda v: v.seen[:, None, None].expand(-1, 1, v.q.shape[2], -1)),
        draws={"seen": some_seen},
    ),
    "padded_attention: nothing seen": Case(
        padded, draws={"seen": lambda rng, shape: np.tri(*shape, k=-1, dtype=bool)}
    ),
    "grouped_query_attention": Case(grouped, torch_grouped, extents={"R": 3}),
    "grouped_query_attention: one group": Case(grouped, extents={"R": 3, "G": 1}),
    "multi_head_attention": Case(
        lambda v: multi_head(v, v.z), torch_multi_head("z"), extents={**SMALL, "J": 5}
    ),
    "causal_self_attention": Case(
        lambda v: multi_head(v, v.x, np.tri(v.x.shape[1], dtype=bool)),
        torch_multi_head("x", causal=True),
        extents=SMALL,
    ),
    "rotary": Case(lambda v: turned(v.x, v.base), extents={"D": 6}),
    "rotary: odd": Case(lambda v: turned(v.x, v.base), constants={"base": 30.0}, extents={"D": 5}),
    "rotary_attention": Case(rotary_attention, extents={"D": 4}),
    "alibi_attention": Case(lambda v: attention(v, past(v), falling(v)), extents={"H": 4, "B": 2}),
    "linear_attention": Case(linear_attention),
    "causal_linear_attention": Case(lambda v: linear_attention(v, past(v)), extents={"B": 2}),
    "additive_attention": Case(additive_attention, extents={"B": 2}),
}
