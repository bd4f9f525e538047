"""Bytes: what has to be moved at least, what the loops move as they are written, and what is held at most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from loopgrad.analysis.facts import Facts, TensorFacts
from loopgrad.cost.cases import TooManyCases, leaves, operations_of
from loopgrad.cost.counting import Counting
from loopgrad.cost.lines import Line
from loopgrad.ir.nodes import Block, Statement
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import all_statements, statement_reads

INTEGER, BOOL = 8, 1  # bytes of an element


class Traffic:
    """Counts the bytes of a program with `real` bytes for a real element."""

    def __init__(self, facts: Facts, counting: Counting, real: int):
        self.facts, self.counting = facts, counting
        self.bytes_of = {ElementType.FLOAT: real, ElementType.INT: INTEGER, ElementType.BOOL: BOOL}

    def size(self, tensor: TensorFacts) -> Any:
        """The bytes of a tensor."""
        symbols = self.counting.symbols
        elements = prod([symbols.expression(e) for e in tensor.extents])
        return self.counting.sympy.expand(elements * self.bytes_of[tensor.element])

    def _sizes(self, names: Iterable[str]) -> Any:
        total: Any = self.counting.sympy.Integer(0)
        for name in names:
            total += self.size(self.facts.tensors[name])
        return total

    def compulsory(self) -> Any:
        """Each input read once, each result written once."""
        return self._sizes(n for n, t in self.facts.tensors.items() if t.role != "temporary")

    def literal(self, lines: Sequence[Line]) -> Any:
        """Each iteration reads what stands in it, and its target where it adds to it, and writes that."""
        total: Any = self.counting.sympy.Integer(0)
        for line in lines:
            own = self.bytes_of[self.facts.tensors[line.target.tensor].element]
            try:
                cases = leaves(line.statement)
            except TooManyCases:
                return self.counting.sympy.oo
            for case in cases:
                tensors = {read for read, _ in case.reach if read is not None}
                moved = sum(self.bytes_of[self.facts.tensors[r.tensor].element] for r in tensors)
                moved += own * (1 + operations_of(line.statement))
                total += moved * self.counting.at_most(line.ranges, case.conditions)[0]
        return self.counting.sympy.expand(total)

    def peak(self) -> Any:
        """The most that is held at once: inputs and results always, others from first to last use.

        Uses are told apart by the statements of the program's own level: a block is one.
        """
        statements = self.facts.program.statements
        used = [_tensors(s) for s in statements]
        always = {n for n, t in self.facts.tensors.items() if t.role != "temporary"}
        held: list[Any] = [self._sizes(always)]
        for place in range(len(statements)):
            before = set().union(*used[: place + 1])
            after = set().union(*used[place:])
            held.append(self._sizes(always | (before & after)))
        return self.largest(held)

    def largest(self, formulas: Iterable[Any]) -> Any:
        """The maximum, without those that are evidently less."""
        kept: list[Any] = []
        for one in formulas:
            if any(self.counting.natural(other - one) for other in kept):
                continue
            kept = [o for o in kept if not self.counting.natural(one - o)] + [one]
        return self.counting.sympy.Max(*kept) if len(kept) > 1 else kept[0]


def _tensors(statement: Statement) -> set[str]:
    found = {r.tensor for r in statement_reads(statement)}
    for one in all_statements([statement]):
        found |= {r.tensor for r in statement_reads(one)}
        if not isinstance(one, Block):
            found.add(one.target.tensor)  # type: ignore[union-attr]
    return found
