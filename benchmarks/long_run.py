"""A long run: new programs are compiled and called, from several threads; memory must not grow.

    python benchmarks/long_run.py --minutes 5 --threads 3
    python benchmarks/long_run.py --programs 2000

Every program is another one, a chain of statements drawn at random; it, or its gradient, is called a few
times at sizes that change. Prints the memory of the process as it goes, and what a program added to it since
the first two thirds, in which the tables of what is kept (`MOST_CODES`, `MOST_RECORDS`) fill up. Ends with 1
where that is more than --most bytes a program.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

import loopgrad as lg

# What a statement may be; {t} is its target, {s} a tensor of the same axes.
MAPS = (
    "{t}[b,j] = {s}[b,j] * {c} + tanh({s}[b,j])",
    "{t}[b,j] = {s}[b,j] * sigmoid({s}[b,j] - {c})",
    "{t}[b,j] += exp(-{s}[b,j] * {s}[b,j]) * {c}",
    "{t}[b,j] += relu({s}[b,j] - {c}) * v[j]",
)
SUMS = (
    "m{n}[b] += {s}[b,j] / J",
    "m{n}[b] max= {s}[b,j] * {c}",
    "m{n}[b] += {s}[b,j] * v[j]",
)


def text(rng: random.Random) -> str:
    """A program of two to seven statements."""
    lines, last = [], "x"
    for n in range(rng.randint(1, 3)):
        constant = f"{rng.random():.6f}"
        pattern = rng.choice(MAPS)
        lines.append(f"for b, j:  {pattern.format(t=f't{n}', s=last, c=constant)}")
        last = f"t{n}"
        if rng.random() < 0.6:
            lines.append(f"for b, j:  {rng.choice(SUMS).format(n=n, s=last, c=constant)}")
            lines.append(f"for b, j:  r{n}[b,j] = {last}[b,j] - m{n}[b]")
            last = f"r{n}"
    if rng.random() < 0.3:
        lines.append(f"for b, i, j:  y[b,i] += W[i,j] * {last}[b,j]")
        head = "f(x[B,J], v[J], W[I,J]) -> y[B,I]:"
        if "v[j]" not in "".join(lines):
            head = head.replace(" v[J],", "")
    else:
        lines.append(f"for b, j:  y[b,j] = {last}[b,j] * {rng.random():.6f}")
        head = "f(x[B,J], v[J]) -> y[B,J]:" if "v[j]" in "".join(lines) else "f(x[B,J]) -> y[B,J]:"
    return "\n    ".join([head, *lines])


def one(rng: random.Random) -> None:
    """Compiles a program and calls it."""
    program = lg.program(text(rng))
    differentiated, dtype = rng.random() < 0.3, rng.choice(["float32", "float64"])
    for _ in range(3):
        shape = {"B": rng.randint(1, 40), "J": rng.randint(1, 40), "I": rng.randint(1, 9)}
        values = np.random.default_rng(rng.getrandbits(32))
        sizes = ([shape[e.name] for e in i.extents] for i in program.inputs)
        arrays = [values.normal(size=size).astype(dtype) for size in sizes]
        if not differentiated:
            program(*arrays)
            continue
        results, pullback = lg.vjp(program, *arrays)
        pullback(values.normal(size=results.shape).astype(dtype))


def resident() -> int:
    """Bytes of memory in use."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Run:
    """How far the threads have come."""

    def __init__(self, seed: int, end: float, programs: int):
        self.seed, self.end, self.programs, self.done = seed, end, programs, 0
        self.failed: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        late = self.done >= self.programs or time.monotonic() > self.end
        return late or self.failed is not None

    def work(self, number: int) -> None:
        rng = random.Random(1000 * self.seed + number)
        try:
            while not self.over:
                one(rng)
                with self._lock:
                    self.done += 1
        except BaseException as error:
            self.failed = error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="at most")
    parser.add_argument("--programs", type=int, default=sys.maxsize, help="at most")
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--most", type=int, default=4096, help="bytes that a program may leave behind"
    )
    options = parser.parse_args()
    os.environ["LOOPGRAD_CACHE"] = "0"  # nothing is on the disk already
    run = Run(options.seed, time.monotonic() + 60 * options.minutes, options.programs)
    threads = [threading.Thread(target=run.work, args=(n,)) for n in range(options.threads)]
    for thread in threads:
        thread.start()
    seen: list[tuple[int, int]] = []
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(min(5.0, options.minutes * 2) / len(threads))
        seen.append((run.done, resident()))
        print(f"{run.done:7} programs  {seen[-1][1] / 1e6:8.1f} MB", flush=True)
    if run.failed is not None:
        raise run.failed
    start = next((s for s in seen if 3 * s[0] >= 2 * run.done), seen[0])
    programs, grown = run.done - start[0], resident() - start[1]
    each = grown / max(programs, 1)
    print(
        f"{programs} programs after the first {start[0]} added {grown / 1e6:.1f} MB: {each:.0f} bytes each"
    )
    if each > options.most:
        sys.exit(1)


if __name__ == "__main__":
    main()
