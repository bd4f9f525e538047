"""Products whose rows data pick, or spread: fetched before, or brought to their places behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.effort import sample
from tests.literal import literally
from tests.schedule import walking
from tests.schedule.several import all_of, several_threads  # noqa: F401
from tests.schedule.test_walking import interpreted

EDGES = """\
edges(W[E,D], x[N,D], int nb[M]) -> h[M,E]:
    for m, e, d:  h[m,e] += W[e,d] * x[nb[m],d]
"""
PROGRAMS = {
    "edges": EDGES,
    "negative": EDGES.replace("+=", "-=").replace("* x[", "* 2 * x["),
    "weights": """\
weights(g[M,E], x[N,D], int nb[M]) -> w[E,D]:
    for m, e, d:  w[e,d] += g[m,e] * x[nb[m],d]
""",
    "messages": """\
messages(x[N,D], a[M], param W[E,D], int src[M], int dst[M]) -> y[N,E]:
    local z[N,E]
    for m, e, d:  z[dst[m],e] += a[m] * W[e,d] * x[src[m],d]
    for n, e:     y[n,e] = max(z[n,e], 0)
""",
    "neighbours": """\
neighbours(x[N,D], int nb[N,K], param W[E,D], param V[E,D]) -> y[N,E]:
    for n, k, e, d:  h[n,k,e] += W[e,d] * (x[nb[n,k],d] - x[n,d]) + V[e,d] * x[n,d]
    for n, k, e:  y[n,e] max= h[n,k,e]
""",
    "guarded": """\
guarded(x[N,D], int nb[N,K], int deg[N], param W[E,D]) -> y[N,E], h[N,K,E]:
    for n, k, e, d:  h[n,k,e] += W[e,d] * x[nb[n,k],d]   if k < deg[n]
    for n, k, e:  y[n,e] += tanh(h[n,k,e])   if k < deg[n]
""",
    "guarded by the other side": """\
other(x[N,D], int nb[M], z[M,E]) -> w[E,D]:
    for m, e, d:  w[e,d] += z[m,e] * x[nb[m],d]   if z[m,e] > 0
""",
    "two tables": """\
two(P[N,D], R[V,D], C[T,D], int a[M], int b[M]) -> s[M,T]:
    for m, t, d:  s[m,t] += P[a[m],d] * R[b[m],d] * C[t,d]
""",
    "scores": """\
scores(x[N,D], y[M,D], int a[S], int b[T]) -> s[S,T]:
    for i < S, j < T, d:  s[i,j] += x[a[i],d] * y[b[j],d]
""",
    "images": """\
images(x[B,N,D], int nb[B,M], param W[E,D]) -> y[B,M,E]:
    for b, m, e, d:  y[b,m,e] += W[e,d] * x[b,nb[b,m],d]
""",
}  # fmt: skip
SIZES = [
    {"N": 30, "M": 41, "K": 5, "D": 9, "E": 17, "V": 6, "B": 3, "S": 18, "T": 19},
    {"N": 2, "M": 3, "K": 1, "D": 16, "E": 3, "V": 1, "B": 1, "S": 4, "T": 1},
    {"N": 1, "M": 1, "K": 1, "D": 1, "E": 1, "V": 1, "B": 2, "S": 1, "T": 1},
    *({**dict.fromkeys("NMKDEVBST", 4), one: 0} for one in "MKDEBST"),
]


def given(program: lg.Program, sizes: dict[str, int], seed: int = 0) -> dict[str, Any]:
    """Random inputs; what is picked of x, what is read beside it, and degrees between none and all."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for one in program.inputs:
        shape = [sizes[show_expression(e)] for e in one.extents]
        if one.kind == "int":
            most = {"deg": sizes["K"] + 1, "b": sizes["M" if program.name == "scores" else "V"]}
            found[one.name] = rng.integers(0, most.get(one.name, sizes["N"]), shape)
        else:
            found[one.name] = rng.normal(size=shape)
    return found


def everything(name: str) -> list[lg.Program]:
    program = lg.program(PROGRAMS[name])
    return [program, program.backward()]


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_rows_are_fetched_or_brought_to_their_places() -> None:
    program = lg.program(EDGES)
    shown = [line.strip() for line in scheduled(program).splitlines()]
    fetching = shown.index("for m.from <= m < m.to:  for d < D vector:  x.rows[m,d] = x[nb[m],d]")
    assert shown[fetching + 1] == "product:  h[m,e] = x.rows[m,d] * W[e,d]"
    of_gradient = scheduled(program.backward())
    assert "product:  W.grad[e,d] = h.grad[m,e] * x.rows[m,d]" in of_gradient
    assert "product:  x.grad.rows[m,d] = h.grad[m,e] * W[e,d]" in of_gradient
    assert "x.grad[nb[m],d] += x.grad.rows[m,d]" in of_gradient


@pytest.mark.parametrize("name", PROGRAMS)
def test_trees_by_the_letter(name: str) -> None:
    for program in everything(name):
        schedule = optimized(infer(program), validate(program))
        # 0 times what is fetched has to be 0 there.
        assert ("product:" in show(schedule)) is (program.name != "other")
        for seed, sizes in enumerate(SIZES[:3]):
            call = interpreted(program, given(program, {**sizes, "D": 3, "E": 2}, seed))
            for threads in (1, 3):
                for result, found in walking.run(schedule, call, threads).items():
                    np.testing.assert_allclose(found, call.arrays[result], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sample([*PROGRAMS], 5))
def test_code_comes_to_the_same(name: str) -> None:
    for program in everything(name):
        literal, compiled = literally(program), lg.compile(program)
        for seed, sizes in enumerate(SIZES):
            inputs = given(program, sizes, seed)
            expected = literal(**inputs)
            for threads in (1, 3):
                lg.set_num_threads(threads)
                for found, wanted in zip(all_of(compiled(**inputs)), all_of(expected), strict=True):
                    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("of_gradient", [False, True])
def test_a_row_that_does_not_exist_is_found(of_gradient: bool) -> None:
    program = lg.program(EDGES)
    program = program.backward() if of_gradient else program
    inputs, compiled = given(program, SIZES[0]), lg.compile(program)
    compiled(**inputs)
    for wrong in (-1, SIZES[0]["N"], 2**63 - 1, -(2**63)):
        for place in (0, SIZES[0]["M"] - 1):
            nb = inputs["nb"].copy()
            nb[place] = wrong
            with pytest.raises(IndexError, match=r"\[nb\[m\],d\]"):
                compiled(**{**inputs, "nb": nb})


@pytest.mark.parametrize("name", ["edges", "weights", "messages"])
@pytest.mark.parametrize("empty", ["D", "E"])
def test_nothing_is_looked_for_where_nothing_would_be_read(name: str, empty: str) -> None:
    for program in everything(name):
        inputs = given(program, {**SIZES[0], empty: 0})
        for indices in ("nb", "src", "dst"):
            if indices in inputs:
                inputs[indices][:] = -1
        for found, wanted in zip(
            all_of(lg.compile(program)(**inputs)), all_of(literally(program)(**inputs)), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_what_a_guard_leaves_out_need_not_exist() -> None:
    for program in everything("guarded"):
        inputs = given(program, SIZES[0], 5)
        left_out = np.arange(SIZES[0]["K"]) >= inputs["deg"][:, None]
        inputs["nb"][left_out] = -1
        expected = literally(program)(**inputs)
        for found, wanted in zip(
            all_of(lg.compile(program)(**inputs)), all_of(expected), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


def test_what_is_not_finite_stays_where_it_is_read() -> None:
    for program in everything("guarded"):
        inputs = given(program, SIZES[0], 7)
        inputs["x"][3], inputs["x"][4, 2] = np.inf, np.nan
        inputs["W"][1, 1] = np.inf
        for name in ("y.grad", "h.grad"):
            if name in inputs:
                inputs[name][2] = np.nan
        expected = literally(program)(**inputs)
        for found, wanted in zip(
            all_of(lg.compile(program)(**inputs)), all_of(expected), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("operation", ["max=", "min=", "*=", "+=", "-="])
def test_only_sums_are_products(operation: str) -> None:
    program = lg.program(EDGES.replace("+=", operation))
    assert ("product:" in scheduled(program)) is (operation in ("+=", "-="))
    inputs = given(program, SIZES[0], 6)
    np.testing.assert_allclose(program(**inputs), literally(program)(**inputs), rtol=1e-9)
