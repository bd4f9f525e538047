"""What a program does with each of its parameters, by which its initial values are chosen.

contracted   y[b,j] += W[j,i] * x[b,i]    summed over some of its axes: fan-in is their size
gathered     y[b,k] += E[w[b],k]          rows are looked up by an index tensor
factor       y[b,j] += γ[j] * x[b,j]      multiplies, each element for itself
term         y[b,j] += c[j]               is added
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Read
from loopgrad.ir.walk import accumulates, children, indices_of, reads

Role = Literal["contracted", "gathered", "factor", "term"]

# Of several uses the first of these counts.
ORDER: tuple[Role, ...] = ("contracted", "gathered", "factor", "term")


@dataclass(frozen=True)
class Use:
    """A place where a parameter is read. axes: those that are summed over, where contracted."""

    role: Role
    axes: tuple[int, ...] = ()


def use_of(facts: Facts, parameter: str) -> Use:
    """What the program does with the parameter; a term where it does nothing."""
    uses = _uses(facts, parameter)
    return min(uses, key=lambda use: ORDER.index(use.role), default=Use("term"))


def _uses(facts: Facts, parameter: str) -> Iterator[Use]:
    for blocks, statement in accumulates(facts.program.statements):
        outer = {r.index for block in blocks for r in block.ranges}
        kept = outer.union(*map(indices_of, statement.target.subscripts))
        for read, multiplied in _places(statement.value, False):
            if read.tensor == parameter:
                yield _use(read, multiplied, frozenset(kept), statement)


def _use(read: Read, multiplied: bool, kept: frozenset[str], statement: Accumulate) -> Use:
    if any(list(reads(subscript)) for subscript in read.subscripts):
        return Use("gathered")
    summed = {r.index for r in statement.ranges} - kept
    axes = tuple(n for n, s in enumerate(read.subscripts) if indices_of(s) & summed)
    if axes and multiplied:
        return Use("contracted", axes)
    return Use("factor" if multiplied else "term")


def _places(expression: Expression, multiplied: bool) -> Iterator[tuple[Read, bool]]:
    """Every tensor that is read, and whether it stands in a product."""
    if isinstance(expression, Read):
        yield expression, multiplied
    product = isinstance(expression, Apply) and expression.operation in ("*", "/")
    for child in children(expression):
        yield from _places(child, multiplied or product)
