"""A long loop around empty ones is not gone through."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import literal, optimized
from loopgrad.schedule.loops.idle import busy
from tests.derivatives import as_tuple

PROGRAMS = {
    "a map": "f(x[T,B]) -> y[T,B]:\n    for t, b:  y[t,b] = tanh(x[t,b])",
    "a sum over a long axis": "f(x[T,B]) -> y[B]:\n    for t, b:  y[b] += x[t,b]",
    "a product": "f(x[T,B], w[B,B]) -> y[T,B]:\n    for t, b, c:  y[t,b] += x[t,c] * w[c,b]",
    "a scan": """f(x[B,T]) -> h[B,T]:
        for t:
            for b:  h[b,t] = x[b,t] + (h[b,t-1] / 2 if t > 0 else 0)""",
    "a block": """f(x[T,B], W[B,B]) -> h[T,B]:
        for t:
            for b, c:  a[t,b] += W[b,c] * h[t-1,c]   if t > 0
            for b:     h[t,b] = tanh(x[t,b] + a[t,b])""",
    "blocks in a block": """f(x[T,B]) -> h[T,B]:
        for t:
            for b:
                h[t,b] = x[t,b] + (h[t,b-1] if b > 0 else 0)""",
    "a scatter": "f(x[T,B], int g[B]) -> y[T,B]:\n    for t, b:  y[t,g[b]] += x[t,b]",
    "integers": "f(int x[T,B]) -> y[B]:\n    for t, b:  y[b] += x[t,b]",
}


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_2_to_the_40_turns_of_nothing_take_no_time(name: str, optimize: bool) -> None:
    program = lg.program(PROGRAMS[name])
    programs = [program] if name == "integers" else [program, program.backward(recompute=True)]
    for one in programs:
        shapes = [[{"T": 2**40, "B": 0}[str(e.name)] for e in i.extents] for i in one.inputs]  # type: ignore[union-attr]
        kinds = [int if i.kind == "int" else float for i in one.inputs]
        arrays = [np.zeros(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
        for found in as_tuple(lg.compile(one, optimize=optimize)(*arrays)):
            assert not found.any()


def needed(text: str, schedule: Any) -> list[str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        program = lg.program(text)
    found = map(busy, schedule(infer(program), validate(program)).phases)
    return [e and show_expression(e, compact=True) for e in found]


@pytest.mark.parametrize(
    ("statements", "optimal", "as_written"),
    [
        (["for t, b:  y[t,b] = x[t,B-1-b]"], ["0 < B"], ["0 < B"]),
        (["for t, b:  y[t,b] = x[t,b]"], [None], ["0 < B"]),  # one loop over all of memory
        # What starts from an identity is written where there is nothing to add up.
        (["for t, b:  y[t,b] = x[t,b]", "for t, b:  z[t] += x[t,b]"], [None], ["0 < B", "0 < B"]),
        (["for t:  z[t] = x[t,0]   if B > 0"], [None], [None]),
        (["for t, b, c < C:  y[t,b] += x[t,b] * c"], ["0 < B"], ["0 < B and 0 < C"]),
        # A bound that may be refused is evaluated.
        (["for t, b < B // n:  y[t,b] += x[t,b]"], [None], [None]),
        (["for t, b < g[t]:  y[t,b] += x[t,b]"], [None], [None]),
    ],
)
def test_what_has_to_hold(
    statements: list[str], optimal: list[str | None], as_written: list[str | None]
) -> None:
    results = ["y[T,B]"] * any("y[" in s for s in statements)
    results += ["z[T]"] * any("z[" in s for s in statements)
    text = f"f(x[T,B], int g[T], size C, n = 2) -> {', '.join(results)}:"
    text = "\n    ".join([text, *statements])
    assert needed(text, literal) == as_written
    assert needed(text, optimized) == optimal
