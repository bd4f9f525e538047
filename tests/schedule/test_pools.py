"""Windows that are no products: how they run, and that they come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.calling.shaping import windows
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

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


def test_the_winner_of_a_window_of_few_places_is_looked_for_at_each_place() -> None:
    assert scheduled(POOL.backward()).splitlines()[1:] == [
        "    for n < (X+1)//2 vector:  for p < 3:  y.winner[b,n] min= p   if "
        "0 <= 2 * n + p - 1 and 2 * n + p - 1 < X and x[b, 2*n+p-1] == y[b,n]",
        "    for x.grad.1 < (X+1)//2 vector:",
        "        x.grad[b, 2*x.grad.1] = y.grad[b,x.grad.1] if 1 == y.winner[b,x.grad.1] else 0.0",
        "        x.grad[b, 2*x.grad.1+1] = "
        "(y.grad[b,x.grad.1+1] if x.grad.1 - (X + 1) // 2 + 1 < 0 and 0 == y.winner[b,x.grad.1+1]"
        " else 0.0) + (y.grad[b,x.grad.1] if 2 == y.winner[b,x.grad.1] else 0.0)"
        "   if 2 * x.grad.1 - X + 1 < 0",
        "  # y.winner[(X + 1) // 2] in a row of each thread",
    ]


def test_the_winner_of_a_wider_window_writes_at_its_place() -> None:
    wide = lg.program(
        "pool(x[B,X]) -> y[B,(X+1)//2]:\n"
        "    for b, n, p < 33:  y[b,n] max= x[b,2*n+p-1]   if 0 <= 2*n+p-1 < X\n"
    )
    assert "for n < (X+1)//2:  x.grad[b, 2*n+y.p[b,n]-1] += y.grad[b,n]   if y.p[b,n] < 33" in (
        scheduled(wide.backward())
    )


ADAPTIVE = lg.program(
    "adaptive(x[B,X], size N) -> y[B,N]:\n"
    "    for b, n, n*X//N <= i < ((n+1)*X + N-1) // N:  y[b,n] max= x[b,i]\n"
)


def test_the_winner_of_one_of_many_ranges_writes_at_its_place() -> None:
    assert "x.grad[b, y.i[b,n]] += y.grad[b,n]   if y.i[b,n] < X" in scheduled(ADAPTIVE.backward())


@pytest.mark.parametrize("size", [1, 3, 7, 20, 40])
def test_gradients_of_ranges(size: int) -> None:
    """Ranges of one element, and that meet in one; ties, and rows without a winner."""
    x = drawn((5, 40), size)
    y = lg.compile(ADAPTIVE, backend="interpret")(x, N=size)
    np.testing.assert_array_equal(ADAPTIVE(x, N=size), y)
    g = np.random.default_rng(size).normal(size=y.shape)
    backward = ADAPTIVE.backward()
    expected = lg.compile(backward, backend="interpret")(x, y, g)
    np.testing.assert_allclose(lg.compile(backward)(x, y, g), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "statements",
    [
        # Another search, other values, and elements that are written once.
        "w[n] min= i   if x[i] > 2*y[n]\n    for n, 1 <= i < X:  z[i] += y[n]   if i == w[n]",
        "w[n] max= i   if x[i] > y[n]\n    for n, i:  z[i] += y[n]   if i == w[n]",
        "w[n] min= i   if x[i] > y[n]\n    for n, i:  z[i] += y[n] * x[i]   if i == w[n]",
    ],
)
def test_other_winners_of_rows(statements: str) -> None:
    program = lg.program(
        f"rows(x[X], y[N]) -> z[X]:\n    local int w[N]\n    for n, i:  {statements}\n"
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=33), rng.normal(size=7)
    y[2] = 9  # nothing is greater
    expected = lg.compile(program, backend="interpret")(x, y)
    np.testing.assert_allclose(program(x, y), expected, rtol=1e-12)


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


STEPS = lg.program(
    "steps(x[C,X], k[C,3]) -> y[C,2*X+1]:\n    for c, n, p:  y[c,2*n+p] += k[c,p] * x[c,n]\n"
)


def test_what_windows_spread_in_steps_is_a_sum_at_each_place_of_a_step() -> None:
    assert scheduled(STEPS).splitlines()[1:] == [
        "    for y.1 <= X vector:",
        "        y[c, 2*y.1] = "
        "(k[c,0] * x[c,y.1] if y.1 - X < 0 else 0.0) + (k[c,2] * x[c,y.1-1] if y.1 - 1 >= 0 else 0.0)",
        "        y[c, 2*y.1+1] = k[c,1] * x[c,y.1]   if y.1 - X < 0",
    ]


def test_places_that_no_window_reaches_are_stored_too() -> None:
    gaps = lg.program("gaps(x[X]) -> y[3*X+1]:\n    for n, p < 2:  y[3*n+p] += x[n]\n")
    x = np.random.default_rng(0).normal(size=20)
    assert np.array_equal(gaps(x), np.append(np.stack([x, x, 0 * x], axis=1), 0))
    some = lg.program(
        "some(x[B,X]) -> y[B+1,2*X]:\n    for b < B, n, p < 2:  y[b,2*n+p] += x[b,n]\n"
    )
    y = some(np.ones((2, 20)))
    assert np.array_equal(y, np.append(np.ones((2, 40)), np.zeros((1, 40)), axis=0))


@pytest.mark.parametrize(
    "statement",
    [
        "for c < 5, n, p < 3:  y[2*n+p] += x[c] * z[n]",  # a sum beside
        "for p < 3, n:  y[2*n+p] += x[p] * z[n]   if n < p + 7",
        "for p < 3, n < X - p:  y[2*n+p] += x[p] * z[n]",  # bounds that hang on the window
        "for p < 2, c <= p, n:  y[2*n+p] += x[c] * z[n]",
        "for p < 2, n:  y[4*n+2*p+1] += x[p] * z[n]",  # not all places
    ],
)
def test_windows_that_do_more(statement: str) -> None:
    x, z = np.random.default_rng(1).normal(size=5), np.random.default_rng(2).normal(size=37)
    program = lg.program(f"more(x[5], z[X]) -> y[4*X+3]:\n    {statement}\n")
    expected = lg.compile(program, backend="interpret")(x, z)
    np.testing.assert_allclose(program(x, z), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("place", ["p", "(p-2)%2", "1-p"])
def test_a_window_that_is_in_another_axis_too(place: str) -> None:
    program = lg.program(f"own(z[X]) -> y[2,2*X+1]:\n    for p < 2, n:  y[{place},2*n+p] += z[n]\n")
    z = np.random.default_rng(2).normal(size=37)
    assert np.array_equal(program(z), lg.compile(program, backend="interpret")(z))


def test_gradients_of_a_kernel_are_added_up_in_lanes_for_all_its_places() -> None:
    assert "for n < X vector:  for p < 3:  k.grad[c,p] += " in scheduled(DEPTHWISE.backward())


def test_the_gradient_of_a_convolution_is_one_over_its_seed_with_zeros_around() -> None:
    program = lg.program(
        "conv(x[B,C,X], k[O,C,3]) -> y[B,O,X]:\n"
        "    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X\n"
    )
    found = scheduled(program.backward(wrt="x"))
    assert (
        "product, zeros left out:  x.grad[b,i,x.grad.2] = k.turned[i,o,p] * y.grad.padded[b, o, "
        in found
    )
    assert "spread" not in found


def test_a_single_channel_is_padded_too() -> None:
    """Not unfolded: what is read of the axis is all of it."""
    program = lg.program(
        "conv(x[B,1,X], k[O,9]) -> y[B,O,X]:\n"
        "    for b, o, n, p:  y[b,o,n] += k[o,p] * x[b,0,n+p-4]   if 0 <= n+p-4 < X\n"
    )
    assert "product, zeros left out:  y[b,o,n] = k[o,p] * x.padded[b, 0, n+p]" in scheduled(program)
    rng = np.random.default_rng(3)
    x, k = rng.normal(size=(2, 1, 19)), rng.normal(size=(7, 9))
    np.testing.assert_allclose(program(x, k), literally(program)(x, k), atol=1e-12)


@pytest.mark.parametrize(("last", "is_one"), [(1, True), (2, False)])
def test_last_axes_of_one_element_leave_a_product_one(last: int, is_one: bool) -> None:
    """As of the gradient of a kernel with a window of one; elements of others do not lie side by side."""
    program = lg.program(
        f"gradient(x[B,C,X], g[B,O,X]) -> w[O,C,{last}]:\n"
        "    for b, o, i, n:  w[o,i,0] += g[b,o,n] * x[b,i,n]\n"
    )
    assert ("product" in scheduled(program)) is is_one
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(3, 5, 19)), rng.normal(size=(3, 9, 19))
    np.testing.assert_allclose(program(x, g), literally(program)(x, g), atol=1e-12)


def test_windows_of_one_in_steps_are_right() -> None:
    rng = np.random.default_rng(5)
    x, k, c = rng.normal(size=(2, 7, 9, 12)), rng.normal(size=(18, 7, 1, 1)), rng.normal(size=18)
    found = lg.lib.conv2d(x, k, c, stride=2)
    wanted = np.einsum("oi,bimn->bomn", k[:, :, 0, 0], x[:, :, ::2, ::2]) + c[:, None, None]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


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
@pytest.mark.parametrize("program", [POOL, DEPTHWISE, STEPS], ids=["pool", "depthwise", "steps"])
def test_at_all_lengths(program: lg.Program, dtype: Any) -> None:
    backward = program.backward()
    slow = [lg.compile(p, backend="interpret") for p in (program, backward)]
    for seed, length in enumerate(LENGTHS):
        for threads in (1, 2):
            lg.set_num_threads(threads)
            values = {"x": drawn((3, length), seed).astype(dtype)}
            if program is not POOL:
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
