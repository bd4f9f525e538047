"""Programs in JAX beside JAX's own operations: what a small call costs, and steps of training.

    python benchmarks/bench_jax.py

A call is jitted and on (4, 10), in microseconds: the least of many short measurements, each contender in
turn. A step is a jitted update of all parameters by the gradient of a loss, in milliseconds, the median: one
layer of the model is a program or is written with jax.numpy, all else is the same. Target: 2 µs a call
beside JAX's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import loopgrad as lg

RNG = np.random.default_rng(0)
Steps = dict[str, Callable[[], Any]]


def normal(*shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


def measured(contenders: Steps, calls: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a call."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        for _ in range(3):
            jax.block_until_ready(run())
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(run())
            found[name].append((time.perf_counter() - start) / calls)
    return found


# -------------------------------------------------------------------------------------------- calls


def calls() -> Steps:
    x, w = normal(4, 10), normal(4, 10)
    found: Steps = {}
    for name, f in {
        "loopgrad": lg.jax.function(lg.lib.softmax),
        "jax": jax.nn.softmax,
    }.items():
        forward = jax.jit(f)
        gradient = jax.jit(jax.grad(lambda x, f=f: (f(x) * w).sum()))
        found[f"softmax, {name}"] = lambda forward=forward: forward(x)
        found[f"its gradient, {name}"] = lambda gradient=gradient: gradient(x)
    return found


# -------------------------------------------------------------------------------------------- steps


def layer_norm(x: Any, γ: Any, β: Any) -> Any:
    mean = x.mean(1, keepdims=True)
    variance = ((x - mean) ** 2).mean(1, keepdims=True)
    return γ * (x - mean) * jax.lax.rsqrt(variance + 1e-5) + β


def attention(q: Any, k: Any, v: Any) -> Any:
    s = jnp.einsum("bhtd,bhud->bhtu", q, k) / np.sqrt(q.shape[-1])
    T, U = s.shape[-2:]
    s = jnp.where(jnp.arange(T)[:, None] >= jnp.arange(U), s, -jnp.inf)
    return jnp.einsum("bhtu,bhue->bhte", jax.nn.softmax(s), v)


def ugrnn(x: Any, h0: Any, WhR: Any, WxR: Any, BR: Any, WhG: Any, WxG: Any, BG: Any) -> Any:
    def step(h: Any, x: Any) -> tuple[Any, Any]:
        R = jnp.tanh(h @ WhR.T + x @ WxR.T - BR)
        G = jax.nn.sigmoid(h @ WhG.T + x @ WxG.T - BG)
        h = G * h + (1 - G) * R
        return h, h

    return jax.lax.scan(step, h0, x)[1]


def classifier(norm: Any) -> Callable[[], Any]:
    """Two linear layers with a normalisation between them, 512 examples."""
    x, labels = normal(512, 256), jnp.asarray(RNG.integers(0, 10, 512))
    parameters = (normal(256, 256, scale=0.06), jnp.ones(256), jnp.zeros(256), normal(256, 10))

    def loss(parameters: Any) -> Any:
        W, γ, β, V = parameters
        scores = jax.nn.relu(norm(x @ W, γ, β)) @ V
        return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], 1).mean()

    return updating(loss, parameters)


def transformer(attend: Any) -> Callable[[], Any]:
    """Causal attention of 4 heads over 256 times, between its projections."""
    B, T, H, D = 2, 256, 4, 32
    x, y = normal(B, T, H * D), normal(B, T, H * D)
    parameters = tuple(normal(H * D, H * D, scale=0.09) for _ in range(4))

    def loss(parameters: Any) -> Any:
        heads = lambda W: (x @ W).reshape(B, T, H, D).swapaxes(1, 2)
        q, k, v = map(heads, parameters[:3])
        mixed = attend(q, k, v).swapaxes(1, 2).reshape(B, T, H * D)
        return ((mixed @ parameters[3] - y) ** 2).mean()

    return updating(loss, parameters)


def recurrent(over_time: Any) -> Callable[[], Any]:
    """An update gate network over 64 times, 32 examples, 64 units, and a linear readout."""
    T, B, J, K = 64, 32, 64, 32
    x, h0, y = normal(T, B, K), normal(B, J), normal(T, B, 8)
    cell = [normal(*s, scale=0.1) for s in ((J, J), (J, K), (J,), (J, J), (J, K), (J,))]
    parameters = (*cell, normal(J, 8))

    def loss(parameters: Any) -> Any:
        return ((over_time(x, h0, *parameters[:-1]) @ parameters[-1] - y) ** 2).mean()

    return updating(loss, parameters)


def updating(loss: Any, parameters: Any) -> Callable[[], Any]:
    """A step from the same parameters each time."""
    gradient = jax.grad(loss)

    @jax.jit
    def step(parameters: Any) -> Any:
        return jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradient(parameters))

    return lambda: step(parameters)


MODELS = {
    "classifier, layer norm": (classifier, lg.lib.layer_norm, layer_norm),
    "transformer, causal attention": (transformer, lg.lib.causal_attention, attention),
    "recurrent, ugrnn": (recurrent, lg.lib.ugrnn, ugrnn),
}


def main() -> None:
    for name, seconds in measured(calls(), calls=200, rounds=40).items():
        print(f"{name:24}{min(seconds) * 1e6:8.2f} µs")
    print(f"\n{'a step of training':32}{'loopgrad':>10}{'jax':>10}{'ratio':>8}")
    for name, (model, program, own) in MODELS.items():
        steps = {"ours": model(lg.jax.function(program)), "theirs": model(own)}
        found = measured(steps, calls=1, rounds=40)
        ours, theirs = median(found["ours"]) * 1e3, median(found["theirs"]) * 1e3
        print(f"{name:32}{ours:7.2f} ms{theirs:7.2f} ms{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
