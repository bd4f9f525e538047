"""Compiled code under every schedule that can be chosen comes to what the literal loops come to.

Sizes lie around the widths of registers, of tiles and of blocks of rows; all arrays between pages that
may not be touched (`guarded.py`); small work is shared by threads too. In float32 the error, against the
literal loops in float64, is a small multiple of that of the literal loops in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends.llvm.calling.images import Images
from loopgrad.backends.llvm.calling.savings import Saving
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.backends.llvm.writing import layout
from loopgrad.cache import files
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.threads import preparing
from tests.backends import guarded
from tests.constructs import WIDE, averaged
from tests.derivatives import as_tuple
from tests.effort import EFFORT, sample
from tests.literal import literally
from tests.strategies import Drawn, programs, with_other_indices

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
SIZES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 63, 64, 65]
CHOICES = ["", "", "no fusion", "no products", "no sharing", "no scan", "no turning"]
CHOICES += ["rows 1", "rows 3"]
CHOICES += [f"{word} {index}" for word in ("parallel", "vector") for index in "bjk"]


@contextmanager
def forced(threads: int) -> Iterator[None]:
    """Small work too is shared by that many threads, at the price of copies, and has code for its short rows;
    what products need is made ready together.
    """
    before, folder, small = lg.get_num_threads(), files.folder, fused.SMALL_WORK
    large, are_small = preparing.LARGE, Images.are_small
    elements = layout.SOME, layout.MANY, layout.PLENTY
    files.folder = lambda: None  # what is kept on disk knows nothing of it
    fused.SMALL_WORK, preparing.LARGE, pays = 0, 0, Saving.pays
    layout.SOME = layout.MANY = layout.PLENTY = 1
    Saving.pays = lambda *_: threads > 1  # type: ignore[method-assign]
    Images.are_small = lambda *_: threads < 3  # type: ignore[method-assign]
    lg.set_num_threads(threads)
    try:
        yield
    finally:
        files.folder, fused.SMALL_WORK, preparing.LARGE = folder, small, large
        layout.SOME, layout.MANY, layout.PLENTY = elements
        Saving.pays = pays  # type: ignore[method-assign]
        Images.are_small = are_small  # type: ignore[method-assign]
        lg.set_num_threads(before)


def literal(program: lg.Program, inputs: dict[str, Any]) -> tuple[Any, ...]:
    with np.errstate(all="ignore"):
        return as_tuple(literally(program)(**inputs))


def of_type(array: Any, dtype: Any) -> Any:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def check(
    program: lg.Program,
    inputs: dict[str, Any],
    words: str,
    threads: int,
    end: bool,
    dtypes: Sequence[Any] = (np.float64, np.float32),
) -> None:
    try:
        wanted = literal(program, inputs)
    except (IndexError, ZeroDivisionError):
        return
    rng = np.random.default_rng(0)
    near = {
        n: a * (1 + 1e-13 * rng.choice([-1, 1], a.shape)) if a.dtype.kind == "f" else a
        for n, a in inputs.items()
    }
    if not all(map(is_near, literal(program, near), wanted)):
        return  # rounding decides what it comes to
    single = literal(program, {n: of_type(a, np.float32) for n, a in inputs.items()})
    for dtype in dtypes:
        given = {n: guarded.copy(of_type(a, dtype), end) for n, a in inputs.items()}
        like = tuple(np.empty(w.shape, dtype if w.dtype.kind == "f" else w.dtype) for w in wanted)
        found = between_guards(program, given, like, words, threads, end)
        eps = np.finfo(dtype).eps
        for name, f, s, w in zip(program.results, found, single, wanted, strict=True):
            normal = np.isfinite(w) & np.isfinite(s)
            largest = np.abs(w[normal]).max(initial=0)
            error, usual = (np.abs(x[normal] - w[normal]).max(initial=0) for x in (f, s))
            usual *= eps / np.finfo(np.float32).eps
            if error <= 8 * usual + eps * (256 * largest + 64):
                continue
            # What cancels is as exact as what it is made of.
            largest = largest_on_the_way(program, inputs)
            message = f"{name.name}: {error}, literal {usual}, up to {largest}\n{program}"
            assert error <= 8 * usual + 256 * eps * largest, message


def largest_on_the_way(program: lg.Program, inputs: dict[str, Any]) -> float:
    """The largest number in any input or computed tensor, of the literal loops."""
    facts = infer(program)
    computed = [
        t.name
        for t in facts.tensors.values()
        if t.role != "input" and t.element is ElementType.FLOAT
    ]
    arrays = [*inputs.values(), *literal(program.returning(*computed), inputs)]
    floating = [np.abs(a[np.isfinite(a)]) for a in map(np.asarray, arrays) if a.dtype.kind == "f"]
    return float(max(a.max(initial=0) for a in floating))


def is_near(one: Any, other: Any) -> bool:
    return np.allclose(one, other, rtol=1e-10, atol=1e-11, equal_nan=True)


def between_guards(
    program: lg.Program,
    inputs: dict[str, Any],
    like: tuple[Any, ...],
    words: str,
    threads: int,
    end: bool,
) -> list[Any]:
    results = [guarded.empty(w.shape, w.dtype, end) for w in like]
    with forced(threads):
        try:
            kernel = lg.compile(program, schedule=words)
        except ValueError:  # an index that no loop has
            kernel = lg.compile(program)
        kernel.runner._scratch = guarded.Scratch(end)  # type: ignore[attr-defined]
        kernel(**inputs, out=tuple(results))
    program.__dict__.pop("_kernels")
    return results


@given(
    programs(among=WIDE),
    st.permutations(SIZES),
    st.sampled_from(CHOICES),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=8 * EFFORT, deadline=None, suppress_health_check=SLOW)
def test_random_programs(
    drawn: Drawn,
    sizes: list[int],
    words: str,
    threads: int,
    end: bool,
    backward: bool,
    shuffled: bool,
) -> None:
    if shuffled:
        drawn = with_other_indices(drawn, np.random.default_rng(drawn.seed))
    drawn = replace(drawn, sizes=dict(zip("BJK", sizes, strict=False)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(averaged(drawn).text if end else drawn.text)
        inputs = drawn.inputs()
        inputs = {i.name: inputs[i.name] for i in program.inputs}
        if backward:
            program, inputs = gradient(program, inputs, drawn.seed)
        check(program, inputs, words, threads, end)


def gradient(
    program: lg.Program, inputs: dict[str, Any], seed: int
) -> tuple[lg.Program, dict[str, Any]]:
    """The backward program, and random gradients of its results."""
    rng = np.random.default_rng(seed)
    results = [r.name for r in program.results]
    shapes = {f"{n}.grad": a.shape for n, a in zip(results, literal(program, inputs), strict=True)}
    derived = program.backward(recompute=True)
    seeds = {n: np.asarray(rng.normal(size=shape)) for n, shape in shapes.items()}
    everything = {**inputs, **seeds}
    return derived, {i.name: everything[i.name] for i in derived.inputs}


# Contractions of each kind, with what may follow on their rows.
CONTRACTIONS = {
    "layer": """f(x[I,K], W[J,K], c[J]) -> y[I,J]:
        for i, j, k:  z[i,j] += x[i,k] * W[j,k]
        for i, j:     y[i,j] = tanh(z[i,j] + c[j])""",
    "batched, transposed": """f(A[K,B,I], W[B,J,K]) -> C[J,B,I], s[I]:
        for b, k, i, j:  C[j,b,i] -= W[b,j,k] * A[k,b,i] / 3
        for j, b, i:     s[i] += C[j,b,i]""",
    "loops in another order than axes": """f(A[K,I], W[K,B,J]) -> C[I,B,J], q[B]:
        for j, i, b, k:  C[i,b,j] += W[k,b,j] * A[k,i]
        for b, i, j:     q[b] += C[i,b,j]""",
    "two indices summed": """f(A[B,I,K], W[K,B,J]) -> C[I,J]:
        for b, k, i, j:  C[i,j] += A[b,i,k] * W[k,b,j]""",
    "two products, one sum": """f(A[I,K], W[K,J], V[I,B], U[B,J]) -> C[I,J]:
        for i, j, k:  C[i,j] += A[i,k] * W[k,j]
        for i, j, b:  C[i,j] += V[i,b] * U[b,j]""",
    "softmax between": """f(q[I,K], k[J,K], v[J,B]) -> y[I,B]:
        for i, j, d:  s[i,j] += q[i,d] * k[j,d]
        for i, j:     m[i] max= s[i,j]
        for i, j:     e[i,j] = exp(s[i,j] - m[i])
        for i, j:     Z[i] += e[i,j]
        for i, j, b:  y[i,b] += e[i,j] * v[j,b] / Z[i]""",
    "softmax after two": """f(A[K,I], W[J,B,K], V[I,K], U[B,J,K], c[B]) -> p[J,I,B]:
        for j, k, b, i:  C[j,i,b] -= A[k,i] * W[j,b,k]   if j > 0
        for i, b, j, k:  C[j,i,b] += V[i,k] * U[b,j,k]
        for b, i, j:     D[j,i,b] = tanh(C[j,i,b] + c[b])
        for j, i, b:     m[j,i] max= D[j,i,b]
        for j, i, b:     e[j,i,b] = exp(D[j,i,b] - m[j,i])
        for j, i, b:     Z[j,i] += e[j,i,b]
        for j, i, b:     p[j,i,b] = e[j,i,b] / Z[j,i]""",
    "a guard on both sides": """f(A[K,I,B], C[J,I]) -> W[B,K,J]:
        for k, j, b, i:  W[b,k,j] += C[j,i] * A[k,i,b]   if k <= i""",
    "causal": """f(q[I,K], k[I,K], v[I,B]) -> y[I,B]:
        for i, j <= i, d:  s[i,j] += q[i,d] * k[j,d]
        for i, j <= i:     m[i] max= s[i,j]
        for i, j <= i:     Z[i] += exp(s[i,j] - m[i])
        for i, j <= i, b:  y[i,b] += exp(s[i,j] - m[i]) * v[j,b] / Z[i]""",
    "recurrence": """f(x[I,B,K], U[J,K], W[J,J]) -> h[I,B,J]:
        for t:
            for b, j, k:  a[t,b,j] += U[j,k] * x[t,b,k]
            for b, j, l:  a[t,b,j] += W[j,l] * h[t-1,b,l] / 8   if t > 0
            for b, j:     h[t,b,j] = tanh(a[t,b,j])""",
}
SOME = [
    dict(zip("IJKB", sizes, strict=True))
    for sizes in ((17, 33, 9, 3), (97, 16, 64, 2), (5, 65, 257, 4), (64, 1, 8, 1))
]


@pytest.mark.parametrize("words", sample(["", "no products", "rows 3", "no fusion"], 4))
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions(name: str, words: str) -> None:
    program = lg.program(CONTRACTIONS[name])
    for number, sizes in enumerate(SOME if EFFORT > 1 else SOME[:2]):
        rng = np.random.default_rng(number)
        inputs = {
            i.name: rng.normal(size=[sizes[str(getattr(e, "name", e))] for e in i.extents])
            for i in program.inputs
        }
        check(program, inputs, words, 2 - number % 2, number % 2 == 0)
        check(*gradient(program, inputs, number), words, 2, number % 2 == 1)


def test_lanes_that_take_turns_find_what_was_set_before() -> None:
    program = lg.program(
        """f(x[J,I], q[J]) -> y[J,I]:
            for j, i:  y[j,i] = x[j,i]
            for j, i:  y[j,i] += q[j] * x[j,i]"""
    )
    rng = np.random.default_rng(0)
    for rows in (5, 16, 33):
        inputs = {"x": rng.normal(size=(rows, 3)), "q": rng.normal(size=rows)}
        check(program, inputs, "vector j", 1, True)
