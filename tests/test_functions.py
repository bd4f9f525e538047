"""`vjp`, `jvp`, `value_and_grad`: derivatives as functions of arrays."""

from __future__ import annotations

import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import loopgrad as lg
from loopgrad.functions.reverse import reverse_of

RNG = np.random.default_rng(20)

SOFTMAX = lg.program("""softmax(s[B,J]) -> p[B,J], Z[B]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]""")

AFFINE = lg.program("""affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:
    for b, j, i:  y[b,j] += W[j,i] * x[b,i]
    for b, j:     y[b,j] -= c[j]""")

EMBED = lg.program("""embed(int w[N], E[V,K], bool m[N], scale = 1.0) -> y[N,K]:
    for n, k:  y[n,k] = scale * E[w[n],k]   if m[n]""")

SQUARES = lg.program("""squares(x[N], y[N]) -> L:
    for n:  L += (x[n] - y[n])**2""")


def differences(function: Any, x: np.ndarray, direction: np.ndarray, step: float = 1e-6) -> Any:
    return (np.asarray(function(x + step * direction)) - function(x - step * direction)) / (
        2 * step
    )


# --------------------------------------------------------------------------------------------- vjp


def test_results_and_gradients_of_several_results() -> None:
    s, dp, dZ = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3)), RNG.normal(size=2)
    (p, Z), pullback = lg.vjp(SOFTMAX, s)
    assert_allclose(Z, np.exp(s).sum(1))
    assert_allclose(p.sum(1), 1)
    (ds,) = pullback(dp, dZ)
    assert_allclose(ds, p * (dp - (p * dp).sum(1, keepdims=True)) + dZ[:, None] * np.exp(s))


def test_the_pullback_may_be_called_again_and_keeps_what_it_needs() -> None:
    s, dp = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    (p, Z), pullback = lg.vjp(SOFTMAX, s)
    (first,) = pullback(dp, np.zeros(2))
    p[:], Z[:], s[:] = 0, 0, 0  # the caller's own arrays
    (second,) = pullback(dp, np.zeros(2))
    assert_array_equal(first, second)
    (twice,) = pullback(2 * dp, np.zeros(2))
    assert_allclose(twice, 2 * first)


def test_parameters_are_averaged_over_the_batch_and_summed_without() -> None:
    x, W, c = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 3)), RNG.normal(size=2)
    dy = RNG.normal(size=(4, 2))
    y, averaging = lg.vjp(AFFINE, x, W, c)
    assert_allclose(y, x @ W.T - c)
    dx, dW, dc = averaging(dy)
    assert_allclose(dx, dy @ W)
    assert_allclose(dW, dy.T @ x / 4)
    assert_allclose(dc, -dy.mean(0))
    _, summing = lg.vjp(AFFINE, x, c=c, W=W, batch=False)
    dx, dW, dc = summing(dy)
    assert_allclose(dx, dy @ W)
    assert_allclose(dW, dy.T @ x)
    assert_allclose(dc, -dy.sum(0))


def test_inputs_that_are_not_differentiable_give_none_and_sizes_are_filled_in() -> None:
    E, w = RNG.normal(size=(5, 2)), [3, 0, 3]
    seed = RNG.normal(size=(3, 2))
    y, pullback = lg.vjp(EMBED, w, E, [True, False, True], scale=2.0)
    assert_allclose(y, 2 * E[w] * [[1], [0], [1]])
    dw, dE, dm = pullback(seed)
    assert dw is None
    assert dm is None
    expected = np.zeros((5, 2))
    expected[3] = 2 * (seed[0] + seed[2])
    assert_allclose(dE, expected)


def test_zeros_where_nothing_depends_on_an_input() -> None:
    text = "f(x[N], y[M]) -> a, c:\n    for n:  a += x[n]\n    for m:  c += y[m] > 0"
    (a, c), pullback = lg.vjp(text, [1.0, 2.0], [3.0, -1.0, 5.0])
    assert (a, c) == (3, 2)
    dx, dy = pullback(10, None)
    assert_array_equal(dx, [10, 10])
    assert_array_equal(dy, np.zeros(3))


def test_a_scalars_seed_is_a_number_and_seeds_take_their_results_type() -> None:
    x, y = RNG.normal(size=3).astype(np.float32), np.zeros(3, np.float32)
    L, pullback = lg.vjp(SQUARES, x, y)
    assert L.shape == ()
    for seed in (3, 3.0, np.float64(3), np.array(3, np.int8), True + 2):
        dx, dy = pullback(seed)
        assert dx.dtype == dy.dtype == np.float32
        assert_allclose(dx, 6 * x, rtol=1e-6)
        assert_allclose(dy, -6 * x, rtol=1e-6)


def test_a_program_of_integers_has_nothing_to_pull_back() -> None:
    count, pullback = lg.vjp("f(int w[N]) -> c:\n    for n:  c += w[n]", [1, 2])
    assert count == 3
    assert pullback(None) == (None,)


@pytest.mark.parametrize(
    ("seeds", "error", "words"),
    [
        ((), TypeError, ["one seed for each result", "`p` and `Z`", "got 0"]),
        ((np.ones((2, 3)),), TypeError, ["got 1"]),
        ((np.ones((3, 2)), np.ones(2)), ValueError, ["seed of `p`", "(2, 3)", "(3, 2)"]),
        ((1.0, np.ones(2)), ValueError, ["seed of `p`", "(2, 3)", "()"]),
        ((np.ones((2, 3)), None), TypeError, ["seed of `Z`", "None"]),
        ((np.ones((2, 3)), [1j, 2]), TypeError, ["seed of `Z`", "real", "complex128"]),
    ],
)
def test_seeds_that_do_not_fit(seeds: Any, error: type[Exception], words: list[str]) -> None:
    _, pullback = lg.vjp(SOFTMAX, np.zeros((2, 3)))
    with pytest.raises(error) as caught:
        pullback(*seeds)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1), (0, 0)])
def test_extents_of_zero_and_one(shape: tuple[int, int]) -> None:
    s = RNG.normal(size=shape)
    _, pullback = lg.vjp(SOFTMAX, s)
    (ds,) = pullback(RNG.normal(size=shape), np.zeros(shape[0]))
    assert ds.shape == shape
    assert_allclose(ds, np.zeros(shape), atol=1e-12)  # a softmax of one is constant


@pytest.mark.parametrize("size", [3, 2, 1, 0])
def test_temporaries_of_which_nothing_is_written(size: int) -> None:
    text = """roughness(x[T]) -> L:
    for t < T-1:  d[t] = x[t+1] - x[t]
    for t < T-1:  L += d[t]**2"""
    x = RNG.normal(size=size)
    L, pullback = lg.vjp(text, x)
    assert_allclose(L, (np.diff(x) ** 2).sum())
    expected = -2 * np.diff(np.diff(x), prepend=0, append=0) if size else x
    assert_allclose(pullback(1)[0], expected, atol=1e-12)


def test_a_backward_has_a_vjp_too() -> None:
    back = lg.program("f(x[N]) -> y[N]:\n    y[n] = x[n]**3").backward(recompute=True)
    x, seed, v = RNG.normal(size=3), RNG.normal(size=3), RNG.normal(size=3)
    dx, pullback = lg.vjp(back, x, seed)
    assert_allclose(dx, 3 * x**2 * seed)
    second, of_seed = pullback(v)
    assert_allclose(second, 6 * x * seed * v)
    assert_allclose(of_seed, 3 * x**2 * v)


def test_gradients_whose_names_were_taken() -> None:
    back = lg.program("f(x[N]) -> y[N]:\n    y[n] = exp(x[n])").backward()
    assert [r.name for r in back.backward().results] == ["x.grad2", "y.grad.grad"]
    x, seed, v = RNG.normal(size=3), RNG.normal(size=3), RNG.normal(size=3)
    dx, pullback = lg.vjp(back, x, seed)
    assert_allclose(dx, np.exp(x) * seed)
    second, of_seed = pullback(v)
    assert_allclose(second, np.exp(x) * seed * v)
    assert_allclose(of_seed, np.exp(x) * v)


# ----------------------------------------------------------------------------------- value_and_grad


def test_the_gradients_asked_for() -> None:
    x, y = RNG.normal(size=3), RNG.normal(size=3)
    value, (dx, dy) = lg.value_and_grad(SQUARES)(x, y)
    assert value.shape == ()
    assert_allclose(value, ((x - y) ** 2).sum())
    assert_allclose(dx, 2 * (x - y))
    assert_allclose(dy, -dx)
    assert_allclose(lg.value_and_grad(SQUARES, wrt="y")(x, y=y)[1], dy)
    (only,) = lg.value_and_grad(SQUARES, wrt=["y"])(x, y)[1]
    assert_allclose(only, dy)
    swapped = lg.value_and_grad(SQUARES, wrt=("y", "x"))(x, y)[1]
    assert_allclose(swapped[0], dy)
    assert_allclose(swapped[1], dx)


def test_one_differentiable_input_gives_an_array() -> None:
    text = "f(x[N], int w[N]) -> L:\n    for n:  L += w[n] * x[n]"
    value, dx = lg.value_and_grad(text)([1.0, 2.0], [3, 4])
    assert value == 11
    assert_array_equal(dx, [3, 4])


def test_under_batch_a_loss_for_each_example_gets_ones() -> None:
    text = """loss(x[B,I], param w[I]) batch B -> L[B]:
    for b, i:  L[b] += (w[i] * x[b,i])**2"""
    x, w = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    value, (dx, dw) = lg.value_and_grad(text)(x, w)
    assert_allclose(value, ((w * x) ** 2).sum(1))
    assert_allclose(dw, (2 * w * x**2).mean(0))
    assert_allclose(dx, 2 * w**2 * x)


CARRIED = """run(x[T,B], h0[B], param w) batch B -> L[B], h[T,B], n[B]:
    for t:
        for b:  h[t,b] = tanh(w * (h[t-1,b] if t > 0 else h0[b]) + x[t,b])
    for b, t:   L[b] += exp(h[t,b]) / T
    for b:      n[b] += L[b] * h[T-1,b]"""


def test_what_comes_with_a_loss_neither_counts_nor_is_lost() -> None:
    program = lg.program(CARRIED)
    x, h0, w = RNG.normal(size=(4, 3)), RNG.normal(size=3), 0.7
    loss = program.returning("L")
    value, gradients = lg.value_and_grad(loss)(x, h0, w)
    (found, (h, n)), more = lg.value_and_grad(program, has_aux=True)(x, h0, w)
    assert_allclose(found, value)
    assert_allclose(np.stack(program(x, h0, w)[1]), h)
    assert_allclose(n, value * h[-1])
    for one, other in zip(gradients, more, strict=True):
        assert_allclose(one, other)

    (_, h), dw = lg.value_and_grad(program.returning("L", "h"), wrt="w", has_aux=True)(x, h0, w)
    assert_allclose(dw, gradients[2])
    assert h.shape == (4, 3)


def test_what_comes_with_a_loss_where_a_gradient_is_always_zero() -> None:
    program = lg.program("""f(x[N], y[N], int k) -> L, z[N], w[N], j:
    for n:  L    += x[n]**2
    for n:  z[n] += x[n] * y[n]
    for n:  w[n] += y[n]
    j += k""")
    x, y = RNG.normal(size=4), RNG.normal(size=4)
    (value, aux), (dx, dy) = lg.value_and_grad(program, has_aux=True)(x, y, 3)
    assert_allclose(value, (x**2).sum())
    assert_allclose(aux[0], x * y)
    assert_allclose(aux[1], y)
    assert aux[2] == 3
    assert_allclose(dx, 2 * x)
    assert_allclose(dy, np.zeros(4))
    (_, _), dy = lg.value_and_grad(program, wrt="y", has_aux=True)(x, y, 3)
    assert_allclose(dy, np.zeros(4))


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"and `Z\[B\]` \(has_aux=True takes several\)"):
        lg.value_and_grad(SOFTMAX)
    with pytest.raises(ValueError, match=r"a first result, a scalar, and others; softmax returns"):
        lg.value_and_grad(SOFTMAX, has_aux=True)
    with pytest.raises(ValueError, match="a first result, a scalar, and others"):
        lg.value_and_grad(SQUARES, has_aux=True)
    with pytest.raises(ValueError, match=r"one result, a scalar; softmax returns `p\[B,J\]` and"):
        lg.value_and_grad(SOFTMAX)
    with pytest.raises(ValueError, match=r"a scalar or of shape \[B\]"):
        lg.value_and_grad(AFFINE)
    with pytest.raises(ValueError, match="no differentiable input `z`"):
        lg.value_and_grad(SQUARES, wrt="z")
    with pytest.raises(ValueError, match="no differentiable input"):
        lg.value_and_grad("f(int w[N]) -> c:\n    for n:  c += w[n]")
    with pytest.raises(ValueError, match="`wrt` names no input of squares; there are `x` and `y`"):
        lg.value_and_grad(SQUARES, wrt=[])
    mixed = "f(x[N], size K) -> y[K], L:\n    for n, k < K:  y[k] += x[n]\n    for n:  L += x[n]"
    with pytest.raises(ValueError, match=r"f returns `y\[K\]` and `L`$"):
        lg.value_and_grad(mixed, has_aux=True)
    for wrong in (0, [0]):
        with pytest.raises(TypeError, match="`wrt` has to"):
            lg.value_and_grad(SQUARES, wrt=wrong)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- jvp


def test_tangents_are_directional_derivatives() -> None:
    s, direction = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    (p, Z), (dp, dZ) = lg.jvp(SOFTMAX, (s,), (direction,))
    assert_allclose(p, SOFTMAX(s)[0])
    assert_allclose(dZ, (np.exp(s) * direction).sum(1))
    assert_allclose(dp, differences(lambda x: SOFTMAX(x)[0], s, direction), rtol=1e-6, atol=1e-9)
    assert_allclose(Z, np.exp(s).sum(1))


def test_a_tangent_that_is_none_is_no_change() -> None:
    x, W, c, dW = (RNG.normal(size=shape) for shape in ((4, 3), (2, 3), (2,), (2, 3)))
    y, dy = lg.jvp(AFFINE, (x, W, c), (None, dW, None))
    assert_allclose(y, x @ W.T - c)
    assert_allclose(dy, x @ dW.T)
    assert_array_equal(lg.jvp(AFFINE, (x, W, c), (None, None, None))[1], np.zeros((4, 2)))


def test_tangents_of_integers_and_of_what_does_not_depend() -> None:
    text = "f(x[N], y[N]) -> a, c:\n    for n:  a += x[n]\n    for n:  c += y[n] > 0"
    (a, c), (da, dc) = lg.jvp(text, ([1.0, 2.0], [3.0, 4.0]), (None, [1.0, 1.0]))
    assert (a, c) == (3, 2)
    assert da == 0
    assert dc is None


def test_forward_and_reverse_are_adjoint() -> None:
    E, w, m = RNG.normal(size=(5, 2)), [3, 0, 3], [True, True, False]
    direction, seed = RNG.normal(size=(5, 2)), RNG.normal(size=(3, 2))
    _, moved = lg.jvp(EMBED, (w, E, m), (None, direction, None), scale=0.5)
    _, pullback = lg.vjp(EMBED, w, E, m, scale=0.5)
    assert_allclose((moved * seed).sum(), (direction * pullback(seed)[1]).sum())


@pytest.mark.parametrize(
    ("primals", "tangents", "error", "words"),
    [
        (([1.0],), ([1.0], [1.0]), TypeError, ["`primals`", "`x` and `y`", "got 1"]),
        (([1.0], [2.0]), ([1.0],), TypeError, ["`tangents`", "got 1"]),
        (([1.0], [2.0]), ([1.0], [1.0, 2.0]), ValueError, ["tangent of `y`", "(1,)", "(2,)"]),
        (np.ones((2, 3)), ([1.0], [1.0]), TypeError, ["`primals`", "tuple or a list"]),
    ],
)
def test_primals_and_tangents_that_do_not_fit(
    primals: Any, tangents: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        lg.jvp(SQUARES, primals, tangents)
    for word in words:
        assert word in str(caught.value)


def test_integer_inputs_have_no_tangent() -> None:
    with pytest.raises(TypeError, match="`w` is an `int` input, which has no tangent"):
        lg.jvp(EMBED, ([0], np.ones((1, 1)), [True]), ([0], None, None))


# ---------------------------------------------------------------------------- threads and pickling


def test_eight_threads_share_one_program() -> None:
    inputs = [RNG.normal(size=(40, n + 1)) for n in range(8)]
    seeds = [RNG.normal(size=x.shape) for x in inputs]
    fresh = lg.program(str(SOFTMAX).replace("softmax", "shared"))

    def work(n: int) -> bool:
        x, seed = inputs[n], seeds[n]
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        expected = p * (seed - (p * seed).sum(1, keepdims=True))
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-4)) * 10:
            (got, _), pullback = lg.vjp(fresh, x.astype(dtype))
            (ds,) = pullback(seed, np.zeros(40))
            assert_allclose(got, p, atol=tolerance)
            assert_allclose(ds, expected, atol=tolerance)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_programs_are_pickled_with_what_they_mean_and_nothing_else() -> None:
    SOFTMAX(np.zeros((1, 2)))  # has a kernel now
    copy = pickle.loads(pickle.dumps(SOFTMAX))
    assert copy == SOFTMAX
    assert hash(copy) == hash(SOFTMAX)
    x = RNG.normal(size=(2, 3))
    assert_allclose(copy(x)[0], SOFTMAX(x)[0])
    back = pickle.loads(pickle.dumps(SOFTMAX.backward()))
    assert back == SOFTMAX.backward()


COUNTED = lg.program("""counted(x[N], y[N], int w[N]) -> L:
    for n:  L += x[n] * y[n]**2 * w[n]""")
HELD = lg.program("""held(x[N], y[N], int w[N]) -> L:
    for n:  L += x[n] * stop_gradient(y[n]) * w[n]""")


@pytest.mark.parametrize(
    "function",
    [
        lg.compile(COUNTED),
        lg.compile(COUNTED, optimize=False),
        lg.compile(COUNTED, backend="interpret"),
        lg.compile(COUNTED, schedule="no fusion"),
        lg.value_and_grad(COUNTED),
        lg.value_and_grad(COUNTED, wrt="y"),
        lg.value_and_grad(HELD),
        lg.value_and_grad(HELD, wrt="x"),
    ],
)
def test_compiled_functions_are_pickled(function: Any) -> None:
    given = RNG.normal(size=4), RNG.normal(size=4), RNG.integers(0, 9, 4)
    copy = pickle.loads(pickle.dumps(function))
    expected, found = function(*given), copy(*given)
    assert repr(found) == repr(expected)


def test_a_part_of_a_derivative_is_not_pickled() -> None:
    reverse = reverse_of(SOFTMAX, [np.zeros((1, 2))], {})
    with pytest.raises(TypeError, match="cannot be pickled; pickle the program"):
        pickle.dumps(reverse.forward)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "line", ["L += x[n] * w[n]", "L += 2 * x[n]", "L += n * x[n] * w[n]", "L -= x[n] * w[n] * w[n]"]
)
def test_gradients_of_what_integers_multiply_are_real(dtype: str, line: str) -> None:
    loss = lg.program(f"f(x[N], int w[N]) -> L:\n    for n:  {line} + 0 * w[n]")
    x, w = RNG.normal(size=3).astype(dtype), np.array([3, -(2**40), 0])
    value, gradient = lg.value_and_grad(loss)(x, w)
    expected = lg.vjp(loss, x, w)[1](1.0)[0]
    assert value.dtype == gradient.dtype == expected.dtype == dtype
    assert_allclose(gradient, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pullback_keeps_copies_of_large_arrays(dtype: str) -> None:
    text = "f(x[N,M], int k[N,M]) -> y[N,M]:\n    y[n,m] = exp(x[n,m]) * x[k[n,m],m]"
    x = np.random.default_rng(1).normal(size=(1 << 10, 300)).astype(dtype)
    k = np.random.default_rng(2).integers(0, 4, x.shape)
    y, pullback = lg.vjp(text, x, k)
    wanted = pullback(np.ones_like(y))[0]
    y[...] = x[...] = k[...] = 0
    np.testing.assert_array_equal(pullback(np.ones_like(y))[0], wanted)
    assert abs(wanted).max() > 0


SQUARE = """scores(q[T,D], k[U,D]) -> z[T]:
    for t, u, d:  s[t,u] += q[t,d] * k[u,d]
    for t, u:     z[t]   += tanh(s[t,u])"""


def test_a_pullback_keeps_no_tensor_that_outgrows_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = lg.program(SQUARE)
    rng = np.random.default_rng(0)
    q, k, seed = rng.normal(size=(50, 2)), rng.normal(size=(40, 2)), rng.normal(size=50)
    kept = lg.vjp(program, q, k)[1](seed)
    monkeypatch.setattr("loopgrad.functions.reverse.MUCH", 1000)
    result, pullback = lg.vjp(program, q, k)
    np.testing.assert_allclose(result, np.tanh(q @ k.T).sum(1), rtol=1e-12)
    for again, before in zip(pullback(seed), kept, strict=True):
        np.testing.assert_allclose(again, before, rtol=1e-10)
    # What it closes over: two inputs, no square.
    saved = inspect.getclosurevars(pullback).nonlocals["saved"]
    assert sorted(array.shape for array in saved) == [(40, 2), (50, 2)]


POOL = """pool(x[B,X], width = 4) -> y[B, X // width]:
    for b, n, d < width:  y[b,n] max= x[b,width*n+d]"""


@pytest.mark.parametrize("width", [2, 4, 9])
def test_a_pullback_keeps_the_winners_where_they_are_few(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    program, other = lg.program(POOL), lg.program(POOL)
    monkeypatch.setattr("loopgrad.functions.reverse.LOOKED_AT", 0)
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (5, 40)).astype(np.float32)  # nearly all windows have ties
    x[rng.random(x.shape) < 0.1] = np.nan
    seed = rng.normal(size=(5, 40 // width))
    y, pullback = lg.vjp(program, x, width=width)
    saved = inspect.getclosurevars(pullback).nonlocals["saved"]
    assert [a.dtype.kind for a in saved] == (["f", "f"] if width == 2 else ["i"])
    monkeypatch.setattr("loopgrad.functions.reverse._pays_ahead", lambda *_: False)
    usual, wanted = lg.vjp(other, x, width=width)
    np.testing.assert_array_equal(y, usual)
    want = wanted(seed)[0]
    y[...] = x[...] = 0
    np.testing.assert_array_equal(pullback(seed)[0], want)
    assert abs(want).max() > 0


def test_which_tensors_a_pullback_keeps_is_a_matter_of_sizes() -> None:
    program = lg.program(POOL)
    x = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    for _ in range(2):
        for width, kept in ((2, [(30, 20), (30, 40)]), (20, [(30, 2)]), (40, [(30, 1)])):
            pullback = lg.vjp(program, x, width=width)[1]
            saved = inspect.getclosurevars(pullback).nonlocals["saved"]
            assert sorted(array.shape for array in saved) == kept


def test_a_pullback_keeps_scalars_and_axes_of_any_extent() -> None:
    text = """f(a, x[N], w[2*N-1], int k[N]) -> y[N], s:
        for n:  y[n] = a * a * x[n] * w[2*n] * k[n]
        for n:  s += y[n] * y[n]"""
    f = lg.program(text)
    a, x, w, k = np.array(3.0), np.array([1.0, 2.0]), np.array([1.0, 0.5, -2.0]), np.array([1, 3])
    for _ in range(3):
        (y, s), pullback = lg.vjp(f, a, x, w, k)
        wanted = pullback(np.array([1.0, -1.0]), 0.5)
        kept = [array.copy() for array in (a, x, w, k)]
        for array in (a, x, w, k, y, s):
            array[...] = 0
        for found, want in zip(pullback(np.array([1.0, -1.0]), 0.5), wanted, strict=True):
            assert (found is want is None) or (found == want).all()
        for array, before in zip((a, x, w, k), kept, strict=True):
            array[...] = before
    value = np.array([9.0, 9.0 * 2 * -2 * 3])  # y; the gradient of `s` in it, halved, is y itself
    assert_allclose(wanted[0], (2 / 3 * value * (np.array([1.0, -1.0]) + value)).sum())


ONE_EXTENT = {
    "as written": """f(x[J], U[J,I]) -> L:
    for j, i:  a[j] += U[j,i] * x[i]
    for j:     L    += tanh(a[j])**2""",
    "in a stable form": """f(x[J], U[J,I]) -> L:
    for j, i:  a[j] += U[j,i] * x[i]
    for j:     Z    += exp(a[j])
    L = log(Z)""",
}


@pytest.mark.parametrize("text", ONE_EXTENT.values(), ids=ONE_EXTENT)
@pytest.mark.parametrize("sizes", [(3, 2), (1, 4)])
def test_extents_that_a_bare_index_makes_equal_are_asked_for(
    text: str, sizes: tuple[int, int]
) -> None:
    program = lg.program(text)
    x, matrix = np.ones(sizes[1]), np.ones(sizes[::-1])
    for run in (
        lambda: program(x, matrix),
        lambda: lg.vjp(program, x, matrix),
        lambda: lg.jvp(program, (x, matrix), (x, matrix)),
        lambda: lg.value_and_grad(program)(x, matrix),
    ):
        with pytest.raises(ValueError, match="have to be equal"):
            run()
