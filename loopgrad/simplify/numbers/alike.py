"""Tensors that several programs compute alike, from the same inputs: computed once.

A form of a program has most of its statements. What a tensor is follows from the statements that write it, if
each of its elements is complete before it is read, and from what these read: given tensors, or others of
which that is so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Accumulate, Constant, Expression, Extent
from loopgrad.ir.walk import accumulates, statement_expressions, statement_reads, subexpressions


@dataclass(frozen=True)
class Definition:
    """What computes a tensor.

    reads: the tensors that the statements read. sizes: the extents and constants in them.
    """

    name: str
    statements: tuple[Accumulate, ...]
    reads: tuple[str, ...]
    sizes: tuple[str, ...]
    what: tuple[object, ...]  # all that says what it is, but for the values of these


def definitions(facts: Facts, watched: Collection[str]) -> tuple[Definition, ...]:
    """Of the tensors that statements outside of blocks write, in the order in which they are complete.

    watched: those whose elements may be read before they are complete.
    """
    writes: dict[str, list[Accumulate]] = {}
    apart = set(watched)
    for blocks, statement in accumulates(facts.program.statements):
        name = statement.target.tensor
        writes[name] = [*writes.pop(name, ()), statement]  # the last to be complete, so far
        if blocks:
            apart.add(name)
    return tuple(
        _definition(name, tuple(statements), facts)
        for name, statements in writes.items()
        if name not in apart
    )


def _definition(name: str, statements: tuple[Accumulate, ...], facts: Facts) -> Definition:
    tensor = facts.tensors[name]
    reads = dict.fromkeys(r.tensor for s in statements for r in statement_reads(s))
    expressions = [*tensor.extents, *(e for s in statements for e in statement_expressions(s))]
    sizes = tuple(dict.fromkeys(_sizes(expressions)))
    return Definition(
        name, statements, tuple(reads), sizes, (statements, tensor.extents, tensor.element)
    )


def _sizes(expressions: Sequence[Expression]) -> Iterator[str]:
    for expression in expressions:
        for node in subexpressions(expression):
            if isinstance(node, Extent | Constant):
                yield node.name


@dataclass
class Reached:
    """By `id`, the accumulates that ran at least once, and those that did more than add zeros."""

    ran: set[int] = field(default_factory=set)
    telling: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Made:
    """A tensor, and for each of its statements whether it ran, and whether it did more than add zeros."""

    tensor: Any
    reached: tuple[tuple[bool, bool], ...]


@dataclass
class Alike:
    """The tensors that were computed from some inputs, in one kind of arithmetic.

    grows: whether what further programs compute is kept, too.
    """

    grows: bool = True
    numbers: dict[object, int] = field(default_factory=dict)  # of tensors that are told apart
    kept: dict[int, Made] = field(default_factory=dict)
    inputs: dict[int, object] = field(
        default_factory=dict
    )  # so that no others get their identities

    def numbered(
        self, definitions: Sequence[Definition], known: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, int]:
        """A number for each tensor that follows from given ones: the same for those that are alike."""
        found: dict[str, int] = {}
        for name, tensor in given.items():
            self.inputs[id(tensor)] = tensor
            found[name] = self._number(("given", id(tensor)))
        for one in definitions:
            if all(name in found for name in one.reads):
                sizes = tuple([(type(known[name]), known[name]) for name in one.sizes])
                reads = tuple([found[name] for name in one.reads])
                found[one.name] = self._number((one.what, sizes, reads))
        return found

    def _number(self, what: object) -> int:
        return self.numbers.setdefault(what, len(self.numbers))

    def taken(
        self, definitions: Sequence[Definition], numbered: Mapping[str, int], reached: Reached
    ) -> dict[str, Any]:
        """The tensors that are there already; what their statements did is noted as done."""
        found: dict[str, Any] = {}
        for one in definitions:
            made = self.kept.get(numbered.get(one.name, -1))
            if made is not None:
                found[one.name] = made.tensor
                for statement, (ran, telling) in zip(one.statements, made.reached, strict=True):
                    if ran:
                        reached.ran.add(id(statement))
                    if telling:
                        reached.telling.add(id(statement))
        return found

    def keep(
        self,
        definitions: Sequence[Definition],
        numbered: Mapping[str, int],
        tensors: Mapping[str, Any],
        reached: Reached,
    ) -> None:
        """Keeps the tensors of a run."""
        if not self.grows:
            return
        for one in definitions:
            if one.name in numbered:
                did = [(id(s) in reached.ran, id(s) in reached.telling) for s in one.statements]
                self.kept.setdefault(numbered[one.name], Made(tensors[one.name], tuple(did)))
