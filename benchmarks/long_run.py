"""A long run: new programs are compiled and called, from several threads; memory must not grow.

    python benchmarks/long_run.py --minutes 5 --threads 3
    python benchmarks/long_run.py --programs 2000

Every program is another one: a chain of statements drawn at random, or one of the library with a constant
of its own, and its calls are forward, `vjp` and `value_and_grad`, at sizes that change. Prints as it goes
what the process holds (memory, Python's objects, mappings, those with code in them, open files), and at the
end what a program added to each since the first two thirds, in which the tables of what is kept
(`MOST_CODES`, `MOST_RECORDS`) fill up. Ends with 1 where that is more than --most bytes of memory a program,
or more than a few mappings or files in all.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import sys
import threading
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

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


def text(rng: random.Random, sums: bool) -> str:
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
    given, axes, end = "x[B,J], v[J]", "b, j", f"{last}[b,j] * {rng.random():.6f}"
    if rng.random() < 0.3:
        lines.append(f"for b, i, j:  z[b,i] += W[i,j] * {last}[b,j]")
        given, axes, end = "x[B,J], v[J], W[I,J]", "b, i", f"z[b,i] * {rng.random():.6f}"
    target = "y" if sums else f"y[{axes}]"
    lines.append(f"for {axes}:  {target} {'+=' if sums else '='} {end}")
    if "v[j]" not in "".join(lines):
        given = given.replace(", v[J]", "")
    return "\n    ".join(
        [f"f({given}) -> {target.upper().replace('Y', 'y').replace(' ', '')}:", *lines]
    )


# Layers of the library: what they take, how they are called, and the axes of what comes out.
LAYERS = (
    ("x[B,J]", "softmax(x)", "b, j"),
    ("x[B,J]", "log_softmax(x)", "b, j"),
    ("x[B,J], v[J]", "layer_norm(x, v, v)", "b, j"),
    ("x[B,J], v[J]", "rms_norm(x, v)", "b, j"),
    ("x[B,J]", "batchnorm(x)", "b, j"),
    ("x[B,J]", "gelu(x)", "b, j"),
    ("x[B,J], W[K,J], c[K]", "affine(x, W, c)", "b, k"),
    ("x[B,J], W[H,J], c[H], U[K,H], d[K]", "mlp(x, W, c, U, d)", "b, k"),
    ("q[B,H,T,D], k[B,H,T,D], v[B,H,T,E]", "causal_attention(q, k, v)", "b, h, t, e"),
    (
        "x[T,B,K], h0[B,J], W[J,J], U[J,K], c[J]",
        "ugrnn(x, h0, W, U, c, W, U, c)",
        "t, b, j",
    ),
)
LENGTHS = {"B": 40, "J": 40, "I": 9, "K": 9, "T": 6, "H": 3, "D": 6, "E": 5}


def layer(rng: random.Random, sums: bool) -> str:
    """A layer of the library, and a line with a number that no other has."""
    given, call, axes = rng.choice(LAYERS)
    extents = axes.upper().replace(" ", "")
    target = "y" if sums else f"y[{axes}]"
    result = "y" if sums else f"y[{extents}]"
    line = f"for {axes}:  {target} += p[{axes}] * p[{axes}] * {rng.random():.9f}"
    return f"f({given}) -> {result}:\n    p = {call}\n    {line}"


def one(rng: random.Random) -> None:
    """Compiles a program and calls it."""
    how, dtype = rng.choice(HOW), rng.choice(["float32", "float64"])
    sums = how is loss_and_gradients
    program = lg.program(layer(rng, sums) if rng.random() < 0.3 else text(rng, sums))
    for _ in range(3):
        shape = {name: rng.randint(1, most) for name, most in LENGTHS.items()}
        values = np.random.default_rng(rng.getrandbits(32))
        sizes = ([shape[e.name] for e in i.extents] for i in program.inputs)
        arrays = [np.asarray(values.normal(size=size), dtype) for size in sizes]
        how(program, arrays, values)


def forward(program: lg.Program, arrays: list[Any], values: np.random.Generator) -> None:
    program(*arrays)


def backward(program: lg.Program, arrays: list[Any], values: np.random.Generator) -> None:
    results, pullback = lg.vjp(program, *arrays)
    pullback(values.normal(size=results.shape).astype(results.dtype))


def loss_and_gradients(program: lg.Program, arrays: list[Any], values: np.random.Generator) -> None:
    lg.value_and_grad(program)(*arrays)


HOW = (forward, backward, loss_and_gradients)


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    memory: int  # bytes
    objects: int  # of Python's, and their parts
    mappings: int
    code: int  # of those, with code that is in no file
    files: int

    def __str__(self) -> str:
        return (
            f"{self.memory / 1e6:8.1f} MB  {self.objects:9} objects  {self.mappings:5} mappings  "
            f"{self.code:4} of code  {self.files:3} files"
        )


def held() -> Held:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # what has been given back counts no more
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    mappings = Path("/proc/self/maps").read_text().splitlines()
    code = [m for m in mappings if "x" in m.split()[1] and len(m.split()) < 6]
    files = len(os.listdir("/proc/self/fd"))
    return Held(
        pages * os.sysconf("SC_PAGE_SIZE"),
        sys.getallocatedblocks(),
        len(mappings),
        len(code),
        files,
    )


MOST_MAPPINGS = 64  # that come and go


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
    seen: list[tuple[int, Held]] = []
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(min(5.0, options.minutes * 2) / len(threads))
        seen.append((run.done, held()))
        print(f"{run.done:7} programs  {seen[-1][1]}", flush=True)
    if run.failed is not None:
        raise run.failed
    start = next((s for s in seen if 3 * s[0] >= 2 * run.done), seen[0])
    programs, now = run.done - start[0], held()
    grown = Held(*(b - a for a, b in zip(astuple(start[1]), astuple(now), strict=True)))
    each, objects = (n / max(programs, 1) for n in (grown.memory, grown.objects))
    print(
        f"{programs} programs after the first {start[0]} added{grown}: "
        f"{each:.0f} bytes and {objects:.1f} objects each"
    )
    if each > options.most or max(grown.mappings, grown.files) > MOST_MAPPINGS:
        sys.exit(1)


if __name__ == "__main__":
    main()
