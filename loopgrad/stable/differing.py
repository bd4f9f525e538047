"""The parts in which programs differ, as programs of their own.

    for b, t, d:  q[b,t] += W[d] * x[b,t,d]            of both
    for b, t:     Z[b]   += exp(q[b,t])                of the one, with what reads it
    ..            hundreds more                        of both

Where the parts are equal for all that they read, so are the programs; and the parts of a large program are
small. Tensors that nothing connects, such as those of several layers, are in parts of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Argument, Extent, Input, Local, Program, Result, Size, Statement
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import accumulates, all_statements, sizes_in, statement_reads

# For each part, its programs.
Parts: TypeAlias = list[tuple[Program, ...]]

_KINDS = {ElementType.FLOAT: "input", ElementType.INT: "int", ElementType.BOOL: "bool"}


@dataclass(frozen=True)
class Unit:
    """A statement that stands in no block, or a block."""

    place: int
    statement: Statement

    @cached_property
    def written(self) -> frozenset[str]:
        return frozenset(s.target.tensor for _, s in accumulates([self.statement]))

    @cached_property
    def read(self) -> frozenset[str]:
        inner = all_statements([self.statement])
        return frozenset(r.tensor for s in inner for r in statement_reads(s))


def units_of(program: Program) -> list[Unit]:
    return [Unit(place, statement) for place, statement in enumerate(program.statements)]


def length(program: Program) -> int:
    """How many statements it has, in blocks too."""
    return sum(1 for _ in accumulates(program.statements))


class _Whole:
    """One of the programs."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.units = units_of(facts.program)
        self.writers: dict[str, list[Unit]] = {}
        for unit in self.units:
            for name in unit.written:
                self.writers.setdefault(name, []).append(unit)

    def definition(self, name: str) -> object:
        """All that says what a computed tensor is, but for what it is made of."""
        tensor = self.facts.tensors.get(name)
        if tensor is None:
            return None
        statements = tuple(unit.statement for unit in self.writers.get(name, ()))
        return tensor.extents, tensor.element, statements

    def may_be_cut(self, inside: frozenset[str]) -> bool:
        """Is each tensor complete when it is read on the other side? inside: those of the parts."""
        for unit in self.units:
            own = not unit.written.isdisjoint(inside)
            for name in unit.read:
                if own != (name in inside) and any(
                    w.place >= unit.place for w in self.writers.get(name, ())
                ):
                    return False
        return True

    def wanted(self, inside: frozenset[str]) -> frozenset[str]:
        """The tensors of the parts that are results, or that others read."""
        others = (u.read for u in self.units if u.written.isdisjoint(inside))
        results = (r.name for r in self.facts.program.results)
        return inside.intersection({*results, *(name for read in others for name in read)})


def parts(programs: Sequence[Facts], moved: frozenset[str] = frozenset()) -> Parts | None:
    """For each part that one of the programs has of its own, the programs of it, which return all of it that
    is of use elsewhere. None where they cannot be told apart.

    programs: of the same arguments and results, with every range written. moved: tensors that are not the
    same in all, so that what reads them is in the parts, too.
    """
    wholes = [_Whole(facts) for facts in programs]
    inside = _apart(wholes, moved)
    if not all(whole.may_be_cut(inside) for whole in wholes):
        return None
    first = wholes[0]
    wanted = first.wanted(inside)
    if any(whole.wanted(inside) != wanted for whole in wholes):
        return None
    if wanted & moved:
        return None
    return [_cut(wholes, names, wanted & names) for names in _connected(wholes, inside)]


def _apart(wholes: Sequence[_Whole], moved: frozenset[str]) -> frozenset[str]:
    """The tensors that not all compute alike, those made of what moved, and those that the same blocks
    compute."""
    first, *others = wholes
    names = dict.fromkeys(name for whole in wholes for name in whole.writers)
    found = {
        name
        for name in names
        if name in moved
        or any(other.definition(name) != first.definition(name) for other in others)
    }
    while True:
        units = (
            unit
            for whole in wholes
            for unit in whole.units
            if not (unit.written.isdisjoint(found) and unit.read.isdisjoint(moved))
        )
        more = {name for unit in units for name in unit.written}
        if more <= found:
            return frozenset(found)
        found |= more


def _connected(wholes: Sequence[_Whole], inside: frozenset[str]) -> list[frozenset[str]]:
    """The tensors in groups, none of which reads or is made with one of another group."""
    groups: list[set[str]] = []
    for whole in wholes:
        for unit in whole.units:
            if unit.written.isdisjoint(inside):
                continue
            new = {*unit.written, *(unit.read & inside)}
            new.update(*(g for g in groups if not g.isdisjoint(new)))
            groups = [g for g in groups if g.isdisjoint(new)] + [new]
    return [frozenset(group) for group in groups]


def _cut(
    wholes: Sequence[_Whole], names: frozenset[str], wanted: frozenset[str]
) -> tuple[Program, ...]:
    """The programs of one part: of the same inputs, and with the same results."""
    first = wholes[0].facts
    own = [[u for u in whole.units if not u.written.isdisjoint(names)] for whole in wholes]
    read = {name for units in own for unit in units for name in unit.read} - names
    inputs = [_input(first, name) for name in first.tensors if name in read]
    results = tuple(Result(n, first.tensors[n].extents) for n in first.tensors if n in wanted)
    found = []
    for whole, units in zip(wholes, own, strict=True):
        program, tensors = whole.facts.program, whole.facts.tensors
        declared = {local.name: local for local in program.locals}
        locals_ = tuple(
            declared.get(n) or Local(n, tensors[n].extents, tensors[n].element)
            for n in tensors
            if n in names and n in whole.writers and (n not in wanted or n in declared)
        )
        statements = tuple(unit.statement for unit in units)
        found.append(Program(program.name, tuple(inputs), results, statements, locals_))
    used = {name for program in found for name in sizes_in(program)}
    fixed = {e.name for i in inputs for e in i.extents if isinstance(e, Extent)}
    sizes = [Size(name) for name in first.extents if name in used and name not in fixed]
    constants = [c for c in first.program.constants if c.name in used]
    arguments: tuple[Argument, ...] = (*inputs, *sizes, *constants)
    return tuple(Program(p.name, arguments, p.results, p.statements, p.locals) for p in found)


def _input(facts: Facts, name: str) -> Input:
    for given in facts.program.inputs:
        if given.name == name:
            return given
    tensor = facts.tensors[name]
    return Input(name, tensor.extents, _KINDS[tensor.element])  # type: ignore[arg-type]
