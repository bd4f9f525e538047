"""Printed C: it compiles without a warning, and computes what the interpreter does."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.pipeline import verify
from loopgrad.printers.c import c_files
from loopgrad.printers.c_functions import Exported
from loopgrad.printers.c_names import legal
from tests.derivatives import as_tuple
from tests.effort import sample
from tests.lib.test_library import ROWS, of
from tests.printers.c_running import Compiled
from tests.strategies import Drawn, programs
from tests.test_properties import parse

FULL = bool(os.environ.get("LOOPGRAD_FULL"))
CHOSEN = list(ROWS) if FULL else sample(list(ROWS), 20)
RNG = np.random.default_rng(5)


def identifier(name: str) -> str:
    return legal(name) + "_"


def outcome(program: lg.Program, inputs: Any, numbers: Any) -> Any:
    known = {a.name for a in program.arguments}
    given = {k: v for k, v in {**inputs, **numbers}.items() if k in known}
    return as_tuple(lg.compile(program, backend="interpret")(**given))


def tolerance(dtype: Any) -> dict[str, float]:
    return {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}


def compare(compiled: Compiled, name: str, program: lg.Program, inputs: Any, numbers: Any) -> None:
    code, got = compiled.call(name, inputs, numbers)
    assert code == 0, (name, code)
    for g, w in zip(got, outcome(program, inputs, numbers), strict=True):
        assert g.shape == np.shape(w)
        np.testing.assert_allclose(g, w, **tolerance(compiled.real), err_msg=str(program))


def calls_of(rows: list[str], real: str) -> dict[str, Any]:
    """For rows of the library's tables and their gradients: program, inputs, numbers."""
    calls: dict[str, Any] = {}
    for row in rows:
        program, inputs, numbers = of(row, seed=1)
        if real == "float":
            inputs = {k: np.float32(v) if v.dtype.kind == "f" else v for k, v in inputs.items()}
        calls[identifier(row)] = program, inputs, numbers
        results = as_tuple(program(**inputs, **numbers))
        if all(np.asarray(r).dtype.kind != "f" for r in results):
            continue
        backward = verify(program.backward(recompute=True), warn=False)
        seeds = {
            i.name: RNG.normal(size=np.shape(r)).astype(np.asarray(r).dtype)
            for i, r in zip(backward.inputs[len(program.inputs) :], results, strict=False)
        }
        calls[identifier(row) + "grad"] = backward, {**inputs, **seeds}, numbers
    return calls


def check(calls: dict[str, Any], folder: Path, real: str, by_llvm: bool) -> None:
    functions = [Exported(name, program) for name, (program, *_) in calls.items()]
    compiled = Compiled(folder, functions, real, by_llvm=by_llvm)
    for name, call in calls.items():
        compare(compiled, name, *call)


@pytest.mark.parametrize("real", ["double", "float"])
def test_the_library_and_its_gradients(real: str, tmp_path: Path) -> None:
    rows = CHOSEN if real == "double" or FULL else CHOSEN[::4]
    check(calls_of(rows, real), tmp_path, real, by_llvm=False)


@pytest.mark.parametrize("real", ["double", "float"])
def test_the_library_as_objects_of_llvm(real: str, tmp_path: Path) -> None:
    rows = (
        CHOSEN
        if FULL
        else ["affine", "embedding", "causal_attention"][: 3 if real == "double" else 1]
    )
    check(calls_of(rows, real), tmp_path, real, by_llvm=True)


def test_what_nobody_reads_is_no_warning(tmp_path: Path) -> None:
    with pytest.warns(lg.ProgramWarning, match="`t`"):
        program = lg.program("f(a[B]) -> y[B]:\n    t = 3.0\n    for b:  y[b] = a[b]")
    compiled = Compiled(tmp_path, [Exported("f", program)], "double")
    compare(compiled, "f", program, {"a": RNG.normal(size=5)}, {})


# Where the interpreter raises, the code that is returned.
CODES = {
    IndexError: 16,
    ZeroDivisionError: 128,
}
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(st.lists(programs(smallest=0), min_size=4, max_size=4))
@settings(max_examples=40 if FULL else 3, deadline=None, suppress_health_check=SLOW)
def test_random_programs_and_their_gradients(many: list[Drawn]) -> None:
    calls: dict[str, Any] = {}
    for k, drawn in enumerate(many):
        program, inputs = parse(drawn)
        calls[f"f{k}"] = program, inputs
        backward = verify(program.backward(recompute=True), warn=False)
        try:
            results = as_tuple(lg.compile(program, backend="interpret")(**inputs))
        except IndexError:
            continue
        rng = np.random.default_rng(drawn.seed)
        by_name = dict(zip([r.name for r in program.results], results, strict=True))
        seeds = {
            i.name: rng.normal(size=np.shape(by_name[i.name.removesuffix(".grad")]))
            for i in backward.inputs
            if i.name not in inputs
        }
        calls[f"f{k}_grad"] = backward, {**inputs, **seeds}
    with tempfile.TemporaryDirectory() as folder:
        functions = [Exported(name, program) for name, (program, _) in calls.items()]
        compiled = Compiled(Path(folder), functions, "double")
    for name, (program, inputs) in calls.items():
        try:
            outcome(program, inputs, {})
        except IndexError:
            assert compiled.call(name, inputs, {})[0] == CODES[IndexError]
        else:
            compare(compiled, name, program, inputs, {})


# ------------------------------------------------------------------------------- what can go wrong

WRONG: list[tuple[str, dict[str, Any], int]] = [
    ("f(int w[N], E[V]) -> y[N]:\n    for n:  y[n] = E[w[n]]", {"w": [0, 3], "E": [1.0, 2, 3]}, 16),
    ("f(int w[N], E[V]) -> y[N]:\n    for n:  y[n] = E[w[n]]", {"w": [0, -1], "E": [1.0]}, 16),
    ("f(int w[N]) -> y[N]:\n    for n:  y[w[n]] += n", {"w": [0, 2]}, 16),
    ("f(int w[N]) -> c:\n    for n:  c += w[n] * w[n]", {"w": [2**40]}, 256),
    ("f(int w[N]) -> c:\n    for n:  c += w[n]", {"w": [2**63 - 1, 1]}, 256),
    ("f(int w[N]) -> c:\n    for n:  c -= -w[n]", {"w": [-(2**63)]}, 256),
    ("f(int w[N]) -> c:\n    for n:  c += 7 // w[n]", {"w": [0]}, 128),
    ("f(int w[N]) -> c:\n    for n:  c += 7 % w[n]", {"w": [0]}, 128),
    ("f(int w[N]) -> c:\n    for n:  c += 7 ** w[n]", {"w": [-1]}, 64),
    ("f(int w[N]) -> c:\n    for n:  c += 7 ** w[n]", {"w": [30]}, 256),
    ("f(x[N]) -> c:\n    for n:  c += floor(x[n])", {"x": [np.nan]}, 64),
    ("f(x[N]) -> c:\n    for n:  c += floor(x[n])", {"x": [1e30]}, 64),
    ("f(int w[N], x[N]) -> y[N]:\n    for n:  y[w[n]] = x[n]", {"w": [1, 1], "x": [1.0, 2]}, 32),
    (
        "f(int w[N], x[N]) -> y[N]:\n    for n:\n        y[w[n]] = x[n] + (y[w[n]-1] if w[n] > 0 else 0)",
        {"w": [1, 0], "x": [1.0, 2]},
        32,
    ),
]
RIGHT: list[tuple[str, dict[str, Any]]] = [
    (text, inputs)
    for text, inputs in [
        (
            "f(int w[N], x[N]) -> y[N], s:\n"
            "    for n:\n        y[w[n]] = x[n] + (y[w[n]-1] if w[n] > 0 else 0)\n    for n:  s += y[n]",
            {"w": [0, 1], "x": [1.0, 2]},
        ),
        (
            "f(int a[N], int b[N]) -> q[N], r[N], p[N], m, h:\n"
            "    for n:  q[n] = a[n] // b[n]\n    for n:  r[n] = a[n] % b[n]\n    for n:  p[n] = abs(a[n]) ** 3\n"
            "    for n:  m max= a[n]\n    for n:  h min= sign(a[n]) * relu(b[n])",
            {"a": [7, -7, 7, -7, 0], "b": [2, 2, -2, -2, -3]},
        ),
        (
            "f(x[N], y[N], bool m[N]) -> a[N], b[N], c[N], d[N], e[N]:\n"
            "    for n:  a[n] = max(x[n], y[n]) + min(x[n], y[n])\n"
            "    for n:  b[n] = sign(x[n]) * relu(y[n]) if m[n] else rsqrt(abs(y[n])) / pi\n"
            "    for n:  c[n] = sigmoid(x[n]) - softplus(y[n]) + x[n]**2 + abs(x[n])**1.5\n"
            "    for n:  d[n] = (1 if 0 < x[n] <= y[n] or not m[n] else 2) / 3\n"
            "    for n:  e[n] += floor(x[n]) // 2 + n",
            {
                "x": [0.0, -1.5, 800.0, -800.0, 2.5],
                "y": [1.0, -2.0, 1.0, 3.0, 2.5],
                "m": [True, False, True, False, True],
            },
        ),
        ("f(x[N]) -> a, b:\n    for n:  a max= x[n]\n    for n:  b *= x[n]", {"x": []}),
        (
            "f(x[N]) -> a, b:\n    for n:  a max= x[n]\n    for n:  b min= x[n]",
            {"x": [1.0, np.nan, 2]},
        ),
        ("f(x[N], y) -> z:\n    t = y * 2\n    for n:  z += x[n] * t", {"x": [1.0, 2], "y": 3.0}),
        (
            "f(x[T], int n) -> h[T]:\n    for 0 <= t < T-1 descending:\n"
            "        h[t] = x[t] + h[t+1] * 0.5 if t < n else x[t]",
            {"x": [1.0, 2, 3, 4], "n": 2},
        ),
        (
            "f(x[T]) -> L:\n    for t < T-1:  d[t] = x[t+1] - x[t]\n    for t < T-1:  L += d[t]",
            {"x": []},
        ),
        (
            "f(int n[B], x[B,T]) -> s[B]:\n    for b, t < n[b]:  s[b] += x[b,t]",
            {"n": [2, 0], "x": [[1.0, 2], [3, 4]]},
        ),
    ]
]


def as_arrays(inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in inputs.items()}


@pytest.mark.parametrize("by_llvm", [False, True])
def test_what_goes_wrong_is_a_code(by_llvm: bool, tmp_path: Path) -> None:
    programs = [verify(lg.program(text), warn=False) for text, *_ in WRONG]
    functions = [Exported(f"f{k}", p) for k, p in enumerate(programs)]
    compiled = Compiled(tmp_path, functions, "double", by_llvm=by_llvm)
    for k, (text, inputs, wanted) in enumerate(WRONG):
        with pytest.raises((IndexError, ValueError, ZeroDivisionError)):
            outcome(programs[k], as_arrays(inputs), {})
        assert compiled.call(f"f{k}", as_arrays(inputs), {})[0] == wanted, text


@pytest.mark.parametrize("by_llvm", [False, True])
def test_constructs(by_llvm: bool, tmp_path: Path) -> None:
    programs = [lg.program(text) for text, _ in RIGHT]
    functions = [Exported(f"f{k}", p) for k, p in enumerate(programs)]
    compiled = Compiled(tmp_path, functions, "double", by_llvm=by_llvm)
    for k, (_, inputs) in enumerate(RIGHT):
        compare(compiled, f"f{k}", programs[k], as_arrays(inputs), {})


@pytest.mark.parametrize("by_llvm", [False, True])
def test_extents_and_constants_that_do_not_fit(by_llvm: bool, tmp_path: Path) -> None:
    pool = lg.lib.mean_pool2d
    compiled = Compiled(tmp_path, [Exported("pool", pool)], "double", by_llvm=by_llvm)
    call = compiled._library.pool
    types = [ctypes.c_int64] * 5 + [ctypes.c_void_p] * 2
    call.argtypes = types
    assert call(0, 1, 1, 1, 2, None, None) == 0
    assert call(-1, 1, 1, 1, 2, None, None) == 2
    assert call(2**40, 1, 1, 1, 2, None, None) == 4
    assert call(1, 1, 1, 1, 2**20, None, None) == 4
    assert call(1, 1, 1, 1, 0, None, None) == 8


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    text = "f(x[N], y[M]) -> s:\n    for n, m:  t[n,m] = x[n] * y[m]\n    for n, m:  s += t[n,m]"
    compiled = Compiled(tmp_path, [Exported("f", lg.program(text))], "double")
    call = compiled._library.f
    call.argtypes = [ctypes.c_int64] * 2 + [ctypes.c_void_p] * 3
    assert call(2**39, 2**39, None, None, None) == 1
    assert call(2**39, 2**20, None, None, None) == 1


@pytest.mark.parametrize("options", [("-fopenmp",), ("-O3", "-march=native")])
def test_with_threads_and_with_vectors(options: tuple[str, ...], tmp_path: Path) -> None:
    program = lg.lib.causal_attention
    shape = (2, 2, 40, 16)
    inputs = {i.name: RNG.normal(size=shape) for i in program.inputs}
    lookup = lg.program("f(int w[N], E[V,K]) -> y[N,K]:\n    for n, k:  y[n,k] = E[w[n],k]")
    functions = [Exported("attend", program), Exported("look", lookup)]
    compiled = Compiled(tmp_path, functions, "double", *options)
    code, (got,) = compiled.call("attend", inputs, {})
    assert code == 0
    np.testing.assert_allclose(got, program(**inputs), rtol=1e-10, atol=1e-12)
    w, E = RNG.integers(0, 9, 5000), RNG.normal(size=(9, 10))
    code, (got,) = compiled.call("look", {"w": w, "E": E}, {})
    assert code == 0
    np.testing.assert_array_equal(got, E[w])
    w[4711] = 9
    assert compiled.call("look", {"w": w, "E": E}, {})[0] == 16


@pytest.mark.parametrize("by_llvm", [False, True])
def test_names_become_identifiers_that_differ(by_llvm: bool, tmp_path: Path) -> None:
    text = """f'(γ[N], gamma[N], x'[N], x_prime[N], exp_[N], i[N], error, size int, double = 2.0) -> end[N], γ'[N]:
    for n:  end[n] = γ[n] + 2 * gamma[n] + 4 * x'[n] + 8 * x_prime[n] + 16 * exp_[n] + 32 * i[n] + error
    for n, k < int:  γ'[n] += double * end[n]"""
    text = text.replace("size int", "size K").replace("k < int", "k < K")
    program = lg.program(text)
    compiled = Compiled(tmp_path, [Exported("f_prime", program)], "double", by_llvm=by_llvm)
    names = ["γ", "gamma", "x'", "x_prime", "exp_", "i"]
    inputs = {name: RNG.normal(size=3) for name in names} | {"error": np.float64(0.5)}
    compare(compiled, "f_prime", program, inputs, {"K": 2, "double": 3.0})


def test_comments_cannot_be_broken_out_of() -> None:
    program = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]*2")
    _, source = c_files("f", [Exported("f", program, about="*/ int evil; /*")])
    assert "*/ int evil" not in source


def test_the_header_is_for_cpp_too(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("this system has no C++ compiler")
    header, _ = c_files("f", [Exported("f", lg.lib.layer_norm)])
    (tmp_path / "f.h").write_text(header, encoding="utf-8")
    (tmp_path / "f.cpp").write_text('#include "f.h"\nauto g = f;\n')
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-pedantic", "-fsyntax-only", "f.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_what_is_printed() -> None:
    """The whole of a small one, as a reader sees it."""
    golden = Path(__file__).with_name("golden") / "softmax.c"
    header, source = c_files("softmax", [Exported("softmax", lg.lib.softmax, about="Softmax.")])
    found = f"{header}\n{source}"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")
