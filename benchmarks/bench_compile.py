"""Seconds until a program has run for the first time, each in a new process.

    python benchmarks/bench_compile.py

Parsing, proofs, the import of llvmlite, compilation and the first call are counted; the imports of
NumPy and of loopgrad are not. Target for softmax: 0.2 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

SOFTMAX = """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""

SEQUENCE = "long(x[N]) -> y1[N]:\n    for n:  y200[n] = x[n]\n" + "\n".join(
    f"    for n:  y{i}[n] = tanh(y{i + 1}[n]) * x[n]" for i in range(199, 0, -1)
)

# Text, inputs, and the times of: parse and check, compile and run, run again.
CHILD = """
import sys, time
import numpy as np
import loopgrad as lg
text, shapes = sys.stdin.read(), {shapes}
inputs = [np.ones(shape) for shape in shapes]
start = time.perf_counter()
kernel = lg.compile(lg.program(text))
checked = time.perf_counter()
kernel(*inputs)
first = time.perf_counter()
kernel(*inputs)
print(checked - start, first - checked, time.perf_counter() - first)
"""


def measure(text: str, shapes: list[tuple[int, ...]], runs: int) -> list[float]:
    """Medians of the three times that the child prints, in seconds."""
    rows = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", CHILD.format(shapes=shapes)],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append([float(t) for t in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main() -> None:
    print(f"{'new process, medians':24} {'parse, check':>13} {'compile, run':>13} {'both':>9}")
    for name, text, shapes, runs in (
        ("softmax (4,10)", SOFTMAX, [(4, 10)], 7),
        ("200 statements", SEQUENCE, [(100,)], 3),
    ):
        check, first, _ = measure(text, shapes, runs)
        print(f"{name:24} {check:11.3f} s {first:11.3f} s {check + first:7.3f} s")


if __name__ == "__main__":
    main()
