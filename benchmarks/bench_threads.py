"""What threads cost, and what they do to the libraries beside us.

    python benchmarks/bench_threads.py              how long work takes on one thread and on all
    python benchmarks/bench_threads.py --openmp     the same on the threads of scikit-learn's OpenMP
    python benchmarks/bench_threads.py --beside numpy jax torch     ours in turn with theirs

The work is arithmetic on registers, which nothing disturbs: what is measured is how it is handed out.
"hot" calls follow each other at once, a "cold" one comes after 10 ms of rest. Medians, in microseconds,
each with the least that was seen.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import statistics
import time
from collections.abc import Callable, Sequence

import loopgrad as lg
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.threading import threads

# Each part adds 1 again and again. The store is volatile, so that LLVM keeps it and the sum.
TEXT = """
declare void @loopgrad_parallel(void (i8*, i64, i64)*, i8*, i64)
@steps = internal global i64 0
@sums = internal global [1024 x [64 x i8]] zeroinitializer, align 64

define internal void @part(i8* %context, i64 %thread, i64 %threads) {
entry:
  %steps = load i64, i64* @steps
  %share = sdiv i64 %steps, %threads
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %sum = phi double [ 0.0, %entry ], [ %sum1, %loop ]
  %sum1 = fadd double %sum, 1.0
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %share
  br i1 %more, label %loop, label %end
end:
  %line = getelementptr [1024 x [64 x i8]], [1024 x [64 x i8]]* @sums, i64 0, i64 %thread, i64 0
  %at = bitcast i8* %line to i64*
  %bits = bitcast double %sum1 to i64
  store volatile i64 %bits, i64* %at
  ret void
}

define void @calls(i64 %times, i64 %steps, i64 %threads) {
entry:
  store i64 %steps, i64* @steps
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  call void @loopgrad_parallel(void (i8*, i64, i64)* @part, i8* null, i64 %threads)
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""

WORK = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # microseconds on one thread
ROUNDS = 60


class Worker:
    """Calls of known length."""

    def __init__(self) -> None:
        opaque = engine.new_module("double").opaque_pointers
        self._code = engine.load(threads.without_types(TEXT) if opaque else TEXT)
        whole = ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(None, whole, whole, whole)(self._code.address("calls"))
        self._pace = 1000.0
        self._pace *= 100 / min(self.time(100, 1) for _ in range(20))

    def run(self, work: float, count: int, times: int = 1) -> None:
        """`times` calls of `work` microseconds, on `count` threads."""
        self._run(times, max(count, int(work * self._pace)), count)

    def time(self, work: float, count: int, times: int = 1) -> float:
        """Microseconds a call."""
        start = time.perf_counter()
        self.run(work, count, times)
        return (time.perf_counter() - start) / times * 1e6


def costs() -> None:
    worker, count = Worker(), lg.get_num_threads()
    runtime = ", ".join(threads.runtimes()) or "our own pool"
    print(f"{count} threads of {runtime}")
    print(f"{'work':>6}  {'hot, one':>15}  {'hot, all':>15}  {'cold, one':>15}  {'cold, all':>15}")
    for work in WORK:
        rows: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for number in (1, count):
                times = max(2, 300 // work)
                rows.setdefault(("hot", number), []).append(worker.time(work, number, times))
        for _ in range(ROUNDS // 3):
            for number in (1, count):
                time.sleep(0.01)
                rows.setdefault(("cold", number), []).append(worker.time(work, number))
        cells = [show(rows[kind, number]) for kind in ("hot", "cold") for number in (1, count)]
        print(f"{work:6}  " + "  ".join(cells))


def show(samples: Sequence[float]) -> str:
    return f"{statistics.median(samples):8.1f} {min(samples):6.1f}"


# ------------------------------------------------------------------------------------------- beside


def beside(libraries: Sequence[str]) -> None:
    """Ours and another library's, each alone and in turn."""
    theirs = [call for library in libraries for call in CALLS[library]()]
    worker, count = Worker(), lg.get_num_threads()
    print(f"{'':28}{'theirs':>10}{'ours':>10}{'in turn':>10}   in turn / sum of both")
    for name, call in theirs:
        for work in (100, 1000):
            row(f"{name}, {work} µs", call, functools.partial(worker.run, work, count))


def row(label: str, theirs: Callable[[], object], ours: Callable[[], object]) -> None:
    def both() -> None:
        theirs()
        ours()

    first, second, third = measure(theirs, ours, both)
    print(f"{label:28}{first:10.1f}{second:10.1f}{third:10.1f}   {third / (first + second):.2f}")


def measure(*calls: Callable[[], object]) -> list[float]:
    """Medians of runs of 50 ms, in turn."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(9):
        for kept, call in zip(samples, calls, strict=True):
            call()
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 0.05:
                call()
                count += 1
            kept.append((time.perf_counter() - start) / count * 1e6)
    return [statistics.median(kept) for kept in samples]


def numpy_calls() -> list[tuple[str, Callable[[], object]]]:
    import numpy as np

    a = np.ones((256, 256), np.float32)
    return [("numpy matmul", lambda: a @ a)]


def jax_calls() -> list[tuple[str, Callable[[], object]]]:
    import jax

    softmax = jax.jit(jax.nn.softmax)
    x = jax.numpy.ones((512, 1024))
    return [("jax softmax", lambda: softmax(x).block_until_ready())]


def torch_calls() -> list[tuple[str, Callable[[], object]]]:
    import torch

    x, a = torch.ones(512, 1024), torch.ones(256, 256)
    return [("torch softmax", lambda: torch.softmax(x, 1)), ("torch matmul", lambda: a @ a)]


CALLS = {"numpy": numpy_calls, "jax": jax_calls, "torch": torch_calls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--openmp", action="store_true", help="load scikit-learn's OpenMP first")
    parser.add_argument("--beside", nargs="+", choices=CALLS, help="in turn with these libraries")
    parser.add_argument("--own", action="store_true", help="our own pool, whatever is loaded")
    chosen = parser.parse_args()
    if chosen.own:
        threads.runtimes = list  # type: ignore[assignment]
    if chosen.openmp:
        import sklearn.utils._openmp_helpers  # noqa: F401
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    beside(chosen.beside) if chosen.beside else costs()


if __name__ == "__main__":
    main()
