"""Products of few rows, or of many small images, which threads would not share with what stands beside them.

Where threads share rows, each reads all of a product's other side, a matrix of weights, for the few rows that
it has. So each product has all threads for its columns, and what follows on its rows loops of its own.
Likewise a product of all images (`products/joining.py`): what stands beside it has loops over these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopgrad.ir.nodes import Expression, Extent
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.joining import are_together

# What is few at most: `FEW_BESIDE` of `backends/llvm/calling/shaping.py`.
FEW = 64


def by_products(lines: Sequence[Line], index: str, choices: Choices) -> Iterator[Sequence[Line]]:
    """The lines in order: each product of images, or whose rows are few of the index, by itself; others
    together.
    """
    others: list[Line] = []
    for line in lines:
        if _has_few_rows(line, index, choices) or _has_images(line):
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
    return is_few(line.bounds[index][1], choices)


def is_few(upper: Expression, choices: Choices) -> bool:
    """Are the rows up to there few?"""
    return isinstance(upper, Extent) and upper.name in choices.few


def _has_images(line: Line) -> bool:
    return line.roles is not None and are_together(line.roles, line.written)
