"""Threads share rows, and add to copies, where that is less than to have all rows in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.formulas import evaluate
from loopgrad.backends.llvm.calling.savings import savings
from loopgrad.backends.llvm.calling.shaping import Fitted, Shaping
from loopgrad.backends.llvm.writing import layout
from loopgrad.pipeline import stable
from loopgrad.schedule import Scheduled
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.specializing import made_for
from loopgrad.schedule.tree import Fused, Scope
from tests.derivatives import as_tuple
from tests.effort import sample
from tests.literal import literally
from tests.schedule import walking
from tests.schedule.test_memory import stated, threads
from tests.schedule.test_walking import interpreted

HEAD = """\
head(q[T,D], k[T,D], v[T,E]) -> y[T,E]:
    for t, u, d:  s[t,u] += q[t,d] * k[u,d] / sqrt(D)
    for t, u:     m[t]   max= s[t,u]
    for t, u:     Z[t]   += exp(s[t,u] - m[t])
    for t, u, e:  y[t,e] += exp(s[t,u] - m[t]) / Z[t] * v[u,e]
"""
CROSS = HEAD.replace("k[T,D], v[T,E]", "k[U,D], v[U,E]").replace("head", "cross")
CAUSAL = HEAD.replace("u, ", "u <= t, ").replace("u:", "u <= t:").replace("head", "causal")
BANDED = CAUSAL.replace("u <= t", "max(t - 4, 0) <= u <= t").replace("causal", "banded")
SEEN = """\
seen(q[T,D], k[U,D], v[U,E], bool see[U]) -> y[T,E]:
    for t, u, d:  s[t,u] += q[t,d] * k[u,d]             if see[u]
    for t, u:     Z[t]   += exp(s[t,u])                 if see[u]
    for t, u, e:  y[t,e] += exp(s[t,u]) / Z[t] * v[u,e]   if see[u]
"""
BIASED = """\
biased(q[B,T,D], k[B,U,D], v[B,U,E], w[T,U]) -> y[B,T,E]:
    for b, t, u:     s[b,t,u] += w[t,u]
    for b, t, u, d:  s[b,t,u] += q[b,t,d] * k[b,u,d]
    for b, t, u:     Z[b,t]   += exp(s[b,t,u])
    for b, t, u, e:  y[b,t,e] += exp(s[b,t,u]) / Z[b,t] * v[b,u,e]
"""
SIGMOID = """\
sigmoidal(q[T,D], k[U,D], v[U,E]) -> y[T,E]:
    for t, u, d:  s[t,u] += q[t,d] * k[u,d]
    for t, u, e:  y[t,e] += sigmoid(s[t,u]) * v[u,e]
"""
ENTROPY = """\
entropy(x[T,D], W[U,D], int label[T]) -> loss[T]:
    for t, u, d:  s[t,u] += x[t,d] * W[u,d]
    for t, u:     Z[t]   += exp(s[t,u])
    for t:        loss[t] = log(Z[t]) - s[t,label[t]]
"""
CONTRAST = """\
contrast(x[T,D], y[T,D]) -> loss[T]:
    for t, u, d:  s[t,u] += 3 * x[t,d] * y[u,d]
    for t, u:     Z[t]   += exp(s[t,u])
    for t:        loss[t] = log(Z[t]) - s[t,t]
"""
PROGRAMS = [HEAD, CROSS, CAUSAL, BANDED, SEEN, BIASED, SIGMOID, ENTROPY, CONTRAST, *(
    str(lg.lib[name]) for name in ("attention", "causal_attention", "alibi_attention")
)]  # fmt: skip


def named(text: str) -> str:
    return text.partition("(")[0]


def sizes_of(program: lg.Program, **sizes: int) -> dict[str, int]:
    return {name: sizes.get(name, 1) for name in infer(program).extents}


def fitted(program: lg.Program, sizes: dict[str, int], threads: int = 2) -> Fitted:
    shaping = Shaping((), (), frozenset(), savings=savings(infer(program)))
    return shaping.fitted(sizes, layout.PLENTY, threads)


def scheduled(program: lg.Program, found: Fitted) -> Scheduled:
    facts, safety = infer(program), validate(program)
    return made_for(facts, safety, dict(found.constants), (), Choices(copies=found.copies))


@contextmanager
def always() -> Iterator[None]:
    from loopgrad.backends.llvm.calling.savings import Saving

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Saving, "pays", lambda self, sizes, threads: all(sizes[n] == 1 for n in self.batch)
        )
        yield


@pytest.mark.parametrize("text", PROGRAMS, ids=named)
def test_nothing_grows_with_the_square(text: str) -> None:
    """But for what is given, and wanted."""
    program = stable(lg.program(text).backward(recompute=True))
    found = fitted(program, sizes_of(program, T=4096, U=3000, D=64, E=40))
    assert "T" in found.copies
    schedule = scheduled(program, found)
    for phase in schedule.phases:
        assert isinstance(phase, Fused)
        for buffer in phase.buffers:
            if (
                schedule.tensors[buffer.tensor].role != "result"
                and buffer.scope is not Scope.REGISTER
            ):
                axes = [str(getattr(axis.extent, "name", "")) for axis in buffer.axes]
                assert sum(axis in ("T", "U") for axis in axes) < 2, show(schedule)
    copied = [b.tensor for p in schedule.phases for b in p.buffers if b.scope is Scope.PARTIAL]  # type: ignore[union-attr]
    assert len(copied) >= 2


def test_a_call_s_sizes_decide() -> None:
    program = stable(lg.program(HEAD).backward(recompute=True))
    assert fitted(program, {"T": 4096, "D": 64, "E": 64}) == Fitted((), (), ("T",))
    assert not fitted(program, {"T": 400, "D": 64, "E": 64})
    assert not fitted(program, {"T": 4096, "D": 64, "E": 600})
    assert fitted(program, {"T": 400, "D": 64, "E": 64}, threads=1).copies == ("T",)
    assert not fitted(program, {"T": 4096, "D": 64, "E": 64}, threads=32)
    batched = stable(lg.lib.attention.backward(recompute=True))
    sizes = {"B": 1, "H": 1, "T": 4096, "U": 77, "D": 64, "E": 64}
    assert fitted(batched, sizes) == Fitted((("B", 1), ("H", 1)), (), ("T",))
    assert not fitted(batched, {**sizes, "H": 2})
    assert not fitted(program, {"D": 64, "E": 64})  # where a size is not known


def drawn(program: lg.Program, sizes: dict[str, int], rng: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in program.inputs:
        shape = tuple(sizes[str(e.name)] for e in one.extents)  # type: ignore[union-attr]
        match one.kind:
            case "int":
                found[one.name] = rng.integers(0, max(sizes["U"], 1), shape)
            case "bool":
                found[one.name] = rng.random(shape) < 0.7
            case _:
                found[one.name] = rng.standard_normal(shape)
    return found


CASES = [
    {"T": 5, "U": 4, "D": 2, "E": 3},
    {"T": 1, "U": 1, "D": 1, "E": 1},
    {"T": 4, "U": 4, "D": 4, "E": 4},
]


@pytest.mark.parametrize("text", sample(PROGRAMS, 2), ids=named)
def test_walked_slowly(text: str) -> None:
    program = stable(lg.program(text).backward(recompute=True))
    rng = np.random.default_rng(len(text))
    for sizes in CASES:
        whole = sizes_of(program, **sizes)
        inputs = drawn(program, whole, rng)
        call = interpreted(program, inputs)
        with always():
            schedule = scheduled(program, fitted(program, whole))
        for count in (1, 2, 3):
            for name, got in walking.run(schedule, call, count).items():
                np.testing.assert_allclose(got, call.arrays[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", sample(PROGRAMS, 6), ids=named)
def test_compiled(text: str, dtype: str) -> None:
    """At sizes around those of blocks, with copies for further threads and without any."""
    program = lg.program(text)
    backward = program.backward(recompute=True)
    rng = np.random.default_rng(len(text))
    literal = literally(backward)
    with always():
        kernel = lg.compile(backward)
        for t, u in ((97, 113), (48, 16), (0, 3), (3, 0)):
            sizes = sizes_of(backward, T=t, U=u, D=5, E=7)
            if (not sizes.get("U", 1) or not t) and "label" in text:
                continue
            inputs = drawn(backward, sizes, rng)
            wanted = literal(**inputs)
            given = {n: a.astype(dtype) if a.dtype == float else a for n, a in inputs.items()}
            for count in (1, 3):
                with threads(count):
                    for got, want in zip(kernel(**given), wanted, strict=True):
                        scale = np.abs(want).max(initial=1)
                        near = 1e-11 if dtype == "float64" else 2e-5
                        np.testing.assert_allclose(got, want, rtol=0, atol=near * scale)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_stated_of_copies(count: int) -> None:
    """The first thread adds up in the result itself."""
    program = lg.program(HEAD).backward(recompute=True)
    inputs = drawn(program, {"T": 2400, "D": 4, "E": 4}, np.random.default_rng(1))
    with threads(count):
        own, asked = stated(program, inputs, "float64")
        assert own == asked
        assert own < 2400 * 2400 * 8


GROUPED = """\
grouped(q[G,R,T,D], k[G,U,D], v[G,U,E]) -> y[G,R,T,E]:
    for g, r, t, u, d:  s[g,r,t,u] += q[g,r,t,d] * k[g,u,d]
    for g, r, t, u:     Z[g,r,t]   += exp(s[g,r,t,u])
    for g, r, t, u, e:  y[g,r,t,e] += exp(s[g,r,t,u]) / Z[g,r,t] * v[g,u,e]
"""
VOCABULARY = """\
vocabulary(x[R,T,D], W[U,D], int label[R,T]) -> loss[R,T]:
    for r, t, u, d:  s[r,t,u] += x[r,t,d] * W[u,d]
    for r, t, u:     Z[r,t]   += exp(s[r,t,u])
    for r, t:        loss[r,t] = log(Z[r,t]) - s[r,t,label[r,t]]
"""
RELATIVE = """\
relative(q[T,D], k[T,D], v[T,E], r[2*T-1]) -> y[T,E]:
    for t, u:     s[t,u] += r[t-u+T-1]
    for t, u, d:  s[t,u] += q[t,d] * k[u,d]
    for t, u:     Z[t]   += exp(s[t,u])
    for t, u, e:  y[t,e] += exp(s[t,u]) / Z[t] * v[u,e]
"""


@pytest.mark.parametrize("text", [GROUPED, VOCABULARY], ids=named)
@pytest.mark.parametrize("backward", [False, True])
def test_rows_of_two_indices_are_in_blocks_of_both(text: str, backward: bool) -> None:
    """A block has some 48 rows, whether the inner index has few values or many."""
    program = lg.program(text)
    program = stable(program.backward(recompute=True) if backward else program)
    many = scheduled(program, fitted(program, sizes_of(program, R=2, T=4096, U=4096, D=64, E=64)))
    for phase in many.phases:
        assert isinstance(phase, Fused)
        for buffer in phase.buffers:
            if many.tensors[buffer.tensor].role != "result" and buffer.scope is Scope.ROW:
                extents = dict.fromkeys(infer(program).extents, 4096)
                rows = [evaluate(axis.extent, extents) for axis in buffer.axes]
                assert np.prod(rows) <= 48 * 4096, show(many)


def both_ways(text: str, sizes: dict[str, int], rng: np.random.Generator) -> None:
    program = lg.program(text)
    for one in (program, program.backward(recompute=True)):
        whole = {name: sizes.get(name, 1) for name in infer(one).extents}
        inputs = drawn(one, whole, rng)
        wanted = as_tuple(literally(one)(**inputs))
        for count in (1, 3):
            with threads(count):
                for got, want in zip(as_tuple(lg.compile(one)(**inputs)), wanted, strict=True):
                    scale = np.abs(want).max(initial=1)
                    np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("t", [5, 100])
def test_values_of_rows_of_two_indices(t: int) -> None:
    rng = np.random.default_rng(t)
    for text in (GROUPED, VOCABULARY):
        both_ways(text, {"G": 2, "R": 7, "T": t, "U": 33, "D": 5, "E": 6}, rng)


def test_sums_along_diagonals_are_copied_too() -> None:
    """`r.grad[t-u+T-1] += s.grad[t,u]`: no value of t has elements of its own."""
    program = stable(lg.program(RELATIVE).backward(recompute=True))
    schedule = scheduled(program, fitted(program, sizes_of(program, T=4096, D=64, E=64)))
    copied = [b.tensor for p in schedule.phases for b in p.buffers if b.scope is Scope.PARTIAL]  # type: ignore[union-attr]
    assert sorted(copied) == ["k.grad", "r.grad", "v.grad"]
    with always():
        for t in (1, 70):
            program = lg.program(RELATIVE).backward(recompute=True)
            rng = np.random.default_rng(t)
            inputs = {n: rng.standard_normal(s) for n, s in {"q": (t, 3), "k": (t, 3), "v": (t, 2), "r": (2 * t - 1,), "y.grad": (t, 2)}.items()}  # fmt: skip
            wanted = literally(program)(**inputs)
            for count in (1, 2, 3):
                with threads(count):
                    for got, want in zip(lg.compile(program)(**inputs), wanted, strict=True):
                        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_threads_share_triangles_by_area() -> None:
    program = stable(lg.program(CAUSAL).backward(recompute=True))
    text = show(scheduled(program, fitted(program, sizes_of(program, T=4096, D=64, E=64))))
    assert "for t < T in blocks parallel by growing work:" in text
    rng = np.random.default_rng(2)
    for t in (1, 2, 5, 97):
        both_ways(CAUSAL, {"T": t, "D": 3, "E": 2}, rng)


def test_what_bounds_its_rows_is_shared_at_the_price_of_copies() -> None:
    """Threads cannot share u outside of t, which bounds it."""
    program = lg.program(
        "f(p[T,T], x[T,E]) -> y[T,E]:\n    for t, u <= t, e:  y[u,e] += p[t,u] * x[t,e]"
    )
    assert "# y[T,E] a copy for each thread" in show(scheduled(program, Fitted()))
    rng = np.random.default_rng(0)
    before = lg.get_num_threads()
    try:
        for T in (0, 1, 17, 48, 49, 130):
            p, x = rng.normal(size=(T, T)), rng.normal(size=(T, 19))
            for threads in (1, 3):
                lg.set_num_threads(threads)
                np.testing.assert_allclose(lg.compile(program)(p, x), np.tril(p).T @ x, atol=1e-12)
    finally:
        lg.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("update", ["+= x[k,j,0]", "*= 1 + 0.1 * tanh(x[k,j,0])", "max= x[k,j,0]"])
def test_diagonals_begin_from_what_threads_share_row_by_row(count: int, update: str) -> None:
    """`y[k,l]` gets its identity from whoever has row k; copies for what adds to `y[k,k]` come after."""
    diagonal = lg.program(f"""f(x[K,J,L]) -> y[K,K]:
        for k < K, i < L, j < min(i + 1, J):  y[k,k] {update}""")
    x = np.random.default_rng(0).normal(size=(6, 100, 100))
    wanted = lg.compile(diagonal, optimize=False)(x)
    with threads(count):
        found = lg.compile(diagonal)(x, out=np.full((6, 6), 7.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
