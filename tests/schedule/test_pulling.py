"""A turn of a block takes what the one before gives to its state, in place of being added to beforehand."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.schedule.test_walking import check

HEAD = "f(W[J,I], g[T,B,I], c[T,B,I]) -> d[T,B,I]:\n"


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def agrees(program: lg.Program) -> None:
    rng = np.random.default_rng(5)
    for turns, rows, size in ((0, 2, 3), (1, 3, 2), (2, 1, 17), (5, 3, 18), (3, 0, 2), (3, 2, 0)):
        shapes = {"W": (size, size), "g": (turns, rows, size), "c": (turns, rows, size)}
        given = {i.name: rng.normal(size=shapes[i.name]) / 2 for i in program.inputs}
        check(program, given, 2, Choices())
        wanted = lg.compile(program, backend="interpret")(**given)
        np.testing.assert_allclose(lg.compile(program)(**given), wanted, rtol=1e-11, atol=1e-12)


DESCENDING = """
    for t, b, i:  s[t,b,i] = g[t,b,i]
    for t descending:
        for b, i:           d[t,b,i]   += s[t,b,i] * c[t,b,i]
        for b, j, i < J:    d[t,b,j]   += W[j,i] * s[t,b,i]
        for b, i:           s[t-1,b,i] += d[t,b,i]   if t > 0
"""


def test_a_state_that_is_added_to_from_behind() -> None:
    program = lg.program(HEAD + DESCENDING)
    assert (
        scheduled(program)
        == """pack parallel, where large:  packed = W[i,i2]
for b < B in blocks parallel:
    pack, where small:  packed = W[i,i2]
    for t < T descending:
        for b.from <= b < b.to:
            for i < J vector:
                s[t,b,i] = g[t,b,i] + (d[t+1,b,i] if t < T - 1 else 0.0)
                d[t,b,i] = s[t,b,i] * c[t,b,i]
        product:  d[t,b,i] += s[t,b,i2] * W[i,i2]
  # s[B,J] in a row of each thread"""
    )
    agrees(program)


@pytest.mark.parametrize(
    "lines",
    [
        # Upwards; a state that is taken from; a guard with more turns left out.
        """
    local s[T,B,I]
    for t, b, i:  s[t,b,i] += g[t,b,i]
    for t:
        for b, j, i < J:  d[t,b,j]   += W[j,i] * s[t,b,i]
        for b, i:         s[t+1,b,i] -= d[t,b,i] * c[t,b,i]   if t < T - 1
""",
        """
    for t, b, i:  s[t,b,i] -= g[t,b,i]
    for t descending:
        for b, j, i < J:  d[t,b,j]   += W[j,i] * s[t,b,i]
        for b, i:         s[t-1,b,i] += d[t,b,i] + c[t,b,i]   if t > 1 and t < T - 1
""",
    ],
)
def test_others_of_the_kind(lines: str) -> None:
    program = lg.program(HEAD + lines)
    text = scheduled(program)
    assert "s[t+1" not in text and "s[t-1" not in text, text
    agrees(program)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("s[t-1,b,i] += d[t,b,i]", "s[t-1,b,i] max= d[t,b,i]"),  # no sum
        ("if t > 0", "if t > 0 and c[t,b,i] > 0"),  # data tell which are given something
        ("s[t,b,i] = g[t,b,i]\n", "s[t,b,i] += g[t,b,i]\n    for t, b, i:  s[t,b,i] += c[t,b,i]\n"),
        (
            "d[t,b,i]   += s[t,b,i] * c[t,b,i]",
            "d[t,b,i]   += (s[t+1,b,i] if t + 1 < T else c[t,b,i])",
        ),
    ],
)
def test_what_is_left_as_it_is(old: str, new: str) -> None:
    assert old in DESCENDING
    text = HEAD + DESCENDING.replace(old, new)
    if "max=" in new:
        text = text.replace("s[t,b,i] = g", "s[t,b,i] max= g")
    program = lg.program(text)
    assert "s[t-1,b,i]" in scheduled(program)
    agrees(program)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_gradients_of_states_have_no_memory_of_their_own(name: str) -> None:
    text = scheduled(lg.lib[name].backward(batch=False))
    assert "h.grad'[t-1" not in text
    assert "in blocks parallel:  for t.from" not in text


LINEAR = """
f(g[T,B,I], c[T,B,I]) -> s[T,B,I]:
    for t, b, i:  s[t,b,i] = g[t,b,i]
    for t descending:
        for b, i:  s[t-1,b,i] += s[t,b,i] * c[t,b,i]   if t > 0
"""


def test_a_turn_that_only_multiplies_takes_it_unless_it_is_a_scan() -> None:
    program = lg.program(LINEAR)
    taken = "s[t,b,i] = g[t,b,i] + (s[t+1,b,i] * c[t+1,b,i] if t < T - 1 else 0.0)"
    assert taken in scheduled(program)
    agrees(program)
    beside = lg.program(
        LINEAR.replace("T,B,I", "B,I,T").replace("t,b,i", "b,i,t").replace("t-1,b,i", "b,i,t-1")
    )
    assert "for 1 <= t < T descending scan:" in scheduled(beside)
