"""The layers of workloads.py as people write them for other libraries, by hand.

For each family: "spelled", in PyTorch's elementary operations (torch.compile gets this one too);
"operator", PyTorch's own; "jax". Each is made from the problem, for its constants, and takes the
inputs in header order. "near" marks an operator that computes nearly the same (another divisor).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from loopgrad.peers.problem import Problem

Function = Callable[..., Any]
Maker = Callable[[Problem], Function]

NEAR = {"batch norm"}  # the operator divides by B where the problem set divides by B - 1


def functions(family: str, problem: Problem, library: str) -> dict[str, Function]:
    """ "spelled" and "operator" of torch, or "jax", where there is one."""
    if library == "jax":
        makers = {"jax": JAX.get(family)}
    else:
        makers = {"spelled": SPELLED.get(family), "operator": OPERATOR.get(family)}
    return {name: make(problem) for name, make in makers.items() if make}


def plain(function: Function) -> Maker:
    return lambda problem: function


# ----------------------------------------------------------------------------------- PyTorch, spelled


def _softmax(s):
    e = (s - s.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def _batchnorm(x):
    d = x - x.mean(0)
    return d / (d.square().sum(0) / (len(x) - 1)).sqrt()


def _cross_entropy(s, label):
    return s.logsumexp(1) - s.gather(1, label[:, None])[:, 0]


def _chain(x, y):
    return (x * y + 0.5 * x).tanh() * y.sigmoid()


def _arithmetic(x, y):
    return (x * y + 0.5 * x - y).relu()


def _ugrnn(wrap):
    import torch

    @wrap
    def step(h, xR, xG, WhR, WhG):
        R = torch.tanh(h @ WhR.T + xR)
        G = torch.sigmoid(h @ WhG.T + xG)
        return G * h + (1 - G) * R

    def ugrnn(x, h, WhR, WxR, BR, WhG, WxG, BG):
        found = []
        xR, xG = x @ WxR.T - BR, x @ WxG.T - BG
        for R, G in zip(xR.unbind(0), xG.unbind(0), strict=True):
            h = step(h, R, G, WhR, WhG)
            found.append(h)
        return torch.stack(found)

    return ugrnn


def _layer_norm(problem):
    eps = problem.constants["eps"]

    def layer_norm(x, γ, β):
        d = x - x.mean(1, keepdim=True)
        return γ * d * (d.square().mean(1, keepdim=True) + eps).rsqrt() + β

    return layer_norm


def _rms_norm(problem):
    eps = problem.constants["eps"]
    return lambda x, γ: γ * x * (x.square().mean(1, keepdim=True) + eps).rsqrt()


def _gelu(x):
    return 0.5 * x * (1 + (x / math.sqrt(2)).erf())


def _gelu_mlp(x, W1, c1, W2, c2):
    return _gelu(x @ W1.T + c1) @ W2.T + c2


def _linear_tanh(x, W, c):
    return (x @ W.T + c).tanh()


def _attention(q, k, v):
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return s.softmax(-1) @ v


def _causal_attention(q, k, v):
    import torch

    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    hidden = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
    return s.masked_fill(hidden, -math.inf).softmax(-1) @ v


def _packed_attention(q, k, v, doc):
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return s.masked_fill(~_same_before(doc), -math.inf).softmax(-1) @ v


def _same_before(doc):
    return (doc[:, :, None] == doc[:, None]).tril()[:, None]


def _ragged_attention(q, k, v, length):
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return s.masked_fill(~_within(length, k.shape[-2]), -math.inf).softmax(-1) @ v


def _within(length, positions):
    import torch

    return (torch.arange(positions) < length[:, None])[:, None, None]


def _grouped_attention(q, k, v):
    heads = q.shape[1] // k.shape[1]
    return _causal_attention(q, *(x.repeat_interleave(heads, 1) for x in (k, v)))


def _lstm(wrap):
    import torch

    @wrap
    def step(h, c, x, Wh):
        i, f, g, o = (h @ Wh.T + x).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def lstm(x, h0, c0, WhI, WxI, BI, WhF, WxF, BF, WhO, WxO, BO, WhG, WxG, BG):
        Wh, Wx = torch.cat([WhI, WhF, WhG, WhO]), torch.cat([WxI, WxF, WxG, WxO])
        xs = x @ Wx.T - torch.cat([BI, BF, BG, BO])
        h, c, found = h0, c0, []
        for now in xs.unbind(0):
            h, c = step(h, c, now, Wh)
            found.append(h)
        return torch.stack(found), c

    return lstm


def _lstm_operator(x, h0, c0, WhI, WxI, BI, WhF, WxF, BF, WhO, WxO, BO, WhG, WxG, BG):
    import torch

    Wh, Wx = torch.cat([WhI, WhF, WhG, WhO]), torch.cat([WxI, WxF, WxG, WxO])
    B = -torch.cat([BI, BF, BG, BO])
    weights = [Wx, Wh, B, torch.zeros_like(B)]
    h, _, c = torch.lstm(x, [h0[None], c0[None]], weights, True, 1, 0.0, True, False, False)
    return h, c[0]


def _soft_targets(s, P):
    return -(P * s.log_softmax(1)).sum(1)


def _bce(s, y):
    import torch

    return (torch.nn.functional.softplus(s) - y * s).sum(1)


def _squared_error(x, y):
    return (x - y).square().mean(1)


def _huber(x, y):
    import torch

    d = (x - y).abs()
    return torch.where(d <= 1, 0.5 * d * d, d - 0.5).sum(1)


def _crf(wrap):
    @wrap
    def step(log, e, A):
        return (log[:, :, None] + A).logsumexp(1) + e

    def crf(e, A, start, end):
        first, *others = e.unbind(0)
        log = start + first
        for now in others:
            log = step(log, now, A)
        return (log + end).logsumexp(1)

    return crf


def _linear_recurrence(wrap):
    import torch

    @wrap
    def step(h, a, b):
        return a * h + b

    def linear_recurrence(a, b):
        (_, *factors), (h, *terms) = a.unbind(0), b.unbind(0)
        found = [h]
        for factor, term in zip(factors, terms, strict=True):
            h = step(h, factor, term)
            found.append(h)
        return torch.stack(found)

    return linear_recurrence


def _selective_scan(wrap):
    import torch

    @wrap
    def step(h, x, Δ, U, C, A):
        h = (-Δ[:, :, None] * A).exp() * h + (Δ * x)[:, :, None] * U[:, None]
        return h, (h * C[:, None]).sum(2)

    def selective_scan(x, δ, U, C, h, logA, D):
        Δ, A, found = torch.nn.functional.softplus(δ), logA.exp(), []
        for now in zip(*(each.unbind(0) for each in (x, Δ, U, C)), strict=True):
            h, y = step(h, *now, A)
            found.append(y)
        return torch.stack(found) + D * x

    return selective_scan


def _moving_mean(wrap):
    recurrence = _linear_recurrence(wrap)
    return lambda x, g: recurrence((1 - g).T, (g * x).T).T


def _min_gru(wrap):
    import torch

    recurrence = _linear_recurrence(wrap)

    def min_gru(x, Wz, Wh):
        z, c = torch.sigmoid(x @ Wz.T), x @ Wh.T
        return recurrence((1 - z).transpose(0, 1), (z * c).transpose(0, 1)).transpose(0, 1)

    return min_gru


# Loops over time: functions of what wraps a step. torch.compile would write out all, and take minutes;
# compiling a step is what people do. `x[t]` in place of `unbind` would fill all of x's gradient at each turn.
STEPS: dict[str, Callable[[Callable[[Function], Function]], Function]] = {
    "ugrnn": _ugrnn,
    "lstm": _lstm,
    "crf": _crf,
    "linear recurrence": _linear_recurrence,
    "selective scan": _selective_scan,
    "moving mean": _moving_mean,
    "min gru": _min_gru,
}


def _stepwise(family: str) -> Maker:
    return lambda problem: STEPS[family](lambda step: step)


SPELLED: dict[str, Maker] = {
    "softmax": plain(_softmax),
    "batch norm": plain(_batchnorm),
    "cross entropy": plain(_cross_entropy),
    "chain": plain(_chain),
    "arithmetic": plain(_arithmetic),
    "layer norm": _layer_norm,
    "rms norm": _rms_norm,
    "gelu": plain(_gelu),
    "gelu mlp": plain(_gelu_mlp),
    "linear tanh": plain(_linear_tanh),
    "attention": plain(_attention),
    "causal attention": plain(_causal_attention),
    "packed attention": plain(_packed_attention),
    "ragged attention": plain(_ragged_attention),
    "grouped attention": plain(_grouped_attention),
    "soft targets": plain(_soft_targets),
    "bce": plain(_bce),
    "squared error": plain(_squared_error),
    "huber": plain(_huber),
    **{family: _stepwise(family) for family in STEPS},
}


# --------------------------------------------------------------------------------- PyTorch, operators


def _functional(make: Callable[[Any, Problem], Function]) -> Maker:
    def maker(problem: Problem) -> Function:
        import torch

        return make(torch.nn.functional, problem)

    return maker


def _convolved(F, problem, rank):
    p = problem.constants
    options = {
        "stride": p["stride"],
        "padding": p.get("padding", 0),
        "dilation": p.get("dilation", 1),
    }
    function = F.conv1d if rank == 1 else F.conv2d
    return lambda x, k, c: function(x, k, c, **options)


OPERATOR: dict[str, Maker] = {
    "cumulative sum": plain(lambda x: x.cumsum(1)),
    "softmax": _functional(lambda F, p: lambda s: F.softmax(s, 1)),
    "batch norm": _functional(
        lambda F, p: lambda x: F.batch_norm(x, None, None, training=True, eps=1e-30)
    ),
    "cross entropy": _functional(lambda F, p: lambda s, w: F.cross_entropy(s, w, reduction="none")),
    "layer norm": _functional(
        lambda F, p: lambda x, γ, β: F.layer_norm(x, γ.shape, γ, β, p.constants["eps"])
    ),
    "rms norm": _functional(
        lambda F, p: lambda x, γ: F.rms_norm(x, γ.shape, γ, p.constants["eps"])
    ),
    "gelu": _functional(lambda F, p: F.gelu),
    "gelu mlp": _functional(
        lambda F, p: lambda x, W1, c1, W2, c2: F.linear(F.gelu(F.linear(x, W1, c1)), W2, c2)
    ),
    "linear tanh": _functional(lambda F, p: lambda x, W, c: F.linear(x, W, c).tanh()),
    "attention": _functional(lambda F, p: F.scaled_dot_product_attention),
    "causal attention": _functional(
        lambda F, p: lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    ),
    "packed attention": _functional(
        lambda F, p: (
            lambda q, k, v, doc: F.scaled_dot_product_attention(
                q, k, v, attn_mask=_same_before(doc)
            )
        )
    ),
    "ragged attention": _functional(
        lambda F, p: (
            lambda q, k, v, length: F.scaled_dot_product_attention(
                q, k, v, attn_mask=_within(length, k.shape[-2])
            )
        )
    ),
    "grouped attention": _functional(
        lambda F, p: (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        )
    ),
    "lstm": plain(_lstm_operator),
    "conv1d": _functional(lambda F, p: _convolved(F, p, 1)),
    "conv2d": _functional(lambda F, p: _convolved(F, p, 2)),
    "depthwise": _functional(lambda F, p: lambda x, k: F.conv2d(x, k[:, None], groups=len(k))),
    "max pool": _functional(lambda F, p: lambda x: F.max_pool2d(x, p.constants["width"])),
    "mean pool": _functional(lambda F, p: lambda x: F.avg_pool2d(x, p.constants["width"])),
    "embedding": _functional(lambda F, p: F.embedding),
    "soft targets": _functional(lambda F, p: lambda s, P: F.cross_entropy(s, P, reduction="none")),
    "bce": _functional(
        lambda F, p: lambda s, y: F.binary_cross_entropy_with_logits(s, y, reduction="none").sum(1)
    ),
    "squared error": _functional(
        lambda F, p: lambda x, y: F.mse_loss(x, y, reduction="none").mean(1)
    ),
    "huber": _functional(lambda F, p: lambda x, y: F.huber_loss(x, y, reduction="none").sum(1)),
}


# ------------------------------------------------------------------------------------------------ JAX


def _jax(make: Callable[[Any, Any, Problem], Function]) -> Maker:
    """From `jax.numpy`, `jax` and the problem."""

    def maker(problem: Problem) -> Function:
        import jax
        import jax.numpy as jnp

        return make(jnp, jax, problem)

    return maker


def _jax_batchnorm(jnp, jax, problem):
    def batchnorm(x):
        d = x - x.mean(0)
        return d / jnp.sqrt((d * d).sum(0) / (len(x) - 1))

    return batchnorm


def _jax_ugrnn(jnp, jax, problem):
    def ugrnn(x, h0, WhR, WxR, BR, WhG, WxG, BG):
        def step(h, xs):
            xR, xG = xs
            G = jax.nn.sigmoid(h @ WhG.T + xG)
            h = G * h + (1 - G) * jnp.tanh(h @ WhR.T + xR)
            return h, h

        return jax.lax.scan(step, h0, (x @ WxR.T - BR, x @ WxG.T - BG))[1]

    return ugrnn


def _jax_layer_norm(jnp, jax, problem):
    def layer_norm(x, γ, β):
        d = x - x.mean(1, keepdims=True)
        v = (d * d).mean(1, keepdims=True)
        return γ * d * jax.lax.rsqrt(v + problem.constants["eps"]) + β

    return layer_norm


def _jax_attention(causal):
    def make(jnp, jax, problem):
        def attention(q, k, v):
            s = jnp.einsum("bhtd,bhud->bhtu", q, k) / math.sqrt(q.shape[-1])
            if causal:
                s = jnp.where(jnp.tri(q.shape[2], dtype=bool), s, -jnp.inf)
            return jnp.einsum("bhtu,bhue->bhte", jax.nn.softmax(s, -1), v)

        return attention

    return make


def _jax_lstm(jnp, jax, problem):
    def lstm(x, h0, c0, WhI, WxI, BI, WhF, WxF, BF, WhO, WxO, BO, WhG, WxG, BG):
        Wh = jnp.concatenate([WhI, WhF, WhG, WhO])
        Wx = jnp.concatenate([WxI, WxF, WxG, WxO])

        def step(carry, xs):
            h, c = carry
            i, f, g, o = jnp.split(h @ Wh.T + xs, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        xs = x @ Wx.T - jnp.concatenate([BI, BF, BG, BO])
        (_, c), h = jax.lax.scan(step, (h0, c0), xs)
        return h, c

    return lstm


def _jax_convolved(rank):
    names = ("NCH", "OIH", "NCH") if rank == 1 else ("NCHW", "OIHW", "NCHW")

    def make(jnp, jax, problem):
        p = problem.constants
        options = {
            "window_strides": (p["stride"],) * rank,
            "padding": [(p.get("padding", 0),) * 2] * rank,
            "rhs_dilation": (p.get("dilation", 1),) * rank,
            "dimension_numbers": names,
        }
        bias = (None, slice(None), *[None] * rank)
        return lambda x, k, c: jax.lax.conv_general_dilated(x, k, **options) + c[bias]

    return make


def _jax_depthwise(jnp, jax, problem):
    return lambda x, k: jax.lax.conv_general_dilated(
        x, k[:, None], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"),
        feature_group_count=len(k),
    )  # fmt: skip


def _jax_pool(largest):
    def make(jnp, jax, problem):
        w = problem.constants["width"]

        def pool(x):
            b, c, m, n = x.shape
            windows = x.reshape(b, c, m // w, w, n // w, w)
            return windows.max((3, 5)) if largest else windows.mean((3, 5))

        return pool

    return make


def _jax_crf(jnp, jax, problem):
    def crf(e, A, start, end):
        step = lambda log, e: (jax.nn.logsumexp(log[:, :, None] + A, 1) + e, None)
        return jax.nn.logsumexp(jax.lax.scan(step, start + e[0], e[1:])[0] + end, 1)

    return crf


def _jax_linear_recurrence(jnp, jax, problem):
    def step(h, ab):
        h = ab[0] * h + ab[1]
        return h, h

    return lambda a, b: jax.lax.scan(step, jnp.zeros_like(a[0]), (a, b))[1]


def _associative(jnp, jax, a, b, axis):
    """The recurrence as JAX's parallel scan."""

    def joined(one, other):
        return one[0] * other[0], other[0] * one[1] + other[1]

    return jax.lax.associative_scan(joined, (a, b), axis=axis)[1]


def _jax_min_gru(jnp, jax, problem):
    def min_gru(x, Wz, Wh):
        z = jax.nn.sigmoid(x @ Wz.T)
        return _associative(jnp, jax, 1 - z, z * (x @ Wh.T), 1)

    return min_gru


def _jax_selective_scan(jnp, jax, problem):
    def scan(x, δ, U, C, h0, logA, D):
        Δ, A = jax.nn.softplus(δ), jnp.exp(logA)

        def step(h, given):
            x, Δ, U, C = given
            h = jnp.exp(-Δ[:, :, None] * A) * h + (Δ * x)[:, :, None] * U[:, None]
            return h, (h * C[:, None]).sum(2)

        return jax.lax.scan(step, h0, (x, Δ, U, C))[1] + D * x

    return scan


JAX: dict[str, Maker] = {
    "softmax": _jax(lambda jnp, jax, p: lambda s: jax.nn.softmax(s, 1)),
    "batch norm": _jax(_jax_batchnorm),
    "cross entropy": _jax(
        lambda jnp, jax, p: (
            lambda s, w: jax.nn.logsumexp(s, 1) - jnp.take_along_axis(s, w[:, None], 1)[:, 0]
        )
    ),
    "chain": _jax(lambda jnp, jax, p: lambda x, y: jnp.tanh(x * y + 0.5 * x) * jax.nn.sigmoid(y)),
    "arithmetic": _jax(lambda jnp, jax, p: lambda x, y: jax.nn.relu(x * y + 0.5 * x - y)),
    "ugrnn": _jax(_jax_ugrnn),
    "layer norm": _jax(_jax_layer_norm),
    "rms norm": _jax(
        lambda jnp, jax, p: (
            lambda x, γ: γ * x * jax.lax.rsqrt((x * x).mean(1, keepdims=True) + p.constants["eps"])
        )
    ),
    "gelu": _jax(lambda jnp, jax, p: lambda x: jax.nn.gelu(x, approximate=False)),
    "gelu mlp": _jax(
        lambda jnp, jax, p: (
            lambda x, W1, c1, W2, c2: jax.nn.gelu(x @ W1.T + c1, approximate=False) @ W2.T + c2
        )
    ),
    "linear tanh": _jax(lambda jnp, jax, p: lambda x, W, c: jnp.tanh(x @ W.T + c)),
    "attention": _jax(_jax_attention(False)),
    "causal attention": _jax(_jax_attention(True)),
    "lstm": _jax(_jax_lstm),
    "conv1d": _jax(_jax_convolved(1)),
    "conv2d": _jax(_jax_convolved(2)),
    "depthwise": _jax(_jax_depthwise),
    "max pool": _jax(_jax_pool(True)),
    "mean pool": _jax(_jax_pool(False)),
    "embedding": _jax(lambda jnp, jax, p: lambda w, E: E[w]),
    "soft targets": _jax(lambda jnp, jax, p: lambda s, P: -(P * jax.nn.log_softmax(s, 1)).sum(1)),
    "bce": _jax(lambda jnp, jax, p: lambda s, y: (jax.nn.softplus(s) - y * s).sum(1)),
    "squared error": _jax(lambda jnp, jax, p: lambda x, y: ((x - y) ** 2).mean(1)),
    "huber": _jax(
        lambda jnp, jax, p: (
            lambda x, y: jnp.where(abs(x - y) <= 1, 0.5 * (x - y) ** 2, abs(x - y) - 0.5).sum(1)
        )
    ),
    "crf": _jax(_jax_crf),
    "linear recurrence": _jax(_jax_linear_recurrence),
    "selective scan": _jax(_jax_selective_scan),
    "cumulative sum": _jax(lambda jnp, jax, p: lambda x: jnp.cumsum(x, 1)),
    "moving mean": _jax(lambda jnp, jax, p: lambda x, g: _associative(jnp, jax, 1 - g, g * x, 1)),
    "min gru": _jax(_jax_min_gru),
}
