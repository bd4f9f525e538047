"""What stands between a program and its code."""

from __future__ import annotations

import pytest

from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.frontend.library import program
from loopgrad.ir import walk
from loopgrad.schedule import Nest, Scheduled, Sequence, nests, tensors_of
from loopgrad.schedule.default import literal

RECURRENCE = """f(x[T,B], W[B,B]) -> h[T,B], s:
    for t:
        for b, k:  a[t,b] += W[b,k] * h[t-1,k]   if t > 0
        for b:     h[t,b] = tanh(x[t,b] + a[t,b])
    for t, b:  s += h[t,b]"""


def scheduled(text: str) -> Scheduled:
    parsed = program(text)
    return literal(infer(parsed), validate(parsed))


def test_phases_are_the_statements_as_written() -> None:
    block, total = scheduled(RECURRENCE).phases
    assert isinstance(block, Sequence)
    assert isinstance(total, Nest)
    assert [loop.index for loop in block.loops] == ["t"]
    assert [[loop.index for loop in nest.loops] for nest in nests((block, total))] == [
        ["b", "k"],
        ["b"],
        ["t", "b"],
    ]


def test_numbers_are_those_of_all_statements() -> None:
    schedule = scheduled(RECURRENCE)
    statements = list(walk.all_statements(schedule.facts.program.statements))
    for nest in nests(schedule.phases):
        assert statements[nest.number] is nest.statement


def test_tensors_of_a_phase() -> None:
    block, total = scheduled(RECURRENCE).phases
    assert tensors_of(block) == {"x", "W", "h", "a"}
    assert tensors_of(total) == {"h", "s"}


@pytest.mark.parametrize(
    ("statements", "starts"),
    [
        (["for b, j:  y[b,j] = x[b,j]"], [True]),
        (["for j, b:  y[b,j] += x[b,j]"], [True]),
        (["for b, j:  y[b,j] max= x[b,j]"], [True]),
        (["for b, j:  y[b,j] += x[b,j]", "for b, j:  y[b,j] += x[b,j]"], [True, False]),
        (["for b, j:  y[b,j] += x[b,j]   if x[b,j] > 0"], [False]),
        (["for b, 1 <= j < J:  y[b,j] += x[b,j]"], [False]),
        (["for b, j, k < 2:  y[b,j] += x[b,j] * k"], [False]),
        (["for b, j:  y[b,J-1-j] += x[b,j]"], [False]),
        (["for b, j <= b:  y[b,j] += x[b,j]   if j < J"], [False]),
    ],
)
def test_which_nests_need_no_identity(statements: list[str], starts: list[bool]) -> None:
    text = "\n    ".join(["f(x[B,J]) -> y[B,J]:", *statements])
    assert [nest.starts for nest in nests(scheduled(text).phases)] == starts
