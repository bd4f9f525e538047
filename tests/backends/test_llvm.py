"""The compiled backend gives what the reference interpreter gives, construct by construct."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm import LLVMBackend
from loopgrad.backends.llvm.compiling import engine, machine
from loopgrad.backends.llvm.emit import emit
from loopgrad.backends.llvm.writing.layout import Layout, Variant
from loopgrad.backends.llvm.writing.text import Module
from loopgrad.frontend.library import program
from loopgrad.ir.nodes import Extent, Number, Program
from loopgrad.pipeline import compile
from loopgrad.schedule.default import literal

# name -> text. Extents B, J, K, T are drawn from SIZES; int inputs hold valid positions in [0, 3).
PROGRAMS = {
    "softmax": """
        f(s[B,J]) -> p[B,J], Z[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
        """,
    "every reduction": """
        f(s[B,J]) -> a[B], d[B], g[J], m[B], l[B], e[B,J]:
            for b, j:  a[b] += s[b,j]
            for b, j:  d[b] -= s[b,j] * s[b,j]
            for b, j:  g[j] *= 1 + s[b,j] / 4
            for b, j:  m[b] max= s[b,j]
            for b, j:  l[b] min= s[b,j]
            for b, j:  e[b,j] = s[b,j] - 1
        """,
    "matrix product": """
        f(x[B,K], W[J,K]) -> y[B,J]:
            for b, j, k:  y[b,j] += W[j,k] * x[b,k]
        """,
    "reduced index outside": """
        f(x[B,K], W[J,K]) -> y[B,J]:
            for k, b, j:  y[b,j] += W[j,k] * x[b,k]
        """,
    "scalars": """
        f(a, x[J]) -> n, y:
            for j:  n += x[j] * a
            y = 2 * a
        """,
    "rows of which data set a part": """
        f(q[J], x[B,J]) -> y[B], z[B]:
            local t[B,J]
            for b, 1 <= j < J:  t[b,j] = x[b,j]**2   if q[j] > 0
            for b, j < J:       y[b] += exp(t[b,j]) * x[b,j]
            for b, j < J:       z[b] max= t[b,j]
        """,
    "guards": """
        f(P[B,J]) -> H[B], c[B], f[J]:
            for b, j:  H[b] -= P[b,j] * log(P[b,j])   if P[b,j] > 0
            for b, j:  c[b] += 1   if P[b,j] > 0 and not (j == 1 or b == j)
            for b, j:  f[j] max= P[b,j]   if b < j
        """,
    "conditionals": """
        f(x[B,J]) -> y[B,J], z[B,J]:
            for b, j:  y[b,j] = x[b,j-1] + x[b,j] if j > 0 else x[b,j]
            for b, j:  z[b,j] = sqrt(x[b,j]) if x[b,j] >= 0 else -1 if x[b,j] > -0.5 else b + j
        """,
    "a padded convolution": """
        f(x[B,J], k[3]) -> y[B,J]:
            for b, j, d:  y[b,j] += k[d] * (x[b,j+d-1] if 0 <= j+d-1 < J else 0)
        """,
    "gather and scatter": """
        f(x[3,J], int w[B], bool m[B]) -> g[B,J], h[3,J], n:
            for b, j:  g[b,j] = x[w[b],j]
            for b, j:  h[w[b],j] += g[b,j]   if m[b]
            for b:     n += 1   if m[b]
        """,
    "computed integers": """
        f(x[B,J], int w[B]) -> q[B], y[B]:
            local int q[B], int r[B]
            for b, j < J:  q[b] += j * w[b] // 2 - (j - 7) % 3
            for b:     r[b] = min(max(w[b] * 2 - 1, 0), J - 1)   if J > 0
            for b, j < J:  y[b] += x[b,r[b]] * (w[b] ** 2 + 1) + w[b] / 3
        """,
    "floor": """
        f(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] = x[b,j] - floor(x[b,j]) + sign(floor(4 * x[b,j]))
        """,
    "the first winner": """
        f(s[B,J]) -> m[B], w[B]:
            local int w[B]
            for b, j:  m[b] max= s[b,j]
            for b, j:  w[b] min= j   if s[b,j] == m[b]
        """,
    "ranges": """
        f(x[B,J], int n[B]) -> y[B], z[J], t:
            for b, j < min(n[b], J):          y[b] += x[b,j]
            for j, k <= j:                    z[j] += k * j
            for b, 1 <= j <= J-1 descending:  t += x[b,j] * x[b,j-1]
        """,
    "a recurrence": """
        f(x[T,B], W[B,B]) -> h[T,B]:
            for t:
                for b, k:  a[t,b] += W[b,k] * h[t-1,k]   if t > 0
                for b:     h[t,b] = tanh(x[t,b] + a[t,b])
        """,
    "a recurrence downwards": """
        f(x[T,B]) -> c[T,B]:
            for t descending:
                for b:  c[t,b] = x[t,b] + (0.5 * c[t+1,b] if t < T - 1 else 0)
        """,
    "nested blocks": """
        f(x[T,J]) -> d[T,J]:
            for t:
                for j:
                    d[t,j] = x[t,j] + min(d[t-1,j] if t > 0 else 0, d[t,j-1] if j > 0 else 0)
        """,
    "constants": """
        f(x[B,J], eps = 1e-5, shift = -1) -> y[B,J]:
            for b, j:  y[b,j] = x[b,j] / sqrt(eps + x[b,j]**2) + shift * b
        """,
    "a strided subscript": """
        f(x[J], stride = 2) -> y[J // stride]:
            for j:  y[j] = x[stride * j]
        """,
    "powers": """
        f(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] = x[b,j]**3 - x[b,j]**-1 + (x[b,j]**2)**0.5
            for b, j:  y[b,j] += abs(x[b,j])**1.7 + B**-1 + j**2
        """,
    "functions": """
        f(x[B,J]) -> y[B,J], z[B,J]:
            for b, j:  y[b,j] = exp(x[b,j]) + expm1(x[b,j]) + tanh(x[b,j]) + sigmoid(x[b,j])
            for b, j:  y[b,j] += relu(x[b,j]) + sin(x[b,j]) * cos(x[b,j]) + erf(x[b,j])
            for b, j:  z[b,j] = softplus(x[b,j]) + log(2 + tanh(x[b,j])) + log1p(abs(x[b,j]))
            for b, j:  z[b,j] += rsqrt(1 + abs(x[b,j])) + max(x[b,j], 0.1) - min(x[b,j], pi)
            for b, j:  z[b,j] += stop_gradient(sign(x[b,j]))
        """,
    "set, then updated": """
        f(x[B,J]) -> y[B]:
            for b:     y[b] = 10 * b
            for b, j:  y[b] += x[b,j]
        """,
    "a constant in an integer place": """
        f(x[B,J]) -> y[B]:
            for b, j:  y[b] += (1 if x[b,j] > 0 else 0.5) * (b < j < 2) + (2 if j > b else b)
        """,
}

SIZES = [
    dict(zip("BJKT", sizes, strict=True))
    for sizes in (
        (3, 5, 4, 6),
        (1, 1, 1, 1),
        (4, 4, 4, 4),
        (0, 3, 2, 2),
        (2, 0, 3, 0),
        (2, 33, 40, 3),
    )
]


def parse(name: str) -> Program:
    lines = PROGRAMS[name].strip("\n").split("\n")
    return program("\n".join(line[8:] for line in lines))


def inputs_of(parsed: Program, sizes: dict[str, int], dtype: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def extent(e: Any) -> int:
        match e:
            case Number(int(value)):
                return value
            case Extent(name):
                return sizes[name]
        raise AssertionError(e)

    made: dict[str, Any] = {}
    for given in parsed.inputs:
        shape = tuple(map(extent, given.extents))
        match given.kind:
            case "int":
                made[given.name] = rng.integers(0, 3, shape)
            case "bool":
                made[given.name] = rng.random(shape) < 0.6
            case _:
                made[given.name] = rng.normal(size=shape).astype(dtype)
    return made


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter(name: str, dtype: str, optimize: bool) -> None:
    parsed = parse(name)
    compiled, reference = compile(parsed, optimize=optimize), compile(parsed, "interpret")
    for seed, sizes in enumerate(SIZES):
        inputs = inputs_of(parsed, sizes, dtype, seed)
        found, wanted = compiled(**inputs), reference(**inputs)
        if len(parsed.results) == 1:
            found, wanted = (found,), (wanted,)
        for f, w in zip(found, wanted, strict=True):
            assert f.dtype == w.dtype
            tolerance = 1e-12 if dtype == "float64" else 2e-5
            np.testing.assert_allclose(
                f, w, rtol=tolerance, atol=tolerance, err_msg=f"{name} {sizes}"
            )


@pytest.mark.parametrize("variant", ["checked", "wide"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_with_everything_checked(name: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for constants that break what the proofs rest on, or numbers so large they may overflow."""
    if variant == "wide":
        monkeypatch.setattr("loopgrad.backends.llvm.EXTENT_BITS", 0)
    parsed = parse(name)
    kernel, reference = compile(parsed), compile(parsed, "interpret")
    inputs = inputs_of(parsed, SIZES[0], "float64", 0)
    call = kernel.bind((), inputs, (None,) * len(parsed.results))
    call.checked = variant == "checked"
    kernel.runner.run(call)
    _, *wanted = reference.execute((), inputs)
    for result, array in zip(parsed.results, wanted[len(inputs) :], strict=True):
        np.testing.assert_allclose(call.arrays[result.name], array, rtol=1e-12)


def test_unoptimized_sums_run_in_their_literal_order() -> None:
    """Bit for bit: a sum of numbers so different that each order rounds otherwise."""
    parsed = program("f(x[N]) -> s:\n    for n:  s += x[n]")
    x = np.random.default_rng(3).normal(size=1000) * 10.0 ** (np.arange(1000) % 17)
    s = 0.0
    for value in x:
        s += value
    assert compile(parsed, optimize=False)(x) == s


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.0, 1e-310, 750.0, -750.0]


TWO = "X + Y|X - Y|X * Y|X / Y|max(X, Y)|min(X, Y)|X ** Y"
ORDER = "X < Y|X == Y|X != Y|X <= Y|X if X > Y else Y"
ONE = "exp log log1p expm1 sqrt rsqrt tanh sigmoid relu softplus erf sin cos abs sign"
POWERS = "0 1 2 3 4 5 -1 -2 0.5 1.5 -0.5"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "expression",
    [*TWO.split("|"), *ORDER.split("|")]
    + [f"{f}(X)" for f in ONE.split()]
    + [f"X**{n}" for n in POWERS.split()],
)
def test_special_values(expression: str, dtype: str) -> None:
    formula = expression.replace("X", "u[n]").replace("Y", "v[m]")
    parsed = program(f"f(u[N], v[M]) -> r[N,M]:\n    for n, m:  r[n,m] = {formula} + 0 * v[0]")
    u = np.array(SPECIAL, dtype)
    found, wanted = compile(parsed)(u, u), compile(parsed, "interpret")(u, u)
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("length", [100, 200])
def test_nan_is_seen_at_every_place(length: int) -> None:
    """One comparison looks at two vectors."""
    parsed = program("""f(x[B,J]) -> y[B], z[B]:
        for b, j:  y[b] max= x[b,j]
        for b, j:  z[b] min= -x[b,j]   if x[b,j] != 3""")
    for dtype in ("float32", "float64"):
        x = np.random.default_rng(1).normal(size=(length, length)).astype(dtype)
        greatest = x.max(axis=1)
        for found in compile(parsed)(x):
            np.testing.assert_array_equal(abs(found), abs(greatest))
        np.fill_diagonal(x, np.nan)
        for found in compile(parsed)(x):
            assert np.isnan(found).all()


def test_a_maximum_once_nan_stays_nan() -> None:
    parsed = program("f(x[N]) -> m, l:\n    for n:  m max= x[n]\n    for n:  l min= x[n]")
    for size, place in itertools.product((1, 5, 100), (0, 0.5, 0.99)):
        x = np.random.default_rng(size).normal(size=size)
        x[int(place * size)] = np.nan
        assert np.isnan(compile(parsed)(x)).all()


# ---------------------------------------------------------------------------------------- errors


def both_refuse(text: str, error: type[Exception], words: list[str], **inputs: Any) -> None:
    parsed = program(text)
    for backend in ("llvm", "interpret"):
        with pytest.raises(error) as caught:
            compile(parsed, backend)(**inputs)
        for word in words:
            assert word in str(caught.value), (backend, str(caught.value))


def test_a_gathered_subscript_out_of_range() -> None:
    text = "f(E[V,K], int w[B]) -> y[B,K]:\n    for b, k:  y[b,k] = E[w[b],k]"
    E = np.ones((5, 2))
    for bad in (5, -1, 2**62, -(2**63)):
        both_refuse(text, IndexError, ["E[w[b],k]", str(bad), "line 2"], E=E, w=[0, 4, bad])


def test_a_scattered_subscript_out_of_range() -> None:
    text = "f(x[B], int w[B]) -> y[3]:\n    for b:  y[w[b]] += x[b]"
    both_refuse(text, IndexError, ["y[w[b]]", "7"], x=[1.0, 2.0], w=[0, 7])


def test_a_bad_subscript_that_is_never_reached_is_fine() -> None:
    text = "f(x[B], int w[B]) -> y:\n    for b:  y += x[w[b]]   if w[b] >= 0"
    assert compile(program(text))(x=[1.0, 2.0], w=[-1, 1]) == 2.0


COPY = "f(x[N], size M) -> y[M]:\n    for m < M:  y[m] += x[m]   if {guard}"


@pytest.mark.parametrize("guard", ["m >= 0", "m != 2", "m < 4 or m > 7"])
def test_checks_taken_out_of_a_loop(guard: str) -> None:
    """Whether M reaches beyond N is known at a call: one copy of the loop checks, one need not."""
    text, x = COPY.format(guard=guard), np.arange(1.0, 9.0)
    for size in (0, 1, 7, 8):
        holds = np.array([eval(guard, {"m": m}) for m in range(size)], bool)
        np.testing.assert_array_equal(compile(program(text))(x, M=size), x[:size] * holds)
    both_refuse(text, IndexError, ["x[m]", "element 8", "extent is 8", "line 2"], x=x, M=9)
    both_refuse(text, IndexError, ["x[m]", "element 8", "extent is 8", "line 2"], x=x, M=1000)


def test_a_loop_that_would_leave_the_tensor_but_for_its_guard() -> None:
    text = COPY.format(guard="m < 4")
    assert compile(program(text))(np.ones(4), M=50).sum() == 4


def test_a_stride_given_at_the_call() -> None:
    text = "f(x[N], size M, stride = 2, start = 0) -> y[M]:\n    y[m] = x[start + stride*m]"
    kernel, x = compile(program(text)), np.arange(9.0)
    assert kernel(x, M=4).tolist() == [0, 2, 4, 6]
    assert kernel(x, M=3, stride=-4, start=8).tolist() == [8, 4, 0]
    both_refuse(text, IndexError, ["-1", "negative"], x=x, M=3, stride=-4, start=7)
    both_refuse(text, IndexError, ["10", "extent is 9"], x=x, M=6)
    both_refuse(text, IndexError, ["extent is 9"], x=x, M=2, stride=2**62)


def test_a_length_that_is_too_long() -> None:
    text = "f(x[B,T], int n[B]) -> s[B]:\n    for b, t < n[b]:  s[b] += x[b,t]"
    x = np.arange(12.0).reshape(3, 4)
    assert compile(program(text))(x, [4, 0, 2]).tolist() == [6, 0, 17]
    both_refuse(text, IndexError, ["x[b,t]", "element 4", "line 2"], x=x, n=[4, 5, 2])


def test_a_sum_in_a_register_whose_target_need_not_exist() -> None:
    """The target is loaded before the inner loop, where its guard has not been asked yet."""
    text = (
        "f(x[N]) -> y[3]:\n    for i < 9, n:  y[i-5] += x[n]   if n < i - 4 and i <= 7 and i >= 5"
    )
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(compile(program(text))(x), compile(program(text), "interpret")(x))


@pytest.mark.parametrize("operation", ["//", "%"])
def test_division_by_zero(operation: str) -> None:
    text = f"f(int w[B]) -> y[B]:\n    for b:  y[b] = 7 {operation} w[b]"
    both_refuse(text, ZeroDivisionError, [operation, "line 2"], w=[1, 0])


def test_division_by_an_extent_of_nothing() -> None:
    """Optimised loops go over rows of the target first, of which there are none."""
    text = "f(x[N,M], int w[N], size B) -> t[B,M]:\n    for n, m:  t[w[n]%B,m] += x[n,m]"
    for optimize in (True, False):
        with pytest.raises(ZeroDivisionError, match="by zero"):
            compile(program(text), optimize=optimize)(np.ones((3, 2)), [0, 1, 2], B=0)
    assert compile(program(text))(np.ones((3, 2)), [0, 3, 1], B=3).tolist() == [
        [2, 2],
        [1, 1],
        [0, 0],
    ]
    assert compile(program(text))(np.ones((0, 2)), np.zeros(0, int), B=0).shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e19, -1e19])
def test_floor_of_what_is_no_integer(value: float) -> None:
    text = "f(x[B]) -> y[B]:\n    for b:  y[b] = floor(x[b])"
    both_refuse(text, ValueError, ["floor", "line 2"], x=[1.0, value])


@pytest.mark.parametrize(
    ("expression", "w"),
    [
        ("w[b] + 1", 2**63 - 1),
        ("w[b] - 2", -(2**63)),
        ("w[b] * w[b]", 2**32),
        ("-w[b]", -(2**63)),
        ("abs(w[b])", -(2**63)),
        ("w[b] // -1", -(2**63)),
        ("w[b] ** 2", 2**32),
        ("3 ** w[b]", 40),
        ("w[b] * n", 2**50),
    ],
)
def test_integer_overflow(expression: str, w: int) -> None:
    text = f"f(int w[B], n = 100000) -> y[B]:\n    for b:  y[b] = {expression} + 0 * n"
    both_refuse(text, ValueError, ["int64", "line 2"], w=[1, w])


def test_overflow_of_large_constants_is_found() -> None:
    text = "f(x[B], n = 3) -> y[B]:\n    for b:  y[b] = n * n + x[b]"
    both_refuse(text, ValueError, ["int64"], x=[1.0], n=2**32)
    assert compile(program(text))([1.0], n=2**31)[0] == 2.0**62 + 1


def test_overflow_of_an_accumulation() -> None:
    text = "f(int w[B]) -> y:\n    for b:  y += w[b]"
    both_refuse(text, ValueError, ["int64"], w=[2**62, 2**62])


def test_counting_up_to_the_limit() -> None:
    text = "f(int w[B], x[N]) -> y[B]:\n    local int y[B]\n    for b:     y[b] = w[b]\n"
    text += "    for b, n:  y[b] += 1   if x[n] > 0"
    w, x = [0, 2**63 - 4, -(2**63)], np.array([1.0, -1, 1, 0, 1, -2])
    assert compile(program(text))(w, x).tolist() == [3, 2**63 - 1, 3 - 2**63]
    both_refuse(text, ValueError, ["int64", "line 4"], w=[0, 2**63 - 3], x=x)


@pytest.mark.parametrize(("a", "b"), list(itertools.product([7, -7, 0, 1, -(2**63)], [3, -3, 1])))
def test_floor_division_rounds_down(a: int, b: int) -> None:
    text = "f(int a, int b) -> q, r:\n    q = a // b\n    r = a % b"
    assert tuple(map(int, compile(program(text))(a, b))) == (a // b, a % b)


def test_the_remainder_of_the_least_integer_by_minus_one() -> None:
    text = "f(int a, int b) -> r:\n    r = a % b"
    assert compile(program(text))(-(2**63), -1) == 0


@pytest.mark.parametrize(("a", "b"), [(-2, 63), (2, 62), (-1, 2**40), (0, 0), (0, 5), (10, 18)])
def test_integer_powers_are_exact(a: int, b: int) -> None:
    text = "f(int a, int b) -> r:\n    r = a ** b"
    assert int(compile(program(text))(a, b)) == a**b


def test_negative_exponent() -> None:
    text = "f(int a, int b) -> r:\n    r = a ** b"
    both_refuse(text, ValueError, ["-3"], a=2, b=-3)


# ----------------------------------------------------------------------------- watched completeness

PARENTS = """f(x[N], int par[N]) -> s[N]:
    for n:
        s[n] = x[n] + (s[par[n]] if par[n] != n else 0)"""


def test_a_read_of_what_data_says_is_complete() -> None:
    x, parents = np.array([1.0, 2.0, 3.0]), [0, 0, 1]
    assert compile(program(PARENTS))(x, parents).tolist() == [1.0, 3.0, 6.0]


def test_a_change_after_a_read_is_refused() -> None:
    both_refuse(PARENTS, ValueError, ["s[2]"], x=[1.0, 2.0, 3.0], par=[0, 2, 2])


def test_a_second_scattered_set_is_refused() -> None:
    text = "f(x[N], int w[N]) -> y[4]:\n    for n:  y[w[n]] = x[n]"
    assert compile(program(text))([1.0, 2.0], [3, 1]).tolist() == [0, 2, 0, 1]
    both_refuse(text, ValueError, ["y[3]"], x=[1.0, 2.0], w=[3, 3])


# -------------------------------------------------------------------------------- other machines


@pytest.mark.parametrize("has_fma", [True, False])
def test_a_processor_without_wide_vectors(has_fma: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fused multiply-add, the functions are the C library's."""
    lesser = replace(machine.this_machine(), has_fma=has_fma, wide_vectors=False, vector_bytes=16)
    monkeypatch.setattr(engine, "this_machine", lambda: lesser)
    parsed = parse("functions")
    runner = LLVMBackend().prepare(Task(infer(parsed), validate(parsed), True))
    assert ("@loopgrad_c_exp(" in runner.text()) is not has_fma
    inputs = inputs_of(parsed, SIZES[-1], "float64", 0)
    call = compile(parsed).bind((), inputs, (None,) * len(parsed.results))
    runner.run(call)
    for found, wanted in zip(("y", "z"), compile(parsed, "interpret")(**inputs), strict=True):
        np.testing.assert_allclose(call.arrays[found], wanted, rtol=1e-12)


def test_typed_pointers_are_written_for_llvm_before_17() -> None:
    parsed = parse("softmax")
    layout = Layout(Task(infer(parsed), validate(parsed), True), Variant("double", False, False))
    module = Module("double", 14, opaque_pointers=False, has_fma=True)
    text = emit(literal(layout.task.facts, layout.task.safety), layout, module)
    assert "double* noalias" in text
    assert "ptr" not in text.replace("getelementptr", "")


# ---------------------------------------------------------------------------------- shared code


def phases_in(text: str) -> int:
    return text.count("define internal i32 @phase")


def test_statements_that_differ_in_names_alone_share_their_code() -> None:
    text = """f(x[B,I], y[B,J], int w[B]) -> p[B,I], q[B,J], r[B], s[B]:
        for b, i:  p[b,i] += tanh(x[b,i])
        for n, j:  q[n,j] += tanh(y[n,j])
        for b:     r[b] = x[b,w[b]]
        for b:     s[b] = y[b,w[b]]"""
    kernel = compile(program(text), optimize=False)
    assert phases_in(LLVMBackend().prepare(kernel.task).text()) == 2
    rng = np.random.default_rng(5)
    x, y, w = rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), np.array([0, 1, 1, 0])
    p, q, r, s = kernel(x, y, w)
    np.testing.assert_allclose(p, np.tanh(x), rtol=1e-14)
    np.testing.assert_allclose(q, np.tanh(y), rtol=1e-14)
    np.testing.assert_array_equal(r, x[range(4), w])
    np.testing.assert_array_equal(s, y[range(4), w])
    with pytest.raises(IndexError, match=r"y\[b,w\[b\]\].* element 2 along"):  # the second's
        kernel(x, y, np.array([0, 1, 2, 0]))


def test_statements_of_a_block_share_their_code_too() -> None:
    text = """f(W[J,J'], V[J,J'], x[T,J]) -> h[T,J], g[T,J]:
        for t:
            for j:      h[t,j] += x[t,j]
            for j, j':  h[t,j] += W[j,j'] * h[t-1,j']   if t > 0
            for j:      g[t,j] += x[t,j]
            for j, j':  g[t,j] += V[j,j'] * g[t-1,j']   if t > 0"""
    parsed = program(text)
    # the block, and two for its four statements
    literal = compile(parsed, optimize=False).task
    assert phases_in(LLVMBackend().prepare(literal).text()) == 3
    rng = np.random.default_rng(6)
    inputs = [rng.normal(size=shape) for shape in ((3, 3), (3, 3), (4, 3))]
    for ours, wanted in zip(
        compile(parsed)(*inputs), compile(parsed, "interpret")(*inputs), strict=True
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-13)


def test_an_error_in_a_block_is_that_of_its_statement() -> None:
    text = """f(x[N], int w[T,B]) -> y[T,B], z[T,B]:
        for t:
            for b:  y[t,b] = x[w[t,b]]
            for b:  z[t,b] = x[w[t,b] + 1]"""
    kernel = compile(program(text))
    w = np.array([[0, 1, 0], [1, 0, 2]])
    with pytest.raises(IndexError, match=r"`x\[w\[t,b\]\+1\]` needs element 3"):
        kernel(np.ones(3), w)
    with pytest.raises(IndexError, match=r"`x\[w\[t,b\]\]` needs element 3"):
        kernel(np.ones(3), w + 3)


def test_a_program_made_again_is_not_compiled_again() -> None:
    text = "f(x[N]) -> y[N]:\n    for n:  y[n] = {0} * x[n] / 7"
    x = np.arange(3.0)
    first, second, other = (compile(program(text.format(number))) for number in (5, 5, 6))
    for kernel in (first, second, other):
        kernel(x)
    code = [next(iter(kernel.runner._compiled.values())).code for kernel in (first, second, other)]
    assert code[0] is code[1]
    assert code[0] is not code[2]


@pytest.mark.parametrize("sizes", [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_a_nest_with_an_empty_loop_does_nothing(sizes: tuple[int, int, int]) -> None:
    b, j, k = sizes
    kernel = compile(program("f(x[B,K], W[J,K]) -> y[B,J]:\n    y[b,j] = W[j,K] * x[b,K]"))
    y = kernel(np.ones((b, k)), np.ones((j, k)))
    np.testing.assert_array_equal(y, np.full((b, j), float(k)))


# --------------------------------------------------------------------------------------- threads


def test_threads_share_a_kernel() -> None:
    parsed = program("f(x[N], int w[N]) -> y[N]:\n    for n:  y[n] = exp(x[w[n]])")
    kernel, failures = compile(parsed), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            x, w = rng.normal(size=2000), rng.integers(0, 2000, 2000)
            if not np.allclose(kernel(x, w), np.exp(x[w])):
                failures.append(seed)
            w[seed] = 5000 + seed
            try:
                kernel(x, w)
                failures.append(seed)
            except IndexError as error:
                if str(5000 + seed) not in str(error):
                    failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_program_of_many_statements() -> None:
    lines = ["f(x[N]) -> y0[N]:"]
    lines += [f"    for n:  y{i}[n] = tanh(y{i + 1}[n]) * x[n]" for i in range(199, 0, -1)]
    text = "\n".join(
        [lines[0], "    for n:  y200[n] = x[n]", *lines[1:], "    for n:  y0[n] = y1[n]"]
    )
    x = np.random.default_rng(1).normal(size=9)
    expected = x
    for _ in range(199):
        expected = np.tanh(expected) * x
    np.testing.assert_allclose(compile(program(text))(x), expected, rtol=1e-11)
