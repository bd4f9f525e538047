"""Windows that are no products: how they run, and that they come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.shaping import windows
from loopgrad.schedule.default import optimized
from loopgrad.schedule.show import show

POOL = lg.program(
    "pool(x[B,X]) -> y[B,(X+1)//2]:\n"
    "    for b, n, p < 3:  y[b,n] max= x[b,2*n+p-1]   if 0 <= 2*n+p-1 < X\n"
)
DEPTHWISE = lg.program(
    "depthwise(x[C,X], k[C,3]) -> y[C,X]:\n"
    "    for c, n, p:  y[c,n] += k[c,p] * x[c,n+p-1]   if 0 <= n+p-1 < X\n"
)


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_the_winner_of_a_window_writes_at_its_place() -> None:
    assert "for n < (X+1)//2:  x.grad[b, 2*n+y.p[b,n]-1] += y.grad[b,n]   if y.p[b,n] < 3" in (
        scheduled(POOL.backward())
    )


def test_an_index_alone_in_its_axis_keeps_its_loop() -> None:
    program = lg.program("largest(x[B,J]) -> y[B]:\n    for b, j:  y[b] max= x[b,j]\n")
    assert "for j < J vector:  x.grad[b,j] = y.grad[b] if j == y.j[b] else 0.0" in (
        scheduled(program.backward())
    )


def test_what_windows_spread_is_a_sum_at_each_place() -> None:
    assert scheduled(DEPTHWISE.backward(wrt="x")) == (
        "for c < C parallel:  for x.grad.1 < X vector:  for p < 3:  x.grad[c,x.grad.1] += "
        "y.grad[c, x.grad.1-p+1] * k[c,p]   if x.grad.1 - p + 1 >= 0 and x.grad.1 - p - X + 1 < 0"
    )


def test_gradients_of_a_kernel_are_added_up_in_lanes_for_all_its_places() -> None:
    assert "for n < X vector:  for p < 3:  k.grad[c,p] += " in scheduled(DEPTHWISE.backward())


def test_the_gradient_of_a_convolution_is_one_over_its_seed_with_zeros_around() -> None:
    program = lg.program(
        "conv(x[B,C,X], k[O,C,3]) -> y[B,O,X]:\n"
        "    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X\n"
    )
    found = scheduled(program.backward(wrt="x"))
    assert "product:  x.grad[b,i,x.grad.2] = k.turned[i,o,p] * y.grad.padded[b, o, " in found
    assert "spread" not in found


def test_small_windows_have_code_of_their_own() -> None:
    assert windows(infer(lg.lib.depthwise_conv2d_padded)) == ("DX", "DY")
    assert windows(infer(lg.lib.conv1d)) == ("DX",)
    assert windows(infer(lg.lib.softmax)) == windows(infer(lg.lib.mlp)) == ()


LENGTHS = [0, 1, 2, 15, 16, 17, 33, 64, 65]


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Many ties, zeros of both signs, and what is not finite."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, shape).astype(float)
    values[rng.random(shape) < 0.05] = np.nan
    values[rng.random(shape) < 0.05] = -np.inf
    values[rng.random(shape) < 0.1] = -0.0
    return values


@pytest.fixture
def one_or_two_threads() -> Iterator[None]:
    before = lg.get_num_threads()
    yield
    lg.set_num_threads(before)


@pytest.mark.usefixtures("one_or_two_threads")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("program", [POOL, DEPTHWISE], ids=["pool", "depthwise"])
def test_at_all_lengths(program: lg.Program, dtype: Any) -> None:
    backward = program.backward()
    slow = [lg.compile(p, backend="interpret") for p in (program, backward)]
    for seed, length in enumerate(LENGTHS):
        for threads in (1, 2):
            lg.set_num_threads(threads)
            values = {"x": drawn((3, length), seed).astype(dtype)}
            if program is DEPTHWISE:
                values["k"] = np.random.default_rng(seed).normal(size=(3, 3)).astype(dtype)
            forward = [values[i.name] for i in program.inputs]
            values["y"] = slow[0](*forward)
            np.testing.assert_allclose(program(*forward), values["y"], rtol=1e-5, atol=1e-6)
            values["y.grad"] = np.random.default_rng(seed).normal(size=values["y"].shape)
            values["y.grad"] = values["y.grad"].astype(dtype)
            given = [values[i.name] for i in backward.inputs]
            mine, theirs = lg.compile(backward)(*given), slow[1](*given)
            for one, other in zip(*map(_several, (mine, theirs)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def _several(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)
