"""How long the first call of a program takes: with nothing on disk, and from the disk cache.

    python benchmarks/bench_compile.py [NAME...]

For each program of `PROGRAMS` (or those named) and each of `call` and `gradients` (`lg.vjp` and its
pullback), in new processes: milliseconds of the first call

    all       with nothing on disk, the modules of loopgrad and llvmlite that it needs loaded meanwhile
    cold      the same, those modules loaded before
    disk      from the disk cache, the modules loaded before
    imports   that loading, from the disk cache: it needs fewer; the import of NumPy is not in it

Targets: cold below 100 ms (ugrnn with gradients: 300), disk below 5. Python's bytecode is there, as after
an installation. Then, in one process, each pass by itself. All times are of the processor, which other
processes disturb less, and the least of several runs. A row that fails is said to, and why, at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopgrad.ir.nodes import Program

RUNS = 7

SOFTMAX = """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""
GELU = """gelu(x[N]) -> y[N]:
    y[n] = 0.5 * x[n] * (1 + tanh(0.7978845608028654 * (x[n] + 0.044715 * x[n] ** 3)))
"""
LAYER_NORM = """layer_norm(x[B,J], param g[J], param c[J], eps = 1e-5) -> y[B,J]:
    for b, j:  m[b]   += x[b,j] / J
    for b, j:  v[b]   += (x[b,j] - m[b]) ** 2 / J
    for b, j:  y[b,j] += g[j] * (x[b,j] - m[b]) / sqrt(v[b] + eps) + c[j]
"""
CROSS_ENTROPY = """cross_entropy(s[B,J], int label[B]) -> loss[B]:
    for b, j:  Z[b]    += exp(s[b,j])
    for b:     loss[b] += log(Z[b]) - s[b,label[b]]
"""
SEQUENCE = "long(x[N]) -> y1[N]:\n    for n:  y200[n] = x[n]\n" + "\n".join(
    f"    for n:  y{i}[n] = tanh(y{i + 1}[n]) * x[n]" for i in range(199, 0, -1)
)

# Name -> text, or the name of a program of the library, and the sizes of its inputs' axes.
PROGRAMS: dict[str, tuple[str, int]] = {
    "softmax": (SOFTMAX, 5),
    "gelu": (GELU, 5),
    "layer_norm": (LAYER_NORM, 5),
    "cross_entropy": (CROSS_ENTROPY, 5),
    "batchnorm": ("batchnorm", 5),
    "attention": ("attention", 4),
    "ugrnn": ("ugrnn", 4),
    "200 statements": (SEQUENCE, 5),
}

CHILD = """
import sys, json, time
import numpy as np
source, size, gradients, first = json.load(sys.stdin)
before = set(sys.modules)
start = time.process_time()
import loopgrad as lg
from importlib import import_module
for name in first:
    import_module(name)
loaded = time.process_time()
program = lg.program(source) if "(" in source else lg.lib[source]
inputs = [
    np.zeros((size,) * len(i.extents), np.int64) if i.kind == "int"
    else np.ones((size,) * len(i.extents), np.float32)
    for i in program.inputs
]
sizes = {one.name: size for one in program.sizes}
if gradients:
    results, pullback = lg.vjp(program, *inputs, **sizes)
    results = results if isinstance(results, tuple) else (results,)
    pullback(*map(np.ones_like, results))
else:
    program(*inputs, **sizes)
end = time.process_time()
new = sorted(name for name in set(sys.modules) - before if name.startswith(("loopgrad", "llvmlite")))
print(json.dumps([loaded - start, end - loaded, new]))
"""


def child(
    source: str, size: int, gradients: bool, first: list[str], cache: str
) -> tuple[float, float, list[str]]:
    """A new process: seconds of imports and of the first call, and the modules that were loaded."""
    environment = {**os.environ, "LOOPGRAD_CACHE_DIR": cache}
    environment.pop("LOOPGRAD_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([source, size, gradients, first]),
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise ChildProcessError(f"a process ended with {done.returncode}:\n{done.stderr}")
    loading, call, modules = json.loads(done.stdout)
    return loading, call, modules


def first_calls(source: str, size: int, gradients: bool) -> list[float]:
    """Milliseconds: all, cold, disk, imports."""

    def run(first: list[str], cache: str) -> tuple[float, float, list[str]]:
        return child(source, size, gradients, first, cache)

    def least(runs: list[float]) -> float:
        return 1e3 * min(runs)

    with tempfile.TemporaryDirectory() as cache:
        _, _, heavy = run([], cache)
        _, _, light = run([], cache)
        warm = [run(light, cache) for _ in range(RUNS)]
    everything, cold = [], []
    for _ in range(max(2, RUNS // 2)):
        for first, into in (([], everything), (heavy, cold)):
            with tempfile.TemporaryDirectory() as empty:
                into.append(run(list(first), empty)[1])
    return [
        least(everything),
        least(cold),
        least([w[1] for w in warm]),
        least([w[0] for w in warm]),
    ]


def passes() -> None:
    """Prints the time of each pass, forward and backward."""
    os.environ["LOOPGRAD_CACHE"] = "0"
    import loopgrad as lg

    lg.program(SOFTMAX)([[1.0]])  # everything gets ready
    lib = lg.lib
    heads = ("prove", "stable", "emit", "parse", "optimise", "generate", "load", "kB")
    print(f"\n{'ms of each pass':24}" + "".join(f"{head:>9}" for head in heads))
    for forward in (lib.softmax, lib.layer_norm, lib.batchnorm, lib.attention, lib.ugrnn):
        for program in (forward, forward.backward()):
            row = times_of_passes(program)
            print(f"{program.name:24}" + "".join(f"{number:9.1f}" for number in row), flush=True)


def times_of_passes(program: Program) -> list[float]:
    """Milliseconds of each, and the size of the object code."""
    from loopgrad import pipeline
    from loopgrad.backends.llvm.compiling import engine, objects, symbols
    from loopgrad.backends.llvm.compiling.machine import this_machine
    from loopgrad.backends.llvm.compiling.passes import optimize

    times = []

    def timed(function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        answer = function(*arguments)
        times.append(1e3 * (time.process_time() - start))
        return answer

    timed(pipeline.verify, program)
    timed(pipeline.stable, program)
    text, kind = timed(pipeline.compile(program).runner.written, "float")
    machine = this_machine().create(kind.level)
    module = timed(objects.parsed, text, machine)
    timed(optimize, module, machine, kind)
    code = timed(machine.emit_object, module)
    found = objects.Object(code, symbols.declared(text))
    symbols.require(found.calls)
    timed(engine.in_memory, found)
    return [*times, len(code) / 1e3]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise SystemExit(f"no program is called {unknown[0]!r}; there are {', '.join(PROGRAMS)}")
    heads = "".join(f"{head:>10}" for head in ("all", "cold", "disk", "imports"))
    print(f"{'first call, ms':30}{heads}")
    failures = []
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for name in names or PROGRAMS:
            source, size = PROGRAMS[name]
            for gradients in (False, True):
                what = f"{name}, {'gradients' if gradients else 'call'}"
                try:
                    found = first_calls(source, size, gradients)
                except ChildProcessError as error:
                    failures.append(f"{what}: {error}")
                    print(f"{what:30}    failed", flush=True)
                else:
                    print(f"{what:30}" + "".join(f"{t:10.1f}" for t in found), flush=True)
    passes()
    if failures:
        raise SystemExit("\n\n".join(failures))


if __name__ == "__main__":
    main(sys.argv[1:])
