"""Windows, places and rows that data pick: pools, folds, interpolations, scatters, gathers, sums so far.

    python benchmarks/bench_windows.py                     every row, the worst first
    python benchmarks/bench_windows.py pool --threads 2    rows whose names hold one of the words

As bench_library.py, whose options these are. Programs are the library's, or those of windows.loops.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import bench_library
from bench_library import Row, row

import loopgrad as lg

HERE = lg.load(Path(__file__).with_name("windows.loops"))
SMALL_MAPS = "B=8 C=32 X=64 Y=64"
LABELS = "B=4096 J=512"


def _max_pool(width: int, maps: str = SMALL_MAPS) -> Row:
    half = width // 2
    return row("strided_max_pool2d", maps,
               lambda t, v: t.nn.functional.max_pool2d(v.x, width, 1, half),
               width=width, stride=1, padding=half)  # fmt: skip


def _mean_pool(width: int) -> Row:
    half = width // 2
    return row("strided_mean_pool2d", SMALL_MAPS,
               lambda t, v: t.nn.functional.avg_pool2d(v.x, width, 1, half),
               width=width, stride=1, padding=half)  # fmt: skip


def _interpolate(mode: str, program: str, sizes: str, *size: int) -> Row:
    return row(program, sizes,
               lambda t, v: t.nn.functional.interpolate(v.x, size, mode=mode),
               where=HERE)  # fmt: skip


def _padded(mode: str) -> Row:
    return row(f"{mode}2d", SMALL_MAPS,
               lambda t, v: t.nn.functional.pad(v.x, (3, 3, 3, 3), mode=mode),
               where=HERE)  # fmt: skip


def _add(t: Any, v: Any, rows: int) -> Any:
    return t.zeros(rows, *v.x.shape[1:]).index_add(0, v.at, v.x)


def _experts(t: Any, v: Any) -> Any:
    order = t.argsort(v.at, stable=True)
    counts = t.bincount(v.at, minlength=len(v.w)).tolist()
    parts = [x @ w for x, w in zip(v.x[order].split(counts), v.w, strict=True)]
    return t.cat(parts)[t.argsort(order)]


def _gathered(width: int) -> Row:
    return row("rows", f"V=10000 K={width} N={max(2_000_000 // (width + 8), 1)}",
               lambda t, v: t.nn.functional.embedding(v.at, v.w), below="V",
               where=HERE)  # fmt: skip


def _scattered(rows: int, width: int, count: int, used: int | None = None) -> Row:
    return row("scatter", f"N={count} K={width} V={rows}", lambda t, v: _add(t, v, rows),
               between={"at": (0, used or rows)}, where=HERE)  # fmt: skip


def _elements(rows: int, count: int, used: int | None = None) -> Row:
    return row("scatter_elements", f"N={count} V={rows}", lambda t, v: _add(t, v, rows),
               between={"at": (0, used or rows)}, where=HERE)  # fmt: skip


def _convolved(sizes: str) -> Row:
    return row("convolution_relu", sizes,
               lambda t, v: t.relu(t.nn.functional.conv2d(v.x, v.k, v.c, padding=1)),
               scale=0.2, where=HERE)  # fmt: skip


def _residual_block(t: Any, v: Any) -> Any:
    conv2d = t.nn.functional.conv2d
    return t.relu(v.x + conv2d(t.relu(conv2d(v.x, v.k, padding=1)), v.l, padding=1))


def _convolutional_lstm(t: Any, v: Any) -> Any:
    conv2d, states = t.nn.functional.conv2d, list[Any]()
    s = None
    for x in v.x:
        z = conv2d(x, v.U.flatten(0, 1), padding=1)
        z = z + conv2d(states[-1], v.V.flatten(0, 1), padding=1) if states else z
        i, f, g, o = z.unflatten(1, v.U.shape[:2]).unbind(2)
        new = t.sigmoid(i) * t.tanh(g)
        s = new if s is None else t.sigmoid(f) * s + new
        states.append(t.sigmoid(o) * t.tanh(s))
    return t.stack(states)


def _running(program: str, sizes: str, operator: Any) -> Row:
    return row(program, sizes, operator, where=HERE)


ROWS = (
    *map(_convolved, (
        "B=8 C=32 X=16 Y=16 O=32 DX=3", "B=8 C=64 X=56 Y=56 O=64 DX=3", "B=4 C=128 X=28 Y=28 O=128 DX=3",
        "B=8 C=512 X=7 Y=7 O=512 DX=3", "B=1 C=64 X=56 Y=56 O=64 DX=3")),
    row("residual_block", "B=8 C=64 X=32 Y=32 DX=3", _residual_block, scale=0.2, where=HERE),
    row("residual_block", "B=8 C=128 X=8 Y=8 DX=3", _residual_block, scale=0.2, where=HERE),
    row("convolutional_lstm", "T=6 B=4 C=8 X=16 Y=16 J=16 DX=3", _convolutional_lstm, scale=0.2, where=HERE),
    *map(_max_pool, (3, 5, 7, 13)),
    _max_pool(5, "B=16 C=64 X=28 Y=28"),
    *map(_mean_pool, (3, 7, 13)),
    row("strided_max_pool1d", "B=16 C=64 X=2048",
        lambda t, v: t.nn.functional.max_pool1d(v.x, 9, 1, 4), width=9, stride=1, padding=4),
    row("strided_mean_pool1d", "B=16 C=64 X=2048",
        lambda t, v: t.nn.functional.avg_pool1d(v.x, 9, 1, 4), width=9, stride=1, padding=4),
    row("adaptive_mean_pool1d", "B=16 C=64 X=4096 N=100",
        lambda t, v: t.nn.functional.adaptive_avg_pool1d(v.x, 100)),
    row("adaptive_max_pool1d", "B=16 C=64 X=4096 N=100",
        lambda t, v: t.nn.functional.adaptive_max_pool1d(v.x, 100)),
    row("adaptive_mean_pool2d", "B=16 C=64 X=64 Y=64 M=7 N=7",
        lambda t, v: t.nn.functional.adaptive_avg_pool2d(v.x, 7)),
    row("adaptive_max_pool2d", "B=16 C=64 X=64 Y=64 M=7 N=7",
        lambda t, v: t.nn.functional.adaptive_max_pool2d(v.x, 7), where=HERE),
    row("power_pool2d", "B=16 C=64 X=64 Y=64",
        lambda t, v: t.nn.functional.lp_pool2d(v.x, 3.0, 2), positive=("x",), where=HERE),
    row("unfold2d", "B=8 C=32 X=32 Y=32",
        lambda t, v: t.nn.functional.unfold(v.x, 3, padding=1).view(8, 32, 3, 3, 32, 32),
        where=HERE),
    row("unfold2d", "B=8 C=32 X=32 Y=32",
        lambda t, v: t.nn.functional.unfold(v.x, 2, stride=2).view(8, 32, 2, 2, 16, 16),
        width=2, stride=2, padding=0, where=HERE),
    row("fold2d", "B=8 C=32 W=3 M=32 N=32 X=32 Y=32",
        lambda t, v: t.nn.functional.fold(v.y.view(8, 288, 1024), (32, 32), 3, padding=1),
        where=HERE),
    row("fold2d", "B=8 C=32 W=2 M=32 N=32 X=64 Y=64",
        lambda t, v: t.nn.functional.fold(v.y.view(8, 128, 1024), (64, 64), 2, stride=2),
        stride=2, padding=0, where=HERE),
    _interpolate("linear", "linear1d", "B=16 C=64 X=512 N=1024", 1024),
    _interpolate("bilinear", "bilinear2d", "B=8 C=32 X=32 Y=32 M=64 N=64", 64, 64),
    _interpolate("bilinear", "bilinear2d", "B=8 C=32 X=64 Y=64 M=40 N=40", 40, 40),
    _interpolate("nearest", "nearest2d", "B=8 C=32 X=32 Y=32 M=64 N=64", 64, 64),
    _interpolate("nearest", "nearest2d", "B=8 C=32 X=64 Y=64 M=40 N=40", 40, 40),
    row("upsample_nearest2d", "B=8 C=64 X=32 Y=32",
        lambda t, v: t.nn.functional.interpolate(v.x, scale_factor=2)),
    row("upsample3", "B=8 C=32 X=32 Y=32",
        lambda t, v: t.nn.functional.interpolate(v.x, scale_factor=3), where=HERE),
    *map(_padded, ("reflect", "replicate", "circular")),
    row("rolled", "B=1024 T=1024", lambda t, v: t.roll(v.x, 3, 1), where=HERE),
    row("flipped", SMALL_MAPS, lambda t, v: v.x.flip(3), where=HERE),
    row("grid_sample", "B=8 C=16 Y=64 X=64 M=64 N=64", bench_library._grid),
    *map(_gathered, (1, 3, 17, 64, 513)),
    _scattered(4, 64, 20000),
    _scattered(100, 64, 20000),
    _scattered(10000, 64, 20000),
    _scattered(1000, 64, 20000, 1),
    _scattered(1000, 3, 200000),
    _scattered(1000, 17, 100000),
    _scattered(1000, 513, 4000),
    _scattered(1000, 513, 4000, 1),
    _elements(1000, 1000000),
    _elements(1000000, 1000000),
    _elements(16, 1000000),
    _elements(1000, 1000000, 1),
    row("experts", "T=2048 I=256 V=8 O=512", _experts, below="V", where=HERE),
    row("experts", "T=1024 I=64 V=64 O=64", _experts, below="V", where=HERE),
    row("histogram", "N=1000000 V=256", lambda t, v: t.bincount(v.at, minlength=256).float(),
        between={"at": (0, 256)}, where=HERE),
    row("picked", "N=100000 K=32", lambda t, v: v.x.gather(1, v.at[:, None])[:, 0],
        between={"at": (0, 32)}, where=HERE),
    row("one_hot_product", LABELS,
        lambda t, v: t.nn.functional.cross_entropy(v.s, v.t, reduction="none"), where=HERE),
    row("one_hot_condition", LABELS,
        lambda t, v: t.nn.functional.cross_entropy(v.s, v.w, reduction="none"), below="J", where=HERE),
    row("segment_max", "N=20000 D=64 G=1000",
        lambda t, v: t.full((1000, 64), -t.inf).index_reduce(0, v.segment, v.x, "amax"),
        below="G"),
    row("segment_mean", "N=20000 D=64 G=1000",
        lambda t, v: t.zeros((1000, 64)).index_reduce(0, v.segment, v.x, "mean", include_self=False),
        below="G"),
    row("embedding_bag_sum", "B=512 T=64 V=10000 K=64", bench_library._bag,
        between={"w": (0, 10000), "length": (0, 65)}),
    row("gaussian_mixture_full", "B=512 D=8 K=16"),
    _running("cumulative_sum", "B=1024 T=1024", lambda t, v: v.x.cumsum(1)),
    _running("cumulative_sum_down", "B=1024 T=1024", lambda t, v: v.x.cumsum(0)),
    _running("cumulative_max", "B=1024 T=1024", lambda t, v: v.x.cummax(1)[0]),
    _running("cumulative_max_down", "B=1024 T=1024", lambda t, v: v.x.cummax(0)[0]),
)  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    bench_library.main(words, ROWS, __doc__)


if __name__ == "__main__":
    main()
