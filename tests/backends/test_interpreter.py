"""The reference: what programs mean, on cases small enough to check by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loopgrad as lg

LEAST, GREATEST = -(2**63), 2**63 - 1


def run(text: str, *arguments: Any, **named: Any) -> Any:
    return lg.compile(text, backend="interpret")(*arguments, **named)


def value(expression: str, x: Any = 0.0, n: int = 0) -> Any:
    """What an expression in `x` (a float) and `n` (an int) comes to."""
    text = f"f(x, int n) -> y:\n    y = ({expression}) + 0 * (0 if x == 0 else 0) + 0 * n"
    return run(text, x, n)[()]


# -------------------------------------------------------------------------------------- statements


def test_statements_run_in_order() -> None:
    s = np.random.default_rng(1).normal(size=(3, 4))
    text = """softmax(s[B,J]) -> p[B,J], Z[B]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]"""
    p, Z = run(text, s)
    np.testing.assert_allclose(Z, np.exp(s).sum(1))
    np.testing.assert_allclose(p, np.exp(s) / np.exp(s).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("+=", 7.5), ("-=", -7.5), ("*=", 12.5), ("max=", 5.0), ("min=", 0.0)],
)
def test_reductions(operation: str, expected: float) -> None:
    x = [5.0, 2.5, 0.0] if operation not in ("*=",) else [5.0, 2.5, 1.0]
    assert run(f"f(x[N]) -> y:\n    for n:  y {operation} x[n]", x) == expected


@pytest.mark.parametrize(
    ("operation", "start"),
    [("+=", 0), ("-=", 0), ("*=", 1), ("max=", -math.inf), ("min=", math.inf), ("=", 0)],
)
def test_a_tensor_starts_at_the_identity_of_its_operation(operation: str, start: float) -> None:
    text = f"f(x[N]) -> y[2]:\n    for n, k < 2:  y[k] {operation} x[n]   if k > n"
    assert_array_equal(run(text, np.zeros(0)), [start, start])


@pytest.mark.parametrize(("operation", "start"), [("max=", LEAST), ("min=", GREATEST)])
def test_integer_tensors_start_at_the_ends_of_int64(operation: str, start: int) -> None:
    y = run(f"f(int x[N]) -> y:\n    for n:  y {operation} x[n]", np.zeros(0, int))
    assert y.dtype == np.int64
    assert y == start


def test_set_gives_the_value_that_an_update_starts_from() -> None:
    text = """f(x[N]) -> y:
    y = 10
    for n:  y += x[n]"""
    assert run(text, [1.0, 2.0]) == 13


def test_regions_of_a_tensor_are_written_by_several_statements() -> None:
    text = """f(x[N]) -> y[N]:
    y[0] = 100
    for 1 <= n < N:  y[n] = x[n]"""
    assert_array_equal(run(text, [1.0, 2.0, 3.0]), [100, 2, 3])


def test_a_block_runs_its_statements_for_each_value_in_order() -> None:
    text = """fibonacci(size N) -> f[N]:
    for n:
        f[n] = 1                 if n < 2
        f[n] = f[n-1] + f[n-2]   if n >= 2"""
    assert_array_equal(run(text, N=10), [1, 1, 2, 3, 5, 8, 13, 21, 34, 55])


def test_descending_blocks_and_nested_blocks() -> None:
    text = """suffix_sums(x[A,B]) -> y[A,B]:
    for a:
        for b descending:
            y[a,b] = x[a,b] + (y[a,b+1] if b < B-1 else 0)"""
    x = np.arange(6.0).reshape(2, 3)
    assert_array_equal(run(text, x), x[:, ::-1].cumsum(1)[:, ::-1])


def test_bounds_from_outer_indices_and_from_data() -> None:
    text = """f(x[B,T], int length[B]) -> y[B], z:
    for b, t < length[b]:     y[b] += x[b,t]
    for b < B, b <= c < B:    z    += 1"""
    x = np.arange(6.0).reshape(2, 3)
    y, z = run(text, x, [3, 1])
    assert_array_equal(y, [3, 3])
    assert z == 3


def test_gather_and_scatter_with_repeated_indices() -> None:
    text = """histogram(int w[N], v[N], size K) -> h[K], g[N]:
    for n:  h[w[n]] += v[n]
    for n:  g[n]    += h[w[n]]"""
    h, g = run(text, [2, 0, 2], [1.0, 2.0, 3.0], K=4)
    assert_array_equal(h, [2, 0, 4, 0])
    assert_array_equal(g, [4, 2, 4])


@pytest.mark.parametrize("size", [0, 1])
def test_extents_of_zero_and_one(size: int) -> None:
    text = "f(x[B,J]) -> y[B], m:\n    for b, j:  y[b] += x[b,j]\n    for b, j:  m max= x[b,j]"
    y, m = run(text, np.full((2, size), 3.0))
    assert_array_equal(y, [3.0 * size] * 2)
    assert m == (3 if size else -math.inf)
    assert run(text, np.zeros((size, 0)))[0].shape == (size,)


def test_a_scalar_result_has_no_axes_and_integers_are_int64() -> None:
    y, count = run("f(x[N]) -> y, c:\n    for n:  y += x[n]\n    for n:  c += x[n] > 1", [1.0, 2.0])
    assert y.shape == count.shape == ()
    assert (y.dtype, count.dtype) == (np.float64, np.int64)
    assert (y, count) == (3, 1)


def test_float32_is_computed_in_float32() -> None:
    x = np.float32([1.0, 1e-8])
    y = run("f(x[N]) -> y:\n    for n:  y += x[n]", x)
    assert y.dtype == np.float32
    assert y == 1
    third = run("f(x) -> y:\n    y = 1 / 3 + 0 * x", np.float32(1))
    assert third == np.float32(1) / np.float32(3)


# --------------------------------------------------------------------------------- lazy evaluation


def test_the_branch_not_taken_is_not_evaluated() -> None:
    x = np.array([1.0, 2.0, 3.0])
    text = "f(x[N]) -> y[N]:\n    y[n] = x[n-1] if n > 0 else -1"
    assert_array_equal(run(text, x), [-1, 1, 2])
    assert_array_equal(run("f(x[N]) -> y[N]:\n    y[n] = x[n+1]   if n < N-1", x), [2, 3, 0])


def test_and_or_and_chains_stop_when_decided() -> None:
    x = np.array([1.0, 0.0, 3.0])
    both = "f(x[N]) -> y[N]:\n    y[n] = 1   if n > 0 and x[n-1] > 0"
    either = "f(x[N]) -> y[N]:\n    y[n] = 1   if n == 0 or x[n-1] > 0"
    chain = "f(x[N], int w[N]) -> y[N]:\n    y[n] = x[0]   if 0 < n < 3 - w[n-1]"
    assert_array_equal(run(both, x), [0, 1, 0])
    assert_array_equal(run(either, x), [1, 1, 0])
    assert_array_equal(run(chain, x, [1, 5, 5]), [0, 1, 0])


# ------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("-7 // 2", -4),
        ("-7 % 2", 1),
        ("7 % -2", -1),
        ("2 ** 62", 2**62),
        ("(-1) ** (2**62)", 1),
        ("0 ** 0", 1),
        ("max(2, 3) - min(2, 3)", 1),
        ("abs(-3) + sign(-3) + relu(-3)", 2),
        ("floor(-0.5)", -1),
        ("(3 > 2) + (3 > 2)", 2),
        ("9007199254740993 - 9007199254740992", 1),
    ],
)
def test_integers_are_exact(expression: str, expected: int) -> None:
    result = run(f"f(size N) -> y:\n    y = ({expression}) + 0 * N", N=1)
    assert result.dtype == np.int64
    assert result == expected


@pytest.mark.parametrize(
    ("expression", "error", "words"),
    [
        ("1 // n", ZeroDivisionError, "`//` by zero"),
        ("1 % n", ZeroDivisionError, "`%` by zero"),
        ("2 ** (n - 1)", ValueError, "power -1"),
        ("2 ** (63 + n)", ValueError, "int64"),
        ("3 ** (10**18 + n)", ValueError, "int64"),
        ("(n + 2**62) * 2", ValueError, "int64"),
        ("abs(n - 2**62 - 2**62)", ValueError, "int64"),
        ("floor(x)", ValueError, "floor"),
        ("floor(1 / x)", ValueError, "floor"),
        ("floor(1e19 + n)", ValueError, "floor"),
    ],
)
def test_integers_are_exact_or_an_error_that_shows_the_statement(
    expression: str, error: type[Exception], words: str
) -> None:
    text = f"f(x, int n) -> y:\n    y = {expression} + floor(0 if x == x else 0) + n"
    with pytest.raises(error, match=words.replace("*", r"\*")) as caught:
        run(text, math.nan if "(x)" in expression else 0.0, 0)
    assert "line 2: y = " in str(caught.value)


def test_an_exponent_written_negative_makes_a_power_real() -> None:
    assert value("2 ** -1") == 0.5
    assert value("(1 if n == 0 else 0.5) ** -2") == 1


@pytest.mark.parametrize(
    ("expression", "x", "expected"),
    [
        ("1 / x", 0.0, math.inf),
        ("x / x", 0.0, math.nan),
        ("x ** 0", math.nan, 1.0),
        ("x ** -1", 0.0, math.inf),
        ("x ** 0.5", -1.0, math.nan),
        ("max(x, 1)", math.nan, math.nan),
        ("min(1, x)", math.nan, math.nan),
        ("relu(x)", math.nan, math.nan),
        ("relu(x)", -2.0, 0.0),
        ("sign(x)", math.nan, math.nan),
        ("sign(x)", -0.1, -1.0),
        ("abs(x)", -math.inf, math.inf),
        ("exp(x)", 1000.0, math.inf),
        ("log(x)", 0.0, -math.inf),
        ("log(x)", -1.0, math.nan),
        ("sqrt(x)", -1.0, math.nan),
        ("rsqrt(x)", 4.0, 0.5),
        ("rsqrt(x)", 0.0, math.inf),
        ("sigmoid(x)", -1000.0, 0.0),
        ("sigmoid(x)", 1000.0, 1.0),
        ("sigmoid(x)", -700.0, math.exp(-700)),
        ("softplus(x)", 1000.0, 1000.0),
        ("softplus(x)", -1000.0, 0.0),
        ("softplus(x)", -40.0, math.exp(-40)),
        ("softplus(x)", math.inf, math.inf),
        ("tanh(x)", math.inf, 1.0),
        ("erf(x)", 0.5, math.erf(0.5)),
        ("erf(x)", -math.inf, -1.0),
        ("sin(x)", math.inf, math.nan),
        ("log1p(x)", 1e-18, 1e-18),
        ("expm1(x)", 1e-18, 1e-18),
        ("stop_gradient(x)", 3.0, 3.0),
        ("x + pi", 0.0, math.pi),
        ("-inf if x == 0 else 1", 0.0, -math.inf),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_functions_at_their_edges(
    expression: str, x: float, expected: float, dtype: type[np.floating[Any]]
) -> None:
    got = run(f"f(x) -> y:\n    y = {expression}", dtype(x))
    assert got.dtype == dtype
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(got, dtype(expected), rtol=4 * np.finfo(dtype).eps)


def test_a_nan_stays_in_a_maximum() -> None:
    text = "f(x[N]) -> a, b:\n    for n:  a max= x[n]\n    for n:  b min= x[n]"
    a, b = run(text, [1.0, math.nan, 2.0])
    assert math.isnan(a)
    assert math.isnan(b)


# ---------------------------------------------------------------------------------- what is checked


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("f(x[N], int w[M]) -> y[M]:\n    y[m] = x[w[m]]", ([1.0, 2], [0, 2]), ("x", 2, 0, 2)),
        ("f(x[N], int w[M]) -> y[M]:\n    y[m] = x[w[m]]", ([1.0, 2], [-1]), ("x", -1, 0, None)),
        (
            "f(v[M], int w[M], E[N,M]) -> y[N,M]:\n    y[w[m],m] += v[m] + 0 * E[0,m]",
            ([1.0], [3], np.zeros((3, 1))),
            ("y", 3, 0, 3),
        ),
    ],
)
def test_a_subscript_out_of_range_names_tensor_axis_value_and_extent(
    text: str, arguments: tuple[Any, ...], words: tuple[str, int, int, int | None]
) -> None:
    with pytest.raises(IndexError) as caught:
        run(text, *arguments)
    tensor, got, axis, extent = words
    message = str(caught.value)
    assert f"needs element {got} along axis {axis} of `{tensor}`" in message
    assert ("negative" if extent is None else f"whose extent is {extent}") in message
    assert "line 2" in message


def test_a_second_set_of_an_element_is_an_error() -> None:
    text = "f(v[N], int w[N], size K) -> y[K]:\n    y[w[n]] = v[n]"
    assert_array_equal(run(text, [1.0, 2.0], [2, 0], K=3), [2, 0, 1])
    with pytest.raises(ValueError, match=r"`y\[2\]` is written by `=` a second time"):
        run(text, [1.0, 2.0], [2, 2], K=3)


def test_a_read_of_what_the_statement_writes_is_an_error() -> None:
    text = """f(x[N], int p[N]) -> y[N]:
    for n:
        for k < 1:  y[n] += x[n+k] + (y[p[n]] if p[n] >= 0 else 0)"""
    assert_array_equal(run(text, [1.0, 2.0, 3.0], [-1, 0, 1]), [1, 3, 6])
    with pytest.raises(ValueError, match=r"`y\[1\]` is changed after it was read"):
        run(text, [1.0, 2.0, 3.0], [-1, 1, 1])
    both = """f(x[N], int p[N], int q[N]) -> y[N]:
    for t < 1:
        for n:  y[p[n]] += x[n] + y[q[n]]"""
    with pytest.raises(ValueError, match=r"`y\[0\]` is read by the statement that writes it"):
        run(both, [1.0, 2.0], [0, 1], [1, 0])


def test_a_change_after_a_read_is_an_error() -> None:
    text = """f(x[N], int p[N]) -> y[N], z[N]:
    for n:  y[p[n]] += x[n]
    for n:  z[n]    += y[0]   if n == 0
    for n:  y[p[n]] += x[n]   if n > 0"""
    z = run(text, [1.0, 2.0], [0, 1])[1]
    assert_array_equal(z, [1, 0])
    with pytest.raises(ValueError, match=r"`y\[0\]` is changed after it was read"):
        run(text, [1.0, 2.0], [1, 0])


def test_a_blocks_bounds_may_read_what_its_body_wrote() -> None:
    text = """f(int n[T]) -> m[T], c:
    for t:
        m[t] = n[t]
        for k < m[t]:
            c += 1"""
    m, count = run(text, [2, 3])
    assert_array_equal(m, [2, 3])
    assert count == 5
