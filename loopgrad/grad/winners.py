"""The gradient of `max=` and `min=` goes to the first winner in loop order.

The winner is found by reductions over the forward's values, one for each thing that can differ
between two updates of an element, in the order in which they ran: which statement, which turn of
the block, which value of each loop's index.

    m[b] max= s[b,j,k]      m.j[b] min= j   if s[b,j,k] == m[b]
                            m.k[b] min= k   if s[b,j,k] == m[b] and j == m.j[b]
                            s.grad[b,j,k] += m.grad[b]   if j == m.j[b] and k == m.k[b]
"""

from __future__ import annotations

from collections.abc import Sequence

from loopgrad.analysis import extents as ext
from loopgrad.grad.activity import Leaf, Path
from loopgrad.grad.preparing import Preparation, bare_axes, indexed
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Constant,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO, compare, conjunction, indices_of, reads, subexpressions

EXTREMES = (Reduction.MAXIMUM, Reduction.MINIMUM)


class Winners:
    """Finds the winners of the tensors asked for, each once."""

    def __init__(self, preparation: Preparation):
        self.preparation = preparation
        self.known: dict[str, dict[Path, tuple[Expression, ...]]] = {}

    def guards(self, leaf: Leaf) -> tuple[Expression, ...]:
        """The conditions under which an update of a `max=` tensor was the winner."""
        tensor = leaf.target.tensor
        if tensor not in self.known:
            self.known[tensor] = self._find(tensor)
        return self.known[tensor][leaf.path]

    def _find(self, tensor: str) -> dict[Path, tuple[Expression, ...]]:
        found: dict[Path, tuple[Expression, ...]] = {}
        for rivals in _rivals(self.preparation.primal.leaves_of[tensor]):
            search = _Search(self.preparation, tensor, rivals)
            search.among(rivals, 0)
            found |= search.won
        return found


def _rivals(leaves: Sequence[Leaf]) -> list[list[Leaf]]:
    """The updates in groups, those of different groups evidently of different elements."""
    groups: list[list[Leaf]] = []
    for leaf in leaves:
        meeting = [g for g in groups if not all(_are_apart(leaf, other) for other in g)]
        groups = [g for g in groups if g not in meeting]
        groups.append([*(other for g in meeting for other in g), leaf])
    return [sorted(group, key=lambda leaf: leaf.path) for group in groups]


def _are_apart(a: Leaf, b: Leaf) -> bool:
    """Whether an axis keeps the elements apart: `v[0,s]` and `v[t,s]` for `1 <= t`."""
    for one, other in zip(a.target.subscripts, b.target.subscripts, strict=True):
        (low, high), (other_low, other_high) = _span(a, one), _span(b, other)
        for below, above in ((high, other_low), (other_high, low)):
            gap = None if below is None or above is None else ext.difference(above, below)
            if gap is not None and gap > 0:
                return True
    return False


def _span(leaf: Leaf, subscript: Expression) -> tuple[Expression | None, Expression | None]:
    """The least and the largest value of a subscript, as formulas; None where not evident."""
    if not indices_of(subscript) and not any(reads(subscript)):
        return subscript, subscript
    for r in leaf.ranges:
        if subscript == Index(r.index) and r.upper is not None:
            lower, upper = r.lower or ZERO, ext.plus(r.upper, -1)
            return (
                None if indices_of(lower) or any(reads(lower)) else lower,
                None if indices_of(upper) or any(reads(upper)) else upper,
            )
    return None, None


class _Search:
    def __init__(self, preparation: Preparation, tensor: str, leaves: Sequence[Leaf]):
        self.preparation = preparation
        self.tensor = tensor
        self.all = leaves
        self.won: dict[Path, tuple[Expression, ...]] = {leaf.path: () for leaf in leaves}
        self.candidates: dict[Path, Expression] | None = None

    def among(self, leaves: Sequence[Leaf], depth: int) -> None:
        """Tells the updates apart that share their first `depth` blocks."""
        groups: dict[int, list[Leaf]] = {}
        for leaf in leaves:
            groups.setdefault(leaf.path[depth], []).append(leaf)
        if len(groups) > 1:
            numbers = {
                leaf.path: Number(n) for n, group in enumerate(groups.values()) for leaf in group
            }
            self._stage("statement", leaves, numbers, descending=False)
        for group in groups.values():
            first = group[0]
            if len(first.path) == depth + 1:
                # `=` writes an element once: nothing more to tell apart.
                if first.statement.reduction is not Reduction.SET:
                    self._indices(group, first.statement.ranges)
            else:
                self._indices(group, first.blocks[depth].ranges)
                self.among(group, depth + 1)

    def _indices(self, leaves: Sequence[Leaf], ranges: tuple[Range, ...]) -> None:
        for r in ranges:
            axes = {bare_axes(leaf.target).get(r.index) for leaf in leaves}
            if None in axes or len(axes) > 1:
                values = {leaf.path: Index(r.index) for leaf in leaves}
                self._stage(r.index, leaves, values, r.descending)

    def _stage(
        self,
        wanted: str,
        leaves: Sequence[Leaf],
        values: dict[Path, Number] | dict[Path, Index],
        descending: bool,
    ) -> None:
        """One more reduction: the first of `values` among the updates that are still candidates."""
        prepare = self.preparation
        if self.candidates is None:
            self.candidates = self._candidates()
        name = prepare.tensor(
            f"{self.tensor}.{wanted}", prepare.primal.extents(self.tensor), ElementType.INT
        )
        for leaf in leaves:
            winner = Read(name, leaf.target.subscripts)
            guard = conjunction(
                (leaf.statement.guard, self.candidates[leaf.path], *self.won[leaf.path])
            )
            first = Reduction.MAXIMUM if descending else Reduction.MINIMUM
            value = values[leaf.path]
            prepare.add(leaf.ranges, winner, first, value, guard)
            same = (winner, value) if isinstance(value, Number) else (value, winner)
            self.won[leaf.path] += (compare("==", *same),)

    def _candidates(self) -> dict[Path, Expression]:
        """For each update the condition that its value is the extreme one.

        The extreme is compared with what the forward computed only where rounding cannot tell the
        two apart. Otherwise it is found again, from values that are computed once.
        """
        values = {leaf.path: leaf.statement.value for leaf in self.all}
        if all(map(_is_exact, values.values())):
            return {
                leaf.path: compare("==", values[leaf.path], Read(self.tensor, _f(leaf)))
                for leaf in self.all
            }
        prepare = self.preparation
        for leaf in self.all:
            if not _is_repeatable(values[leaf.path]):
                values[leaf.path] = self._stored(leaf)
        extreme = prepare.tensor(f"{self.tensor}.best", prepare.primal.extents(self.tensor))
        reduction = next(
            x.statement.reduction for x in self.all if x.statement.reduction in EXTREMES
        )
        for leaf in self.all:
            prepare.add(
                leaf.ranges,
                Read(extreme, _f(leaf)),
                reduction,
                values[leaf.path],
                leaf.statement.guard,
            )
        return {
            leaf.path: compare("==", values[leaf.path], Read(extreme, _f(leaf)))
            for leaf in self.all
        }

    def _stored(self, leaf: Leaf) -> Expression:
        """The values of the update in a tensor of their own; the value itself where none can be."""
        prepare = self.preparation
        extents = prepare.index_extents(leaf)
        if extents is None:
            return leaf.statement.value
        name = prepare.tensor(f"{self.tensor}.values", extents)
        stored = indexed(name, (r.index for r in leaf.ranges))
        update = Accumulate(
            stored, Reduction.SET, leaf.statement.value, leaf.ranges, leaf.statement.guard
        )
        prepare.pending.append(update)
        return stored


def _f(leaf: Leaf) -> tuple[Expression, ...]:
    return leaf.target.subscripts


_EXACT = frozenset(("neg", "abs", "relu", "max", "min", "stop_gradient", "sign", "floor"))
_ROUNDED_ONCE = frozenset(("+", "-", "*", "/", "sqrt"))


def _is_exact(value: Expression) -> bool:
    """Whether the value is one that is stored, up to operations that never round."""
    match value:
        case Apply(operation, operands):
            return operation in _EXACT and all(map(_is_exact, operands))
        case Conditional(_, then, otherwise):
            return _is_exact(then) and _is_exact(otherwise)
        case Number(float()) | Constant():
            return False  # 0.1 rounds to another number where inputs are of another precision
    return True


def _is_repeatable(value: Expression) -> bool:
    """Whether every machine gives the same number again: no function, no multiply-add."""
    applied = {e.operation for e in subexpressions(value) if isinstance(e, Apply)}
    if not applied <= _EXACT | _ROUNDED_ONCE:
        return False
    return not ("*" in applied and applied & {"+", "-"})
