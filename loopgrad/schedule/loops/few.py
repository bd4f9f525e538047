"""Products of few rows, or of many small images, which threads would not share with what stands beside them.

Where threads share rows, each reads all of a product's other side, a matrix of weights, for the few rows that
it has. So each product has all threads for its columns, and what follows on its rows loops of its own.
Likewise a product of all images (`products/joining.py`), or a sum over them: what stands beside it has loops
over these. And one of weights with the windows of a single image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Extent
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.joining import are_together

# What is few at most: `FEW_BESIDE` of `backends/llvm/calling/shaping.py`.
FEW = 64


def by_products(lines: Sequence[Line], index: str, choices: Choices) -> Iterator[Sequence[Line]]:
    """The lines in order: each product of images, over them or of one, or whose rows are few of the index,
    by itself; others together.
    """
    images = {i for line in lines if _has_images(line) and line.roles for i in line.roles.n}
    others: list[Line] = []
    for line in lines:
        alone = _has_images(line) or _sums_over(line, images) or _is_of_one_image(line, index)
        if alone or _has_few_rows(line, index, choices):
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


def is_over_windows(line: Line) -> bool:
    """Is it a product of weights with all windows of an image? That is in pieces of the image, not of the
    weights: lanes may go over these."""
    if line.roles is None:
        return False
    n, k = {*line.roles.n}, {*line.roles.k}
    inside = (walk.indices_of(s) for one in walk.reads(line.roles.right) for s in one.subscripts)
    return any(axis & n and axis & k for axis in inside)


def _is_of_one_image(line: Line, index: str) -> bool:
    """Would each thread go over all windows of an image, for some rows of the weights?"""
    alone = line.roles is not None and index in line.roles.m and not line.roles.batch
    return alone and is_over_windows(line)


def is_few(upper: Expression, choices: Choices) -> bool:
    """Are the rows up to there few?"""
    return isinstance(upper, Extent) and upper.name in choices.few


def _has_images(line: Line) -> bool:
    return line.roles is not None and are_together(line.roles, line.written)


def _sums_over(line: Line, images: Collection[str]) -> bool:
    """Is it a product that sums over all images, as the gradient of weights?"""
    return line.roles is not None and not {*line.roles.k}.isdisjoint(images)
