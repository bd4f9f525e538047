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


def test_few_rows_of_a_batch_read_the_other_sides_where_they_lie() -> None:
    """Queries of a step beside all keys and values: to pack these takes longer than the products."""
    facts, safety = infer(lg.lib.attention), validate(lg.lib.attention)
    usual = show(optimized(facts, safety, Choices()))
    few = show(optimized(facts, safety, Choices(few=("T",))))
    assert usual.count("pack:") == few.count("product:") == 2 and "pack:" not in few
    assert f"blocks of {FEW_BESIDE} " in few
    causal = infer(lg.lib.causal_attention), validate(lg.lib.causal_attention)
    assert (
        show(optimized(*causal, Choices(few=("T",)))).count("pack:") == 2
    )  # rows by rows at the diagonal


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 24, 25, 49, FEW_BESIDE, FEW_BESIDE + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_queries(rows: int, dtype: str) -> None:
    """Forward and backward, beside softmax's own formulas."""
    rng = np.random.default_rng(rows)
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)
    keys, inner, outer = (4100, 66, 65) if rows > FEW_ROWS else (403, 33, 17)
    q, k, v = draw(1, 2, rows, inner), draw(1, 2, keys, inner), draw(1, 2, keys, outer)
    seed = draw(1, 2, rows, outer)
    y, pull = lg.vjp(lg.lib.attention, q, k, v)
    got = pull(seed)
    q, k, v, seed = (a.astype("float64") for a in (q, k, v, seed))
    s = q @ k.swapaxes(2, 3) / np.sqrt(inner)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    inside = seed @ v.swapaxes(2, 3)
    inside = p * (inside - (p * inside).sum(-1, keepdims=True)) / np.sqrt(inner)
    wanted = p @ v, inside @ k, inside.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ seed
    error = 2e-5 if dtype == "float32" else 1e-11
    for a, b in zip((y, *got), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=error, atol=error)


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
