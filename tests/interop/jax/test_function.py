"""Arguments, types, results, errors; what XLA may do with a call."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

jax = pytest.importorskip("jax")

import jax.numpy as jnp

import loopgrad as lg
from loopgrad.interop.jax.sites import Site, Table, make, read

FULL = bool(os.environ.get("LOOPGRAD_FULL"))
RNG = np.random.default_rng(11)

EMBED = lg.program("""embed(int w[N], E[V,K], bool m[N], scale = 1.0) -> y[N,K]:
    for n, k:  y[n,k] = scale * E[w[n],k]   if m[n]""")
SQUARES = lg.program(
    "f(int w[N]) -> c, d[N]:\n    for n:  c += w[n]**2\n    for n:  d[n] += w[n] + 1"
)
TWO = lg.program(
    "f(x[N], a) -> y[N], s, int_[N]:\n    y[n] = a * x[n]**2\n    s = sum[n](x[n])\n    int_[n] = n"
)
GROUPS = lg.program("""group_norm(x[B,C,N], param γ[C], param β[C], size G, eps = 1e-5) batch B -> y[B,C,N]:
    local μ[B,G], v[B,G]
    for b, c, n:  μ[b,c*G//C] += x[b,c,n] * G / (C * N)
    for b, c, n:  v[b,c*G//C] += (x[b,c,n] - μ[b,c*G//C])**2 * G / (C * N)
    for b, c, n:  y[b,c,n]    += γ[c] * (x[b,c,n] - μ[b,c*G//C]) * rsqrt(v[b,c*G//C] + eps) + β[c]""")


# ------------------------------------------------------------------------------------------- types


def test_arguments_by_place_and_by_name_and_several_results() -> None:
    f = lg.jax.function(TWO)
    y, s, n = f(a=2.0, x=jnp.arange(3.0))
    assert_array_equal(y, [0, 2, 8])
    assert (s.shape, s.dtype, float(s)) == ((), np.float64, 3)
    assert n.dtype == np.int64
    assert_array_equal(n, [0, 1, 2])


def test_dotted_names() -> None:
    backward = lg.lib.relu_layer.backward()
    f = lg.jax.function(backward)
    x, dy = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    assert_array_equal(f(x, **{"y.grad": dy}), backward(x, dy))


@pytest.mark.x32
def test_by_default_jax_has_numbers_of_32_bits() -> None:
    y, s, n = lg.jax.function(TWO)(np.arange(3.0), 2)
    assert (y.dtype, s.dtype, n.dtype) == (np.float32, np.float32, np.int32)
    assert_array_equal(n, [0, 1, 2])


@pytest.mark.parametrize(
    ("x", "a", "dtype"),
    [
        (np.float32([1, 2]), 2.0, np.float32),
        (np.float32([1, 2]), np.float64(2), np.float64),
        (np.float64([1, 2]), np.float32(2), np.float64),
        (np.int32([1, 2]), np.float32(2), np.float32),
        (np.int8([1, 2]), 2, np.float64),
        ([True, False], True, np.float64),
        (np.ones(2, jnp.bfloat16), np.float32(3), np.float32),
    ],
)
def test_floating_types_are_promoted_as_jax_does(x: Any, a: Any, dtype: Any) -> None:
    y, s, _ = lg.jax.function(TWO)(jnp.asarray(x), a)
    assert y.dtype == s.dtype == dtype
    assert_allclose(y, np.asarray(a, float) * np.asarray(x, float) ** 2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "bool"])
@pytest.mark.parametrize("x64", [False, True])
def test_integers_of_any_type(dtype: str, x64: bool) -> None:
    jax.config.update("jax_enable_x64", x64)
    w = np.array([1, 0, 1], dtype)
    c, d = jax.jit(lg.jax.function(SQUARES))(jnp.asarray(w))
    assert c.dtype == d.dtype == (np.int64 if x64 else np.int32)
    assert int(c) == 2
    assert_array_equal(d, [2, 1, 2])


def test_large_unsigned_integers_stay_what_they_are() -> None:
    c, _ = lg.jax.function(SQUARES)(jnp.array([2**32 - 1, 5], jnp.uint32)[1:])
    assert int(c) == 25
    f = lg.jax.function("f(int w[N]) -> c:\n    for n:  c += w[n]")
    assert int(f(jnp.array([2**32 - 1, 5], jnp.uint32))) == 2**32 + 4


@pytest.mark.x32
def test_integers_that_do_not_fit_int32_are_refused() -> None:
    f = lg.jax.function(SQUARES)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"`c` holds 4900000001.*jax_enable_x64"):
        jax.block_until_ready(f(jnp.array([1, 70000])))
    assert int(f(jnp.array([1, 46340]))[0]) == 2147395601
    with pytest.raises(ValueError, match=r"argument `w\[N\]` holds integers that do not fit int32"):
        f(np.array([1, 2**40]))


def test_inputs_without_gradients() -> None:
    f = lg.jax.function(EMBED)
    E, w, m = RNG.normal(size=(5, 2)), jnp.array([3, 0, 3]), jnp.array([True, False, True])
    seed = RNG.normal(size=(3, 2))
    y, pullback = jax.vjp(jax.jit(lambda *a: f(*a, scale=2.0)), w, jnp.asarray(E), m)
    assert_allclose(y, 2 * E[w] * np.array([[1], [0], [1]]))
    dw, dE, dm = pullback(jnp.asarray(seed))
    assert dw.dtype == dm.dtype == jax.dtypes.float0
    expected = np.zeros((5, 2))
    expected[3] = 2 * (seed[0] + seed[2])
    assert_allclose(dE, expected)


def test_results_without_gradients() -> None:
    f = lg.jax.function("f(x[N], y[N]) -> a, c:\n    for n:  a += x[n]\n    for n:  c += y[n] > 0")
    gradient = jax.grad(lambda x, y: f(x, y)[0] * 3 + f(x, y)[1], (0, 1))
    dx, dy = gradient(jnp.arange(2.0), jnp.arange(2.0))
    assert_array_equal(dx, [3, 3])
    assert_array_equal(dy, [0, 0])
    count = lg.jax.function("f(x[N]) -> c:\n    for n:  c += x[n] > 0")
    assert_array_equal(jax.grad(lambda x: x[0] * count(x))(jnp.arange(3.0)), [2, 0, 0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1), (0, 0)])
def test_extents_of_zero_and_one(shape: tuple[int, int]) -> None:
    f, x = lg.jax.function(lg.lib.softmax), jnp.asarray(RNG.normal(size=shape))
    assert_array_equal(f(x), lg.lib.softmax(np.asarray(x)))
    assert_allclose(jax.grad(lambda x: (f(x) ** 2).sum())(x), np.zeros(shape), atol=1e-12)


@pytest.mark.parametrize("size", [3, 2, 1, 0])
def test_temporaries_of_which_nothing_is_written(size: int) -> None:
    f = lg.jax.function("""roughness(x[T]) -> L:
    for t < T-1:  d[t] = (x[t+1] - x[t])**3
    for t < T-1:  L += d[t]**2""")
    reference = lambda x: ((x[1:] - x[:-1]) ** 6).sum()
    x = jnp.asarray(RNG.normal(size=size))
    for derivative in (jax.grad, jax.hessian):
        ours, theirs = (jax.jit(derivative(each)) for each in (f, reference))
        assert_allclose(ours(x), theirs(x), rtol=1e-10)


def test_gradients_of_parameters_are_summed_over_the_batch() -> None:
    x, W = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 3))
    dW = jax.grad(lambda W: lg.jax.function(lg.lib.linear)(x, W).sum())(W)
    assert_allclose(dW, np.ones((4, 2)).T @ x)


def test_a_softmax_of_huge_scores_and_its_gradient() -> None:
    f = lg.jax.function(lg.lib.softmax)
    s, w = jnp.array([[1e4, 1e4 + 1, -1e4]]), jnp.asarray(RNG.normal(size=(1, 3)))
    for derivative in (jax.grad, jax.hessian) if FULL else (jax.grad,):
        ours, theirs = (
            jax.jit(derivative(lambda s, f=f: (f(s) * w).sum()))(s) for f in (f, jax.nn.softmax)
        )
        assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


# ------------------------------------------------------------------------------- constants and sizes


def test_constants_are_values_of_their_own() -> None:
    f = lg.jax.function("f(x[N], a = 1.0) -> y[N]:\n    y[n] = a * x[n]")
    x = jnp.ones(1)
    jitted = jax.jit(f, static_argnames="a")
    for a in (2, 0.1, 0.0, -0.0, float("inf"), np.float32(3)):
        assert_array_equal(np.signbit(f(x, a=a)), np.signbit(a))
        assert_array_equal(jitted(x, a=a) if a != 0 else f(x, a=a), [a])
    assert np.isnan(f(x, a=float("nan")))


def test_sizes_go_along_to_derivatives() -> None:
    x, γ, β = (jnp.asarray(RNG.normal(size=s)) for s in ((2, 4, 3), 4, 4))
    f = lg.jax.function(GROUPS)
    for G in (1, 4):
        got = jax.jit(jax.grad(lambda x, G=G: (f(x, γ, β, G=G) ** 2).sum()))(x)
        y, pullback = lg.vjp(GROUPS, x, γ, β, G=G, batch=False)
        assert_allclose(got, pullback(2 * y)[0], rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------ mistakes

X, C4 = np.ones((2, 4, 3)), np.ones(4)
X16, C16 = (x.astype(jnp.bfloat16) for x in (X, C4))
MISTAKES = [
    (lambda f: f(X, C4, C4), TypeError, "needs `size G`, which it did not get"),
    (lambda f: f(X, C4, C4[:3], G=2), ValueError, r"extent `C` is 4 .* but 3 in axis 0 of `β"),
    (lambda f: f(X[0], C4, C4, G=2), ValueError, r"argument `x\[B,C,N\]` needs 3 axes, got 2"),
    (lambda f: f(X, C4, C4, C4, G=2), TypeError, "takes 3 arrays"),
    (lambda f: f(X, C4, C4, G=2, esp=1), TypeError, "no argument `esp`; did you mean `eps`"),
    (lambda f: f(X, C4, C4, G=2, eps="a"), TypeError, "constant `eps` has to be a number, got str"),
    (lambda f: f(X, C4, C4, G=-1), ValueError, "size `G` cannot be negative"),
    (lambda f: jax.jit(f)(X, C4, C4, G=2), TypeError, "size `G` has to be .* static_argnames='G'"),
    (
        lambda f: jax.grad(lambda e: f(X, C4, C4, G=2, eps=e).sum())(1.0),
        TypeError,
        "constant `eps`",
    ),
    (lambda f: f(X + 1j, C4, C4, G=2), TypeError, r"`x\[B,C,N\]` needs real numbers .* complex128"),
    (
        lambda f: f("x", C4, C4, G=2),
        TypeError,
        r"argument `x\[B,C,N\]` has to be an array, got str",
    ),
    (lambda f: f(X16, C16, C16, G=2), TypeError, "is bfloat16, and nothing promotes it"),
]


@pytest.mark.parametrize(("call", "error", "words"), MISTAKES)
@pytest.mark.parametrize("traced", [False, True])
def test_what_does_not_fit_is_named_when_jax_traces(
    call: Any, error: type[Exception], words: str, traced: bool
) -> None:
    f = lg.jax.function(GROUPS)
    with pytest.raises(error, match=words):
        jax.eval_shape(lambda: call(f)) if traced else call(f)


@pytest.mark.parametrize(
    ("w", "m", "words"),
    [
        (np.ones(2), np.ones(2, bool), r"`w\[N\]` is an `int` tensor and needs integers"),
        (np.ones(2, int), np.ones(2, int), r"`m\[N\]` is a `bool` tensor and needs booleans"),
        (np.ones(2, np.uint64), np.ones(2, bool), r"`w\[N\]` is uint64, of which not all fit"),
    ],
)
def test_wrong_kinds(w: Any, m: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        lg.jax.function(EMBED)(w, jnp.ones((2, 2)), m)


def test_what_is_no_program() -> None:
    with pytest.raises(TypeError, match="a loopgrad program or its text is needed, got int"):
        lg.jax.function(3)


def test_what_is_not_linear_has_no_transpose() -> None:
    f = lg.jax.function(lg.lib.relu_layer)
    x = jnp.ones((2, 3))
    with pytest.raises(TypeError, match="relu_layer is not linear in `x`, and has no transpose"):
        jax.linear_transpose(f, x)(x)


LOOKUP = lg.program("f(int w[N], E[V]) -> y[N]:\n    for n:  y[n] = E[w[n]]")


@pytest.mark.parametrize("way", ["eager", "jit", "grad", "vmap", "scan"])
def test_what_a_loop_finds_wrong_is_raised(way: str) -> None:
    f, E, w = lg.jax.function(LOOKUP), jnp.arange(4.0), jnp.array([3, 4])
    calls = {
        "eager": lambda: f(w, E),
        "jit": lambda: jax.jit(f)(w, E),
        "grad": lambda: jax.grad(lambda E: f(w, E).sum())(E),
        "vmap": lambda: jax.vmap(f, (0, None))(w[:, None], E),
        "scan": lambda: jax.lax.scan(lambda c, i: (c, f(i[None], E)), 0, w),
    }
    with pytest.raises(jax.errors.JaxRuntimeError, match="IndexError: subscript out of range") as e:
        jax.block_until_ready(calls[way]())
    assert "needs element 4 along axis 0 of `E`, whose extent is 4" in str(e.value)
    assert_array_equal(f(jnp.array([3, 0]), E), [3, 0])  # and all is well again


# ----------------------------------------------------------------------------------------- functions


def test_functions_are_equal_where_their_programs_are_and_may_be_pickled() -> None:
    f = lg.jax.function(lg.lib.softmax)
    assert f == lg.jax.function(str(lg.lib.softmax)) == pickle.loads(pickle.dumps(f))
    assert len({f, lg.jax.function(lg.lib.softmax), lg.jax.function(lg.lib.linear)}) == 2
    assert (f.__name__, f.__doc__, repr(f)) == (
        "softmax",
        str(lg.lib.softmax),
        "<loopgrad function of JAX `softmax`>",
    )


def test_equal_programs_are_compiled_once() -> None:
    count = 0

    def traced(x: Any) -> Any:
        nonlocal count
        count += 1
        return lg.jax.function(str(lg.lib.softmax))(x)

    jitted = jax.jit(traced)
    for _ in range(3):
        jitted(jnp.ones((2, 3)))
    assert count == 1


# ----------------------------------------------------------------------------------- threads, XLA


def large() -> tuple[Any, Any, Any]:
    return tuple(RNG.normal(size=(2, 2, 300, 16)).astype(np.float32) for _ in range(3))


def test_scratch_and_threads() -> None:
    f, values = jax.jit(lg.jax.function(lg.lib.attention)), large()
    before = lg.get_num_threads()
    try:
        for threads in (2, 1, 3):
            lg.set_num_threads(threads)
            assert_allclose(f(*values), lg.lib.attention(*values), rtol=1e-4, atol=1e-5)
    finally:
        lg.set_num_threads(before)


def test_much_that_would_be_kept_is_computed_again() -> None:
    f = lg.jax.function(lg.lib.attention)
    values = tuple(RNG.normal(size=(1, 1, 2100, 2)).astype(np.float32) for _ in range(3))
    equations = str(jax.make_jaxpr(lambda *a: jax.vjp(f, *a)[1])(*values))
    assert "2100,2100" not in equations
    few = tuple(v[:, :, :20] for v in values)
    assert "20,20" in str(jax.make_jaxpr(lambda *a: jax.vjp(f, *a)[1])(*few))


def test_many_threads_at_once() -> None:
    f = jax.jit(jax.grad(lambda *a: (lg.jax.function(lg.lib.attention)(*a) ** 2).sum()))
    given = [large() for _ in range(6)]
    wanted = [np.asarray(f(*values)) for values in given]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for got, one in zip(pool.map(lambda v: f(*v), given), wanted, strict=True):
                assert_array_equal(got, one)


EXPORTING = """
import sys
import jax, jax.numpy as jnp, loopgrad as lg
f = lg.jax.function(lg.lib.softmax)
loss = lambda s: (f(s) ** 2).sum()
allowed = [jax.export.DisabledSafetyCheck.custom_call("loopgrad")]
made = jax.export.export(jax.jit(jax.grad(loss)), disabled_checks=allowed)(jnp.ones((3, 4)))
open(sys.argv[1], "wb").write(made.serialize())
"""


def test_an_exported_function_runs_in_another_process(tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers")
    file = tmp_path / "exported"
    subprocess.run([sys.executable, "-c", EXPORTING, str(file)], check=True)
    loaded = jax.export.deserialize(bytearray(file.read_bytes()))
    s = jnp.asarray(RNG.normal(size=(3, 4)).astype(np.float32))
    wanted = jax.grad(lambda s: (jax.nn.softmax(s) ** 2).sum())(s)
    assert_allclose(loaded.call(s), wanted, rtol=1e-4, atol=1e-6)
    assert_allclose(loaded.call(s + 1), wanted, rtol=1e-4, atol=1e-6)


def test_symbolic_extents_are_refused() -> None:
    (n,) = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((n, 3), np.float32)
    with pytest.raises(TypeError, match=r"argument `s\[B,J\]` has the extent `n`"):
        jax.export.export(jax.jit(lg.jax.function(lg.lib.softmax)))(shape)


def test_a_site_is_made_again_from_its_description() -> None:
    operator = lg.jax.function(GROUPS)._operator
    site = make(operator, (("G", "2"), ("eps", "1e-05")), ((2, 4, 3), (4,), (4,)), "float32", True)
    again = read(site.text)
    assert isinstance(again, Site)
    assert (again.text, again.number, again.scratch) == (site.text, site.number, site.scratch)


def test_the_table_grows_and_finds_all() -> None:
    table = Table()
    operator = lg.jax.function(lg.lib.softmax)._operator
    sites = [table.add(make(operator, (), ((2, n),), "float32", True)) for n in range(80)]
    words = table._tables[-1]
    assert (words.size - 1) // 2 == 256
    found = {int(n): int(b) for n, b in zip(words[1::2], words[2::2], strict=True) if n}
    assert found == {site.number: site.block.ctypes.data for site in sites}
    assert table.add(make(operator, (), ((2, 7),), "float32", True)) is sites[7]
