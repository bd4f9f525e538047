"""Takes out of a derived program what a reader would not have written: bounds and `local`s.

`infer` finds them again, which is checked before each is dropped.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.analysis import extents as ext
from loopgrad.analysis.facts import Equality, Facts
from loopgrad.analysis.infer import Inference, Scope, Unification, infer
from loopgrad.ir.nodes import Expression, Local, Program, Range
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO, all_statements, map_ranges


def tidy(program: Program, facts: Facts) -> Program:
    """An equal program in which every range and `local` that `infer` would find is left out.

    The program has to be unfolded; `facts` are those of the program that it was derived from. A
    bare index that would unify extents which are not one there keeps its range: or the derived
    program would ask more of a call. A `local int` stays: it says that the tensor is an index.
    """
    ranges = [r for s in all_statements(program.statements) for r in s.ranges]
    keep: set[int] = {i for i, r in enumerate(ranges) if not _may_be_bare(r)}
    kept_locals = {local for local in program.locals if local.element is ElementType.INT}
    known = Known(facts)
    while True:
        candidate = _with_ranges(program, keep, kept_locals)
        wrong, missing = _differences(program, candidate, ranges, keep, kept_locals, known)
        if not wrong and not missing:
            return candidate
        keep |= wrong
        kept_locals |= missing


def asking_for(program: Program, facts: Facts) -> Program:
    """An equal program that asks of a call what the one with these facts does, which it was derived from:
    where a bare index goes over two axes they have to be as long as each other.

    The program itself, with its ranges, where it asks for that anyway.
    """
    asked = {(e.left, e.right) for e in facts.equalities}
    known = {(e.left, e.right) for e in infer(program).equalities} if asked else asked
    return program if asked <= known else tidy(program, facts)


class Known:
    """Which extents are one, as the program that another is derived from has it."""

    def __init__(self, facts: Facts):
        self.names = Unification(facts.extents, facts.equalities)
        self.formulas = {self._pair(e) for e in facts.equalities}

    def _pair(self, equality: Equality) -> frozenset[Expression]:
        return frozenset(map(self.names.apply, (equality.left, equality.right)))

    def same(self, one: Expression, other: Expression) -> bool:
        one, other = self.names.apply(one), self.names.apply(other)
        return one == other or ext.difference(one, other) == 0

    def implies(self, equality: Equality) -> bool:
        return self.same(equality.left, equality.right) or self._pair(equality) in self.formulas


def _may_be_bare(r: Range) -> bool:
    return r.lower in (None, ZERO) and r.upper is not None


def _with_ranges(program: Program, keep: set[int], locals_kept: set[Local]) -> Program:
    def bare(number: int, r: Range) -> Range:
        return r if number in keep else replace(r, lower=None, upper=None)

    locals_ = tuple(local for local in program.locals if local in locals_kept)
    return replace(map_ranges(program, bare), locals=locals_)


def _differences(
    program: Program,
    candidate: Program,
    ranges: list[Range],
    keep: set[int],
    kept_locals: set[Local],
    known: Known,
) -> tuple[set[int], set[Local]]:
    """The ranges and locals that inference does not find again in the candidate."""
    inference = Inference(candidate)
    everything = set(range(len(ranges))) - keep, set(program.locals) - kept_locals
    if len(inference.scopes) != len(ranges):  # it stopped early
        return everything
    faulty = inference.faulty | {
        scope for equality, scope in inference.unified_by.items() if not known.implies(equality)
    }
    wrong = {
        i
        for i, (scope, r) in enumerate(zip(inference.scopes, ranges, strict=True))
        if i not in keep and (scope in faulty or not _found(scope, r, known))
    }
    if wrong:
        return wrong, set()
    missing = {
        local
        for local in set(program.locals) - kept_locals
        if not _declares(inference.computed.get(local.name, []), local, known)
    }
    if inference.diagnostics and not missing:
        return everything
    return wrong, missing


def _found(scope: Scope, wanted: Range, known: Known) -> bool:
    return (
        scope.upper is not None
        and wanted.upper is not None
        and known.same(scope.upper, wanted.upper)
    )


def _declares(found: list[Expression | None], local: Local, known: Known) -> bool:
    """Are the extents found those that the `local` declares?"""
    return len(found) == len(local.extents) and all(
        extent is not None and known.same(extent, declared)
        for extent, declared in zip(found, local.extents, strict=True)
    )
