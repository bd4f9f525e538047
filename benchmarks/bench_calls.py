"""What a call costs: microseconds for a softmax of (4, 10), and what fresh memory does to large ones.

    python benchmarks/bench_calls.py

The least of many short measurements, each contender in turn. Target: a call under 1 µs, the results and
their gradients under 3 µs. PyTorch and JAX are measured where they are installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import loopgrad as lg

LOSS = "loss(x[N], y[N]) -> L:\n    L += (x[n] - y[n]) ** 2"
Paths = dict[str, Callable[[], Any]]


def least(paths: Paths, calls: int, rounds: int) -> dict[str, float]:
    """Microseconds a call."""
    found = dict.fromkeys(paths, float("inf"))
    for function in paths.values():
        for _ in range(3):
            function()
    for _ in range(rounds):
        for name, function in paths.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            found[name] = min(found[name], (time.perf_counter() - start) / calls * 1e6)
    return found


def small_paths() -> Paths:
    random = np.random.default_rng(0)
    x, g = random.normal(size=(2, 4, 10)).astype(np.float32)
    a, b = random.normal(size=(2, 10)).astype(np.float32)
    out = np.empty_like(x)
    softmax, kernel = lg.lib.softmax, lg.compile(lg.lib.softmax)
    kernel(x)
    _, pullback = lg.vjp(softmax, x)
    value_and_grad = lg.value_and_grad(lg.program(LOSS), wrt="x")
    turned = np.asfortranarray(x)
    return {
        "np.add": lambda: np.add(x, g),
        "kernel(x)": lambda: kernel(x),
        "kernel(x, out=y)": lambda: kernel(x, out=out),
        "softmax(x)": lambda: softmax(x),
        "kernel(x in Fortran's order), the long way": lambda: kernel(turned),
        "lg.vjp(softmax, x)": lambda: lg.vjp(softmax, x),
        "pullback(g)": lambda: pullback(g),
        "lg.vjp(softmax, x)[1](g)": lambda: lg.vjp(softmax, x)[1](g),
        "value_and_grad of a loss of 10": lambda: value_and_grad(a, b),
        **_torch(x, g),
        **_jax(x, g),
    }


def _torch(x: Any, g: Any) -> Paths:
    try:
        import torch
    except ImportError:
        return {}
    tensor, seed = torch.from_numpy(x), torch.from_numpy(g)
    leaf = torch.from_numpy(x.copy()).requires_grad_()

    def both() -> Any:
        return torch.autograd.grad(torch.softmax(leaf, 1), leaf, seed)

    return {
        "torch.softmax(x, 1)": lambda: torch.softmax(tensor, 1),
        "torch, with the gradient": both,
    }


def _jax(x: Any, g: Any) -> Paths:
    try:
        import jax
    except ImportError:
        return {}
    tensor, seed = jax.numpy.asarray(x), jax.numpy.asarray(g)
    softmax = jax.jit(lambda x: jax.nn.softmax(x, axis=1))
    both = jax.jit(lambda x, g: jax.vjp(lambda x: jax.nn.softmax(x, axis=1), x)[1](g))
    return {
        "jax.jit(softmax)(x)": lambda: softmax(tensor).block_until_ready(),
        "jax.jit, with the gradient": lambda: both(tensor, seed)[0].block_until_ready(),
    }


def large_paths(megabytes: int) -> Paths:
    x = np.ones(megabytes << 18, np.float32)
    kernel, out = (
        lg.compile(lg.program("twice(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")),
        np.empty_like(x),
    )

    def afresh() -> Any:
        lg.trim_memory()
        return kernel(x)

    return {
        f"{megabytes} MB: np.multiply(x, 2)": lambda: np.multiply(x, 2),
        f"{megabytes} MB: np.multiply(x, 2, out=y)": lambda: np.multiply(x, 2, out=out),
        f"{megabytes} MB: kernel(x), memory not recycled": afresh,
        f"{megabytes} MB: kernel(x)": lambda: kernel(x),
        f"{megabytes} MB: kernel(x, out=y)": lambda: kernel(x, out=out),
    }


def main() -> None:
    tables = [(small_paths(), 200, 100), (large_paths(1), 10, 40), (large_paths(64), 1, 10)]
    for paths, calls, rounds in tables:
        for name, taken in least(paths, calls, rounds).items():
            print(f"{name:44} {taken:10.2f} µs")
        print()


if __name__ == "__main__":
    main()
