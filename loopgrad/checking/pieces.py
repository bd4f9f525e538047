"""Statements one by one: what each adds to its target when everything that it reads is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.checking.trials import Known, Shape, Trial
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.walk import (
    ZERO,
    accumulates,
    statement_expressions,
    statement_reads,
    subexpressions,
)
from loopgrad.simplify.numbers.evaluate import (
    GREATEST,
    LEAST,
    ONE_TURN,
    Run,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
)
from loopgrad.simplify.numbers.floats import Floats, array
from loopgrad.simplify.numbers.spaces import Space, spread

Vector = NDArray[np.float64]

ADDITIVE = {Reduction.ADD: 1.0, Reduction.SUBTRACT: -1.0, Reduction.SET: 1.0}


@dataclass(frozen=True)
class Piece:
    """An accumulate of an unfolded program with the blocks around it."""

    statement: Accumulate
    blocks: tuple[Block, ...]
    place: int  # among the accumulates of its program

    @property
    def target(self) -> str:
        return self.statement.target.tensor

    def ranges(self) -> tuple[Range, ...]:
        return (*(r for b in self.blocks for r in b.ranges), *self.statement.ranges)

    def of(self, statement: Accumulate) -> Piece:
        return replace(self, statement=statement)


def pieces(program: Program) -> list[Piece]:
    return [Piece(s, blocks, k) for k, (blocks, s) in enumerate(accumulates(program.statements))]


class Fault(Exception):
    """A statement that cannot be run in a trial: why, and the read or target at fault, if one is."""

    def __init__(self, why: str, read: Read | None = None):
        super().__init__(why)
        self.why, self.read = why, read


class Place:
    """Where pieces are run: a trial's tensors, with the claim's own temporaries, and the extents and
    constants by the names that the pieces use.

    firm: the tensors whose extents bare ranges take: inputs, results, locals. images: for a tensor of
    which only an image counts, the matrix that gives it.
    """

    def __init__(
        self,
        trial: Trial,
        extents: Mapping[str, int],
        constants: Known,
        tensors: Mapping[str, Tensor],
        firm: frozenset[str],
        lines: Floats,
        images: Mapping[str, Vector] | None = None,
    ):
        self.images = images or {}
        self.trial, self.extents, self.constants = trial, extents, constants
        self.tensors, self.firm, self.lines = tensors, firm, lines
        given = {name: _in_one_world(tensor) for name, tensor in tensors.items()}
        self.run = Run(lines, given, Setting(extents, constants, {}))
        self._inside: dict[tuple[str, int], tuple[Block, list[tuple[Read, int]]]] = {}

    def uses_inside(self, index: str, block: Block) -> list[tuple[Read, int]]:
        """The axes that the index alone subscripts in a block; the same block is asked about often."""
        known = self._inside.get((index, id(block)))
        if known is None:
            uses = [u for _, s in accumulates(block.body) for u in _uses(index, s)]
            known = self._inside[index, id(block)] = block, uses
        return known[1]

    def shape(self, name: str) -> Shape:
        if name not in self.tensors:
            raise Fault(f"`{name}` is not known")
        return array(self.tensors[name]).shape

    def with_tensor(self, name: str, tensor: Tensor, image: Vector | None = None) -> Place:
        tensors = {**self.tensors, name: tensor}
        images = self.images if image is None else {**self.images, name: image}
        return Place(
            self.trial, self.extents, self.constants, tensors, self.firm, self.lines, images
        )

    def seen(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        """What counts of a value of the tensor."""
        image = self.images.get(name)
        return value if image is None else np.asarray(image @ value.ravel())


def _in_one_world(tensor: Tensor) -> Tensor:
    if isinstance(tensor, np.ndarray):
        return tensor.reshape(1, *tensor.shape)
    return tensor.reshaped((1, *tensor.shape))


def contribution(piece: Piece, place: Place) -> NDArray[Any]:
    """What the piece adds to its target, an array of the target's shape, or its image. Raises Fault."""
    sign = ADDITIVE.get(piece.statement.reduction)
    if sign is None:
        raise Fault("not a sum")
    total = np.zeros(place.shape(piece.target))
    cells, values = _updates(piece, place)
    np.add.at(total.reshape(-1), cells, sign * values)
    return place.seen(piece.target, total)


def whole(group: Sequence[Piece], place: Place) -> NDArray[Any]:
    """The target of the pieces, all of them run in order. Raises Fault."""
    beside = {p.statement.reduction for p in group} - {Reduction.SET}
    start = STARTS.get(next(iter(beside), Reduction.ADD), 0.0)
    total = np.full(place.shape(group[0].target), start)
    flat = total.reshape(-1)
    for piece in group:
        cells, values = _updates(piece, place)
        if piece.statement.reduction is Reduction.SET:
            flat[cells] = values
        else:
            UPDATES[piece.statement.reduction](flat, cells, values)
    if isinstance(place.tensors[group[0].target], np.ndarray):  # the largest integer for infinity
        np.clip(total, float(LEAST), float(GREATEST), out=total)
    return total


STARTS = {Reduction.MULTIPLY: 1.0, Reduction.MAXIMUM: -np.inf, Reduction.MINIMUM: np.inf}
UPDATES: dict[Reduction, Callable[..., None]] = {
    Reduction.ADD: np.add.at,
    Reduction.SUBTRACT: np.subtract.at,
    Reduction.MULTIPLY: np.multiply.at,
    Reduction.MAXIMUM: np.maximum.at,
    Reduction.MINIMUM: np.minimum.at,
}


def _updates(piece: Piece, place: Place) -> tuple[NDArray[np.int64], Vector]:
    """The elements that the piece updates, iteration by iteration, and the values. Raises Fault."""
    statement, run = piece.statement, place.run
    space: Space | None = None
    try:
        space = run.nest(numeric(piece, place), ONE_TURN)
        if statement.guard is not None:
            space = space.where(run.truth(statement.guard, space))
        cells = run.cells(statement.target, space)
        values = array(run.numbers(run.value(statement.value, space)))
    except (Undefined, TooLarge) as error:
        culprit = None if space is None else _culprit(statement, run, space)
        raise Fault(str(error) or "it takes too many steps", culprit) from None
    except KeyError as error:
        raise Fault(f"`{error.args[0]}` is not known") from None
    return spread(cells, space.shape).reshape(-1), spread(values, space.shape).reshape(-1)


def numeric(piece: Piece, place: Place) -> list[Range]:
    """The loops with both bounds. A bare index runs over the axes that it alone subscripts."""
    found: list[Range] = []
    for r in piece.ranges():
        if r.upper is None:
            r = replace(r, upper=Number(_extent(r.index, piece, place)))
        found.append(replace(r, lower=r.lower or ZERO, descending=False))
    return found


def _extent(index: str, piece: Piece, place: Place) -> int:
    uses = list(_uses(index, piece.statement))
    for block in piece.blocks:  # a block's index is used by all that stands in it
        if any(r.index == index for r in block.ranges):
            uses += place.uses_inside(index, block)
    # A computed target may be larger than what one of its statements writes.
    firm = [u for u in uses if u[0].tensor in place.firm]
    firm = firm or [u for u in uses if u[0] is not piece.statement.target] or uses
    extents: dict[int, Read] = {}
    for read, axis in firm:
        shape = place.shape(read.tensor)
        if axis < len(shape):
            extents.setdefault(shape[axis], read)
    if len(extents) > 1:
        first, *others = extents.values()
        raise Fault(
            f"index `{index}` runs over axes of `{first.tensor}` and `{others[0].tensor}`, "
            "whose extents differ",
            others[0],
        )
    if not extents:
        raise Fault(f"the range of `{index}` is not known")
    return next(iter(extents))


def _uses(index: str, statement: Accumulate) -> Iterator[tuple[Read, int]]:
    """The axes that the index alone subscripts."""
    for read in (statement.target, *statement_reads(statement)):
        for axis, subscript in enumerate(read.subscripts):
            if isinstance(subscript, Index) and subscript.name == index:
                yield read, axis


def _culprit(statement: Accumulate, run: Run, space: Space) -> Read | None:
    """The first read, or the target, that is out of range."""
    nodes: list[Expression] = [
        node for e in statement_expressions(statement) for node in subexpressions(e)
    ]
    for read in (statement.target, *(n for n in nodes if isinstance(n, Read))):
        try:
            run.cells(read, space)
        except (Undefined, TooLarge, KeyError):
            return read
    return None
