"""Products of few rows, which threads would not share with what stands beside them.

Where threads share rows, each reads all of a product's other side, a matrix of weights, for the few rows that
it has. So each product has all threads for its columns, and what follows on its rows loops of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopgrad.ir.nodes import Extent
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.lines import Line


def by_products(lines: Sequence[Line], index: str, choices: Choices) -> Iterator[Sequence[Line]]:
    """The lines in order: each product whose rows are few of the index by itself, others together."""
    others: list[Line] = []
    for line in lines:
        if _has_few_rows(line, index, choices):
            if others:
                yield others
            others = []
            yield [line]
        else:
            others.append(line)
    if others:
        yield others


def _has_few_rows(line: Line, index: str, choices: Choices) -> bool:
    if line.roles is None or index not in line.roles.m or line.roles.batch:
        return False
    _, upper = line.bounds[index]
    return isinstance(upper, Extent) and upper.name in choices.few
