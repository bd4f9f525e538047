"""Programs for the values of their integer constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.calling.shaping import Shaping, batches, shaping, sides
from loopgrad.backends.llvm.writing import layout
from loopgrad.ir.printer import show_statement
from loopgrad.peers.problem import draw
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.specializing import made_for, specialized
from tests.literal import literally

SIZES = {"B": 2, "C": 3, "X": 11, "Y": 9, "O": 4, "DX": 3, "DY": 2, "N": 23}

SHIFTED = """shifted(x[N], a = 3, k = 2, scale = 2) -> y[N], z:
    for n:  y[n] += scale * k * x[n + a] - (n - a)   if k * n + a < N and 0 <= a + n < N
    for n:  z += x[n] / a**2 + a * k
"""


def test_only_constants_that_shape_the_loops_count() -> None:
    assert set(shaping(infer(lg.program(SHIFTED)))) == {"a", "k"}
    assert shaping(infer(lg.lib.softmax)) == ()
    assert shaping(infer(lg.lib.huber)) == ()  # its constant is real


def test_places_and_conditions_have_the_values_and_real_arithmetic_the_constants() -> None:
    program = lg.program(SHIFTED)
    facts, _ = specialized(infer(program), validate(program), {"a": 0, "k": 1})
    first, second = map(show_statement, facts.program.statements)
    assert first == "for n < N:  y[n] += scale * k * x[n] - (n - a)   if n < N and 0 <= n < N"
    assert second == "for n < N:  z += x[n] / 0 + a * k"


CASES: list[tuple[str, dict[str, Any]]] = [
    ("conv1d", {"stride": 1}),
    ("conv1d", {"stride": 2}),
    ("conv2d", {"stride": 1, "padding": 1, "dilation": 1}),
    ("conv2d", {"stride": 2, "padding": 2, "dilation": 3}),
    ("conv_transpose1d", {"stride": 2}),
    ("max_pool2d", {"width": 3}),
    ("mean_pool2d", {"width": 2}),
]


@pytest.mark.parametrize(("name", "constants"), CASES)
@pytest.mark.parametrize("backward", [False, True])
def test_layers(name: str, constants: dict[str, Any], backward: bool) -> None:
    program = lg.lib[name].backward() if backward else lg.lib[name]
    given = {c.name: constants[c.name] for c in program.constants}
    problem = draw(program, {**SIZES, **given}, dtype="float64")
    check(program, list(problem.inputs.values()), problem.keywords)


def check(program: lg.Program, inputs: list[Any], keywords: Any) -> None:
    right = literally(program)(*inputs, **keywords)
    found = lg.compile(program)(*inputs, **keywords)
    for got, wanted in zip(
        *((r if isinstance(r, tuple) else (r,)) for r in (found, right)), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-10)


def test_more_values_than_are_compiled_for() -> None:
    program = lg.program(
        "f(x[N], a = 1) -> y[N]:\n    for n:  y[n] += x[n + a]   if 0 <= n + a < N"
    )
    kernel, x = lg.compile(program), np.arange(10.0)
    for a in [*range(-9, 10), 3]:
        wanted = [x[n + a] if 0 <= n + a < 10 else 0 for n in range(10)]
        np.testing.assert_array_equal(kernel(x, a=a), wanted)


@pytest.mark.parametrize("a", [0, 1, -1, 3])
def test_errors_show_the_program_as_it_is_written(a: int) -> None:
    text = "f(x[N], int w[N], a = 0) -> y[N]:\n    for n:  y[n] += x[w[n] + a]"
    w = np.array([0, 2 - a, 5 - a])
    messages = []
    for backend in ("llvm", "interpret"):
        with pytest.raises(IndexError) as caught:
            lg.compile(lg.program(text), backend=backend)(np.ones(3), w, a=a)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "x[w[n] + a]" in messages[0] or "x[w[n]+a]" in messages[0]


def test_threads_share_no_single_element_of_a_batch() -> None:
    """Of one image channels and places are shared; of scores, which are larger than all else, nothing changes."""
    convolution = lg.lib.conv2d
    facts = infer(convolution)
    assert batches(facts) == batches(infer(convolution.backward())) == ("B",)
    assert batches(infer(lg.lib.attention)) == ()
    assert batches(infer(lg.lib.softmax)) == batches(infer(lg.lib.grid_sample)) == ()
    sizes = {"B": 1, "C": 8, "X": 24, "Y": 24, "O": 8, "DX": 3, "DY": 3}
    values = dict(Shaping((), (), frozenset(), (), batches(facts)).values(sizes, layout.MANY))
    assert values == {"B": 1}
    text = show(made_for(facts, validate(convolution), values, (), Choices()))
    assert "for o < O in blocks parallel as rows:" in text and "for b < B parallel" not in text


@pytest.mark.parametrize("backward", [False, True])
def test_a_batch_of_one_is_as_any_other(backward: bool) -> None:
    program = lg.lib.conv2d.backward() if backward else lg.lib.conv2d
    given = {c.name: 1 for c in program.constants}
    sizes = {**SIZES, "B": 1, "X": 20, "Y": 21}
    problem = draw(program, {**sizes, **given}, dtype="float64")
    check(program, list(problem.inputs.values()), problem.keywords)


def with_single(program: lg.Program, **values: int) -> str:
    return show(made_for(infer(program), validate(program), values, (), Choices()))


LINEAR = """linear(x[B,I], W[J,I]) -> y[B,J]:
    for b, j, i:  y[b,j] += W[j,i] * x[b,i]"""


def test_a_product_of_a_single_row_is_a_loop_over_memory() -> None:
    linear = lg.program(LINEAR)
    assert "product:" in with_single(linear)
    assert with_single(linear, B=1) == (
        "for j < J parallel:  for i < I vector:  y[j] += W[j,i] * x[i]"
    )
    assert with_single(linear, I=1) == (  # an outer product: nothing is added up
        "for b < B parallel:  for j < J vector:  y[b,j] = W[j] * x[b]"
    )


def test_a_single_query_reads_keys_and_values_where_they_lie() -> None:
    text = with_single(lg.lib.attention, T=1)
    assert "product:" not in text and "pack:" not in text
    assert "for d < D vector:  s[b,h,u] += q[b,h,d] * k[b,h,u,d]" in text
    assert (
        "  # s[U] in a row of each thread" in text and "p[" not in text
    )  # nobody reads p any more
    assert "        for u < U:  for e < E vector:  sum[b,h,e] += e2[b,h,u] * v[b,h,u,e]" in text
    lone = with_single(lg.lib.attention, B=1, H=1, T=1)  # threads share the keys
    assert "sum[e] += e2[u] * v[u,e]" in lone
    assert "# sum[E] a copy for each thread" in lone


def test_a_batch_of_one_is_no_product_of_a_single_row() -> None:
    assert sides(infer(lg.lib.attention)) == ("D", "E", "T", "U")
    assert sides(infer(lg.lib.causal_attention)) == ("D", "E", "T")


def test_scores_of_a_batch_of_one_are_no_more_started_than_of_several() -> None:
    """Elements with `u > t` are written, as nobody reads them."""
    text = with_single(lg.lib.causal_attention, B=1)
    assert "product:  s[h,t,u] = " in text and "= 0.0" not in text


def test_sums_down_columns_share_no_loop_with_what_runs_along_rows() -> None:
    """`z.grad` is contiguous along h alone, `W1.grad` along i."""
    text = with_single(lg.lib.mlp.backward(batch=False).simplify(), B=1)
    (loop,) = (part for part in text.split("parallel") if "a.grad[h] +=" in part)
    assert "h.to vector:" in loop and "W1.grad" not in loop


MIDDLE = """middle(x[B,T,I], w[T,I], g[T]) -> y[T,B,I], z[B,T], m[B,T,I], q[T]:
    local y[T,B,I]
    for b, t, i:          y[t,b,i] += x[b,t,i] * w[t,i]
    for b, t, i:          z[b,t] += x[b,t,i] * g[t]
    for b, t, i, j <= i:  m[b,t,i] max= x[b,t,j]
    for t, b:             q[t] += z[b,t]
"""


@pytest.mark.parametrize("ones", ["B", "T", "I", "BT", "TI", "BI", "BTI"])
def test_axes_of_one_element_anywhere(ones: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SOME", 1)
    monkeypatch.setattr(layout, "MANY", 1)
    program = lg.program(MIDDLE)
    text = with_single(program, **dict.fromkeys(ones, 1))
    shape = [e for e in "TBI" if e not in ones] or ["1"]
    assert f"y[{','.join('0' if e == '1' else e.lower() for e in shape)}] = " in text
    for other in (0, 1, 2, 17):
        sizes = {e: 1 if e in ones else other for e in "BTI"}
        problem = draw(program, sizes, dtype="float64")
        check(program, list(problem.inputs.values()), problem.keywords)
        if other:
            backward = program.backward(recompute=True)
            problem = draw(backward, sizes, dtype="float64")
            check(backward, list(problem.inputs.values()), problem.keywords)


SIZES_OF = {
    "attention": {"B": 2, "H": 3, "T": 4, "U": 5, "D": 6, "E": 7},
    "mlp": {"B": 2, "I": 3, "H": 4, "J": 5},
    "lstm": {"T": 3, "B": 2, "K": 4, "J": 5},
    "bilinear": {"B": 2, "I": 3, "J": 4, "K": 5},
    "conv1d": {"B": 2, "C": 3, "X": 9, "O": 4, "DX": 3, "stride": 1},
    "info_nce": {"B": 4, "D": 3},
}


@pytest.mark.parametrize("name", SIZES_OF)
@pytest.mark.parametrize("backward", [False, True])
def test_extents_of_one(name: str, backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SOME", 1)
    program = lg.lib[name].backward(recompute=True) if backward else lg.lib[name]
    single = set(sides(infer(program))) & {*SIZES_OF[name]}
    assert single
    for ones in (*({e} for e in sorted(single)), single):
        sizes = {e: 1 if e in ones else n for e, n in SIZES_OF[name].items()}
        problem = draw(program, sizes, dtype="float64")
        check(program, list(problem.inputs.values()), problem.keywords)


def test_last_axes_of_one_element_are_left_out() -> None:
    """So lanes run over the axis before; a gather, or an axis that a subscript moves over, stays."""
    text = (
        "f(a[K,M], x[K,N], int w[M], z[M,N]) -> y[M,N]:\n"
        "    for m, n, k:  y[m,n] += a[k,m] * x[k,n]\n"
        "    for m, n:     y[m,n] += z[m,w[m]]"
    )
    program = lg.program(text)
    found, _ = specialized(infer(program), validate(program), {"N": 1}, keeps_axes=False)
    ranks = {name: tensor.rank for name, tensor in found.tensors.items()}
    assert ranks == {"a": 2, "x": 1, "w": 1, "z": 2, "y": 1}
    rng, w = np.random.default_rng(0), np.zeros(333, int)
    a, x, z = (rng.standard_normal(shape) for shape in ((50, 333), (50, 3), (333, 1)))
    wide = np.zeros((333, 2))
    wanted = a.T @ x[:, 1:2] + z
    kernel = lg.compile(program)
    np.testing.assert_allclose(kernel(a, x[:, 1:2], w, z), wanted, rtol=1e-12, atol=1e-12)
    kernel(a, x[:, 1:2], w, z, out=wide[:, 1:])
    np.testing.assert_allclose(wide, np.hstack([np.zeros_like(z), wanted]), rtol=1e-12, atol=1e-12)
    w[7] = 1
    with pytest.raises(IndexError, match=r"axis 1 of `z`"):
        kernel(a, x[:, 1:2], w, z)
