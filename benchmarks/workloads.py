"""What is measured: the rows of the table, the layers outside it, and any program given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import loopgrad as lg
from loopgrad.ir.nodes import Program
from loopgrad.peers.problem import Problem, draw

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Workload:
    """A row: a program at a size.

    `family`: whose peers it has (peers.py). `bar`: the best peer's time over ours that is asked for,
    in "default" and "fair"; None for layers outside the table.
    """

    name: str
    family: str
    source: str
    sizes: Mapping[str, int | float]
    bar: tuple[float, float] | None = None
    keywords: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def program(self) -> Program:
        where, _, name = self.source.rpartition(":")
        module = {"lib": lg.lib}.get(where) or lg.load(where)
        return module[name]

    def problem(self, dtype: str) -> Problem:
        problem = draw(self.program, {**self.sizes, **self.keywords}, dtype=dtype)
        return Problem(
            problem.program,
            {n: scaled(self.family, n, a) for n, a in problem.inputs.items()},
            problem.keywords,
            problem.seeds,
        )


def scaled(family: str, name: str, array):
    """Weights as a network has them, so that a recurrence neither dies nor saturates."""
    if array.dtype.kind != "f" or array.ndim < 2 or not name.startswith(("W", "k")):
        return array
    if family.endswith("attention"):
        return array
    fan = array[0].size
    return (array / fan**0.5).astype(array.dtype)


HERE_LOOPS = str(HERE / "workloads.loops")
LIB = "lib"


def _small(row: Workload) -> Workload:
    # What is equal stays so: some programs need it.
    known = list(dict.fromkeys(row.sizes.values()))
    sizes = {name: min(size, 4 + known.index(size)) for name, size in row.sizes.items()}
    if "DX" in sizes:
        sizes |= {name: row.sizes[name] for name in ("DX", "DY") if name in sizes}
        sizes |= {name: 9 for name in ("X", "Y") if name in sizes}
    if "G" in sizes:  # groups, in which as many heads each share keys
        sizes["H"] = 2 * sizes["G"]
    return replace(row, name=row.name.partition(" (")[0], sizes=sizes)


def _rows(
    title: str, family: str, source: str, names: str, *sizes: tuple[int, ...], **more
) -> list[Workload]:
    bars = more.pop("bars", (None,) * len(sizes))
    return [
        Workload(
            f"{title} ({','.join(map(str, size))})",
            family,
            source,
            dict(zip(names.split(), size, strict=True)),
            bar,
            **more,
        )
        for size, bar in zip(sizes, bars, strict=True)
    ]


TABLE = [
    *_rows(
        "softmax", "softmax", "lib:softmax", "B J",
        (64, 1000), (4096, 1024), (512, 50257), (65536, 64),
        bars=((2.8, 2.3), (1.75, 1.4), (2.6, 1.1), (1.7, 1.4)),
    ),
    *_rows(
        "batch norm", "batch norm", "lib:batchnorm", "B J",
        (256, 512), (8192, 1024), (65536, 256),
        bars=((5.0, 4.3), (3.5, 1.35), (3.5, 1.35)),
    ),
    *_rows(
        "cross entropy", "cross entropy", "lib:softmax_cross_entropy", "B J",
        (4096, 1024), (512, 50257),
        bars=((2.8, 2.2), (4.2, 1.9)),
    ),
    *_rows(
        "elementwise chain", "chain", f"{HERE_LOOPS}:chain", "B J", (4096, 4096),
        bars=((4.0, 3.1),),
    ),
    *_rows(
        "UGRNN", "ugrnn", "lib:ugrnn", "T B J K",
        (64, 32, 256, 128), (512, 16, 128, 64), (128, 64, 512, 512),
        bars=((3.1, 3.2), (4.0, 3.8), (1.5, 1.55)),
    ),
]  # fmt: skip

LAYERS = [
    *_rows("softmax", "softmax", "lib:softmax", "B J", (4, 10)),
    *_rows("layer norm", "layer norm", "lib:layer_norm", "B J", (64, 768), (8192, 1024)),
    *_rows("RMS norm", "rms norm", "lib:rms_norm", "B J", (8192, 1024)),
    *_rows("arithmetic", "arithmetic", f"{HERE_LOOPS}:arithmetic", "B J", (4096, 4096)),
    *_rows("gelu", "gelu", "lib:gelu", "B J", (4096, 3072)),
    *_rows("linear tanh", "linear tanh", f"{HERE_LOOPS}:linear_tanh", "B I J",
           (1024, 1024, 1024), (64, 256, 256)),
    *_rows("gelu MLP", "gelu mlp", f"{HERE_LOOPS}:gelu_mlp", "B I H J", (512, 512, 2048, 512)),
    *_rows("causal attention", "causal attention", "lib:causal_attention", "B H T D E",
           (1, 8, 512, 64, 64), (1, 8, 2048, 64, 64), (1, 2, 8192, 64, 64)),
    *_rows("packed attention", "packed attention", f"{HERE_LOOPS}:packed_attention", "B H T D E",
           (1, 8, 1024, 64, 64)),
    *_rows("ragged attention", "ragged attention", f"{HERE_LOOPS}:ragged_attention", "B H T D E",
           (8, 4, 256, 32, 32)),
    *_rows("grouped attention", "grouped attention", f"{HERE_LOOPS}:grouped_attention", "B H G T D E",
           (1, 8, 2, 1024, 64, 64)),
    *_rows("attention", "attention", "lib:attention", "B H T U D E", (2, 8, 512, 512, 64, 64)),
    *_rows("LSTM", "lstm", "lib:lstm", "T B J K", (64, 32, 256, 128)),
    *_rows("conv1d", "conv1d", "lib:conv1d", "B C X O DX", (16, 64, 1024, 64, 5)),
    *_rows("conv2d", "conv2d", "lib:conv2d", "B C X Y O DX DY", (8, 64, 32, 32, 64, 3, 3),
           keywords={"padding": 1}),
    *_rows("depthwise conv2d", "depthwise", "lib:depthwise_conv2d", "B C X Y DX DY",
           (8, 64, 32, 32, 3, 3)),
    *_rows("max pool", "max pool", "lib:max_pool2d", "B C X Y", (16, 64, 64, 64)),
    *_rows("mean pool", "mean pool", "lib:mean_pool2d", "B C X Y", (16, 64, 64, 64)),
    *_rows("embedding", "embedding", "lib:embedding", "B T V K", (64, 256, 10000, 256)),
    *_rows("soft targets", "soft targets", "lib:softmax_cross_entropy_with", "B J", (4096, 1024)),
    *_rows("binary cross entropy", "bce", "lib:binary_cross_entropy_with_logits", "B J", (4096, 1024)),
    *_rows("squared error", "squared error", "lib:squared_error", "B J", (4096, 1024)),
    *_rows("Huber", "huber", "lib:huber", "B J", (4096, 1024)),
    *_rows("CRF", "crf", "lib:crf_log_partition", "T B J I", (128, 32, 64, 64)),
    *_rows("linear recurrence", "linear recurrence", "lib:linear_recurrence", "T B J",
           (1024, 16, 256), (65536, 1, 16)),
    *_rows("cumulative sum", "cumulative sum", f"{HERE_LOOPS}:cumulative_sum", "B T",
           (512, 1024), (1, 1000000)),
    *_rows("moving mean", "moving mean", f"{HERE_LOOPS}:moving_mean", "B T",
           (512, 1024), (1, 4096)),
    *_rows("minGRU", "min gru", f"{HERE_LOOPS}:min_gru", "B T J K",
           (16, 512, 256, 128), (1, 2048, 64, 64)),
    *_rows("selective scan", "selective scan", "lib:selective_scan", "T B J N",
           (256, 8, 128, 16)),
]  # fmt: skip

# Whole models, at sizes that take no time; their peers are layers.
MODELS_LOOPS = str(HERE / "models.loops")
MODELS = [
    *_rows("transformer block", "model", f"{MODELS_LOOPS}:transformer", "B T D H E F V",
           (2, 8, 16, 2, 8, 32, 10)),
    *_rows("convolutional network", "model", f"{MODELS_LOOPS}:cnn", "B I X Y O P C",
           (2, 1, 8, 8, 8, 16, 10)),
    *_rows("LSTM language model", "model", f"{MODELS_LOOPS}:lm", "T B V D H", (6, 3, 10, 8, 9)),
    *_rows("variational autoencoder", "model", f"{MODELS_LOOPS}:vae", "B N H K", (3, 16, 9, 4)),
]  # fmt: skip

# Each program once, at a size that takes no time: for first calls.
_LAYERS = {row.source: _small(row) for row in reversed(TABLE + LAYERS)}
SMALL = [
    *list(_LAYERS.values())[::-1],
    *(replace(row, name=row.name.partition(" (")[0]) for row in MODELS),
]


def chosen(words: list[str], everything: bool) -> list[Workload]:
    """The rows that a word is part of, as in `softmax` or `(64,1000)`; the table where there is none.

    Raises SystemExit, naming what there is, for a word that no row has.
    """
    rows = TABLE + LAYERS
    if not words:
        return rows if everything else TABLE
    for word in words:
        if not any(word.lower() in row.name.lower() for row in rows):
            raise SystemExit(
                f"no row is called {word!r}; there are\n  " + "\n  ".join(r.name for r in rows)
            )
    return [row for row in rows if any(word.lower() in row.name.lower() for word in words)]
