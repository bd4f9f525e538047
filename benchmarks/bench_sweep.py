"""Time per element over sizes: odd ones, primes, powers of two and their neighbours, three decades.

    python benchmarks/bench_sweep.py                    every sweep
    python benchmarks/bench_sweep.py softmax "linear I" those whose names hold one of the words
    python benchmarks/bench_sweep.py --program mine.loops:layer --vary J B=64 J=0

One extent varies, the others stay. For each size the least of the rounds, in which all sizes of a group of
neighbours have their turn, divided by how often the forward's statements run. A size is a cliff where that
is more than 1.5 times the least of its neighbours (sizes within an eighth of it, or next to it), and is so
again when they are measured once more, for longer. What a call costs whatever its size is left out: the time
is a + b n, and a size is judged from where b n is more than a on, which is taken from the smallest size. Then
the same at the powers of two: where it stays, time grows linearly.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
from workloads import Workload

import loopgrad as lg
from loopgrad.peers.ours import WAYS, ours
from loopgrad.peers.timing import interleaved

CLIFF = 1.5
NEAR = 0.125
PRIMES = (7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381)
LOOPS = str(Path(__file__).parent / "workloads.loops")


@dataclass(frozen=True)
class Sweep:
    """An extent that varies, up to `most`; the others, and which phase is timed."""

    name: str
    source: str
    vary: str
    most: int
    others: Mapping[str, int]
    also: tuple[str, ...] = ()  # extents that are always equal to it


def _each(name: str, source: str, others: str, most: str) -> list[Sweep]:
    """One for each extent of `most`, the others at what `others` has."""
    usual, largest = (dict(word.split("=") for word in text.split()) for text in (others, most))
    return [
        Sweep(f"{name} {e}", source, e, int(m), {n: int(v) for n, v in usual.items() if n != e})
        for e, m in largest.items()
    ]


SWEEPS = [
    *_each("softmax", "lib:softmax", "B=64 J=100", "B=8192 J=16384"),
    *_each("layer norm", "lib:layer_norm", "B=64 J=100", "B=8192 J=8192"),
    *_each("batch norm", "lib:batchnorm", "B=64 J=64", "B=8192 J=4096"),
    *_each("cross entropy", "lib:softmax_cross_entropy", "B=64 J=100", "B=8192 J=8192"),
    *_each("chain", f"{LOOPS}:chain", "B=64 J=100", "B=4096 J=16384"),
    *_each("linear tanh", f"{LOOPS}:linear_tanh", "B=96 I=128 J=128", "B=2048 I=2048 J=2048"),
    *_each("gelu MLP", f"{LOOPS}:gelu_mlp", "B=64 I=64 H=128 J=64", "B=2048 I=2048 H=2048 J=2048"),
    *_each("product", f"{LOOPS}:product", "B=128 I=128 J=128", "B=2048 I=2048 J=2048"),
    *_each("causal attention", "lib:causal_attention", "B=2 H=2 T=128 D=64 E=64",
           "T=2048 B=512 H=512 D=512 E=512"),
    *_each("attention", "lib:attention", "B=2 H=2 T=128 U=128 D=64 E=64",
           "T=2048 U=2048 B=512 H=512 D=512 E=512"),
    *_each("UGRNN", "lib:ugrnn", "T=16 B=16 J=32 K=32", "T=512 B=512 J=512 K=512"),
    *_each("GRU", "lib:gru", "T=16 B=16 J=32 K=32", "T=512 B=512 J=512 K=512"),
    *_each("LSTM", "lib:lstm", "T=16 B=16 J=32 K=32", "T=512 B=512 J=512 K=512"),
    *_each("one sequence", "lib:gru", "T=64 B=1 J=32 K=8", "T=4096 J=512 K=512"),
    *_each("linear recurrence", "lib:linear_recurrence", "T=64 B=4 J=32", "T=8192 B=2048 J=2048"),
    *_each("selective scan", "lib:selective_scan", "T=32 B=2 J=32 N=16", "T=2048 B=256 J=1024 N=128"),
    *_each("CRF", "lib:crf_log_partition", "T=16 B=16 J=16 I=16", "T=1024 B=1024"),
    Sweep("CRF J", "lib:crf_log_partition", "J", 256, {"T": 16, "B": 8}, ("I",)),
    *_each("conv1d", "lib:conv1d", "B=4 C=16 X=128 O=16 DX=3", "B=512 C=512 X=4096 O=512 DX=64"),
    *_each("conv2d", "lib:conv2d", "B=4 C=16 X=32 Y=32 O=16 DX=3 DY=3",
           "B=256 C=256 X=512 Y=512 O=256 DX=16 DY=16"),
    *_each("max pool", "lib:max_pool2d", "B=4 C=8 X=64 Y=64", "B=1024 X=512 Y=512"),
    *_each("row sums", f"{LOOPS}:row_sums", "B=64 J=100", "B=16384 J=65536"),
    *_each("column sums", f"{LOOPS}:column_sums", "B=100 J=100", "B=65536 J=16384"),
    *_each("maximum", f"{LOOPS}:maximum", "B=100 J=100", "B=16384 J=16384"),
    *_each("total", f"{LOOPS}:total", "B=64 J=100", "B=16384 J=65536"),
    *_each("transpose", f"{LOOPS}:transpose", "B=1000 J=1000", "B=8192 J=8192"),
    *_each("swapped", f"{LOOPS}:swapped", "B=8 T=100 J=100", "B=512 T=4096 J=4096"),
    *_each("moved", f"{LOOPS}:moved", "B=8 T=100 J=100", "B=512 T=4096 J=4096"),
    *_each("cumulative sum", f"{LOOPS}:cumulative_sum", "B=64 T=100", "B=4096 T=16384"),
    *_each("moving mean", f"{LOOPS}:moving_mean", "B=64 T=100", "B=4096 T=16384"),
    *_each("embedding", "lib:embedding", "B=16 T=32 V=1000 K=64", "B=1024 T=1024 V=65536 K=2048"),
    *_each("scatter", f"{LOOPS}:scatter", "N=1000 V=1000 K=64", "N=65536 V=65536 K=2048"),
]  # fmt: skip


def sizes(most: int) -> list[int]:
    """Around powers of two and primes, from `most` over three decades down."""
    least = max(2, most // 1024)
    found = set(PRIMES)
    power = 1
    while power <= most:
        found |= {power - 1, power, power + 1, power + power // 2}
        power *= 2
    return sorted(s for s in found if least <= s <= most)


def groups(found: list[int]) -> Iterable[list[int]]:
    """Sizes that are compared with each other, in an order in which each comes with its neighbours."""
    group: list[int] = []
    for size in found:
        if group and size > group[0] * 2:
            yield group
            group = []
        group.append(size)
    if group:
        yield group


def calls(
    sweep: Sweep, size: int, options: argparse.Namespace
) -> tuple[dict[str, Callable[[], Any]], float]:
    """The calls of a size, and how much work one is."""
    extents = {**sweep.others, sweep.vary: size, **dict.fromkeys(sweep.also, size)}
    problem = Workload(sweep.name, "", sweep.source, extents).problem(options.dtype)
    return dict(ours(problem, options.way).calls), machine.iterations(problem.program, problem)


Made = Mapping[int, tuple[Mapping[str, Callable[[], Any]], float]]


def each(made: Made, phase: str, options: argparse.Namespace, rounds: int) -> dict[int, float]:
    """Nanoseconds an element, by size."""
    taken = interleaved(
        {str(size): of[phase] for size, (of, _) in made.items()},
        rounds,
        options.seconds,
        math.inf,
        time.process_time if options.cpu else time.perf_counter,
    )
    return {size: taken[str(size)].least / work * 1e9 for size, (_, work) in made.items()}


def judged(found: Mapping[int, float], made: Mapping[int, float]) -> list[int]:
    """The sizes at which the work takes longer than what a call of no size does."""
    taken = {size: found[size] * made[size] for size in found}
    call = min(taken.values())
    return [size for size in found if taken[size] > 2 * call]


def times(size: int, found: Mapping[int, float]) -> float:
    """How much slower it is than the quickest of its neighbours."""
    return found[size] / min(found[s] for s in near(size, found))


def near(size: int, found: Iterable[int]) -> list[int]:
    return [s for s in found if abs(s - size) <= max(1, NEAR * size)]


def confirmed(
    sweep: Sweep,
    phase: str,
    found: Mapping[int, float],
    sizes: Iterable[int],
    options: argparse.Namespace,
) -> dict[int, float]:
    """The cliffs among the sizes that are there again: by size, how much slower it is."""
    cliffs = {}
    for size in [s for s in sizes if times(s, found) > CLIFF]:
        quickest = min(near(size, found), key=found.__getitem__)
        made = {s: calls(sweep, s, options) for s in {size, quickest}}
        again = each(made, phase, options, 3 * options.rounds)
        if times(size, again | {quickest: again[quickest]}) > CLIFF:
            cliffs[size] = again[size] / again[quickest]
    return cliffs


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    phases = options.phases.split(",")
    per: dict[str, dict[int, float]] = {phase: {} for phase in phases}
    work: dict[int, float] = {}
    for group in groups([s for s in sizes(sweep.most) if s >= options.least]):
        every = {size: calls(sweep, size, options) for size in group}
        made = {size: of for size, of in every.items() if of[1] > 0}
        work |= {size: times for size, (_, times) in made.items()}
        for phase, found in per.items():
            found |= each(made, phase, options, options.rounds)
    cliffs = 0
    for phase, found in per.items():
        picked = [s for s in found if s & (s - 1) == 0 or options.all]
        line = "  ".join(f"{s}: {found[s]:.3g}" for s in picked)
        print(f"{sweep.name:20} {phase:8} ns an element at  {line}")
        large = judged(found, work)
        for size, slower in confirmed(sweep, phase, found, large, options).items():
            cliffs += 1
            print(f"{'':20} {phase:8} cliff at {size}: {slower:.2f} times a neighbour")
    sys.stdout.flush()
    return cliffs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="of names of sweeps; with --program, NAME=VALUE")
    parser.add_argument("--program", metavar="FILE:NAME")
    parser.add_argument("--vary", metavar="EXTENT")
    parser.add_argument("--most", type=int, default=4096)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument(
        "--way", choices=WAYS, default="kernels", help="what forward and backward is"
    )
    parser.add_argument("--phases", default="forward,both", help="forward, backward, both")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--cpu", action="store_true", help="one thread, processor time: busy machines"
    )
    parser.add_argument("--all", action="store_true", help="show all sizes, not powers of two only")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="at most, for each group and phase"
    )
    options = parser.parse_args()
    if options.cpu or options.threads:
        lg.set_num_threads(1 if options.cpu else options.threads)
    if options.program:
        others = {n: int(v) for n, v in (word.split("=") for word in options.words)}
        name = f"{options.program.rpartition(':')[2]} {options.vary}"
        sweeps = [Sweep(name, options.program, options.vary, options.most, others)]
    else:
        sweeps = [
            s for s in SWEEPS
            if not options.words or any(w.lower() in s.name.lower() for w in options.words)
        ]  # fmt: skip
    cliffs = sum(run(sweep, options) for sweep in sweeps)
    print(f"{cliffs} cliffs")


if __name__ == "__main__":
    main()
