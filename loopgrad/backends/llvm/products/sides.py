"""The two sides of a product: a strided matrix in memory and a number, or what has to be computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.fused.strides import coefficient
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number, Read
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Dimension


@dataclass(frozen=True, slots=True)
class Side:
    """`matrix` times the `scales`. The matrix hangs on the indices of the product, the scales do not.

    `strided`: whether the matrix is a read whose address is linear in each of those indices;
    `contiguous`: whether one of them goes over its memory element by element.
    """

    matrix: Expression
    scales: tuple[Expression, ...]
    strided: bool
    contiguous: bool = False


def side(expression: Expression, indices: Collection[str], frame: Frame) -> Side:
    factors = list(_factors(expression))
    scales = tuple(f for f in factors if walk.indices_of(f).isdisjoint(indices))
    rest = [f for f in factors if f not in scales]
    match rest:
        case [Read() as read] if is_strided(read, indices, frame):
            return Side(read, scales, True, _is_contiguous(read, indices, frame))
    matrix = rest[0] if rest else Number(1)
    for factor in rest[1:]:
        matrix = walk.apply("*", matrix, factor)
    return Side(matrix, scales, False)


def _factors(expression: Expression) -> Sequence[Expression]:
    match expression:
        case Apply("*", (left, right)):
            return [*_factors(left), *_factors(right)]
    return [expression]


def is_strided(read: Read, indices: Collection[str], frame: Frame) -> bool:
    store = frame.storage(read.tensor)
    if store.register or store.facts.element is not ElementType.FLOAT:
        return False
    steps = [step for index in indices for step in coefficients(read, index, frame)]
    return all(step is not None and _is_fixed(step, indices) for step in steps)


def coefficients(read: Read, index: str, frame: Frame) -> list[int | Expression | None]:
    """How far each axis that is kept in memory moves with the index."""
    varies = lambda e: index in walk.indices_of(e)
    axes = frame.storage(read.tensor).axes
    return [coefficient(read.subscripts[axis.position], index, varies) for axis in axes]


def _is_fixed(step: int | Expression, indices: Collection[str]) -> bool:
    return isinstance(step, int) or walk.indices_of(step).isdisjoint(indices)


def _is_contiguous(read: Read, indices: Collection[str], frame: Frame) -> bool:
    return any(coefficients(read, index, frame)[-1:] in ([1], [-1]) for index in indices)


def ordered(dimensions: Sequence[Dimension], read: Expression) -> tuple[Dimension, ...]:
    """The dimensions in the order in which the read's axes hold them: that is how they may merge."""
    if not isinstance(read, Read):
        return tuple(dimensions)
    axes = [walk.indices_of(subscript) for subscript in read.subscripts]

    def place(d: Dimension) -> int:
        return next((i for i, indices in enumerate(axes) if d.index in indices), -1)

    return tuple(sorted(dimensions, key=place))
