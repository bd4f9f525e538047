"""What a user may choose of a schedule, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import choices_of
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

TEXT = """f(x[B,J], W[K,J]) -> p[B,K]:
    for b, j:     y[b,j] += tanh(x[b,j])
    for b, k, j:  p[b,k] += W[k,j] * y[b,j]"""


def shown(words: str) -> str:
    program = lg.program(TEXT)
    return show(optimized(infer(program), validate(program), choices_of(words)))


def test_the_default() -> None:
    assert "\nfor b < B in blocks parallel:" in shown("")


def test_an_index_over_threads() -> None:
    assert shown("parallel j, no products").splitlines()[0].startswith("for j < J")


def test_an_index_over_lanes() -> None:
    assert "for k < K vector" in shown("vector k, no products")


def test_rows_of_a_product() -> None:
    assert "in blocks of 96" in shown("rows 96")


def test_without_products() -> None:
    assert "product" not in shown("no products")


def test_without_fusion() -> None:
    apart, fused = (
        sum(line.startswith("for ") for line in shown(words).splitlines())
        for words in ("no fusion", "")
    )
    assert apart > fused


@pytest.mark.parametrize(
    "words",
    [
        "parallel b",
        "parallel j",
        "vector b, no products",
        "rows 1",
        "no fusion",
        "no sharing",
        "no scan",
        "no turning",
    ],
)
def test_values_are_the_same(words: str) -> None:
    program = lg.program(TEXT)
    x, w = np.random.default_rng(0).normal(size=(2, 5, 4))
    got = lg.compile(program, schedule=words)(x, w)
    np.testing.assert_allclose(got, np.tanh(x) @ w.T, rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fast", "`fast` is no choice; there are `parallel INDEX`"),
        ("paralel b", "did you mean `parallel`?"),
        ("rows 0", "`rows 0` is no choice"),
        ("rows many", "`rows many` is no choice"),
        ("no magic", "`no magic` is no choice"),
        ("parallel z", "`parallel z`: there are loops over `b`, `j` and `k`"),
        ("vector z", "`vector z`: there are loops over `b`, `j` and `k`"),
        ("vector j, vector k", "`vector k` comes after `vector j`, and there can be one `vector`"),
        ("rows 3, no scan, rows 4", "`rows 4` comes after `rows 3`, and there can be one `rows`"),
    ],
)
def test_what_is_no_choice(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        lg.compile(lg.program(TEXT), schedule=words)


@pytest.mark.parametrize("width", [1, 2])
def test_code_for_some_sizes_may_lack_a_loop_that_is_chosen(width: int) -> None:
    """For windows of one element there are no loops over their places, by whichever name."""
    windows = lg.program("""f(x[N], w[P]) -> y[N-P+1], s:
        for n, p:         y[n] += w[p] * x[n+p]
        for 1 <= p <= P:  s    += w[p-1]""")
    for words in ("parallel p", "vector p", "parallel p2", "vector p2"):
        y, s = lg.compile(windows, schedule=words)(np.ones(6), np.ones(width))
        np.testing.assert_array_equal(y, np.full(7 - width, float(width)))
        assert s == width


@pytest.mark.parametrize("words", [5, ["no fusion"], b"no fusion", None])
def test_a_schedule_is_words(words: object) -> None:
    with pytest.raises(TypeError, match="a schedule is chosen in words, got"):
        lg.compile(lg.program(TEXT), schedule=words)  # type: ignore[arg-type]


def test_literal_loops_have_no_schedule() -> None:
    with pytest.raises(ValueError, match="literal loops have none"):
        lg.compile(lg.program(TEXT), optimize=False, schedule="no fusion")
