"""Time per element over sizes: odd ones, primes, powers of two and their neighbours, three decades.

    python benchmarks/bench_sweep.py                    every sweep
    python benchmarks/bench_sweep.py softmax "linear I" those whose names hold one of the words
    python benchmarks/bench_sweep.py --program mine.loops:layer --vary J B=64 J=0

One extent varies, the others stay. For each size the least of the rounds, in which all sizes of a group of
neighbours have their turn, divided by the number of elements (of operations, for products). A size is a
cliff where that is more than 1.5 times the least of its neighbours (sizes within an eighth of it). Then the
same at the powers of two: where it stays, time grows linearly.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
from workloads import Workload

from loopgrad.peers.ours import ours
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


SWEEPS = [
    Sweep("softmax J", "lib:softmax", "J", 16384, {"B": 64}),
    Sweep("softmax B", "lib:softmax", "B", 8192, {"J": 100}),
    Sweep("batch norm J", "lib:batchnorm", "J", 4096, {"B": 64}),
    Sweep("batch norm B", "lib:batchnorm", "B", 8192, {"J": 64}),
    Sweep("cross entropy J", "lib:softmax_cross_entropy", "J", 8192, {"B": 64}),
    Sweep("layer norm J", "lib:layer_norm", "J", 8192, {"B": 64}),
    Sweep("chain J", f"{LOOPS}:chain", "J", 16384, {"B": 64}),
    Sweep("linear tanh B", f"{LOOPS}:linear_tanh", "B", 2048, {"I": 128, "J": 128}),
    Sweep("linear tanh I", f"{LOOPS}:linear_tanh", "I", 2048, {"B": 96, "J": 128}),
    Sweep("linear tanh J", f"{LOOPS}:linear_tanh", "J", 2048, {"B": 96, "I": 128}),
    Sweep("causal attention T", "lib:causal_attention", "T", 2048, {"B": 2, "H": 2, "D": 64, "E": 64}),
    Sweep("UGRNN T", "lib:ugrnn", "T", 512, {"B": 8, "J": 32, "K": 32}),
    Sweep("UGRNN B", "lib:ugrnn", "B", 512, {"T": 16, "J": 64, "K": 32}),
    Sweep("UGRNN J", "lib:ugrnn", "J", 512, {"T": 16, "B": 16, "K": 32}),
    Sweep("embedding K", "lib:embedding", "K", 2048, {"B": 16, "T": 32, "V": 1000}),
    Sweep("conv1d X", "lib:conv1d", "X", 4096, {"B": 4, "C": 16, "O": 16, "DX": 3}),
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


def calls(sweep: Sweep, size: int, dtype: str) -> tuple[dict[str, Callable[[], Any]], float]:
    """The calls of a size, and how much work one is."""
    extents = {**sweep.others, sweep.vary: size, **dict.fromkeys(sweep.also, size)}
    problem = Workload(sweep.name, "", sweep.source, extents).problem(dtype)
    operations = machine.multiplications(problem)["both"]
    work = operations or sum(math.prod(s) for s in problem.shapes.values())
    return dict(ours(problem).calls), work


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    per: dict[str, dict[int, float]] = {"forward": {}, "both": {}}
    for group in groups([s for s in sizes(sweep.most) if s >= options.least]):
        made = {size: calls(sweep, size, options.dtype) for size in group}
        for phase, found in per.items():
            taken = interleaved(
                {str(size): of[phase] for size, (of, _) in made.items()},
                options.rounds,
                options.seconds,
                hopeless=math.inf,
            )
            for size, (_, work) in made.items():
                found[size] = taken[str(size)].least / work * 1e9
    cliffs = 0
    for phase, found in per.items():
        picked = [s for s in found if s & (s - 1) == 0]
        line = "  ".join(f"{s}: {found[s]:.3g}" for s in picked)
        print(f"{sweep.name:20} {phase:8} ns an element at  {line}")
        for size, time in found.items():
            near = [t for s, t in found.items() if s != size and abs(s - size) <= NEAR * size]
            if near and time > CLIFF * min(near):
                cliffs += 1
                times = time / min(near)
                print(
                    f"{'':20} {phase:8} cliff at {size}: {time:.3g}, {times:.2f} times neighbours"
                )
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="at most, for each group and phase"
    )
    options = parser.parse_args()
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
