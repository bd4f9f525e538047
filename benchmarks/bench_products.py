"""Products of matrices: our time against BLAS, for the shared code that contractions call.

    python benchmarks/bench_products.py [--real double] [--threads 2]

NumPy's BLAS and, where it is installed, PyTorch's; all called in turn, minima compared: a figure above
1 says that we are faster. Ours includes packing, but for the lines marked `packed`. With several
threads ours cuts the rows among Python's own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from loopgrad.backends.llvm.products.callable import functions
from loopgrad.backends.llvm.products.tiling import packed_size

try:
    import torch
except ImportError:
    torch = None


@dataclass(frozen=True)
class Case:
    """C[m,n] = A[m,k] B[k,n]; which of A and B is stored by columns, whether B is packed before."""

    m: int
    n: int
    k: int
    turned: str = ""
    packed: bool = False


CASES = [
    *(Case(n, n, n) for n in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
    Case(100, 100, 100),
    Case(255, 257, 259),
    *(Case(n, n, n, turned) for n in (256, 1024) for turned in ("A", "B")),
    *(Case(m, 512, 256, packed=packed) for m in (4, 16, 32, 64) for packed in (True, False)),
    Case(4096, 64, 64),
    Case(4096, 128, 2048),
    Case(512, 24, 512),
]


def aligned(shape: tuple[int, int], dtype: str) -> np.ndarray:
    size = int(np.prod(shape))
    memory = np.empty(size + 64, dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize
    return memory[start : start + size].reshape(shape)


def contenders(case: Case, real: str, threads: int) -> dict[str, Callable[[], object]]:
    dtype, rng = {"float": "f4", "double": "f8"}[real], np.random.default_rng(0)
    m, n, k, made = case.m, case.n, case.k, functions(real)

    def matrix(rows: int, columns: int, turned: bool) -> np.ndarray:
        a = aligned((columns, rows) if turned else (rows, columns), dtype)
        a[...] = rng.standard_normal(a.shape)
        return a.T if turned else a

    a, b = matrix(m, k, case.turned == "A"), matrix(k, n, case.turned == "B")
    c, packed = aligned((m, n), dtype), aligned((1, packed_size(k, n, made.tiling.lanes)), dtype)
    am, ak, bk, bn = (s // a.itemsize for s in (*a.strides, *b.strides))
    to_pack = k, n, b.ctypes.data, bk, bn, packed.ctypes.data, 0, k
    rows = -(-m // threads)
    factor, target = (am, ak, packed.ctypes.data, 0, k, n, 0), (n, 1.0, False)
    parts = [
        (min(rows, m - r), n, k, a[r:].ctypes.data, *factor, c[r:].ctypes.data, *target)
        for r in range(0, m, rows)
    ]
    made.pack(*to_pack)
    pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def ours() -> None:
        if not case.packed:
            made.pack(*to_pack)
        others = [pool.submit(made.product, *part) for part in parts[1:]] if pool else []
        made.product(*parts[0])
        for other in others:
            other.result()

    ours.keeps = packed  # of which it has the address alone
    result = {"ours": ours, "numpy": lambda: np.matmul(a, b, out=c)}
    if torch:
        tensors = [torch.from_numpy(x) for x in (a, b, c)]
        result["torch"] = lambda: torch.mm(tensors[0], tensors[1], out=tensors[2])
    return result


def measure(
    functions: dict[str, Callable[[], object]], calls: int, rounds: int
) -> dict[str, float]:
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            best[name] = min(best[name], (time.perf_counter() - start) / calls)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", choices=("float", "double"), default="float")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if torch:
        torch.set_num_threads(options.threads)
    for case in CASES:
        operations = 2 * case.m * case.n * case.k
        made = contenders(case, options.real, options.threads)
        calls, rounds = max(1, int(2e7 / operations)), 7 if operations > 1e9 else 15
        times = measure(made, calls, rounds)
        what = f"{case.m:5} {case.n:5} {case.k:5}  {case.turned + '^T' if case.turned else '':4}"
        ratios = "  ".join(
            f"{name} {time / times['ours']:5.2f}" for name, time in times.items() if name != "ours"
        )
        speed = operations / times["ours"] / 1e9
        print(f"{what} {'packed' if case.packed else '':6} {speed:7.1f} GF/s  {ratios}", flush=True)


if __name__ == "__main__":
    main()
