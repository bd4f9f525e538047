"""Literal loops, compiled by loopgrad and by numba's @njit: our time over numba's, one thread.

    python benchmarks/bench_literal_loops.py [--dtype float32] [--only softmax,gather]

Both sides run the same loops in the same order, into results that exist already, and make their
own temporaries. The two are called in turn; medians are compared, and the results too.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

import loopgrad as lg

TARGET = 1.2


@dataclass
class Case:
    """`literal` takes the inputs, then the results, which it overwrites."""

    name: str
    text: str
    literal: Callable[..., None]
    inputs: Callable[[np.random.Generator], list[np.ndarray]]


@njit
def softmax(s, p):
    B, J = s.shape
    Z = np.zeros(B, s.dtype)
    p[:] = 0
    for b in range(B):
        for j in range(J):
            Z[b] += math.exp(s[b, j])
    for b in range(B):
        for j in range(J):
            p[b, j] += math.exp(s[b, j]) / Z[b]


@njit
def batchnorm(x, y):
    B, J = x.shape
    m, s = np.zeros(J, x.dtype), np.zeros(J, x.dtype)
    y[:] = 0
    for b in range(B):
        for j in range(J):
            m[j] += x[b, j] / x.dtype.type(B)
    for b in range(B):
        for j in range(J):
            s[j] += (x[b, j] - m[j]) ** 2 / x.dtype.type(B - 1)
    for b in range(B):
        for j in range(J):
            y[b, j] += (x[b, j] - m[j]) / math.sqrt(s[j])


@njit
def matmul(x, W, y):
    B, K = x.shape
    J = W.shape[0]
    y[:] = 0
    for b in range(B):
        for j in range(J):
            for k in range(K):
                y[b, j] += W[j, k] * x[b, k]


@njit
def cell(h, x, WhR, WxR, BR, WhG, WxG, BG, out):
    B, J = h.shape
    K = x.shape[1]
    R, G = np.zeros((B, J), h.dtype), np.zeros((B, J), h.dtype)
    one = h.dtype.type(1)
    for b in range(B):
        for j in range(J):
            for i in range(J):
                R[b, j] += WhR[j, i] * h[b, i]
    for b in range(B):
        for j in range(J):
            for k in range(K):
                R[b, j] += WxR[j, k] * x[b, k]
    for b in range(B):
        for j in range(J):
            R[b, j] -= BR[j]
    for b in range(B):
        for j in range(J):
            for i in range(J):
                G[b, j] += WhG[j, i] * h[b, i]
    for b in range(B):
        for j in range(J):
            for k in range(K):
                G[b, j] += WxG[j, k] * x[b, k]
    for b in range(B):
        for j in range(J):
            G[b, j] -= BG[j]
    for b in range(B):
        for j in range(J):
            g = one / (one + math.exp(-G[b, j]))
            out[b, j] = g * h[b, j] + (one - g) * math.tanh(R[b, j])


@njit
def chain(x, y, r):
    B, J = x.shape
    a = np.zeros((B, J), x.dtype)
    for b in range(B):
        for j in range(J):
            a[b, j] = x[b, j] * y[b, j] + x.dtype.type(0.5) * x[b, j]
    for b in range(B):
        for j in range(J):
            v = a[b, j] - y[b, j]
            r[b, j] = v if v > 0 else 0


@njit
def gather(E, w, y):
    N, K = w.shape[0], E.shape[1]
    for n in range(N):
        for k in range(K):
            if w[n] < 0 or w[n] >= E.shape[0]:
                raise IndexError
            y[n, k] = E[w[n], k]


@njit
def convolution(x, k, y):
    B, X = x.shape
    D = k.shape[0]
    y[:] = 0
    for b in range(B):
        for i in range(X - D + 1):
            for d in range(D):
                y[b, i] += x[b, i + d] * k[d]


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], list[np.ndarray]]:
    return lambda rng: [rng.normal(size=shape) for shape in shapes]


CASES = [
    Case(
        "softmax (512,1000)",
        """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]""",
        softmax,
        normal((512, 1000)),
    ),
    Case(
        "batchnorm (1024,256)",
        """batchnorm(x[B,J]) -> y[B,J]:
    for b, j:  m[j]   += x[b,j] / B
    for b, j:  s[j]   += (x[b,j] - m[j])**2 / (B - 1)
    for b, j:  y[b,j] += (x[b,j] - m[j]) / sqrt(s[j])""",
        batchnorm,
        normal((1024, 256)),
    ),
    Case(
        "matmul (128,200)x(200,160)",
        """matmul(x[B,K], W[J,K]) -> y[B,J]:
    for b, j, k:  y[b,j] += W[j,k] * x[b,k]""",
        matmul,
        normal((128, 200), (160, 200)),
    ),
    Case(
        "ugrnn cell B=32 J=128 K=64",
        """cell(h[B,J], x[B,K], WhR[J,J'], WxR[J,K], BR[J], WhG[J,J'], WxG[J,K], BG[J]) -> o[B,J]:
    for b, j, j':  R[b,j] += WhR[j,j'] * h[b,j']
    for b, j, k:   R[b,j] += WxR[j,k] * x[b,k]
    for b, j:      R[b,j] -= BR[j]
    for b, j, j':  G[b,j] += WhG[j,j'] * h[b,j']
    for b, j, k:   G[b,j] += WxG[j,k] * x[b,k]
    for b, j:      G[b,j] -= BG[j]
    for b, j:      o[b,j] = sigmoid(G[b,j]) * h[b,j] + (1 - sigmoid(G[b,j])) * tanh(R[b,j])""",
        cell,
        normal((32, 128), (32, 64), (128, 128), (128, 64), (128,), (128, 128), (128, 64), (128,)),
    ),
    Case(
        "elementwise chain (1024,512)",
        """chain(x[B,J], y[B,J]) -> r[B,J]:
    for b, j:  a[b,j] = x[b,j] * y[b,j] + 0.5 * x[b,j]
    for b, j:  r[b,j] = relu(a[b,j] - y[b,j])""",
        chain,
        normal((1024, 512), (1024, 512)),
    ),
    Case(
        "gather of 4000 rows of 64",
        """gather(E[V,K], int w[N]) -> y[N,K]:
    for n, k:  y[n,k] = E[w[n],k]""",
        gather,
        lambda rng: [rng.normal(size=(1000, 64)), rng.integers(0, 1000, 4000)],
    ),
    Case(
        "convolution (256,1000) by 5",
        """convolution(x[B,X], k[D]) -> y[B,X-D+1]:
    for b, i, d:  y[b,i] += x[b,i+d] * k[d]""",
        convolution,
        normal((256, 1000), (5,)),
    ),
]


def measure(contenders: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Median seconds of each, called in turn."""
    times: list[list[float]] = [[] for _ in contenders]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for contender, taken in zip(contenders, times, strict=True):
            start = time.perf_counter()
            contender()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["float32", "float64"], action="append")
    parser.add_argument("--only", default="", help="names of cases, separated by commas")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case")
    options = parser.parse_args()
    wanted = [w for w in options.only.split(",") if w]
    print(f"{'one thread, medians':32} {'dtype':8} {'loopgrad':>10} {'numba':>10}  ratio")
    for dtype in options.dtype or ["float32", "float64"]:
        for case in CASES:
            if not wanted or any(w in case.name for w in wanted):
                run(case, dtype, options.seconds)


def run(case: Case, dtype: str, seconds: float) -> None:
    given = case.inputs(np.random.default_rng(0))
    inputs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in given]
    kernel = lg.compile(lg.program(case.text))
    ours = kernel(*inputs)
    theirs = np.empty_like(ours)
    case.literal(*inputs, theirs)
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    ours_time, their_time = measure(
        [lambda: kernel(*inputs, out=ours), lambda: case.literal(*inputs, theirs)], seconds
    )
    ratio = ours_time / their_time
    mark = "" if ratio <= TARGET else f"  above {TARGET}"
    print(
        f"{case.name:32} {dtype:8} {ours_time * 1e6:8.1f}us {their_time * 1e6:8.1f}us  "
        f"{ratio:5.2f}{mark}"
    )


if __name__ == "__main__":
    main()
