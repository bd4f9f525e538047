"""Windows over rows: several rows at a time, with borders of zeros, against the literal loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.fused.overlapping import ROWS, Overlap, overlap
from loopgrad.backends.llvm.fused.unrolling import Unrolling
from loopgrad.ir.nodes import Program
from loopgrad.schedule.default import optimized
from loopgrad.schedule.tree import Fused, Node, Over
from tests.literal import literally

HEAD = "f(x[C,X,Y], k[C,{0},{1}]) -> y[C,{2},{3}]:\n    "
WITH_BIAS = HEAD.replace("])", "], c[C])", 1)
BIAS = "for i, m, n:  y[i,m,n] += c[i]\n    "
INSIDE = "for i, m, n, p, q:  y[i,m,n] += k[i,p,q] * x[i,m+p,n+q]"
AROUND = (
    "for i, m < X, n < Y, p, q:  y[i,m,n] += k[i,p,q] * x[i,m+p-{0},n+q-{1}]"
    "   if 0 <= m+p-{0} < X and 0 <= n+q-{1} < Y"
)

PROGRAMS = {
    "inside": WITH_BIAS.format(3, 4, "X-2", "Y-3") + BIAS + INSIDE,
    "no bias": HEAD.format(3, 3, "X-2", "Y-2") + INSIDE,
    "around": WITH_BIAS.format(5, 3, "X", "Y") + BIAS + AROUND.format(2, 1),
    "one side": WITH_BIAS.format(3, 3, "X", "Y") + BIAS + AROUND.format(0, 2),
    "in steps": HEAD.format(4, 3, "X//2-1", "Y//3")
    + "for i, m, n, p, q:  y[i,m,n] -= k[i,p,q] * x[i,2*m+p,3*n+q]",
    "a row's number": HEAD.format(3, 3, "X-2", "Y-2")
    + "for i, m, n, p, q:  y[i,m,n] += (k[i,p,q] + m) * x[i,m+p,n+q]",
    "a turn's number": HEAD.format(3, 3, "X-2", "Y-2")
    + "for i, m, n, p, q:  y[i,m,n] += (q - p) * k[i,p,q] * x[i,m+p,n+q]",
    "taken away": WITH_BIAS.format(3, 3, "X-2", "Y-2")
    + "for i, m, n:  y[i,m,n] -= c[i]\n    for i, m, n, p, q:  y[i,m,n] -= k[i,p,q] * x[i,m+p,n+q]",
}


def loops(nodes: tuple[Node, ...]) -> list[Over]:
    found = []
    for node in nodes:
        if isinstance(node, Over):
            found += [node, *loops(node.body)]
    return found


def plans(program: Program) -> list[Overlap]:
    scheduled = optimized(infer(program), validate(program))
    bodies = [phase.body for phase in scheduled.phases if isinstance(phase, Fused)]
    nodes = [Unrolling().nodes(body, {}) for body in bodies]
    return [plan for body in nodes for loop in loops(body) if (plan := overlap(loop)) is not None]


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients(name: str) -> None:
    dtype = "float64" if len(name) % 2 else "float32"
    program = lg.program(PROGRAMS[name])
    assert bool(plans(program)) is (name != "taken away")
    literal = literally(program)
    backward = program.backward()
    kernels = lg.compile(program), lg.compile(backward)
    slow = literally(backward)
    taps = [extent.value for extent in program.inputs[1].extents[1:]]  # type: ignore[union-attr]
    for X, Y in ((6, 9), (9, 17), (13, 5), (24, 33)):
        rng = np.random.default_rng(X)
        sizes = ((2, X, Y), (2, *taps), (2,))[: len(program.inputs)]
        given: list[Any] = [rng.normal(size=s) for s in sizes]
        wanted = literal(*given)
        g = rng.normal(size=wanted.shape)
        values = {**{i.name: a for i, a in zip(program.inputs, given, strict=True)}, "y.grad": g}
        arguments = [values[i.name] for i in backward.inputs]
        gradients = slow(*arguments)
        found = kernels[0](*(a.astype(dtype) for a in given))
        others = kernels[1](*(a.astype(dtype) for a in arguments))
        pairs = zip((found, *_several(others)), (wanted, *_several(gradients)), strict=True)
        for mine, right in pairs:
            bound = 1e-5 if dtype == "float32" else 1e-13
            largest = np.abs(right).max(initial=1.0)
            np.testing.assert_allclose(mine, right, rtol=0, atol=bound * largest)


def _several(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def test_equal_reads_stand_side_by_side() -> None:
    (plan,) = plans(lg.program(PROGRAMS["inside"]))
    assert len(plan.targets) == ROWS and len(plan.terms) == 12 * ROWS
    reads = [term.factors[1] for term in plan.terms]
    rows = [str(read.subscripts[1]) for read in reads]  # type: ignore[union-attr]
    assert rows == sorted(rows, key=rows.index)  # each row of x at one time
    for row in range(ROWS):  # and each sum in its own order
        taps = [term.factors[0] for term in plan.terms if term.row == row]
        assert taps == [term.factors[0] for term in plan.terms if term.row == 0]


@pytest.mark.parametrize(
    "statement",
    [
        "for i, m, n, p, q:  y[i,m,n] += k[i,p,q] * x[i,m+p,n+q]   if k[i,p,q] > 0",
        "for i, m, n, p, q:  y[i,m,n] max= k[i,p,q] * x[i,m+p,n+q]",
        "for i, m, n, p, q:  y[i,m,n] += k[i,p,q] + x[i,m+p,n+q]",
        "for i, m, n, p, q:  y[i,m,n] += k[i,p,q] * x[i,m+2,n+2]",
    ],
)
def test_others_run_row_by_row(statement: str) -> None:
    assert not plans(lg.program(HEAD.format(3, 3, "X-2", "Y-2") + statement))


def test_what_is_not_finite_beside_a_border() -> None:
    """An infinite tap is not added where the guard fails."""
    program = lg.program(PROGRAMS["around"])
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(1, 6, 7)), rng.normal(size=(1, 5, 3))
    k[0, 0, 0], x[0, 5, 6] = np.inf, np.nan
    given = x, k, np.zeros(1)
    with np.errstate(invalid="ignore"):
        wanted = literally(program)(*given)
    assert np.isfinite(wanted).any()
    np.testing.assert_allclose(program(*given), wanted, rtol=1e-12)
