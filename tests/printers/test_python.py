"""`to("python")`: one function that needs NumPy alone, and computes what the interpreter computes."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.printers.identifiers import Identifiers, legal
from tests.programs.test_corpus import CORPUS, NAMES, _inputs


def function(program: lg.Program) -> Callable[..., Any]:
    """The printed function, made from its source text alone."""
    source = program.to("python")
    names: dict[str, Any] = {}
    exec(compile(source, program.name, "exec"), names)
    (found,) = (v for v in names.values() if getattr(v, "__module__", "") is None or callable(v))
    made: Callable[..., Any] = found
    return made


def same(program: lg.Program, *inputs: Any, **constants: Any) -> Any:
    """Runs the printed function and the interpreter on the inputs; they have to agree."""
    got = function(program)(*inputs, **constants)
    named = dict(zip((i.name for i in program.inputs), inputs, strict=True))
    wanted = lg.compile(program, backend="interpret")(**named, **constants)
    many = len(program.results) > 1
    for g, w in zip(got if many else [got], wanted if many else [wanted], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-13)
        assert (np.asarray(g).dtype, np.shape(g)) == (w.dtype, w.shape)
    return got


def program(text: str) -> lg.Program:
    return lg.program(text)


@pytest.mark.parametrize("name", NAMES)
def test_backwards_of_programs_that_people_write(name: str) -> None:
    rng = np.random.default_rng(4)
    inputs, constants = _inputs(name, rng)
    written = CORPUS[name]
    backward = written.backward(recompute=True)
    results = lg.compile(written, backend="interpret")(**inputs, **constants)
    results = results if isinstance(results, tuple) else (results,)
    for result, value in zip(written.results, results, strict=True):
        inputs[f"{result.name}.grad"] = rng.normal(size=value.shape)
    values = [inputs[i.name] for i in backward.inputs]
    got = function(backward)(*values, **_identified(backward, constants))
    wanted = lg.compile(backward, backend="interpret")(
        **{i.name: inputs[i.name] for i in backward.inputs}, **constants
    )
    many = len(backward.results) > 1
    for g, w in zip(got if many else [got], wanted if many else [wanted], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


def _identified(written: lg.Program, constants: dict[str, Any]) -> dict[str, Any]:
    return {legal(name): value for name, value in constants.items()}


def test_the_text_is_the_loops_one_can_step_through() -> None:
    softmax = program(
        "softmax(s[B,J]) -> p[B,J]:\n"
        "    for b, j:  Z[b]   += exp(s[b,j])\n"
        "    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]"
    )
    assert (
        softmax.to("python")
        == '''import numpy as np


@np.errstate(all="ignore")
def softmax(s):
    """
    softmax(s[B,J]) -> p[B,J]:
        for b, j:  Z[b]   += exp(s[b,j])
        for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    """
    s = np.asarray(s)
    dtype = np.result_type(s)
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    s = np.asarray(s, dtype)
    B, J = s.shape

    # for b, j:  Z[b] += exp(s[b,j])
    Z = np.zeros((B,), dtype)
    for b in range(B):
        for j in range(J):
            Z[b] += np.exp(s[b, j])

    # for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    p = np.zeros((B, J), dtype)
    for b in range(B):
        for j in range(J):
            p[b, j] += np.exp(s[b, j]) / Z[b]
    return p
'''.rstrip("\n")
    )


def test_it_runs_where_there_is_no_loopgrad(tmp_path: Any) -> None:
    double = program("double(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]")
    file = tmp_path / "double.py"
    file.write_text(double.to("python") + "\nprint(double([1.0, 2.5]))\n", encoding="utf-8")
    code = f"import sys; sys.modules['loopgrad'] = None; exec(open({str(file)!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[2. 5.]\n"


def test_names_become_identifiers_that_the_docstring_explains() -> None:
    text = (
        "lambda'(x'[N], s.grad[N], s_grad[N], at, np[N], ℵ = 2.0) -> μ[N]:\n"
        "    for n:  μ[n] += x'[n] * s.grad[n] - s_grad[n] * at + np[n] * ℵ"
    )
    odd = program(text)
    made = function(odd)
    assert made.__name__ == "lambda_prime"
    arguments = ["x_prime", "s_grad", "s_grad_", "at_", "np_", "א"]
    assert list(inspect.signature(made).parameters) == arguments
    assert "x' is x_prime here." in str(made.__doc__)
    rng = np.random.default_rng(0)
    a, b, c, d = rng.normal(size=(4, 3))
    np.testing.assert_allclose(made(a, b, c, 0.5, d), a * b - c * 0.5 + d * 2.0)


@pytest.mark.parametrize("name", ["x", "x'", "x''.grad'", "a.b", "class", "print", "µ", "ﬁ", "T2"])
def test_every_name_gets_a_legal_identifier_of_its_own(name: str) -> None:
    names = Identifiers()
    got = [names.of("tensor", n) for n in (name, name.replace("'", "_prime"), name)]
    assert all(g.isidentifier() for g in got)
    assert got[0] == got[2]
    ast.parse(f"{got[0]} = 1")


def test_division_is_real_and_never_raises() -> None:
    text = (
        "f(x[N], k = 0) -> y[N], z[N]:\n"
        "    for n:  y[n] += x[n] / (N - 3) + n / (N - 2)\n"
        "    for n:  z[n] += 1 / k + (0 / n) ** 2 + 7 / 2"
    )
    y, z = same(program(text), np.array([1.0, -1.0, 0.5]))
    assert np.isinf(y).any()
    assert np.isinf(z).any() or np.isnan(z).any()


def test_powers_are_real_where_the_notation_says_so() -> None:
    text = (
        "f(x[N], c = -8.0, k = 2) -> a[N], b[N], d[N], e[N]:\n"
        "    for n:  a[n] += x[n] ** 2 + 2 ** x[n] + x[n] ** 0.5\n"
        "    for n:  b[n] += c ** (1 / 3) + (c * 0.0) ** -1\n"
        "    for n:  d[n] += N ** -1 + n ** 2 + k ** n\n"
        "    for n:  e[n] += (n if n > 0 else 0.5) ** -1"
    )
    same(program(text), np.array([0.0, 2.0, -1.0]))


def test_an_integer_to_a_negative_power_is_an_error() -> None:
    f = program("f(int k[N]) -> y[N]:\n    for n:  y[n] += 2 ** k[n] / 1")
    same(f, [0, 3])
    with pytest.raises(ValueError, match="no integer"):
        function(f)([1, -1])


def test_truth_values_count_as_numbers() -> None:
    text = (
        "f(x[N], bool m[N], int w[N]) -> y[N], z[N], c:\n"
        "    for n:  y[n] += (x[n] > 0) + (x[n] > 1) - m[n] * 3\n"
        "    for n:  z[n] += 2 if w[n] and not m[n] else -(x[n] == x[n])\n"
        "    for n:  c    += m[n] == (w[n] > 0)"
    )
    same(program(text), [0.5, 2.0, np.nan], [True, False, True], [3, 0, -2])


def test_the_branch_not_taken_is_not_evaluated() -> None:
    text = (
        "f(x[N]) -> y[N], z:\n"
        "    for n:  y[n] += x[n-1] if n > 0 else 0\n"
        "    for n:  z    += sqrt(x[n])   if x[n] >= 0"
    )
    same(program(text), [4.0, -1.0, 9.0])


def test_subscripts_from_data_never_wrap_around() -> None:
    f = program("f(x[N], int w[M]) -> y[M]:\n    for m:  y[m] += x[w[m]]")
    same(f, [1.0, 2.0, 3.0], [2, 0])
    for outside in (-1, 3):
        with pytest.raises(IndexError, match=f"{outside} is out of range for axis 0 of x"):
            function(f)([1.0, 2.0, 3.0], [0, outside])


def test_scatters_and_descending_and_dependent_ranges() -> None:
    text = (
        "f(x[N], int w[N], size K) -> s[K], c[N], t:\n"
        "    for n:                s[w[n]] += x[n]\n"
        "    for n:\n"
        "        c[n] = x[n] + (c[n-1] if n > 0 else 0)\n"
        "    for n descending:\n"
        "        r[n] = x[n] * (r[n+1] if n < N-1 else 1)\n"
        "    for n, m <= n, k < w[n]:  t += x[m] * k * r[n]"
    )
    same(program(text), [1.0, 2.0, 4.0], [1, 0, 1], K=2)


def test_reductions_start_at_their_identities() -> None:
    text = (
        "f(x[N,M], int w[N,M]) -> a[N], b[N], p[N], i[N], j[N], q:\n"
        "    for n, m:  a[n] max= x[n,m]\n"
        "    for n, m:  b[n] min= x[n,m]\n"
        "    for n, m:  p[n] *= x[n,m]\n"
        "    for n, m:  i[n] max= w[n,m]\n"
        "    for n, m:  j[n] min= w[n,m]\n"
        "    for n, m:  q    *= w[n,m]"
    )
    rng = np.random.default_rng(1)
    for shape in ((2, 3), (2, 0), (0, 3), (1, 1)):
        same(program(text), rng.normal(size=shape), rng.integers(-5, 5, shape))


def test_what_hangs_on_data_is_watched_as_by_the_backends() -> None:
    text = (
        "tree(x[N], int parent[N]) -> total[N]:\n"
        "    for n:  total[n] = x[n]\n"
        "    for n descending:\n"
        "        total[parent[n]] += total[n]   if n > 0"
    )
    tree = program(text)
    assert "begin(" in tree.to("python")
    same(tree, [1.0, 2.0, 4.0, 8.0], [0, 0, 1, 1])
    for parent in ([0, 2, 0, 0], [0, 0, 2, 0]):
        with pytest.raises(ValueError):
            lg.compile(tree, backend="interpret")([1.0, 2.0, 4.0, 8.0], parent)
        with pytest.raises(ValueError, match=r"after it was read|by the statement that writes it"):
            function(tree)([1.0, 2.0, 4.0, 8.0], parent)


def test_shapes_and_kinds_are_checked() -> None:
    f = function(
        program(
            "f(x[N,N], W[N,M], int w[M], bool m[M], stride = 2) -> y[N]:\n"
            "    for n, k:  y[n] += W[n,k] * x[n,n] * w[k] * stride   if m[k]"
        )
    )
    x, W, w, m = np.ones((2, 2)), np.ones((2, 3)), np.ones(3, int), np.ones(3, bool)
    f(x, W, w, m)
    with pytest.raises(ValueError, match="x has shape"):
        f(np.ones((2, 3)), W, w, m)
    with pytest.raises(ValueError, match="W has shape"):
        f(x, np.ones((3, 3)), w, m)
    with pytest.raises(TypeError, match="w has to hold integers"):
        f(x, W, w * 1.5, m)
    with pytest.raises(TypeError, match="m has to hold truth values"):
        f(x, W, w, w)
    with pytest.raises(TypeError, match="stride has to be an integer"):
        f(x, W, w, m, stride=1.5)


def test_single_precision_stays_single_and_numbers_are_weak() -> None:
    f = program("f(x[N], a) -> y[N], t:\n    for n:  y[n] += a * x[n]\n    for n:  t += x[n] / 3")
    for x in (np.ones(2, np.float32), np.ones(2), np.ones(2, np.int32)):
        y, t = function(f)(x, 0.1)
        wanted = f(x, 0.1)
        assert y.dtype == wanted[0].dtype and t.dtype == wanted[1].dtype
        np.testing.assert_allclose(y, wanted[0], rtol=1e-6)


def test_helper_functions_have_the_values_of_the_backends() -> None:
    functions = "exp log log1p expm1 sqrt rsqrt tanh sigmoid relu softplus erf sin cos abs sign"
    calls = [f"{name}(x[n])" for name in functions.split()]
    calls += ["stop_gradient(x[n])", "max(x[n], 0.5)", "min(x[n], n)", "floor(3*tanh(x[n]))", "pi"]
    body = "\n".join(f"    for n:  y[{k},n] = {call}" for k, call in enumerate(calls))
    f = program(f"f(x[N]) -> y[{len(calls)},N]:\n{body}")
    same(f, np.array([-800.0, -2.0, -0.0, 0.0, 0.3, 40.0, 800.0, np.inf, -np.inf]))


def test_integer_functions() -> None:
    calls = ["relu(w[n])", "abs(w[n])", "sign(w[n])", "floor(w[n])", "max(w[n], 2)", "min(w[n], n)"]
    calls += ["w[n] // 3", "w[n] % 3", "-w[n]", "max(w[n], N) ** 2"]
    body = "\n".join(f"    for n:  y[{k},n] = {call}" for k, call in enumerate(calls))
    y = same(program(f"f(int w[N]) -> y[{len(calls)},N]:\n{body}"), [-7, 0, 4])
    assert y.dtype == np.int64


def test_nan_goes_through_maxima() -> None:
    f = program("f(x[N]) -> m, r:\n    for n:  m max= x[n]\n    for n:  r += relu(x[n])")
    same(f, [1.0, np.nan, 3.0])


def test_loops_too_deep_for_python_are_refused() -> None:
    extents = [f"E{k}" for k in range(18)]
    subscripts = ",".join(e.lower() for e in extents)
    deep = program(f"f(x[{','.join(extents)}]) -> y:\n    y += x[{subscripts}]")
    with pytest.raises(ValueError, match="as deep as"):
        deep.to("python")


def test_integers_never_wrap_around() -> None:
    f = program("f(int w[N]) -> s, p:\n    for n:  s -= w[n] - 2 * w[n]\n    for n:  p *= w[n] + 1")
    same(f, [2**61, 2])
    for large in ([2**62, 2**62], [2**62, 4]):
        with pytest.raises((ValueError, OverflowError)):
            lg.compile(f, backend="interpret")(large)
        with pytest.raises(OverflowError):
            function(f)(large)
