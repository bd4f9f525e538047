"""One training step of a model, with a layer of ours and with the framework's own: PyTorch, JAX.

    python benchmarks/bench_step.py
    python benchmarks/bench_step.py --rows 512 --width 1024 --rounds 50

The model: linear, layer norm, GELU, linear, softmax cross entropy; forward, backward, and a step of gradient
descent. Ours has layer norm and GELU as one program. All start from the same numbers, and the losses after
the rounds are compared. Medians of rounds in which all take turns, in milliseconds; frameworks that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import loopgrad as lg

LAYER = """norm_gelu(x[B,J], param γ[J], param β[J], eps = 1e-5) batch B -> y[B,J]:
    for b, j:  μ[b]   += x[b,j] / J
    for b, j:  v[b]   += (x[b,j] - μ[b])**2 / J
    for b, j:  h[b,j]  = γ[j] * (x[b,j] - μ[b]) * rsqrt(v[b] + eps) + β[j]
    for b, j:  y[b,j]  = h[b,j] * (1 + erf(h[b,j] / sqrt(2))) / 2"""
INPUTS, CLASSES, RATE = 64, 10, 0.1
Step = Callable[[], float]  # one step; the loss before it


def numbers(rows: int, width: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))

    zeros = {"c": np.zeros(width, np.float32), "d": np.zeros(CLASSES, np.float32)}
    norm = {"γ": np.ones(width, np.float32), "β": np.zeros(width, np.float32)}
    weights = {"W": drawn(width, INPUTS), "V": drawn(CLASSES, width), **zeros, **norm}
    return {
        "x": rng.normal(size=(rows, INPUTS)).astype(np.float32),
        "labels": rng.integers(0, CLASSES, rows),
        "weights": weights,
    }


def in_torch(given: dict[str, Any], ours: bool) -> Step:
    import torch
    from torch.nn import functional

    x, labels = torch.tensor(given["x"]), torch.tensor(given["labels"])
    weights = {n: torch.tensor(w, requires_grad=True) for n, w in given["weights"].items()}
    layer = lg.torch.function(LAYER)

    def between(h: Any, γ: Any, β: Any) -> Any:
        return functional.gelu(functional.layer_norm(h, h.shape[-1:], γ, β))

    middle = layer if ours else between
    optimizer = torch.optim.SGD(weights.values(), lr=RATE)

    def step() -> float:
        w = weights
        h = middle(functional.linear(x, w["W"], w["c"]), w["γ"], w["β"])
        loss = functional.cross_entropy(functional.linear(h, w["V"], w["d"]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def in_jax(given: dict[str, Any], ours: bool) -> Step:
    import jax
    import jax.numpy as jnp

    x, labels = jnp.asarray(given["x"]), jnp.asarray(given["labels"])
    layer = lg.jax.function(LAYER)

    def between(h: Any, γ: Any, β: Any) -> Any:
        μ, v = h.mean(-1, keepdims=True), h.var(-1, keepdims=True)
        return jax.nn.gelu(γ * (h - μ) * jax.lax.rsqrt(v + 1e-5) + β, approximate=False)

    middle = layer if ours else between

    def loss_of(w: Any) -> Any:
        h = middle(x @ w["W"].T + w["c"], w["γ"], w["β"])
        scores = jax.nn.log_softmax(h @ w["V"].T + w["d"])
        return -jnp.take_along_axis(scores, labels[:, None], 1).mean()

    @jax.jit
    def stepped(w: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(w)
        return loss, jax.tree.map(lambda p, g: p - RATE * g, w, gradients)

    state = {"w": {n: jnp.asarray(w) for n, w in given["weights"].items()}}

    def step() -> float:
        loss, state["w"] = stepped(state["w"])
        return float(loss)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    given = numbers(options.rows, options.width)
    makers = {"torch": in_torch, "jax": in_jax}
    steps = {
        (name, ours): make(given, ours)
        for name, make in makers.items()
        if find_spec(name)
        for ours in (False, True)
    }
    times: dict[tuple[str, bool], list[float]] = {key: [] for key in steps}
    losses: dict[tuple[str, bool], float] = {}
    for turn in range(options.rounds + 3):
        for key, step in steps.items():
            start = time.perf_counter()
            losses[key] = step()
            if turn >= 3:
                times[key].append((time.perf_counter() - start) * 1e3)
    print(f"one step, rows {options.rows}, width {options.width}, float32, milliseconds")
    print(f"  {'':8} {'own':>8} {'ours':>8} {'own / ours':>11}   loss, own and ours")
    for name in dict.fromkeys(name for name, _ in steps):
        own, ours = (statistics.median(times[name, kind]) for kind in (False, True))
        shown = f"{losses[name, False]:.6f} {losses[name, True]:.6f}"
        print(f"  {name:8} {own:8.2f} {ours:8.2f} {own / ours:11.2f}   {shown}")


if __name__ == "__main__":
    main()
