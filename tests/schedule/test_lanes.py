"""Which index runs over lanes, and what is left where all lines of a block are moved out of it."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.tree import Fused


def shown(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def test_values_of_a_row_that_are_read_again_do_not_draw_lanes_to_the_rows() -> None:
    text = shown(
        lg.program(
            "loss(s[B,J], m[B], n[B]) -> L[B]:\n"
            "    for b, j:  Z[b] += exp(s[b,j] - m[b] - n[b])\n"
            "    for b:     L[b] = log(Z[b]) + m[b] + n[b]"
        )
    )
    assert text.startswith("for b < B parallel:\n    for j < J vector:  Z[b] += exp(")


def test_a_window_slides_in_lanes_over_the_row_and_not_over_its_own_width() -> None:
    """`n+dy` moves along memory with either; the row is longer, and sums stay in their lanes."""
    text = shown(lg.lib.depthwise_conv2d)
    assert "for n <= Y-DY vector" in text and "for dy < DY vector" not in text


@pytest.mark.parametrize("value", ["exp(x[t,j] * w[j,n])", "x[t,j] * w[j,n]"])
def test_functions_are_in_lanes_though_results_lie_apart(value: str) -> None:
    """Lanes over four values would leave most of them idle, and to write apart costs less than a function."""
    program = lg.program(
        "scan(x[T,J], w[J,4]) -> h[T,J,4]:\n"
        "    for t:\n"
        f"        for j, n < 4:  h[t,j,n] = {value} * (h[t-1,j,n] if t > 0 else 1)"
    )
    text = shown(program)
    assert ("j < j.to vector:  h[t,j,n] = " in text) == ("exp" in value)
    assert "n < 4 vector" not in text


def test_no_phase_is_empty() -> None:
    program = lg.lib.ugrnn.backward().simplify()
    scheduled = optimized(infer(program), validate(program))
    assert all(phase.body for phase in scheduled.phases if isinstance(phase, Fused))


def test_the_simplified_backward_of_a_recurrence_runs() -> None:
    program = lg.lib.ugrnn.backward().simplify()
    sizes = {"T": 3, "B": 2, "J": 4, "J'": 4, "K": 3}
    rng = np.random.default_rng(0)
    inputs = {
        i.name: rng.normal(size=[sizes[str(e.name)] for e in i.extents]) for i in program.inputs
    }
    right = lg.compile(program, backend="interpret")(**inputs)
    for got, wanted in zip(lg.compile(program)(**inputs), right, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


def test_a_sum_of_products_in_a_block_is_several_products() -> None:
    text = shown(lg.lib.ugrnn.backward().simplify())
    (core,) = [part for part in text.split("\nfor ") if "descending" in part]
    assert core.count("product:  hp.grad[t,b,j'] += ") == 2


GROUPS = """groups(x[B,G,K,N], w[G,K]) -> y[B,G,K,N], m[B,G]:
    for b, g, k, n:  m[b,g] += x[b,g,k,n]
    for b, g, k, n:  y[b,g,k,n] = w[g,k] * (x[b,g,k,n] - m[b,g])"""


def test_short_rows_that_are_summed_are_one_row() -> None:
    """Whatever a line does behind the sum; but not where a loop over the rows would be shared."""
    text = shown(lg.program(GROUPS))
    assert "for k.n < K*N vector:  m[b,g] += x[b,g,0,k.n]" in text
    assert "for k < K:  for n < N vector:  y[b,g,k,n] = w[g,k] * (x[b,g,k,n] - m[b,g])" in text
    together = GROUPS.replace(" - m[b,g])", ")")
    assert "k.n" not in shown(lg.program(together))


@pytest.mark.parametrize(
    "sizes", [(2, 3, 5, 7), (1, 2, 16, 49), (2, 1, 3, 0), (2, 3, 0, 4), (3, 2, 1, 1)]
)
def test_rows_that_are_summed(sizes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=sizes)
    w = np.random.default_rng(1).normal(size=sizes[1:3])
    y, m = lg.compile(lg.program(GROUPS))(x, w)
    np.testing.assert_allclose(m, x.sum((2, 3)), rtol=1e-12, atol=1e-12)
    wanted = w[None, :, :, None] * (x - x.sum((2, 3))[:, :, None, None])
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)


OUTER = "outer(a[N,4], b[N,4]) -> c[4,4]:\n    for n, i, j:  c[i,j] += a[n,i] * b[n,j]"


def test_few_sums_are_added_up_together_and_not_one_after_the_other() -> None:
    """Each of the 16 alone would go over all rows."""
    assert shown(lg.program(OUTER)) == (
        "for n < N parallel:  for i < 4:  for j < 4:  c[i,j] += a[n,i] * b[n,j]\n"
        "  # c[4,4] a copy for each thread"
    )


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_few_sums(rows: int) -> None:
    rng = np.random.default_rng(rows)
    a, b = rng.normal(size=(2, rows, 4))
    np.testing.assert_allclose(lg.program(OUTER)(a, b), a.T @ b, rtol=1e-12, atol=1e-12)
