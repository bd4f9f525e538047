"""Stable forms of random programs: equal to what is written, at other sizes too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.stable import stabilize
from tests.effort import EFFORT
from tests.strategies import Drawn, programs

# Tensors that are made and not used are no matter here.
pytestmark = pytest.mark.filterwarnings("ignore::loopgrad.diagnostics.ProgramWarning")

COMMON = settings(
    max_examples=10 * EFFORT,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

EXPONENTS = st.sampled_from(
    [
        "s[b,j]",
        "s[b,j] / 2",
        "s[b,j] - r[b]",
        "s[b,j] + w[j]",
        "-s[b,j]",
        "2 * s[b,j] - w[j]",
        "w[j]",
    ]
)
WEIGHTS = st.sampled_from(["", "w[j]**2 * ", "(m[b,j] + 1) * ", "r[b] * r[b] * "])
USES = st.sampled_from(
    [
        "y[b,j] = exp({e}) / Z[b]",
        "y[b,j] = {e} - log(Z[b])",
        "y[b,j] = log(exp({e}) / Z[b])",
        "y[b,j] = exp({e} - L[b])",
        "y[b,j] = w[j] * E[b,j] / Z[b]",
        "y[b,j] = log(1 + E[b,j]) + log(Z[b])",
        "y[b,j] = E[b,j] / (1 + E[b,j]) / sqrt(Z[b])",
        "y[b,j] = 1 / (E[b,j] + exp(w[j]))",
        "y[b,j] = Z[b] * exp(-r[b])",
        "y[b,j] = log(E[b,j] * 2 + Z[b])",
    ]
)


@st.composite
def exponentials(draw: st.DrawFn) -> str:
    e, other = draw(EXPONENTS), draw(EXPONENTS)
    lines = [
        f"for b < B, j < J:  E[b,j] = exp({other})",
        f"for b < B, j < J:  Z[b] += {draw(WEIGHTS)}exp({e})",
        draw(st.sampled_from(["for b < B:  Z[b] += 1", "for b < B, j < J:  Z[b] += E[b,j]", ""])),
        "for b < B:  L[b] = log(Z[b])",
        draw(USES).format(e=e).join(["for b < B, j < J:  ", ""]),
        "for b < B, j < J:  l += y[b,j] * w[j]",
    ]
    body = "\n".join(f"    {line}" for line in lines if line)
    return f"f(s[B,J], r[B], w[J], bool m[B,J]) -> l, y[B,J]:\n{body}\n"


@given(exponentials(), st.sampled_from(["value", "gradient", "tangent"]))
@settings(COMMON, max_examples=12 * EFFORT)
def test_sums_of_exponentials(text: str, part: str) -> None:
    program = lg.program(text)
    if part == "gradient":
        program = program.backward(recompute=True)
    elif part == "tangent":
        program = program.forward_mode()
    stable = stabilize(program)
    assert lg.program(str(stable)) == stable
    assert certify(program, stable).kind != "differ"


@given(programs(steps=3, smallest=2))
@COMMON
def test_random_programs(drawn: Drawn) -> None:
    program = lg.program(drawn.text)
    stable = stabilize(program)
    if stable is not program:
        assert certify(program, stable).kind != "differ"


@given(exponentials(), st.integers(0, 2**32 - 1))
@settings(COMMON, max_examples=6 * EFFORT)
def test_compiled_is_what_is_written(text: str, seed: int) -> None:
    program = lg.program(text)
    rng = np.random.default_rng(seed)
    inputs = (
        rng.normal(size=(3, 4)),
        rng.normal(size=3),
        rng.normal(size=4),
        rng.random((3, 4)) < 0.5,
    )
    with np.errstate(all="ignore"):
        expected = lg.compile(program, "interpret")(*inputs)
        found = program(*inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
