"""Code for the lengths of short rows, of which there are many: `softmax(s[60000,3])`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends import llvm
from loopgrad.backends.llvm.calling.shaping import Shaping, narrow_rows, pairs, short_rows
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.writing import layout
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.specializing import made_for
from tests.literal import literally

PICKED = """picked(E[V,K], int w[B]) -> y[B,K], s[B]:
    for b, k:  y[b,k] = exp(E[w[b],k])
    for b, k:  s[b] += y[b,k]"""

COLUMNS = """columns(x[B,J]) -> s[J], m[J]:
    for b, j:  s[j] += x[b,j] * x[b,j]
    for b, j:  m[j] max= x[b,j]"""

NEAREST = """nearest(x[B,J], y[V,J]) -> a[B], s:
    for b, v, j:  d[b,v] += (x[b,j] - y[v,j])**2
    for b, v:     a[b]   min= d[b,v]
    for b, v:     s      += sqrt(d[b,v] + 1)"""

PROGRAMS = {
    "softmax": lg.lib.softmax,
    "softmax backward": lg.lib.softmax.backward().simplify(),
    "maxout": lg.lib.maxout,
    "maxout backward": lg.lib.maxout.backward().simplify(),
    "layer norm": lg.lib.layer_norm,
    "layer norm backward": lg.lib.layer_norm.backward().simplify(),
    "batch norm backward": lg.lib.batch_norm.backward().simplify(),
    "cross entropy": lg.lib.softmax_cross_entropy,
    "cross entropy backward": lg.lib.softmax_cross_entropy.backward().simplify(),
    "rows that are looked up": lg.program(PICKED),
    "columns": lg.program(COLUMNS),
    "distances": lg.program(NEAREST),
    "distances backward": lg.program(NEAREST).backward(recompute=True),
}


def drawn(program: lg.Program, few: int, dtype: str) -> dict[str, Any]:
    """Of the last axes `few`; small values, which tie."""
    rng = np.random.default_rng(few)
    sizes = {"B": 21, "J": few, "K": few, "V": 5}
    if "maxout" in program.name:
        sizes["J"] = 3
    given: dict[str, Any] = {}
    for i in program.inputs:
        shape = [sizes[str(e.name)] for e in i.extents]
        given[i.name] = (
            rng.integers(0, min(few, 5), shape)
            if i.kind == "int"
            else rng.integers(1, 4, shape).astype(dtype) / 2
        )
    return given


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were many elements in every call."""
    monkeypatch.setattr(layout, "SOME", 1)
    monkeypatch.setattr(layout, "MANY", 1)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter(name: str) -> None:
    program = PROGRAMS[name]
    slow = lg.compile(program, backend="interpret")
    for dtype, few in [*(("float64", few) for few in (1, 2, 3, 4, 7, 8, 9)), ("float32", 3)]:
        given = drawn(program, few, dtype)
        found, wanted = lg.compile(program)(**given), slow(**given)
        several = isinstance(wanted, tuple)
        for got, right in zip(*((found, wanted) if several else ([found], [wanted])), strict=True):
            tolerance = 1e-12 if dtype == "float64" else 1e-5
            np.testing.assert_allclose(got, right, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("always")
def test_what_is_out_of_range_is_named_as_ever() -> None:
    program = lg.program(PICKED)
    for few in (3, 9):
        given = drawn(program, few, "float64")
        given["w"][20] = 5
        with pytest.raises(IndexError) as wanted:
            lg.compile(program, backend="interpret")(**given)
        with pytest.raises(IndexError) as found:
            lg.compile(program)(**given)
        assert str(found.value) == str(wanted.value)


def lengths(kernel: Any) -> set[tuple[tuple[str, int], ...]]:
    """Those for which there is code."""
    return {variant.constants for variant in kernel.runner._compiled}


def test_many_short_rows_have_code_of_their_own() -> None:
    kernel = lg.compile(lg.program(str(lg.lib.softmax)))
    for shape in ((5, 3), (layout.MANY // 3, 3), (5, 1), (layout.MANY, 9), (layout.MANY, 0)):
        kernel(np.zeros(shape))
    assert lengths(kernel) == {()}
    kernel(np.zeros((layout.MANY, 3)))
    kernel(np.zeros((layout.SOME, 1)))
    assert lengths(kernel) == {(), (("J", 3),), (("J", 1),)}


@pytest.mark.usefixtures("always")
def test_there_is_code_for_a_few_lengths_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "MOST_SPECIAL", 4)
    kernel = lg.compile(lg.program(str(lg.lib.l2_normalize)))
    for few in range(1, 9):
        kernel(np.ones((5, few)))
    assert lengths(kernel) == {(), *((("J", few),) for few in range(1, 5))}


def test_a_network_has_code_for_each_kind_of_convolution() -> None:
    kernel = lg.compile(lg.program(str(lg.lib.conv2d)))
    kinds = [(7, 2, 3), (3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (5, 1, 2), (3, 1, 0)]
    for taps, stride, padding in kinds:
        x, k, c = np.ones((1, 2, 9, 9)), np.ones((2, 2, taps, taps)), np.zeros(2)
        kernel(x, k, c, stride=stride, padding=padding)
    assert len(lengths(kernel)) == len(kinds) and () not in lengths(kernel)


def test_which_extents_are_those_of_rows() -> None:
    def found(program: lg.Program) -> set[str]:
        return {*short_rows(infer(program))}

    assert found(lg.lib.softmax) == {"J"}
    assert found(lg.lib.maxout) == {"J", "K"}
    assert found(lg.lib.mlp) == set()  # products have tiles of their own
    assert "DX" not in found(lg.lib.depthwise_conv2d)  # a window
    # Sums over pairs of rows, which are no products; what adds to such rows wants them narrow.
    nearest = lg.program(NEAREST)
    assert found(nearest) == {"J", "V"}
    assert narrow_rows(infer(nearest)) == ("V",)
    assert "J" in narrow_rows(infer(nearest.backward()))


def test_lanes_go_over_rows() -> None:
    program = lg.lib.maxout
    facts, safety = infer(program), validate(program)

    def shown(**values: int) -> str:
        return show(made_for(facts, safety, values, values.keys(), Choices()))

    assert shown(K=4) == (
        "for b < B parallel:  for j < J vector:  for k < 4:  y[b,j] max= x[b,j,k]"
    )
    assert "for k < K vector" in shown()


def test_threads_do_not_share_the_elements_of_short_rows() -> None:
    program = lg.lib.softmax.backward().simplify()
    shown = show(made_for(infer(program), validate(program), {"J": 3}, {"J"}, Choices()))
    assert shown.startswith("for b < B parallel:\n    for j < 3:  e[b] -= ")


def test_rows_that_are_looked_up_stay_in_lanes() -> None:
    program = lg.program("f(E[V,K], int w[B]) -> y[B,K]:\n    for b, k:  y[b,k] = E[w[b],k]")
    shown = show(made_for(infer(program), validate(program), {"K": 3}, {"K"}, Choices()))
    assert shown == "for b < B parallel:  for k < K vector:  y[b,k] = E[w[b],k]"


def test_a_register_is_no_wider_than_rows() -> None:
    """What is stored under a mask keeps whoever reads the next row waiting, if that is in its lanes."""
    program = lg.program(
        "solve(C[K,8,8], g[B,K,8]) -> r[B,K,8]:\n"
        "    for d < 8 descending:\n"
        "        for b, k:  r[b,k,d] += g[b,k,d]\n"
        "        for b, k, c < d:  r[b,k,c] += C[k,d,c] * r[b,k,d]\n"
    )
    kernel = lg.compile(program)
    if this_machine().vector_bytes == 64:  # others have no wider ones
        assert "masked.store.v8f32" in kernel.runner.text("float")
    rng = np.random.default_rng(0)
    C, g = rng.normal(size=(3, 8, 8)), rng.normal(size=(5, 3, 8))
    expected = literally(program)(C, g)
    np.testing.assert_allclose(kernel(C, g), expected, rtol=1e-12)


@pytest.mark.parametrize("choices", [Choices(parallel="k"), Choices(vector="k")])
def test_a_choice_of_a_loop_that_a_single_value_leaves_out(choices: Choices) -> None:
    program = lg.program(
        "rows(x[B,J], W[J,K], int g[B]) -> y[B,K]:\n"
        "    for b, k < K:  y[b,k] = tanh(W[g[b],k]) * x[b,g[b]]\n"
    )
    facts, safety = infer(program), validate(program)
    text = show(made_for(facts, safety, {"K": 1}, (), choices))
    assert "y[b] = tanh(W[g[b]]) * x[b,g[b]]" in text
    with pytest.raises(ValueError, match="`parallel z`: there are loops over `b` and `k`"):
        lg.compile(program, schedule="parallel z")


def test_rows_of_pairs_in_a_recurrence_are_as_many_as_their_elements() -> None:
    """Lanes go over these rows: of one there would be as many lanes at work, for each pair."""
    text = """
f(A[I,J], l[T,B,J]) -> s[T,B,I]:
    for t:
        for b, i, j:  s[t,b,i] += exp(A[i,j] + l[t,b,j] + (s[t-1,b,i] if t > 0 else 0))
"""
    facts = infer(lg.program(text))
    assert pairs(facts) == (("I", ("B", "J")), ("J", ("B", "I")))
    shaping = Shaping((), (), short_rows(facts), pairs=pairs(facts))
    for B, I, J, known in (
        (7, 8, 8, ()),
        (8, 8, 8, ("I", "J")),
        (1, 16, 4, ("J",)),
        (1, 1, 4, ("I",)),
    ):
        sizes = {"T": 99, "B": B, "I": I, "J": J}
        found = shaping.values(sizes, layout.MANY)
        assert tuple(name for name, _ in found) == known
