"""What a program costs in PyTorch: beside a node that does nothing, and beside its call with arrays.

    python benchmarks/bench_torch.py                      both tables
    python benchmarks/bench_torch.py softmax "layer norm" rows whose names hold one of the words
    python benchmarks/bench_torch.py --rounds 30 --threads 1

The first table is of softmax on (4, 10), forward and backward: the least over rounds of the processor's
time a call, which other processes disturb less. The second is of the rows of `bench_table.py`, forward and
backward: medians of rounds in which `lg.vjp` with arrays and `lg.torch` with tensors take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import workloads

import loopgrad as lg

SHAPE = (4, 10)
CALLS = 200


class Nothing(torch.autograd.Function):
    """What every node costs."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, seed: Any) -> Any:
        return seed


def least(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Microseconds a call, of the processor's time."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        for _ in range(CALLS):
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.thread_time()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.thread_time() - start) / CALLS * 1e6)
    return best


def small(rounds: int) -> None:
    s, seed = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    softmax = lg.torch.function(lg.lib.softmax)
    ways = {
        "a node that does nothing": Nothing.apply,
        "lg.torch.function": softmax,
        "torch.softmax": lambda s: s.softmax(-1),
        "the registered operator": softmax.operator,
    }

    def both(function: Callable[..., Any]) -> Callable[[], None]:
        def call() -> None:
            function(s).backward(seed)
            s.grad = None

        return call

    found = least({name: both(f) for name, f in ways.items()}, rounds)
    nothing = found["a node that does nothing"]
    print(f"softmax on {SHAPE}, forward and backward, processor's microseconds")
    for name, micros in found.items():
        print(f"  {name:26} {micros:7.1f}   {micros - nothing:+6.1f}")


def row(workload: workloads.Workload, rounds: int) -> None:
    problem = workload.problem("float32")
    names = [i.name for i in problem.program.inputs]
    arrays = [problem.inputs[name] for name in names]
    seeds = [problem.seeds[name] for name in problem.results if name in problem.seeds]
    function = lg.torch.function(problem.program)
    floating = {i.name for i in problem.program.inputs if i.differentiable}
    tensors = [
        torch.tensor(a).requires_grad_(n in floating) for n, a in zip(names, arrays, strict=True)
    ]
    seeds_there = [torch.tensor(seed) for seed in seeds]
    wanted = [t for t in tensors if t.requires_grad]

    def with_arrays() -> None:
        _, pullback = lg.vjp(problem.program, *arrays, batch=False, **problem.keywords)
        pullback(*seeds)

    def with_tensors() -> None:
        results = function(*tensors, **problem.keywords)
        results = results if isinstance(results, tuple) else (results,)
        torch.autograd.grad(results, wanted, seeds_there)

    times: dict[str, list[float]] = {"arrays": [], "tensors": []}
    for call in (with_arrays, with_tensors):
        for _ in range(3):
            call()
    for _ in range(rounds):
        for name, call in (("arrays", with_arrays), ("tensors", with_tensors)):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(times["arrays"], times["tensors"], strict=True)]
    shown = [statistics.median(times[name]) * 1e6 for name in ("arrays", "tensors")]
    print(
        f"  {workload.name:34} {shown[0]:10.0f} {shown[1]:10.0f} {statistics.median(ratios):8.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lg.set_num_threads(given.threads)
    if not given.words:
        small(given.rounds)
    print(f"forward and backward, float32, {given.threads} threads, microseconds")
    print(f"  {'':34} {'lg.vjp':>10} {'lg.torch':>10} {'ratio':>8}")
    for workload in workloads.TABLE:
        if not given.words or any(word in workload.name for word in given.words):
            row(workload, given.rounds)


if __name__ == "__main__":
    main()
