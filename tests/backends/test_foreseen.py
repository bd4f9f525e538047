"""Code is generated in threads of their own, while the program that it is for is still derived."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.kernel import Kernel
from loopgrad.backends.llvm.compiling import engine, objects
from loopgrad.backends.llvm.compiling.ahead import Ahead
from loopgrad.backends.llvm.compiling.passes import FINAL
from loopgrad.backends.llvm.products import library
from loopgrad.functions import reverse
from loopgrad.stable.gate import Gate


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on the disk yet."""
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("LOOPGRAD_CACHE", raising=False)


def twice(name: str) -> str:
    return f"define i64 @{name}(i64 %n) {{ %m = add i64 %n, %n\n ret i64 %m }}"


def test_a_library_may_be_begun_and_finished_later(folder: None) -> None:
    name, what = "loopgrad_test_begun", "a library that is begun"
    engine.begin_library(lambda: twice(name), ((), FINAL, what))
    engine.begin_library(pytest.fail, ((), FINAL, what))  # once is enough
    address = engine.library(pytest.fail, [name], FINAL, what)[name]  # nor is it written again
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(21) == 42
    engine.begin_library(pytest.fail, ((), FINAL, what))


def test_where_code_is_there_nothing_is_begun(folder: None) -> None:
    text, what = twice("loopgrad_test_there"), "a library that is there"
    objects.of_text(objects.key_of_made(what, FINAL), lambda: text, FINAL)
    before = threading.active_count()
    engine.begin_library(pytest.fail, ((), FINAL, what))
    assert threading.active_count() == before


def test_what_failed_in_the_background_is_made_again(
    folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, what = "loopgrad_test_failed", "a library that fails at first"

    def fail(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(objects.Ready, "code", fail)
        engine.begin_library(lambda: twice(name), ((), FINAL, what))
        for thread in threading.enumerate():
            if thread.name == "loopgrad-llvm":
                thread.join()
    assert engine.library(lambda: twice(name), [name], FINAL, what)[name]


@pytest.mark.parametrize(
    ("text", "dtype", "threads", "begun"),
    [
        ("f(A[I,K], B[K,J]) -> C[I,J]:\n    C[i,j] += A[i,k] * B[k,j]", "float32", 2, "float"),
        ("f(A[I,K], B[K,J]) -> C[I,J]:\n    C[i,j] += A[i,k] * B[k,j]", "float64", 2, "double"),
        ("f(A[I,K], B[K,J]) -> C[I,J]:\n    C[i,j] += A[i,k] * B[k,j]", "float32", 1, None),
        ("f(A[I,K], B[K,J]) -> C[I,J]:\n    C[i,j] = A[i,j] + B[i,j]", "float32", 2, None),
        ("f(A[I,K], B[K,J]) -> C[I,J]:\n    C[i,j] += A[i,k] + B[k,j]", "float32", 2, None),
    ],
)
def test_products_are_begun_by_a_call_that_will_need_them(
    text: str, dtype: str, threads: int, begun: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setenv("LOOPGRAD_CACHE", "0")
    monkeypatch.setattr(library, "begin", lambda real, part: asked.append((real, part)))
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    try:
        arrays = np.ones((4, 4), dtype), np.ones((4, 4), dtype)
        lg.program(text)(*arrays)
        lg.vjp(lg.program(text + "  # again"), *arrays)
    finally:
        lg.set_num_threads(before)
    assert set(asked) == ({(begun, "product")} if begun else set())
    assert bool(asked) == bool(begun)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with code, as it is done: it is begun, or made."""
    found: list[str] = []
    goes_on, made = Ahead.goes_on, Ahead.made

    def begins(ahead: Ahead, text: str) -> None:
        found.append("begun")
        goes_on(ahead, text)

    def makes(ahead: Ahead, text: str) -> objects.Object:
        found.append("made")
        return made(ahead, text)

    monkeypatch.setattr(Ahead, "goes_on", begins)
    monkeypatch.setattr(Ahead, "made", makes)
    engine.forget()
    return found


SOFTMAX = """f(s[B,J]) -> p[B,J]:
    for b, j:  Z[b] += exp(s[b,j])
    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]"""


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = lg.get_num_threads()
    lg.set_num_threads(request.param)
    yield request.param
    lg.set_num_threads(before)


@pytest.fixture(params=[False, True])
def refused(
    request: pytest.FixtureRequest, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether certificates refuse what they are asked of; nothing comes from the disk."""
    refuses: bool = request.param
    certified = Gate.is_equal

    def certifies(gate: Gate, form: lg.Program) -> bool:
        order.append("certified")
        return certified(gate, form) and not refuses

    monkeypatch.setenv("LOOPGRAD_CACHE", "0")
    monkeypatch.setattr(Gate, "is_equal", certifies)
    return refuses


def scores(refused: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which only the stable form bears, if it is not refused; and their softmax."""
    s = np.random.default_rng(0).normal(size=(5, 37)) + (0 if refused else 1000)
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return s, p / p.sum(axis=1, keepdims=True)


def test_code_is_begun_while_the_form_that_it_is_for_is_certified(
    threads: int, refused: bool, order: list[str]
) -> None:
    s, p = scores(refused)
    program = lg.program(SOFTMAX)
    np.testing.assert_allclose(program(s), p, rtol=1e-12)
    assert ("max" in str(lg.compile(program).program)) is not refused
    certificates = ["certified"] * order.count("certified")
    assert certificates
    assert order == [*(["begun"] if threads > 1 else []), *certificates, "made"]


def test_code_of_a_pair_is_begun_while_it_is_certified(
    threads: int, refused: bool, order: list[str]
) -> None:
    s, p = scores(refused)
    g = np.random.default_rng(1).normal(size=s.shape)
    found, pullback = lg.vjp(lg.program(SOFTMAX + f"  # {threads}, {refused}"), s)
    (gradient,) = pullback(g)
    np.testing.assert_allclose(found, p, rtol=1e-12)
    np.testing.assert_allclose(gradient, p * (g - (p * g).sum(axis=1, keepdims=True)), atol=1e-12)
    two = ["begun", "begun"] if threads > 1 else []
    certificates = ["certified"] * order.count("certified")
    assert certificates
    assert order == [*two, *certificates, *(two if refused else []), "made", "made"]


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_a_pair_that_could_not_be_begun_with_runs(
    threads: int, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong with it: nothing is left half done."""
    monkeypatch.setenv("LOOPGRAD_CACHE", "0")
    failing = [RuntimeError("the first time")]
    found = reverse.compile_returning

    def fails(*arguments: Any) -> Kernel:
        if failing:
            raise failing.pop()
        return found(*arguments)

    monkeypatch.setattr(reverse, "compile_returning", fails)
    s, p = scores(refused=False)
    result, pullback = lg.vjp(lg.program(SOFTMAX + "  # fails"), s)
    (gradient,) = pullback(s)
    assert not failing
    assert order == ["begun", "begun", "made", "made"]
    np.testing.assert_allclose(result, p, rtol=1e-12)
    np.testing.assert_allclose(gradient, p * (s - (p * s).sum(axis=1, keepdims=True)), atol=1e-9)


PRODUCT = """f(x[B,I], w[I,J]) -> y[B,J]:
    for b, j, i:  z[b,j] += x[b,i] * w[i,j]
    for b, j:     y[b,j] += tanh(z[b,j])"""


def test_the_backward_is_begun_before_the_forward_runs(
    threads: int, folder: None, order: list[str]
) -> None:
    random = np.random.default_rng(0)
    x, w, g = random.normal(size=(5, 7)), random.normal(size=(7, 11)), random.normal(size=(5, 11))
    for expected in (["begun", "begun"] if threads > 1 else []) + ["made", "made"], []:
        order.clear()
        y, pullback = lg.vjp(lg.program(PRODUCT), x, w)
        of_x, of_w = pullback(g)
        assert order == expected  # the second time all is there
        seed = g * (1 - y**2)
        np.testing.assert_allclose(of_x, seed @ w.T, rtol=1e-12)
        np.testing.assert_allclose(of_w, x.T @ seed, rtol=1e-12)


def test_what_does_not_fit_is_refused_by_the_call_whose_code_was_begun() -> None:
    program = lg.program(PRODUCT + "  # refused")
    with pytest.raises(ValueError, match=r"extent `I` is 7 .* but 6"):
        lg.vjp(program, np.ones((5, 7)), np.ones((6, 11)))
    assert lg.vjp(program, np.ones((5, 7)), np.ones((7, 11)))[0].shape == (5, 11)
