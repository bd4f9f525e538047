"""The gradient of `*=`: each factor gets the product of all the others, and nothing is divided.

    p[b] *= x[b,j]    ->    x.grad[b,j] += p.grad[b] * before[b,j] * after[b,j]

where `before` and `after` are running products from both sides: right with zeros among the
factors, one or several, and polynomials in the factors, so that every further derivative is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce

from loopgrad.analysis import extents as ext
from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.grad.activity import Leaf, flipped, mapped_ranges
from loopgrad.grad.preparing import Preparation, bare_axes, indexed
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import (
    ONE,
    ZERO,
    bounds,
    compare,
    conjunction,
    indices_of,
    rebuild,
    substitute,
)


class ExclusiveProducts:
    """Makes, once for each statement, the product of all other factors of the same element."""

    def __init__(self, preparation: Preparation):
        self.preparation = preparation
        self.known: dict[tuple[int, ...], tuple[Expression, ...]] = {}
        self.whole: dict[tuple[int, ...], str] = {}

    def factors(self, leaf: Leaf) -> tuple[Expression, ...]:
        """What the partial of an update of a `*=` tensor is to be multiplied with."""
        if leaf.path not in self.known:
            self.known[leaf.path] = (*self._within(leaf), *self._of_others(leaf))
        return self.known[leaf.path]

    def _of_others(self, leaf: Leaf) -> list[Expression]:
        """The product of each other statement into the same tensor."""
        others = self.preparation.primal.leaves_of[leaf.target.tensor]
        return [
            Read(self._whole_product(other), leaf.target.subscripts)
            for other in others
            if other.path != leaf.path
        ]

    def _whole_product(self, leaf: Leaf) -> str:
        if leaf.path not in self.whole:
            prepare = self.preparation
            tensor = leaf.target.tensor
            name = prepare.tensor(f"{tensor}.part", prepare.primal.extents(tensor))
            target = Read(name, leaf.target.subscripts)
            statement = leaf.statement
            value = statement.value
            if prepare.primal.is_integer(value):
                value = Apply("*", (Number(1.0), value))  # a product of integers could overflow
            prepare.add(leaf.ranges, target, Reduction.MULTIPLY, value, statement.guard)
            self.whole[leaf.path] = name
        return self.whole[leaf.path]

    def _within(self, leaf: Leaf) -> tuple[Expression, ...]:
        """The product of the statement's other iterations."""
        bare = bare_axes(leaf.target)
        reduced = [r for r in leaf.ranges if r.index not in bare]
        if not reduced or leaf.statement.reduction is Reduction.SET:
            return ()
        extents = self.preparation.index_extents(leaf)
        if extents is None:
            raise ProgramError(_no_extent(leaf))
        names = [r.index for r in leaf.ranges]
        plain = len(bare) == len(leaf.target.subscripts)
        inner = {r.index for r in reduced}
        independent = all(
            not indices_of(bound) & inner
            for r in leaf.ranges
            if r.index in bare
            for bound in bounds([r])
        )
        if plain and independent:
            return self._running(leaf, reduced, dict(zip(names, extents, strict=True)))
        return (self._pairwise(leaf, reduced, extents),)

    # ------------------------------------------------------------------ plain targets: linear cost

    def _running(
        self, leaf: Leaf, reduced: list[Range], extents: dict[str, Expression]
    ) -> tuple[Expression, ...]:
        """Running products over each reduced index, of what is multiplied over those inside it."""
        factor = leaf.statement.value
        if leaf.statement.guard is not None:
            factor = Conditional(leaf.statement.guard, factor, ONE)
        found: list[Expression] = []
        inside: list[str] = []
        for r in reversed(reduced):
            outer = tuple(x for x in leaf.ranges if x.index not in inside)
            if inside:
                within = tuple(x for x in leaf.ranges if x.index not in inside[:-1])
                factor = self._product_over(leaf, within, outer, factor, extents)
            found[:0] = self._both_sides(leaf, r, outer, factor, extents)
            inside.append(r.index)
        return tuple(found)

    def _product_over(
        self,
        leaf: Leaf,
        within: tuple[Range, ...],
        outer: tuple[Range, ...],
        factor: Expression,
        extents: dict[str, Expression],
    ) -> Expression:
        """The product of `factor` over the innermost reduced loop of `within`."""
        prepare = self.preparation
        names = [r.index for r in outer]
        name = prepare.tensor(f"{leaf.target.tensor}.product", [extents[n] for n in names])
        prepare.add(within, indexed(name, names), Reduction.MULTIPLY, factor)
        return indexed(name, names)

    def _both_sides(
        self,
        leaf: Leaf,
        over: Range,
        ranges: tuple[Range, ...],
        factor: Expression,
        extents: dict[str, Expression],
    ) -> list[Expression]:
        assert over.upper is not None
        index, lower = Index(over.index), over.lower or ZERO
        previous, following = Apply("-", (index, ONE)), Apply("+", (index, ONE))
        return [
            self._one_side(
                leaf, "before", over, ranges, factor, extents,
                previous, compare(">", index, lower),
            ),
            self._one_side(
                leaf, "after", flipped((over,))[0], ranges, factor, extents,
                following, _has_following(index, over.upper),
            ),
        ]  # fmt: skip

    def _one_side(
        self,
        leaf: Leaf,
        wanted: str,
        over: Range,
        ranges: tuple[Range, ...],
        factor: Expression,
        extents: dict[str, Expression],
        neighbour: Expression,
        has_neighbour: Expression,
    ) -> Expression:
        """`for j: before[b,j] = before[b,j-1] * x[b,j-1] if j > 0 else 1`, or the mirror image."""
        prepare = self.preparation
        names = [r.index for r in ranges]
        tensor = prepare.tensor(f"{leaf.target.tensor}.{wanted}", [extents[n] for n in names])
        here = indexed(tensor, names)
        product = Apply("*", (_at(here, over.index, neighbour), _at(factor, over.index, neighbour)))
        value = Conditional(has_neighbour, product, ONE)
        if any(indices_of(bound) for bound in bounds([over])):
            # How far it runs differs from element to element: each loop in order.
            around = tuple(over if r.index == over.index else r for r in ranges)
            prepare.add_block(around, Accumulate(here, Reduction.SET, value))
        else:
            line = tuple(r for r in ranges if r.index != over.index)
            prepare.add_block((over,), Accumulate(here, Reduction.SET, value, line))
        return here

    # --------------------------------------------------------------- other targets: all against all

    def _pairwise(
        self, leaf: Leaf, reduced: list[Range], extents: tuple[Expression, ...]
    ) -> Expression:
        """The product over a second copy of the loops, where it meets the same element."""
        prepare = self.preparation
        tensor, statement = leaf.target.tensor, leaf.statement
        name = prepare.tensor(f"{tensor}.others", extents)
        other: dict[str, Expression] = {
            r.index: Index(prepare.names.primed(r.index)) for r in reduced
        }

        def renamed(expression: Expression) -> Expression:
            return substitute(expression, other)

        copies = tuple(
            replace(mapped_ranges([r], renamed)[0], index=str(other[r.index].name))  # type: ignore[union-attr]
            for r in reduced
        )
        different = [compare("!=", renamed(Index(r.index)), Index(r.index)) for r in reduced]
        conditions = [
            statement.guard,
            reduce(lambda a, b: Apply("or", (a, b)), different),  # type: ignore[arg-type,return-value]
            *_inside(leaf, renamed),
            None if statement.guard is None else renamed(statement.guard),
            *(compare("==", renamed(s), s) for s in leaf.target.subscripts if renamed(s) != s),
        ]
        target = indexed(name, (r.index for r in leaf.ranges))
        prepare.add(
            (*leaf.ranges, *copies),
            target,
            Reduction.MULTIPLY,
            renamed(statement.value),
            conjunction(conditions),
        )
        return target


def _at(expression: Expression, index: str, neighbour: Expression) -> Expression:
    """The expression one iteration further, its subscripts in normal form: `x[n+2]`."""

    def change(node: Expression) -> Expression:
        if isinstance(node, Read):
            return Read(node.tensor, tuple(map(subscript, node.subscripts)), node.span)
        return neighbour if node == Index(index) else rebuild(node, change)

    def subscript(old: Expression) -> Expression:
        new = change(old)
        return old if new == old else ext.plus(new, 0)

    return change(expression)


def _has_following(index: Index, upper: Expression) -> Expression:
    """`j + 1 < J`; `j < n` where the bound is `n + 1`."""
    match upper:
        case Apply("+", (base, Number(1))):
            return compare("<", index, base)
    return compare("<", Apply("+", (index, ONE)), upper)


def _inside(leaf: Leaf, renamed: Callable[[Expression], Expression]) -> Iterator[Expression]:
    """Conditions that the shared indices are in range for the copy too."""
    for r in leaf.ranges:
        index = Index(r.index)
        if renamed(index) != index:
            continue
        if r.lower is not None and renamed(r.lower) != r.lower:
            yield compare("<=", renamed(r.lower), index)
        if r.upper is not None and renamed(r.upper) != r.upper:
            yield compare("<", index, renamed(r.upper))


def _no_extent(leaf: Leaf) -> Diagnostic:
    return Diagnostic(
        f"the gradient of `{leaf.target.tensor} *= ...` needs the products of the other factors, "
        "and the bounds of its loops do not say how many there can be",
        leaf.statement.target.span,
        help="loop over the whole axis, with the bound as a guard: `if t < length[b]`",
        context=show_statement(leaf.statement),
    )
