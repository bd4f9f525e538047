"""Brings the extents of programs that share tensors to the same names, for their forms to be compared.

None where the two do not take the same calls: one asks for extents to be equal and the other does not, or a
constant has another default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import Unification, infer
from loopgrad.ir.nodes import Expression, Extent, Program, Size
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import map_declared, map_statement, rebuild

Extents = tuple[Expression, ...]


def alike(p: Program, q: Program, forward: Program | None) -> tuple[Program, Program] | None:
    """Both with the extents' names of the forward, or of p."""
    first, second = infer(p), infer(q)
    defaults = {c.name: c.value for c in p.constants}
    if any(defaults.get(c.name, c.value) != c.value for c in q.constants):
        return None
    if forward is None:
        renamed = _like(second, _Reference(first), strict=True)
        if renamed is None or _asked(first, {}) != _asked(
            second, _names(second, _Reference(first)) or {}
        ):
            return None
        return p, renamed
    reference = _Reference(infer(forward))
    one, other = _like(first, reference, strict=False), _like(second, reference, strict=False)
    return (one, other) if one is not None and other is not None else None


class _Reference:
    """Tensors with their extents, equal ones under one name."""

    def __init__(self, facts: Facts):
        names = Unification(facts.extents, facts.equalities)
        self.extents = facts.extents
        self.tensors: dict[str, Extents] = {
            name: tuple(map(names.apply, tensor.extents)) for name, tensor in facts.tensors.items()
        }
        for result in facts.program.results:  # a seed is shaped as its result
            self.tensors.setdefault(f"{result.name}.grad", self.tensors[result.name])
        for i in facts.program.inputs:
            self.tensors.setdefault(f"{i.name}.grad", self.tensors[i.name])


def _like(facts: Facts, reference: _Reference, strict: bool) -> Program | None:
    """The program with the reference's names of extents.

    strict: two extents of the program may not be one in the reference.
    """
    names = _names(facts, reference)
    if names is None or (strict and len(set(names.values())) < len(names)):
        return None
    own = Unification(facts.extents, facts.equalities)
    known = {n: names[own.find(n)] for n in facts.extents if own.find(n) in names}
    taken = {*reference.extents, *known.values()}
    for name in facts.extents:
        if name not in known:
            fresh = name
            while fresh in taken and not _sized(facts, fresh):
                fresh += "'"
            known[name] = fresh
            taken.add(fresh)
    return _renamed(facts.program, known)


def _sized(facts: Facts, name: str) -> bool:
    """`size V` is one thing in all programs."""
    return any(size.name == name for size in facts.program.sizes)


def _names(facts: Facts, reference: _Reference) -> dict[str, str] | None:
    """For the program's extents those of the reference; None where the shapes cannot be one."""
    own = Unification(facts.extents, facts.equalities)
    names: dict[str, str] = {}
    formulas: list[tuple[Expression, Expression]] = []
    shared = [i.name for i in facts.program.inputs] + [r.name for r in facts.program.results]
    for name in dict.fromkeys(shared):
        axes = map(own.apply, facts.tensors[name].extents)
        for mine, other in zip(axes, reference.tensors.get(name, ()), strict=False):
            if isinstance(mine, Extent) and isinstance(other, Extent):
                if names.setdefault(mine.name, other.name) != other.name:
                    return None
            else:
                formulas.append((mine, other))
    for mine, other in formulas:
        if show_expression(_applied(mine, names)) != show_expression(other):
            return None
    return names


def _asked(facts: Facts, names: Mapping[str, str]) -> set[frozenset[str]]:
    """The formulas that the program's loops ask to be equal, beside plain extents."""
    own = Unification(facts.extents, facts.equalities)
    found = set()
    for e in facts.equalities:
        if not (isinstance(e.left, Extent) and isinstance(e.right, Extent)):
            sides = (_applied(own.apply(s), names) for s in (e.left, e.right))
            pair = frozenset(map(show_expression, sides))
            if len(pair) > 1:
                found.add(pair)
    return found


def _applied(expression: Expression, names: Mapping[str, str]) -> Expression:
    if isinstance(expression, Extent):
        return Extent(names.get(expression.name, expression.name))
    return rebuild(expression, lambda e: _applied(e, names))


def _renamed(program: Program, names: Mapping[str, str]) -> Program:
    changed = map_declared(program, lambda e: _applied(e, names))
    arguments = tuple(
        Size(names.get(a.name, a.name)) if isinstance(a, Size) else a for a in changed.arguments
    )
    statements = tuple(map_statement(s, lambda e: _applied(e, names)) for s in program.statements)
    return replace(changed, arguments=arguments, statements=statements)
