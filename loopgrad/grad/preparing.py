"""Statements that a derivative needs beforehand: they read nothing but the forward's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loopgrad.analysis import extents as ext
from loopgrad.grad.activity import Leaf, Names, Primal
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Conditional,
    Expression,
    Index,
    Local,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO, children, indices_of


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
        for at, r in enumerate(leaf.ranges):
            assert r.upper is not None
            extent = _never_negative(ext.largest(r.upper, outer, positive))
            if extent is None:
                extent = self._subscripted_axis(leaf, at)
            if extent is None:
                return None
            found.append(extent)
            outer.append((r.index, r.lower or ZERO, r.upper))
        return tuple(found)

    def _subscripted_axis(self, leaf: Leaf, at: int) -> Expression | None:
        """A bound from an axis that the index runs along, wherever the update runs.

        Where `x[first[b]+t]` is in range for `t = 0` and for the last t, so is `t < N`.
        """
        if leaf.statement.guard is not None:
            return None
        over = leaf.ranges[at]
        inner = {r.index for r in leaf.ranges[at:]}
        for read in (leaf.target, *_unconditional_reads(leaf.statement.value)):
            extents = self.primal.extents(read.tensor)
            for subscript, extent in zip(read.subscripts, extents, strict=True):
                if subscript == Index(over.index):
                    return extent
                if over.lower in (None, ZERO) and _runs_along(subscript, over.index, inner):
                    return extent
        return None


def _runs_along(subscript: Expression, index: str, inner: set[str]) -> bool:
    """Whether the subscript is a multiple of the index, plus what the inner loops do not change."""
    terms = ext.polynomial(subscript)
    if not terms.pop((Index(index),), 0):
        return False
    return not any(indices_of(atom) & inner for monomial in terms for atom in monomial)


def _never_negative(extent: Expression | None) -> Expression | None:
    """`T - 1` as `T`, a little too large; `N - k` as `max(N - k, 0)`."""
    if extent is None:
        return None
    terms = ext.polynomial(extent)
    if terms.get((), 0) < 0 and any(value > 0 for value in terms.values()):
        del terms[()]
    rest = ext.to_expression(terms)
    natural = all(value > 0 for value in terms.values())
    return rest if natural else Apply("max", (rest, ZERO))


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
