"""Seconds of the first calls of a layer, or a model, in a new process: forward, and forward with backward.

    python benchmarks/bench_first.py [WORDS]

Parsing, proofs, derivation, compilation and the call are counted; imports are not, since another program was
called before. First with an empty cache on disk, then from what that run left there. What no call waits for,
the optimised code of shared products, is made in a thread behind the call, and not counted; a process
ends when it is there. Python's bytecode is there, as after an installation. Asked for: 100 ms a layer, 300 ms
for `ugrnn` with its backward, 5 ms from the cache. Processor time stands in brackets: a busy machine leaves
it as it is. The least of RUNS runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

RUNS = 3

CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy, workloads
import loopgrad as lg, loopgrad.functions
row = next(r for r in workloads.SMALL if r.name == sys.argv[2])
problem = row.problem("float32")
program = row.program
text = str(program)
arrays = list(problem.inputs.values())
seeds = [problem.seeds.get(n) for n in problem.results]
other = lg.program("other(x[N]) -> y[N]:\\n    for n:  z[n] = exp(x[n])\\n    for n:  y[n] += z[n] * 2")
lg.vjp(other, numpy.ones(3))[1](numpy.ones(3))
def timed(run):
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
def forward():
    lg.program(text)(*arrays, **problem.keywords)
def both():
    results, pullback = lg.vjp(lg.program(text), *arrays, **problem.keywords)
    pullback(*seeds)
print(*timed(forward if sys.argv[3] == "forward" else both))
"""


def child(name: str, phase: str, cache: str) -> tuple[float, float]:
    environment = {**os.environ, "LOOPGRAD_CACHE_DIR": cache}
    environment.pop("LOOPGRAD_CACHE", None)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, here, name, phase],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def least(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in runs), min(cpu for _, cpu in runs)


def first_calls(name: str, phase: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Wall and processor time with an empty cache, and with what a run left there."""
    empty, cached = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as cache:
            empty.append(child(name, phase, cache))
            cached.append(child(name, phase, cache))
    return least(empty), least(cached)


def main() -> None:
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        table()


def table() -> None:
    import workloads

    words = [w.lower() for w in sys.argv[1:]]
    rows = [r for r in workloads.SMALL if not words or any(w in r.name.lower() for w in words)]
    print(
        f"{'ms (of a processor)':24}{'forward':>16}{'both':>16}{'cached forward':>18}{'cached both':>16}"
    )
    for row in rows:
        both = [first_calls(row.name, phase) for phase in ("forward", "both")]
        ordered = [empty for empty, _ in both] + [cached for _, cached in both]
        shown = "".join(f"{wall:8.1f} ({cpu:6.1f})" for wall, cpu in ordered)
        print(f"{row.name:24}{shown}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
