"""What a scheduled program comes to."""

from __future__ import annotations

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.formulas import evaluate
from loopgrad.ir.nodes import Extent
from loopgrad.schedule.default import literal, optimized
from loopgrad.schedule.showing.account import Account, Bytes, account


def of(text: str, size: int = 4) -> Account:
    program = lg.program(text)
    return account(optimized(infer(program), validate(program)), size)


CHAIN = """chain(x[B,J]) -> y[B,J]:
    for b, j:  a[b,j] = x[b,j] + 1
    for b, j:  y[b,j] = a[b,j] * a[b,j]"""


def test_bytes_add_up_by_their_extents() -> None:
    b, j = Extent("B"), Extent("J")
    total = Bytes((((b, j), 4),)) + Bytes((((b,), 8),)) + Bytes((((b, j), 4),))
    assert str(total) == "8*B*J + 8*B"
    assert total.at(lambda e: evaluate(e, {"B": 3, "J": 5})) == 144
    assert str(Bytes()) == "0"


def test_what_is_fused_away_is_in_no_memory() -> None:
    found = of(CHAIN)
    assert str(found.between) == "0"
    (phase,) = found.phases
    assert (phase.reads, phase.writes, phase.statements) == (("x",), ("y",), 2)
    assert str(phase.moved) == "8*B*J"


def test_the_literal_schedule_keeps_it() -> None:
    program = lg.program(CHAIN)
    found = account(literal(infer(program), validate(program)), 8)
    assert str(found.between) == "8*B*J"
    assert [(p.reads, p.writes) for p in found.phases] == [(("x",), ("a",)), (("a",), ("y",))]


def test_integers_and_truth_values_have_their_own_size() -> None:
    found = of("f(x[N], int w[N], bool m[N]) -> y[N]:\n    for n:  y[n] = x[w[n]] if m[n] else 0")
    assert (str(found.inputs), str(found.results)) == ("13*N", "4*N")


def test_formulas_and_fixed_extents() -> None:
    found = of("f(x[N,3]) -> y[N-1]:\n    for n < N - 1, k < 3:  y[n] += x[n+1,k]")
    assert (str(found.inputs), str(found.results)) == ("12*N", "4*(N-1)")
