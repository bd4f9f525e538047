"""The standard library, program by program, beside its literal loops and PyTorch.

    python benchmarks/bench_library.py                     every row, the worst first
    python benchmarks/bench_library.py conv pool           rows whose names hold one of the words
    python benchmarks/bench_library.py --no-torch --rounds 3 --threads 1 --phase backward

For the forward, and for the backward alone, in float32: our time in milliseconds, that of the literal
loops (`optimize=False`, of the same program) over it, and that of PyTorch's operator over it, where there
is one. Contenders are called in turn in one process; medians of the rounds. Our results are written into
the same arrays at each call. A row that is slower than the literal loops is marked with `!`.

Where PyTorch's result is not ours, the row says `differs`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import loopgrad as lg
from loopgrad.peers.ours import ours
from loopgrad.peers.problem import Array, Problem, draw
from loopgrad.peers.timing import interleaved

PHASES = ("forward", "backward")
FARTHEST = 1e-3  # an error, relative to the largest value, beyond which PyTorch does something else

# Of `torch`, and of the inputs by name, which may be changed.
Operator = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Row:
    """A program of the library at a size that takes milliseconds, and PyTorch's operator for it.

    below: the extent that integers are drawn below; where none is named, they are in range.
    between: by input, the least integer that is drawn, and what all are below.
    scale: of what is drawn for parameters; states of a recurrence with large ones are nobody's.
    positive: inputs of which the absolute values are taken.
    where: the programs that hold it.
    """

    program: str
    sizes: Mapping[str, int | float]
    torch: Operator | None = None
    keywords: Mapping[str, int | float] = field(default_factory=dict)
    below: str | None = None
    between: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    scale: float = 1.0
    positive: tuple[str, ...] = ()
    where: Any = field(default_factory=lambda: lg.lib)

    @property
    def name(self) -> str:
        said = [f"{name}={value}" for name, value in self.keywords.items()]
        sizes = ",".join(str(size) for size in self.sizes.values())
        return " ".join([self.program, f"({sizes})", *said])

    def problem(self) -> Problem:
        """Random inputs; integers below the extent that is named, as rows of a table are drawn from all."""
        program, values = self.where[self.program], {**self.sizes, **self.keywords}
        problem = draw(program, values)
        rng = np.random.default_rng(1)
        drawn = {**problem.inputs}
        parameters = {i.name for i in program.inputs if i.kind == "param"}
        for name, array in problem.inputs.items():
            if array.dtype.kind == "i" and (self.below or self.between):
                drawn[name] = rng.integers(*self._limits(name), array.shape)
            elif name in self.positive:
                drawn[name] = np.abs(array)
            elif name in parameters and array.dtype.kind == "f":
                drawn[name] = array * np.asarray(self.scale, array.dtype)
        return draw(program, values, drawn)

    def _limits(self, name: str) -> tuple[int, int]:
        least = min(int(size) for size in self.sizes.values())
        largest = least if self.below is None else int(self.sizes[self.below])
        return self.between.get(name, (0, largest))


def row(
    program: str,
    sizes: str,
    operator: Operator | None = None,
    below: str | None = None,
    between: Mapping[str, tuple[int, int]] | None = None,
    scale: float = 1.0,
    positive: tuple[str, ...] = (),
    where: Any = lg.lib,
    **keywords: int | float,
) -> Row:
    """`sizes` as in `B=8 C=64`."""
    pairs = (pair.split("=") for pair in sizes.split())
    named = {name: int(size) for name, size in pairs}
    return Row(program, named, operator, keywords, below, between or {}, scale, positive, where)


def _windows(t: Any, v: Any, **more: int) -> Any:
    return t.nn.functional.conv2d(v.x, v.k, v.c, **more)


def _grouped(t: Any, v: Any, **more: int) -> Any:
    groups, outputs = v.k.shape[:2]
    y = t.nn.functional.conv2d(
        v.x.flatten(1, 2), v.k.flatten(0, 1), v.c.flatten(), groups=groups, **more
    )
    return y.unflatten(1, (groups, outputs))


def _depthwise(t: Any, v: Any, **more: int) -> Any:
    return t.nn.functional.conv2d(v.x, v.k[:, None], v.c, groups=v.x.shape[1], **more)


def _attention(t: Any, v: Any, **more: Any) -> Any:
    return t.nn.functional.scaled_dot_product_attention(v.q, v.k, v.v, **more)


def _grouped_queries(t: Any, v: Any) -> Any:
    q = Inputs(q=v.q.flatten(1, 2), k=v.k, v=v.v)
    return _attention(t, q, enable_gqa=True).unflatten(1, v.q.shape[1:3])


def _sliding(t: Any, v: Any, window: int) -> Any:
    T = v.q.shape[2]
    distance = t.arange(T)[:, None] - t.arange(T)
    return _attention(t, v, attn_mask=(distance >= 0) & (distance < window))


def _scatter(t: Any, v: Any, groups: int) -> Any:
    return t.zeros(groups, v.x.shape[1]).index_add(0, v.segment, v.x)


def _batch_norm(t: Any, v: Any) -> Any:
    return t.nn.functional.batch_norm(v.x, None, None, v["γ"], v["β"], training=True)


def _group_norm(t: Any, v: Any) -> Any:
    groups = v.x.shape[1]
    y = t.nn.functional.group_norm(v.x.flatten(1, 2), groups, v["γ"].flatten(), v["β"].flatten())
    return y.unflatten(1, v.x.shape[1:3])


def _grid(t: Any, v: Any) -> Any:
    return t.nn.functional.grid_sample(v.v, v.grid, align_corners=False)


def _gates(t: Any, v: Any, names: str) -> list[Any]:
    """PyTorch's stacked weights and first bias."""
    return [
        *(t.cat([v[f"W{side}{gate}"] for gate in names]) for side in "xh"),
        -t.cat([v[f"B{gate}"] for gate in names]),
    ]


LAYERS = (True, 1, 0.0, False, False, False)  # with biases, one layer, time first


def _rnn(t: Any, v: Any) -> Any:
    weights = [v.Wx, v.Wh, -v.c, t.zeros_like(v.c)]
    return t.rnn_tanh(v.x, v.h0[None], weights, *LAYERS)[0]


def _gru(t: Any, v: Any) -> Any:
    none = t.zeros_like(v.CN)
    weights = [*_gates(t, v, "RZN"), t.cat([none, none, -v.CN])]
    return t.gru(v.x, v.h0[None], weights, *LAYERS)[0]


def _lstm(t: Any, v: Any) -> Any:
    weights = _gates(t, v, "IFGO")
    h, _, memory = t.lstm(
        v.x, [v.h0[None], v.c0[None]], [*weights, t.zeros_like(weights[-1])], *LAYERS
    )
    return h, memory[0]


def _mingru(t: Any, v: Any) -> Any:
    F, h, found = t.nn.functional, v.h0, []
    Z = F.linear(v.x, v.WxZ, -v.BZ).sigmoid()
    for kept, new in zip(1 - Z, Z * F.linear(v.x, v.WxN, -v.BN), strict=True):
        h = kept * h + new
        found.append(h)
    return t.stack(found)


def _selective_scan(t: Any, v: Any) -> Any:
    step = t.nn.functional.softplus(v["δ"])
    decay = (-step[..., None] * v.logA.exp()).exp()
    moved = (step * v.x)[..., None] * v.U[:, :, None]
    h, found = v.h0, []
    for a, b, c in zip(decay, moved, v.C, strict=True):
        h = a * h + b
        found.append((h * c[:, None]).sum(-1))
    return t.stack(found) + v.D * v.x


def _crf(t: Any, v: Any) -> Any:
    α, last = v.start + v.e[0], len(v.e) - 1
    for e in v.e[1:]:
        α = (α[:, :, None] + v.A).logsumexp(1) + e
    label, some = v.label, v.e.gather(2, v.label[:, :, None])
    score = v.start[label[0]] + some[..., 0].sum(0) + v.A[label[:-1], label[1:]].sum(0)
    return (α + v.end).logsumexp(1) - score - v.end[label[last]]


def _ctc(t: Any, v: Any) -> Any:
    given = (v.target, v.length, v.target_length)
    return t.nn.functional.ctc_loss(v.lp, *given, reduction="none")


def _sinkhorn(t: Any, v: Any, steps: int) -> Any:
    g, ε = t.zeros(v.C.shape[1]), 0.1
    for _ in range(steps):
        f = ε * (v.p.log() - ((g - v.C) / ε).logsumexp(1))
        g = ε * (v.q.log() - ((f[:, None] - v.C) / ε).logsumexp(0))
    P = ((f[:, None] + g - v.C) / ε).exp()
    return P, (P * v.C).sum()


def _adam(t: Any, v: Any) -> Any:
    m, s = 0.9 * v.m + 0.1 * v.g, 0.999 * v.s + 0.001 * v.g**2
    step = int(v.t)
    return v["θ"] - 0.001 * (m / (1 - 0.9**step)) / ((s / (1 - 0.999**step)).sqrt() + 1e-8), m, s


def _mixture(t: Any, v: Any) -> Any:
    from math import log, pi

    away = (v.x[:, None] - v["μ"]) * (-v["logσ"]).exp()
    each = v.logit.log_softmax(0) - (away**2 / 2 + v["logσ"] + log(2 * pi) / 2).sum(2)
    return each.logsumexp(1)


def _smoothed(t: Any, v: Any) -> Any:
    return t.nn.functional.cross_entropy(v.s, v.label, reduction="none", label_smoothing=0.1)


def _mlp(t: Any, v: Any) -> Any:
    F = t.nn.functional
    return F.linear(F.linear(v.x, v.W1, v.c1).relu(), v.W2, v.c2)


def _swiglu(t: Any, v: Any) -> Any:
    F = t.nn.functional
    return F.silu(F.linear(v.x, v.W)) * F.linear(v.x, v.V)


def _triplet(t: Any, v: Any) -> Any:
    return t.nn.functional.triplet_margin_loss(v.a, v.p, v.n, reduction="none")


def _info_nce(t: Any, v: Any) -> Any:
    # Vectors are not of length 1: by 0.07 many of the exponentials would be denormal numbers.
    s = v.u @ v.v.T / 11.0
    return t.nn.functional.cross_entropy(s, t.arange(len(s)), reduction="none")


def _low_rank(t: Any, v: Any) -> Any:
    F = t.nn.functional
    return F.linear(v.x, v.W) + F.linear(F.linear(v.x, v.V), v.U) / v.U.shape[1]


def _bag(t: Any, v: Any) -> Any:
    inside = (t.arange(v.w.shape[1]) < v.length[:, None]).to(v.E.dtype)
    return t.nn.functional.embedding_bag(v.w, v.E, mode="sum", per_sample_weights=inside)


IMAGE = "B=8 C=64 X=32 Y=32 O=64 DX=3 DY=3"
SEQUENCE = "B=16 C=64 X=512 O=64 DX=5"
MAPS = "B=16 C=64 X=64 Y=64"

ROWS = (
    row("conv1d", SEQUENCE, lambda t, v: t.nn.functional.conv1d(v.x, v.k, v.c)),
    row("conv1d", SEQUENCE, lambda t, v: t.nn.functional.conv1d(v.x, v.k, v.c, stride=2), stride=2),
    row("conv1d_padded", SEQUENCE,
        lambda t, v: t.nn.functional.conv1d(v.x, v.k, v.c, padding=2), padding=2),
    row("conv1d_padded", SEQUENCE,
        lambda t, v: t.nn.functional.conv1d(v.x, v.k, v.c, padding=4, dilation=2),
        padding=4, dilation=2),
    row("causal_conv1d", SEQUENCE,
        lambda t, v: t.nn.functional.conv1d(t.nn.functional.pad(v.x, (8, 0)), v.k, v.c, dilation=2),
        dilation=2),
    row("conv2d", IMAGE, _windows),
    row("conv2d", IMAGE, lambda t, v: _windows(t, v, padding=1), padding=1),
    row("conv2d", IMAGE, lambda t, v: _windows(t, v, padding=1, stride=2), padding=1, stride=2),
    row("conv2d", IMAGE, lambda t, v: _windows(t, v, padding=2, dilation=2), padding=2, dilation=2),
    row("conv2d", "B=8 C=3 X=64 Y=64 O=32 DX=7 DY=7",
        lambda t, v: _windows(t, v, padding=3, stride=2), padding=3, stride=2),
    row("conv2d", "B=8 C=128 X=28 Y=28 O=128 DX=1 DY=1", _windows),
    row("conv2d", "B=8 C=128 X=28 Y=28 O=256 DX=1 DY=1",
        lambda t, v: _windows(t, v, stride=2), stride=2),
    row("conv2d", "B=64 C=1 X=28 Y=28 O=16 DX=5 DY=5",
        lambda t, v: _windows(t, v, padding=2), padding=2),
    row("conv2d", "B=8 C=64 X=56 Y=56 O=64 DX=3 DY=3",
        lambda t, v: _windows(t, v, padding=1), padding=1),
    row("conv2d", "B=8 C=128 X=28 Y=28 O=128 DX=3 DY=3",
        lambda t, v: _windows(t, v, padding=1, stride=2), padding=1, stride=2),
    row("conv2d", "B=8 C=256 X=14 Y=14 O=256 DX=3 DY=3",
        lambda t, v: _windows(t, v, padding=1), padding=1),
    row("conv2d", "B=8 C=512 X=7 Y=7 O=512 DX=3 DY=3",
        lambda t, v: _windows(t, v, padding=1), padding=1),
    row("conv2d", "B=4 C=3 X=224 Y=224 O=64 DX=7 DY=7",
        lambda t, v: _windows(t, v, padding=3, stride=2), padding=3, stride=2),
    row("conv3d", "B=2 C=16 X=16 Y=16 Z=16 O=32 DX=3 DY=3 DZ=3",
        lambda t, v: t.nn.functional.conv3d(v.x, v.k, v.c, padding=1), padding=1),
    row("grouped_conv2d", "B=8 G=4 C=16 X=32 Y=32 O=16 DX=3 DY=3",
        lambda t, v: _grouped(t, v, padding=1), padding=1),
    row("grouped_conv2d", "B=8 G=32 C=8 X=14 Y=14 O=8 DX=3 DY=3",
        lambda t, v: _grouped(t, v, padding=1), padding=1),
    row("depthwise_conv2d_padded", "B=8 C=64 X=32 Y=32 DX=3 DY=3",
        lambda t, v: _depthwise(t, v, padding=1), padding=1),
    row("depthwise_conv2d_padded", "B=8 C=64 X=32 Y=32 DX=3 DY=3",
        lambda t, v: _depthwise(t, v, padding=1, stride=2), padding=1, stride=2),
    row("causal_depthwise_conv1d", "B=16 C=256 X=512 DX=4",
        lambda t, v: t.nn.functional.conv1d(
            t.nn.functional.pad(v.x, (3, 0)), v.k[:, None], v.c, groups=256)),
    row("separable_conv2d", "B=8 C=64 X=32 Y=32 O=64 DX=3 DY=3",
        lambda t, v: t.nn.functional.conv2d(
            t.nn.functional.conv2d(v.x, v.k[:, None], groups=64), v.W[:, :, None, None], v.c)),
    row("conv_transpose1d", "B=16 C=64 X=256 O=64 DX=4",
        lambda t, v: t.nn.functional.conv_transpose1d(v.x, v.k, stride=2), stride=2),
    row("conv_transpose2d", "B=8 C=64 X=16 Y=16 O=32 DX=4 DY=4",
        lambda t, v: t.nn.functional.conv_transpose2d(v.x, v.k, v.c, stride=2, padding=1),
        stride=2, padding=1),
    row("conv_transpose2d", "B=8 C=128 X=14 Y=14 O=64 DX=2 DY=2",
        lambda t, v: t.nn.functional.conv_transpose2d(v.x, v.k, v.c, stride=2), stride=2),
    row("max_pool1d", "B=16 C=64 X=4096", lambda t, v: t.nn.functional.max_pool1d(v.x, 2)),
    row("max_pool2d", MAPS, lambda t, v: t.nn.functional.max_pool2d(v.x, 2)),
    row("mean_pool1d", "B=16 C=64 X=4096", lambda t, v: t.nn.functional.avg_pool1d(v.x, 2)),
    row("mean_pool2d", MAPS, lambda t, v: t.nn.functional.avg_pool2d(v.x, 2)),
    row("strided_max_pool1d", "B=16 C=64 X=4096",
        lambda t, v: t.nn.functional.max_pool1d(v.x, 3, 2, 1), padding=1),
    row("strided_max_pool2d", MAPS,
        lambda t, v: t.nn.functional.max_pool2d(v.x, 3, 2, 1), padding=1),
    row("strided_mean_pool2d", MAPS,
        lambda t, v: t.nn.functional.avg_pool2d(v.x, 3, 2, 1), padding=1),
    row("global_mean_pool", "B=64 C=256 N=196", lambda t, v: v.x.mean(-1)),
    row("global_max_pool", "B=64 C=256 N=196", lambda t, v: v.x.amax(-1)),
    row("adaptive_mean_pool1d", "B=16 C=64 X=4096 N=100",
        lambda t, v: t.nn.functional.adaptive_avg_pool1d(v.x, 100)),
    row("adaptive_max_pool1d", "B=16 C=64 X=4096 N=100",
        lambda t, v: t.nn.functional.adaptive_max_pool1d(v.x, 100)),
    row("adaptive_mean_pool2d", "B=16 C=64 X=64 Y=64 M=7 N=7",
        lambda t, v: t.nn.functional.adaptive_avg_pool2d(v.x, 7)),
    row("upsample_nearest2d", "B=8 C=64 X=32 Y=32",
        lambda t, v: t.nn.functional.interpolate(v.x, scale_factor=2)),
    row("pixel_shuffle", "B=8 C=16 R=2 X=64 Y=64",
        lambda t, v: t.nn.functional.pixel_shuffle(v.x.flatten(1, 3), 2)),
    row("grid_sample", "B=8 C=16 Y=64 X=64 M=64 N=64", _grid),
    row("affine_grid", "B=64 Y=64 X=64",
        lambda t, v: t.nn.functional.affine_grid(v["θ"], [64, 1, 64, 64], align_corners=False)),
    row("embedding", "B=64 T=256 V=10000 K=128", lambda t, v: t.nn.functional.embedding(v.w, v.E),
        below="V"),
    row("embedding_bag_sum", "B=512 T=64 V=10000 K=64", _bag,
        between={"w": (0, 10000), "length": (0, 65)}),
    row("segment_sum", "N=20000 D=64 G=1000", lambda t, v: _scatter(t, v, 1000), below="G"),
    row("segment_mean", "N=20000 D=64 G=1000", below="G"),
    row("segment_max", "N=20000 D=64 G=1000",
        lambda t, v: t.full((1000, 64), -t.inf).index_reduce(0, v.segment, v.x, "amax"),
        below="G"),
    row("segment_softmax", "N=200000 G=1000", below="G"),
    row("message_passing", "V=2000 K=64 E=20000",
        lambda t, v: t.zeros_like(v.x).index_add(0, v.dst, v.w[:, None] * v.x[v.src]),
        below="V"),
    row("gcn_layer", "V=2000 K=64 E=20000 J=64", below="V"),
    row("gat_layer", "V=1000 K=64 E=10000 H=4 J=16", below="V"),
    row("attention", "B=4 H=8 T=256 U=256 D=64 E=64", _attention),
    row("attention", "B=1 H=8 T=1 U=4096 D=64 E=64", _attention),
    row("attention", "B=1 H=8 T=4 U=4096 D=64 E=64", _attention),
    row("causal_attention", "B=2 H=8 T=512 D=64 E=64",
        lambda t, v: _attention(t, v, is_causal=True)),
    row("sliding_window_attention", "B=1 H=8 T=1024 D=64 E=64",
        lambda t, v: _sliding(t, v, 256)),
    row("padded_attention", "B=4 H=8 T=256 U=256 D=64 E=64",
        lambda t, v: _attention(t, v, attn_mask=v.seen[:, None, None])),
    row("grouped_query_attention", "B=2 G=2 R=4 T=256 U=256 D=64 E=64"),
    row("grouped_query_attention", "B=1 G=4 R=4 T=1 U=4096 D=64 E=64", _grouped_queries),
    row("causal_self_attention", "B=4 T=256 I=256 H=4 D=64 E=64 O=256", scale=0.06),
    row("rotary_attention", "B=2 H=8 T=256 D=64 E=64"),
    row("alibi_attention", "B=2 H=8 T=256 D=64 E=64"),
    row("linear_attention", "B=4 H=8 T=512 U=512 D=32 E=32"),
    row("causal_linear_attention", "B=2 H=8 T=256 D=32 E=32"),
    row("additive_attention", "B=8 T=64 U=64 I=64 J=64 E=64 D=64"),
    row("batch_norm", "B=8192 J=256", _batch_norm),
    row("batch_norm_of_channels", "B=16 C=64 N=1024", _batch_norm),
    row("layer_norm", "B=4096 J=768",
        lambda t, v: t.nn.functional.layer_norm(v.x, (768,), v["γ"], v["β"])),
    row("layer_norm", "B=16384 J=49",
        lambda t, v: t.nn.functional.layer_norm(v.x, (49,), v["γ"], v["β"])),
    row("rms_norm", "B=4096 J=768",
        lambda t, v: t.nn.functional.rms_norm(v.x, (768,), v["γ"], 1e-5)),
    row("group_norm", "B=16 G=8 K=8 N=1024", _group_norm),
    row("group_norm", "B=8 G=32 K=16 N=49", _group_norm),
    row("instance_norm", "B=16 C=64 N=1024", lambda t, v: t.nn.functional.instance_norm(v.x)),
    row("local_response_norm", "B=16 C=64 N=1024",
        lambda t, v: t.nn.functional.local_response_norm(v.x, 5)),
    row("l2_normalize", "B=4096 J=768", lambda t, v: t.nn.functional.normalize(v.x)),
    row("weight_norm", "J=1024 I=1024", lambda t, v: t._weight_norm(v.v, v.g[:, None], 0)),
    row("spectral_norm", "J=1024 I=1024"),
    row("softmax", "B=4096 J=512", lambda t, v: v.s.softmax(-1)),
    row("softmax", "B=65536 J=3", lambda t, v: v.s.softmax(-1)),
    row("log_softmax", "B=4096 J=512", lambda t, v: v.s.log_softmax(-1)),
    row("channel_softmax", "B=16 C=64 N=1024", lambda t, v: v.s.softmax(1)),
    row("masked_softmax", "B=4096 J=512"),
    row("softmax_of_lengths", "B=4096 J=512"),
    row("softmax_cross_entropy", "B=4096 J=512",
        lambda t, v: t.nn.functional.cross_entropy(v.s, v.label, reduction="none")),
    row("softmax_cross_entropy_smoothed", "B=4096 J=512", _smoothed),
    row("focal", "B=4096 J=512"),
    row("hinge", "B=4096 J=512"),
    row("hinge_of_worst", "B=4096 J=512"),
    row("triplet", "B=8192 D=128", _triplet),
    row("info_nce", "B=512 D=128", _info_nce, temperature=11.0),
    row("huber", "B=4096 J=512",
        lambda t, v: t.nn.functional.huber_loss(v.x, v.y, reduction="none").sum(1)),
    row("pairwise_squared_distance", "N=512 M=512 D=64",
        lambda t, v: t.cdist(v.x, v.y, compute_mode="donot_use_mm_for_euclid_dist") ** 2),
    row("pairwise_absolute_distance", "N=512 M=512 D=64", lambda t, v: t.cdist(v.x, v.y, p=1.0)),
    row("gelu", "B=4096 J=512", lambda t, v: t.nn.functional.gelu(v.x)),
    row("maxout", "B=2048 J=256 K=4", lambda t, v: v.x.amax(-1)),
    row("glu", "B=2048 J=512", lambda t, v: t.nn.functional.glu(v.x.flatten(1, 2))),
    row("swiglu", "B=512 I=256 J=512", _swiglu),
    row("bilinear", "B=128 I=64 J=64 K=64",
        lambda t, v: t.nn.functional.bilinear(v.u, v.v, v.A)),
    row("low_rank_linear", "B=512 I=512 J=512 R=8", _low_rank),
    row("mlp", "B=512 I=256 H=512 J=256", _mlp),
    row("mlp", "B=1 I=1024 H=2048 J=1024", _mlp),
    row("mlp", "B=4 I=1024 H=2048 J=1024", _mlp),
    row("gaussian_mixture", "B=4096 D=16 K=32", _mixture),
    row("gaussian_mixture_full", "B=512 D=8 K=16"),
    row("vector_quantize", "B=2048 D=32 K=256"),
    row("gumbel_softmax_hard", "B=4096 J=128"),
    row("rnn", "T=64 B=32 K=64 J=128", _rnn, scale=0.05),
    row("gru", "T=64 B=32 K=64 J=128", _gru, scale=0.05),
    row("lstm", "T=64 B=32 K=64 J=128", _lstm, scale=0.05),
    row("lstm", "T=32 B=8 K=64 J=64", _lstm, scale=0.05),
    row("lstm", "T=64 B=64 K=256 J=256", _lstm, scale=0.05),
    row("lstm", "T=64 B=1 K=256 J=256", _lstm, scale=0.05),
    row("lstm_packed", "T=64 B=32 K=64 J=128"),
    row("linear_recurrence", "T=1024 B=8 J=128"),
    row("linear_recurrence", "T=65536 B=1 J=4"),
    row("mingru", "T=512 B=8 K=64 J=128", _mingru),
    row("selective_scan", "T=256 B=4 J=64 N=16", _selective_scan),
    row("s4d", "T=256 B=4 J=32 N=16"),
    row("crf_loss", "T=128 B=16 J=32 I=32", _crf, below="J"),
    row("crf_loss", "T=200 B=32 J=50 I=50", _crf, below="J"),
    row("ctc_loss", "T=128 B=16 C=32 S=24", _ctc,
        between={"target": (1, 32), "length": (100, 129), "target_length": (12, 25)}),
    row("soft_dtw", "B=16 N=64 D=16 M=64"),
    row("sinkhorn", "N=256 M=256 steps=20", lambda t, v: _sinkhorn(t, v, 20),
        positive=("p", "q", "C")),
    row("adam", "N=1000000", _adam, between={"t": (5, 6)}, positive=("s",)),
)  # fmt: skip


# ------------------------------------------------------------------------------------ contenders


Calls = Mapping[str, Callable[[], Any]]


def literal(problem: Problem) -> Calls:
    """The loops as they are written, forward and backward."""
    program = problem.program
    values = dict(problem.inputs)
    forward = _bound(program, problem, values)
    if not problem.seeds:
        return {"forward": forward}
    backward = program.backward(batch=False).simplify()
    seeds = {f"{name}.grad": array for name, array in problem.seeds.items()}
    wanted = {i.name for i in backward.inputs} - {*values, *seeds}
    kept = sorted(wanted | set(problem.results))
    found = _bound(program.returning(*kept), problem, values)()
    arrays = found if isinstance(found, tuple) else (found,)
    values |= dict(zip(kept, arrays, strict=True)) | seeds
    return {"forward": forward, "backward": _bound(backward, problem, values)}


def _bound(program: lg.Program, problem: Problem, values: Mapping[str, Array]) -> Callable[[], Any]:
    kernel = lg.compile(program, optimize=False)
    arrays = [values[i.name] for i in program.inputs]
    keywords: dict[str, Any] = {s.name: problem.extents[s.name] for s in program.sizes}
    keywords |= {c.name: problem.constants[c.name] for c in program.constants}
    keywords["out"] = kernel(*arrays, **keywords)
    return lambda: kernel(*arrays, **keywords)


class Inputs(dict[str, Any]):
    """By name: `v.x`, `v["γ"]`."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def torch_calls(operator: Operator, problem: Problem) -> tuple[Calls, Callable[[], Any]]:
    """PyTorch's operator: forward without a graph; backward through a graph that is kept."""
    import torch

    tensors = {name: torch.from_numpy(np.array(a)) for name, a in problem.inputs.items()}
    leaves = {
        name: t.clone().requires_grad_() for name, t in tensors.items() if t.is_floating_point()
    }

    def forward() -> Any:
        with torch.no_grad():
            return operator(torch, Inputs(tensors))

    calls = {"forward": forward}
    if problem.seeds:
        found = operator(torch, Inputs({**tensors, **leaves}))
        results = found if isinstance(found, tuple) else (found,)
        seeds = tuple(torch.from_numpy(a) for a in problem.seeds.values())
        wrt = tuple(leaves.values())
        calls["backward"] = lambda: torch.autograd.grad(
            results, wrt, seeds, retain_graph=True, allow_unused=True
        )
    return calls, forward


# ------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Line:
    """A row's figures in one phase: seconds, and ratios to ours."""

    row: Row
    phase: str
    ours: float
    literal: float | None
    torch: float | None
    note: str = ""

    @property
    def worst(self) -> float:
        """What rows are sorted by: the ratio to PyTorch; that to the literal loops where it is below 1."""
        found = [r for r in (self.torch, self.literal) if r is not None]
        if self.torch is None:
            found += [1.0]
        return min(found, default=1.0)


def lines(row: Row, options: argparse.Namespace) -> list[Line]:
    problem = row.problem()
    contenders: dict[str, Calls] = {"ours": ours(problem, "kernels").calls}
    if not options.no_literal:
        contenders["literal"] = literal(problem)
    note = ""
    if row.torch is not None and not options.no_torch:
        contenders["torch"], forward = torch_calls(row.torch, problem)
        note = _difference(contenders["ours"]["forward"](), forward())
    found = []
    for phase in options.phase:
        calls = {who: own[phase] for who, own in contenders.items() if phase in own}
        if "ours" not in calls:
            continue
        taken = interleaved(calls, options.rounds, options.seconds, clock=options.clock)
        own = taken["ours"].median
        ratios = {who: taken[who].median / own for who in taken if who != "ours"}
        found.append(Line(row, phase, own, ratios.get("literal"), ratios.get("torch"), note))
    return found


def _difference(mine: Any, other: Any) -> str:
    first = mine[0] if isinstance(mine, tuple) else mine
    theirs = (other[0] if isinstance(other, tuple) else other).numpy()
    if first.shape != theirs.shape:
        return "differs"
    finite = np.isfinite(theirs)
    largest = np.abs(theirs[finite]).max(initial=1e-30)
    return "" if np.abs(first - theirs)[finite].max(initial=0.0) < FARTHEST * largest else "differs"


def show(line: Line) -> str:
    ratios = [f"{r:9.2f}" if r is not None else f"{'':9}" for r in (line.literal, line.torch)]
    slow = "!" if line.literal is not None and line.literal < 1 else " "
    return f"{line.row.name:64} {line.phase:9}{line.ours * 1e3:9.3f}{''.join(ratios)} {slow} {line.note}"


def main(
    words: Sequence[str] | None = None, rows: Sequence[Row] | None = None, said: str | None = None
) -> None:
    description = (said or __doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("words", nargs="*", help="rows whose names hold one of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for a row and phase, at most")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--phase", action="append", choices=PHASES)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--no-literal", action="store_true")
    parser.add_argument(
        "--processor-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="leave out what other processes take; of one thread",
    )
    options = parser.parse_args(words)
    options.phase = options.phase or PHASES
    if options.threads:
        lg.set_num_threads(options.threads)
    if not options.no_torch:
        import torch

        torch.set_num_threads(lg.get_num_threads())
    chosen = [
        r for r in rows or ROWS if not options.words or any(w in r.name for w in options.words)
    ]
    print(f"{'':64} {'':9}{'ms':>9}{'literal':>9}{'torch':>9}", flush=True)
    found: list[Line] = []
    for each in chosen:
        try:
            new = lines(each, options)
            found += new
            print(*map(show, new), sep="\n", file=sys.stderr, flush=True)
        except Exception as error:  # the table goes on
            print(f"{each.name}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
    for line in sorted(found, key=lambda line: line.worst):
        print(show(line))


if __name__ == "__main__":
    main()
