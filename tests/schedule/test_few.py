"""Products of few rows: each has all threads for its columns, and what follows on it loops of its own."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.calling.shaping import FEW_BESIDE, FEW_ROWS, Shaping, lines
from loopgrad.backends.llvm.writing import layout
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

PROGRAM = lg.program(
    """
two_layers(x[B,I], V[H,I], c[H], W[J,H]) -> y[B,J]:
    for b, h:     a[b,h] += c[h]
    for b, h, i:  a[b,h] += x[b,i] * V[h,i]
    for b, h:     g[b,h] = tanh(a[b,h])
    for b, j, h:  y[b,j] += g[b,h] * W[j,h]
"""
)


def test_each_product_has_a_grid_of_threads() -> None:
    facts, safety = infer(PROGRAM), validate(PROGRAM)
    usual = show(optimized(facts, safety, Choices()))
    few = show(optimized(facts, safety, Choices(few=("B",))))
    assert usual.count("pack") and not usual.count("as columns")
    assert few.count("as columns") == few.count("product:") == 2 and "pack:" not in few


def test_a_call_s_sizes_decide() -> None:
    facts = infer(PROGRAM)
    assert lines(facts) == (("B", ("H", "I")), ("B", ("H", "J")))
    assert (
        lines(
            infer(
                lg.program(
                    "p(x[B,I], W[J,I]) -> y[B,J]:\n    for b, j, i:  y[b,j] += x[b,i] * W[j,i]"
                )
            )
        )
        == ()
    )
    sums = lg.program("s(x[B,I], W[I]) -> y, z:\n    for b, i:  y += x[b,i] * W[i]\n    z = y")
    assert lines(infer(sums)) == ()
    shaping = Shaping((), (), frozenset(), lines=lines(facts))

    def few(rows: int, inner: int, elements: int = layout.PLENTY) -> tuple[str, ...]:
        sizes = {"B": rows, "I": 64, "H": inner, "J": 10}
        return shaping.fitted(sizes, elements, 2).few

    assert few(2, 256) == few(FEW_ROWS, 1 << 10) == few(FEW_BESIDE, 1 << 12) == ("B",)
    assert few(1, 256) == few(FEW_ROWS + 1, 1 << 10) == few(FEW_BESIDE + 1, 1 << 12) == ()
    assert few(FEW_ROWS, (1 << 10) - 1) == few(8, 255) == ()
    assert few(8, 256) == few(FEW_ROWS + 1, 1 << 12) == ("B",)
    assert few(2, 256, layout.PLENTY - 1) == ()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_of_few_rows(rows: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopgrad.backends.llvm.calling.shaping.FEW_SIDE", 1)
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    try:
        rng = np.random.default_rng(rows)
        draw = lambda *shape: rng.standard_normal(shape)
        given = draw(rows, 90), draw(150, 90), draw(150), draw(33, 150)
        seed = draw(rows, 33)
        y, pull = lg.vjp(PROGRAM, *given)
        got = pull(seed)
    finally:
        lg.set_num_threads(before)
    x, v, c, w = given
    g = np.tanh(x @ v.T + c)
    inner = (seed @ w) * (1 - g * g)
    wanted = inner @ v, inner.T @ x, inner.sum(0), seed.T @ g
    np.testing.assert_allclose(y, g @ w.T, rtol=1e-10, atol=1e-10)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
