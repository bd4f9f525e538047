"""Work: how many operations the graph of a program has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loopgrad.cost.cases import TooManyCases, leaves, operations_of
from loopgrad.cost.counting import Counting
from loopgrad.cost.lines import Line
from loopgrad.ir.printer import show_statement


def work(lines: Iterable[Line], counting: Counting) -> tuple[Any, tuple[str, ...]]:
    """The formula, and in words why it is an upper bound, where it is."""
    total: Any = counting.sympy.Integer(0)
    reasons: list[str] = []
    for line in lines:
        shown = show_statement(line.statement)
        if line.unbounded is not None:
            return counting.sympy.oo, (f"nothing says how long `{line.unbounded}` runs: {shown}",)
        if line.bounded:
            reasons.append(f"loops that data may cut short run in full: {shown}")
        try:
            cases = leaves(line.statement)
        except TooManyCases:
            return counting.sympy.oo, (f"its conditions come out in too many ways: {shown}",)
        own = operations_of(line.statement)
        for case in cases:
            operations = case.operations + own
            if operations:
                points, exact = counting.at_most(line.ranges, case.conditions)
                total += operations * points
                if not exact:
                    reasons.append(f"its conditions are taken to hold everywhere: {shown}")
    return counting.sympy.expand(total), tuple(reasons)
