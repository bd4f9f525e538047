"""Seconds until a program has run for the first time, each in a new process.

    python benchmarks/bench_compile.py

Parsing, proofs, compilation, the first call and the imports of llvmlite and of loopgrad's modules
that are needed for them are counted; the import of NumPy is not. Python's bytecode is there, as
after an installation. Target for softmax: 0.2 s.

Then, in one process: the milliseconds of processor time that LLVM takes for some layers and their
backwards.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

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
text, shapes = sys.stdin.read(), {shapes}
inputs = [np.ones(shape) for shape in shapes]
start = time.perf_counter()
import loopgrad as lg
kernel = lg.compile(lg.program(text))
checked = time.perf_counter()
kernel(*inputs)
first = time.perf_counter()
kernel(*inputs)
print(checked - start, first - checked, time.perf_counter() - first)
"""


def measure(text: str, shapes: list[tuple[int, ...]], runs: int) -> list[float]:
    """Medians of the three times that the child prints, in seconds; the first run is left out."""
    rows = []
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(1 + runs):
            done = subprocess.run(
                [sys.executable, "-c", CHILD.format(shapes=shapes)],
                input=text,
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            rows.append([float(t) for t in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows[1:], strict=True)]


def layers() -> None:
    """Prints LLVM's part of the compilation of layers."""
    import loopgrad as lg
    from loopgrad.backends.llvm import engine

    lib = lg.lib
    engine.load("define void @nothing() { ret void }")  # LLVM gets ready
    print(f"\n{'processor time of LLVM':24} {'forward':>13} {'backward':>13}")
    for program in (lib.softmax, lib.batchnorm, lib.lstm_cell, lib.attention, lib.ugrnn):
        taken = []
        for each in (program, program.backward()):
            text = lg.compile(each).runner.text()
            start = time.process_time()
            engine.load(text)
            taken.append((time.process_time() - start) * 1e3)
        print(f"{program.name:24} {taken[0]:10.0f} ms {taken[1]:10.0f} ms")


def main() -> None:
    print(f"{'new process, medians':24} {'parse, check':>13} {'compile, run':>13} {'both':>9}")
    for name, text, shapes, runs in (
        ("softmax (4,10)", SOFTMAX, [(4, 10)], 7),
        ("200 statements", SEQUENCE, [(100,)], 3),
    ):
        check, first, _ = measure(text, shapes, runs)
        print(f"{name:24} {check:11.3f} s {first:11.3f} s {check + first:7.3f} s")
    layers()


if __name__ == "__main__":
    main()
