"""Rows by the matrices that data pick for them: a product for each, whatever picks what."""

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

EXPERTS = """\
experts(x[T,I], W[E,I,O], int e[T]) -> y[T,O]:
    for t, o, i:  y[t,o] += x[t,i] * W[e[t],i,o]
"""
PROGRAMS = {
    "experts": EXPERTS,
    "negative": EXPERTS.replace("+=", "-="),
    "more": EXPERTS.replace("y[t,o] += x", "y[t,o] += 3 * x[t,0] * x"),
    "behind": EXPERTS.replace(
        "    for", "    for t, o:  y[t,o] = 1 + x[t,0]\n    for"
    ),
    "several": """\
several(x[T,I], g[T,K], W[E,I,O], int e[T,K]) -> y[T,O]:
    for t, k, o, i:  y[t,o] += g[t,k] * x[t,i] * W[e[t,k],i,o]
""",
    "guarded": """\
guarded(x[T,I], W[E,I,O], h[T,O], int e[T]) -> y[T,O], z[T,O]:
    for t, o, i:  y[t,o] += x[t,i] * W[e[t],i,o]   if h[t,o] > 0
    for t, o:     z[t,o] = h[t,o]
    for t, o, i:  z[t,o] -= x[t,i] * W[e[t],i,o]   if h[t,o] > 0 and o < 2
""",
    "computed": """\
computed(x[T,I], W[E,I,O], int e[T]) -> y[T,O]:
    for t, o, i:  y[t,o] += tanh(x[t,i]) * W[(e[t] + t) % E,i,o]
""",
    "heads": """\
heads(x[T,H,I], W[E,H,I,O], int e[T]) -> y[T,H,O]:
    for t, h, o, i:  y[t,h,o] += x[t,h,i] * W[e[t],h,i,o]
""",
    "places": """\
places(x[T,H,I], W[I,O,E], int e[T]) -> y[O,T,H]:
    for t, h, o, i:  y[o,t,h] += x[t,h,i] * W[i,o,e[t]]
""",
    "bilinear": """\
bilinear(x[T,I], R[E,I,O], z[T,O], int e[T]) -> s[T]:
    for t, i, o:  s[t] += x[t,i] * R[e[t],i,o] * z[t,o]
""",
    "scattered": """\
scattered(x[T,I], z[T,O], int e[T], size E) -> S[E,I,O]:
    local S[E,I,O]
    for t, i, o:  S[e[t],i,o] += x[t,i] * z[t,o]
""",
    "times": """\
times(x[T,S,I], z[T,S,O], int e[T], size E) -> G[I,E,O]:
    local G[I,E,O]
    for i, v, o:  G[i,v,o] += 2
    for t, s, i, o:  G[i,e[t],o] -= x[t,s,i] * z[t,s,o]
""",
    "both": """\
both(x[T,I], W[E,I,O], int e[T], int u[T]) -> y[T,O], S[E,I,O]:
    local S[E,I,O]
    for t, o, i:  y[t,o] += x[t,i] * W[e[t],i,o]
    for t, o, i:  S[u[t],i,o] += x[t,i] * y[t,o]
    for t, o, i:  S[e[t],i,o] += x[t,i] * y[t,o]
"""}  # fmt: skip
SIZES = [
    {"T": 30, "I": 9, "O": 17, "E": 4},
    {"T": 3, "I": 8, "O": 3, "E": 11},
    {"T": 1, "I": 1, "O": 1, "E": 1},
    {"T": 0, "I": 4, "O": 5, "E": 3},
    {"T": 0, "I": 4, "O": 5, "E": 0},
    {"T": 6, "I": 0, "O": 5, "E": 3},
    {"T": 6, "I": 4, "O": 0, "E": 3},
]


def given(program: lg.Program, sizes: dict[str, int], seed: int = 0) -> dict[str, Any]:
    """Random inputs, one matrix of several never picked, and what is not finite in few rows."""
    sizes = {"K": 2, "H": 3, "S": 4, **sizes}
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for one in program.inputs:
        shape = [sizes[show_expression(e)] for e in one.extents]
        if one.kind == "int":
            found[one.name] = rng.integers(0, max(sizes["E"] - 1, 1), shape)
            continue
        found[one.name] = rng.normal(size=shape)
        if one.name == "x":
            found[one.name][rng.random(shape[0]) < 0.05] = np.nan
    return found | {size.name: sizes[size.name] for size in program.sizes}


def everything(name: str) -> list[lg.Program]:
    program = lg.program(PROGRAMS[name])
    return [program, program.backward()]


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_each_matrix_has_a_product() -> None:
    shown = scheduled(lg.program(EXPERTS).backward()).splitlines()
    assert shown[-6:] == [
        "for e.row.m < T in blocks parallel:",
        "    for v2 < E:  product:  W.part[e.row.m,i] = y.grad.rows[e.row.m,o] * W[v2,i,o]   "
        "if max(e.first[v2], e.row.m.from) < min(e.end[v2], e.row.m.to)",
        "for t < T parallel:  for i < I vector:  x.grad[t,i] = W.part[e.place[t],i]",
        "for W.grad.0 < E parallel:",
        "    for i < I in blocks parallel:",
        "        product:  W.grad[W.grad.0,i,o] = x.rows[e.row.k,i] * y.grad.rows[e.row.k,o]",
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_trees_by_the_letter(name: str) -> None:
    for program in everything(name):
        schedule = optimized(infer(program), validate(program))
        # Its guard is on an index of the sum, and on a side of what is scattered.
        assert ("product:" in show(schedule)) is (program.name != "guarded.backward")
        for seed, sizes in enumerate(SIZES[:3]):
            inputs = given(program, {"T": 5, "I": 2, "O": 3, "E": sizes["E"]}, seed)
            call = interpreted(program, inputs)
            for threads in (1, 3):
                for result, found in walking.run(schedule, call, threads).items():
                    np.testing.assert_allclose(found, call.arrays[result], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sample([*PROGRAMS], 5))
def test_code_comes_to_the_same(name: str) -> None:
    for program in everything(name):
        literal, compiled = literally(program), lg.compile(program)
        for seed, sizes in enumerate(SIZES):
            inputs = given(program, sizes, seed)
            try:
                expected = literal(**inputs)
            except (IndexError, ValueError):
                continue  # of no matrices there is none to pick
            for threads in (1, 3):
                lg.set_num_threads(threads)
                for found, wanted in zip(all_of(compiled(**inputs)), all_of(expected), strict=True):
                    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["experts", "scattered"])
def test_a_matrix_that_does_not_exist_is_found(name: str) -> None:
    program = lg.program(PROGRAMS[name])
    inputs = given(program, SIZES[0])
    compiled = lg.compile(program)
    compiled(**inputs)
    for wrong in (-1, SIZES[0]["E"], 2**63 - 1, -(2**63)):
        for place in (0, SIZES[0]["T"] - 1):
            e = inputs["e"].copy()
            e[place] = wrong
            with pytest.raises(IndexError, match=r"\[e\[t\],i,o\]"):
                compiled(**{**inputs, "e": e})


def test_a_guard_may_leave_out_what_does_not_exist() -> None:
    """Where it is on rows alone it is likely to: then nothing is computed that it leaves out."""
    text = EXPERTS + "  if h[t,o] > 0"
    program = lg.program(text.replace("int e", "h[T,O], int e").replace("o]\n  if", "o]   if"))
    inputs = given(program, SIZES[0], 5)
    inputs["e"][3], inputs["h"][3] = -1, -1.0
    assert "product:" in scheduled(program)
    np.testing.assert_allclose(program(**inputs), literally(program)(**inputs), rtol=1e-9)
    rows = lg.program(str(program).replace("h[T,O]", "h[T]").replace("h[t,o]", "h[t]"))
    assert "product:" not in scheduled(rows)


@pytest.mark.parametrize("operation", ["max=", "min=", "*=", "+=", "-="])
def test_only_sums_are_products(operation: str) -> None:
    text = EXPERTS.replace("int e", "h[T,O], int e").replace("+=", operation).rstrip()
    program = lg.program(text + "  if h[t,o] > 0")
    assert ("product:" in scheduled(program)) is (operation in ("+=", "-="))
    inputs = given(program, SIZES[0], 6)
    inputs["x"] = np.random.default_rng(6).normal(size=inputs["x"].shape)
    np.testing.assert_allclose(program(**inputs), literally(program)(**inputs), rtol=1e-9)


def test_equal_ones_keep_their_order_for_any_number_of_threads() -> None:
    program = lg.program(PROGRAMS["scattered"])
    inputs = given(program, {"T": 500, "I": 16, "O": 16, "E": 3}, 1)
    found = []
    for threads in (1, 2, 5):
        lg.set_num_threads(threads)
        found.append(lg.compile(program)(**inputs))
    assert all(np.array_equal(found[0], other, equal_nan=True) for other in found[1:])


def test_what_is_not_finite_stays_in_its_rows() -> None:
    program = lg.program(EXPERTS)
    inputs = given(program, SIZES[0], 3)
    inputs["x"][:] = 1.0
    inputs["W"][2] = np.nan
    inputs["W"][3] = np.inf  # of nobody
    found = np.isnan(program(**inputs)).any(axis=1)
    assert np.array_equal(found, inputs["e"] == 2)
