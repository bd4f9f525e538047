"""Statements that a derivative needs beforehand: they read nothing but the forward's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loopgrad.analysis import extents as ext
from loopgrad.grad.activity import Leaf, Names, Primal
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Conditional,
    Constant,
    Expression,
    Index,
    Local,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO, children


class Preparation:
    """Collects statements to be put before the block that needs them, and their `local`s."""

    def __init__(self, primal: Primal, names: Names):
        self.primal = primal
        self.names = names
        self.pending: list[Statement] = []
        self.locals: list[Local] = []

    def taken(self) -> list[Statement]:
        """The statements collected since the last call."""
        statements, self.pending = self.pending, []
        return statements

    def tensor(
        self, wanted: str, extents: Sequence[Expression], element: ElementType = ElementType.FLOAT
    ) -> str:
        """Declares a new tensor and returns its name."""
        name = self.names.fresh(wanted)
        self.locals.append(Local(name, tuple(extents), element))
        return name

    def add(
        self,
        ranges: tuple[Range, ...],
        target: Read,
        reduction: Reduction,
        value: Expression,
        guard: Expression | None = None,
    ) -> None:
        self.pending.append(Accumulate(target, reduction, value, ranges, guard))

    def add_block(self, ranges: tuple[Range, ...], statement: Accumulate) -> None:
        self.pending.append(Block(ranges, (statement,)))

    def index_extents(self, leaf: Leaf) -> tuple[Expression, ...] | None:
        """For each loop around the update, an extent that holds all its values, free of indices.

        None where that hangs on data.
        """
        positive = frozenset(self.primal.facts.constants)
        found: list[Expression] = []
        outer: list[ext.IndexRange] = []
        for r in leaf.ranges:
            assert r.upper is not None
            extent = _rounded_up(ext.largest(r.upper, outer, positive))
            if extent is None:
                extent = self._subscripted_axis(leaf, r.index)
            if extent is None:
                return None
            found.append(extent)
            outer.append((r.index, r.lower or ZERO, r.upper))
        return tuple(found)

    def _subscripted_axis(self, leaf: Leaf, index: str) -> Expression | None:
        """The extent of an axis that the index alone subscripts, wherever the update runs."""
        if leaf.statement.guard is not None:
            return None
        for read in (leaf.target, *_unconditional_reads(leaf.statement.value)):
            for subscript, extent in zip(
                read.subscripts, self.primal.extents(read.tensor), strict=True
            ):
                if subscript == Index(index):
                    return extent
        return None


def _rounded_up(extent: Expression | None) -> Expression | None:
    """`T - 1` as `T`: an extent that is never negative, a little larger at worst."""
    if extent is None:
        return None
    if any(isinstance(e, Constant) for e in _below(extent)):
        return extent
    terms = ext.polynomial(extent)
    if terms.get((), 0) < 0 and any(value > 0 for value in terms.values()):
        del terms[()]
    return ext.to_expression(terms)


def _below(expression: Expression) -> Iterator[Expression]:
    yield expression
    for child in children(expression):
        yield from _below(child)


def _unconditional_reads(value: Expression) -> Iterator[Read]:
    match value:
        case Read():
            yield value
        case Conditional():
            return
        case _:
            for child in children(value):
                yield from _unconditional_reads(child)


def bare_axes(target: Read) -> dict[str, int]:
    """The indices that stand alone on an axis of the target: its element determines them."""
    return {s.name: axis for axis, s in enumerate(target.subscripts) if isinstance(s, Index)}


def indexed(tensor: str, indices: Iterable[str]) -> Read:
    return Read(tensor, tuple(map(Index, indices)))
