"""What EDF costs: microseconds a component beside its kernels; a recurrent network as a chain of cells
and as one program over time.

    python benchmarks/bench_edf.py

The least of many short measurements, each contender in turn. Target: few microseconds a component, for
the forward and the backward together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad import edf
from loopgrad.functions.reverse import reverse_of

Paths = dict[str, Callable[[], Any]]
ERROR = "error(h[T,B,J]) -> L[B]:\n    for t, b, j:  L[b] += h[t,b,j]**2"
SQUARES = "squares(h[B,J]) -> L[B]:\n    for b, j:  L[b] += h[b,j]**2"


def least(paths: Paths, seconds: float) -> dict[str, float]:
    """Seconds a call, after some that do not count."""
    found = dict.fromkeys(paths, float("inf"))
    for function in paths.values():
        for _ in range(4):
            function()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, function in paths.items():
            start = time.perf_counter()
            function()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def both(model: edf.Model) -> Callable[[], None]:
    def passes() -> None:
        model.forward()
        model.backward()

    return passes


def kernels(model: edf.Model) -> Callable[[], None]:
    """The same compiled code on the same arrays, with nothing of EDF around it."""
    model.forward()
    model.backward()
    calls = []
    for step in model.steps:
        values = [x.value for x in step.inputs]
        reverse = reverse_of(step.component.program, values, {}, batch=False, keeps=False)
        found = reverse.forward.execute(values, {})
        seeds = [y.grad for y in step.results]
        given = reverse._ordered([*reverse.shared(found), *seeds])
        calls.append((reverse.forward, values, reverse.backward, given))

    def run() -> None:
        for forward, values, backward, given in calls:
            forward(*values)
            backward(*given)

    return run


def small(layers: int) -> edf.Model:
    """affine and relu, several times, and a loss: 2 * layers + 1 components, each of next to no work."""
    random = np.random.default_rng(0)
    Affine, Relu = edf.component(lg.lib.affine), edf.component(lg.lib.relu_layer)
    x = edf.Input("x", random.normal(size=(4, 8)))
    for _ in range(layers):
        x = Relu(Affine(edf.initial(lg.lib.affine, random, I=8, J=8), x))
    return edf.Model(edf.component(SQUARES)(x))


def recurrent(T: int, B: int, J: int, K: int) -> tuple[edf.Model, edf.Model]:
    """The UGRNN as a chain of cells, and as one program, with the same parameters and inputs."""
    random = np.random.default_rng(0)
    Phi = edf.initial(lg.lib.ugrnn_cell, random, J=J, K=K, dtype=np.float32)
    x = random.normal(size=(T, B, K)).astype(np.float32)
    ZERO = edf.Input("zero", np.zeros((B, J), np.float32))
    Squares = edf.component(SQUARES)
    H = edf.RNN(lg.lib.ugrnn_cell, Phi, [edf.Input(f"x{t}", x[t]) for t in range(T)], ZERO)
    chain = edf.Model(edf.Sum(*map(Squares, H)))
    whole = edf.component(lg.lib.ugrnn)(Phi, edf.Input("x", x), ZERO)
    return chain, edf.Model(edf.component(ERROR)(whole))


def main() -> None:
    model = small(10)
    count = len(model.steps)
    found = least({"EDF": both(model), "kernels": kernels(model)}, 2.0)
    print(f"forward and backward of {count} components of 4 x 8 numbers, microseconds a component")
    for name, seconds in found.items():
        print(f"    {name:8} {seconds / count * 1e6:6.2f}")
    rest = (found["EDF"] - found["kernels"]) / count * 1e6
    print(f"    what EDF adds: {rest:.2f}")
    print(
        "\nUGRNN, forward and backward, milliseconds: a chain of cells, one program over time, their ratio"
    )
    for T, B, J, K in ((32, 16, 32, 16), (128, 16, 64, 32), (64, 32, 128, 64)):
        chain, whole = recurrent(T, B, J, K)
        times = least({"chain": both(chain), "whole": both(whole)}, 3.0)
        a, b = (times[name] * 1e3 for name in ("chain", "whole"))
        print(f"    T = {T:3}, B = {B:3}, J = {J:3}, K = {K:3}   {a:8.2f} {b:8.2f} {a / b:6.1f}")


if __name__ == "__main__":
    main()
