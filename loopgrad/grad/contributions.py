"""What each place in a statement contributes to a derivative; the same for both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loopgrad.grad.activity import Leaf, Names, Primal
from loopgrad.grad.exclusive import ExclusiveProducts
from loopgrad.grad.growth import Growth
from loopgrad.grad.partials import Chain, assuming
from loopgrad.grad.preparing import Preparation
from loopgrad.grad.products import Product, expression_of, multiplied, parts
from loopgrad.grad.winners import EXTREMES, Winners
from loopgrad.ir.nodes import Accumulate, Expression, Read, Reduction
from loopgrad.ir.walk import conjunction


@dataclass(frozen=True, slots=True)
class Contribution:
    """d target / d read, where all of `guards` hold; `known` are those that conditionals decide."""

    leaf: Leaf
    read: Read
    partial: Product
    guards: tuple[Expression, ...]
    known: tuple[Expression, ...]
    integer: Callable[[Expression], bool]
    growth: Growth

    def update(self, target: Read, product: Product) -> Accumulate:
        """`target += product   if guards`, over the loops of the statement.

        Raises ProgramError where it would be more than can be read back.
        """
        statement = self.leaf.statement
        self.growth.admit(product, self.leaf)
        value = expression_of(product, self.integer)
        self.growth.check_depth(value, self.leaf)
        return Accumulate(
            Read(target.tensor, tuple(assuming(s, self.known) for s in target.subscripts)),
            Reduction.SUBTRACT if product.negative else Reduction.ADD,
            assuming(value, self.known),
            statement.ranges,
            conjunction((statement.guard, *self.guards)),
        )


class Contributions:
    """Finds the contributions of statements; what they need beforehand gathers in `prepare`."""

    def __init__(self, primal: Primal, names: Names):
        self.primal = primal
        self.growth = Growth(primal.program.name)
        self.prepare = Preparation(primal, names)
        self.chain = Chain(primal.varied.__contains__, primal.is_integer)
        self.winners = Winners(self.prepare)
        self.products = ExclusiveProducts(self.prepare)

    def of(self, leaf: Leaf) -> Iterator[Contribution]:
        """The contributions of every place of a varied tensor, left to right."""
        statement = leaf.statement
        if not self.chain.reads_active(statement.value):
            return
        start = Product(negative=statement.reduction is Reduction.SUBTRACT)
        guards: tuple[Expression, ...] = ()
        siblings = self.primal.leaves_of[leaf.target.tensor]
        reductions = {sibling.statement.reduction for sibling in siblings}
        if not reductions.isdisjoint(EXTREMES):
            guards = self.winners.guards(leaf)
        elif Reduction.MULTIPLY in reductions:
            integer = self.primal.is_integer
            for factor in self.products.factors(leaf):
                start = multiplied(start, parts(factor, integer), integer)
        for each in self.chain.occurrences(statement.value, start):
            yield Contribution(
                leaf,
                each.read,
                each.partial,
                (*guards, *each.guards),
                each.guards,
                self.primal.is_integer,
                self.growth,
            )
