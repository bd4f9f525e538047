"""Work and span at given sizes, against the graph drawn operation by operation."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.cost.levels import levels
from loopgrad.ir.nodes import Read
from loopgrad.ir.walk import all_statements, bounds, reads, subexpressions
from tests.cost.programs import SIZES, all_programs, each, sized, values
from tests.cost.unrolled import Graph
from tests.effort import EFFORT, sample
from tests.strategies import CARRIED, STEPS, Drawn, programs

PROGRAMS = all_programs()

usual = settings(max_examples=30 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))


def hangs_on_data(program: lg.Program) -> bool:
    """Whether it gathers from what it computes, scatters, or has loops that data cut short."""
    facts = infer(program)
    for statement in all_statements(facts.program.statements):
        if any(any(reads(b)) for b in bounds(statement.ranges)):
            return True
        places = [getattr(statement, "target", None)]
        for expression in (getattr(statement, "value", None), getattr(statement, "guard", None)):
            places += (
                [n for n in subexpressions(expression) if isinstance(n, Read)] if expression else []
            )
        for place in places:
            if place is not None and any(any(reads(s)) for s in place.subscripts):
                return True
    return False


@pytest.mark.parametrize("name", sample(list(PROGRAMS), 6))
def test_levels_are_those_of_the_graph(name: str) -> None:
    for program in each(PROGRAMS[name]):
        facts = infer(program)
        for base in SIZES[:: 2 if EFFORT == 1 else 1]:
            sizes = sized(facts, base)
            graph = Graph(facts, sizes, values(facts, sizes))
            found = levels(facts, sizes)
            if hangs_on_data(program):
                assert graph.work <= found.work and graph.span <= found.span
            else:
                assert (found.work, found.span) == (graph.work, graph.span)


@usual
@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@given(programs(among=[*STEPS, *CARRIED], smallest=0))
def test_levels_of_drawn_programs(drawn: Drawn) -> None:
    facts = infer(lg.program(drawn.text))
    sizes = sized(facts, drawn.sizes)
    try:
        run = values(facts, sizes, drawn.inputs())
    except (IndexError, ValueError):  # sizes of 0 that the program is not made for
        return
    graph = Graph(facts, sizes, run)
    try:
        found = levels(facts, sizes)
    except ValueError as error:
        assert "nothing says how long" in str(error)
        return
    if re.search(r"[gn]\[b\]|w\[b\]", drawn.text):
        assert graph.work <= found.work and graph.span <= found.span
    else:
        assert (found.work, found.span) == (graph.work, graph.span)


def test_what_a_guard_keeps_from_a_tensor_without_elements_is_computed() -> None:
    text = "f(v[K], int g[B], bool m[B], size J) -> t[J,K]:\n    for b, k:  t[g[b],k] += tanh(v[k])   if m[b]"
    facts = infer(lg.program(text))
    import numpy as np

    given = {"v": np.ones(1), "g": np.zeros(1, int), "m": np.array([False])}
    for rows in (0, 1):
        sizes = sized(facts, {"B": 1, "K": 1, "J": rows})
        graph, found = Graph(facts, sizes, values(facts, sizes, given)), levels(facts, sizes)
        assert (found.work, found.span) == (graph.work, graph.span) == (3, 3)


def test_where_data_say_where_to_the_worst_is_meant() -> None:
    """All values may go to one element, and then do."""
    text = "count(int w[N], x[N], size V) -> n[V]:\n    for i:  n[w[i]] += x[i]"
    facts = infer(lg.program(text))
    sizes = sized(facts, {"N": 9, "V": 4})
    import numpy as np

    apart = Graph(facts, sizes, values(facts, sizes, {"w": np.arange(9) % 4}))
    together = Graph(facts, sizes, values(facts, sizes, {"w": np.zeros(9, int)}))
    found = levels(facts, sizes)
    assert apart.span < together.span == found.span == 5
    assert apart.work == together.work == found.work == 9


def test_the_counts_of_each_level() -> None:
    text = "f(x[N], y[N]) -> s:\n    for n:  s += x[n] * y[n]"
    facts = infer(lg.program(text))
    # 5 products, a tree of 3 rounds for 5 values, the `+=`
    assert levels(facts, {"N": 5}).counts.tolist() == [0, 5, 2, 1, 1, 1]


def test_a_loop_of_no_known_length() -> None:
    text = "f(int n[B]) -> c[B]:\n    for b, j < n[b]:  c[b] += 1"
    facts = infer(lg.program(text))
    with pytest.raises(ValueError, match="nothing says how long `j` runs"):
        levels(facts, {"B": 2})
