"""Nanoseconds an element of our own mathematical functions, beside NumPy's.

    python benchmarks/bench_mathematics.py [--dtype float64] [--only exp,tanh]

One thread, explicit vectors of 512 bits, arrays that a second-level cache holds. The two are timed
in turn; medians. NumPy's float functions are its own or SVML's; `erf` and `sigmoid` are SciPy's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.backends.elementwise import aligned, elementwise

SIZE, REPEATS, ROUNDS = 4096, 8, 15
PEERS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda x, out: np.logaddexp(x, x.dtype.type(0), out=out),
    "erf": special.erf,
    "sin": np.sin,
    "cos": np.cos,
    "**": np.power,
    "sqrt": np.sqrt,
    "rsqrt": lambda x, out: np.reciprocal(np.sqrt(x, out=out), out=out),
}
POSITIVE = frozenset(["log", "log1p", "**", "sqrt", "rsqrt"])


def measure(name: str, dtype: Any) -> tuple[float, float]:
    """Nanoseconds an element, ours and the peer's."""
    rng = np.random.default_rng(0)
    arity = 2 if name == "**" else 1
    operands = [aligned(SIZE, dtype) for _ in range(arity)]
    for x in operands:
        x[:] = rng.normal(size=SIZE) * 2
    if name in POSITIVE:
        operands[0][:] = np.abs(operands[0]) + 1e-3
    ours = elementwise(name, dtype, 64 // np.dtype(dtype).itemsize, arity)
    result, other = aligned(SIZE, dtype), aligned(SIZE, dtype)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours(*operands, result, repeats=REPEATS)
        middle = time.perf_counter()
        for _ in range(REPEATS):
            PEERS[name](*operands, out=other)
        times[0].append(middle - start)
        times[1].append(time.perf_counter() - middle)
    np.testing.assert_allclose(result, other, rtol=1e4 * np.finfo(dtype).eps)
    found = [statistics.median(t) / (SIZE * REPEATS) * 1e9 for t in times]
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--only", default="", help="names, with commas between")
    arguments = parser.parse_args()
    wanted = [n for n in arguments.only.split(",") if n] or list(PEERS)
    print(f"{'':10}{'ours':>8}{'NumPy':>8}  ns an element, {arguments.dtype}")
    for name in wanted:
        ours, peer = measure(name, np.dtype(arguments.dtype))
        print(f"{name:10}{ours:8.2f}{peer:8.2f}")


if __name__ == "__main__":
    main()
