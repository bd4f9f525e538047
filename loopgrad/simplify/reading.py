"""Statements as sums of products: what each tensor of a straight-line program is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import Unification, infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO, conjuncts, indices_of, reads, rebuild, substitute
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.normal_form import Atom, Poly

FUNCTIONS = frozenset(
    "exp log log1p expm1 sqrt rsqrt tanh sigmoid softplus erf sin cos relu abs sign max min".split()
)
ADDED = {Reduction.ADD: 1, Reduction.SUBTRACT: -1, Reduction.SET: 1}


@dataclass(frozen=True)
class Definition:
    """`tensor[indices] = poly`; None for the sum of a tensor that stays opaque."""

    tensor: str
    indices: tuple[str, ...]
    extents: tuple[str, ...]  # texts
    poly: Poly | None
    element: ElementType


Naming = Literal["none", "reads", "sums"]


def _of_reads(poly: Poly) -> bool:
    """A sum of plain reads, such as `x - mu`."""
    return all(
        len(t.atoms) == 1 and t.atoms[0][0].kind == "read" and t.atoms[0][1] == 1 and not t.bound
        for t, _ in poly.terms
    )


class Unsupported(Exception):
    """The program has something that this algebra does not speak of."""


@dataclass(frozen=True)
class Reader:
    """Expressions as sums. `naming`: which sums of different tensors, as a factor, stay one factor."""

    names: Mapping[str, nf.Subscript]
    naming: Naming = "none"

    def value(self, expression: Expression) -> Poly:
        match expression:
            case Number(value) if math.isfinite(value):
                return nf.number(nf.exact(Fraction(str(value))))
            case Index(name):
                subscript = self.names.get(name, name)
                return nf.of_atom(
                    Atom("index", "", (subscript,)) if isinstance(subscript, str) else subscript
                )
            case Extent(name) | Constant(name):
                return nf.of_atom(Atom("name", name, (), expression))
            case Read(tensor, subscripts):
                return nf.of_atom(nf.read(tensor, [self.subscript(s) for s in subscripts]))
            case Apply("+", (left, right)):
                return nf.plus(self.value(left), self.value(right))
            case Apply("-", (left, right)):
                return nf.plus(self.value(left), nf.scaled(self.value(right), -1))
            case Apply("neg", (operand,)):
                return nf.scaled(self.value(operand), -1)
            case Apply("*", (left, right)):
                return nf.times(self.factor(left), self.factor(right))
            case Apply("/", (left, right)):
                divisor = self.value(right)
                if divisor:
                    return nf.times(self.factor(left), nf.power(divisor, -1))
            case Apply("**", (base, exponent)):
                power = self.value(exponent).constant
                if power is not None and (power > 0 or self.value(base)) and -20 < power < 20:
                    return nf.power(self.factor(base), power)
            case Apply("stop_gradient", (operand,)):
                return self.value(operand)
            case Apply(name, operands) if name in FUNCTIONS:
                return nf.function(name, *map(self.value, operands))
        return nf.of_atom(Atom("opaque", "", (self.renamed(expression),)))

    def factor(self, expression: Expression) -> Poly:
        poly = self.value(expression)
        several = len(poly.terms) > 1 and len(poly.tensors) > 1
        if several and (_of_reads(poly) if self.naming == "reads" else self.naming == "sums"):
            return nf.powered_sum(poly, 1)
        return poly

    def subscript(self, expression: Expression) -> nf.Subscript:
        if isinstance(expression, Index):
            return self.names.get(expression.name, expression.name)
        return Atom("opaque", "", (self.renamed(expression),))

    def renamed(self, expression: Expression) -> Expression:
        return substitute(expression, {i: nf.as_expression(n) for i, n in self.names.items()})


class Reading:
    """The definitions of a straight-line program, in the order in which its tensors are complete.

    Raises Unsupported for blocks; tensors that are computed in another way than by sums are opaque.
    """

    def __init__(self, program: Program, naming: Naming, names: Unification | None = None):
        self.facts: Facts = infer(program)
        self.names = names or Unification(self.facts.extents, self.facts.equalities)
        self.naming = naming
        self.taken = frozenset({*self.facts.tensors, *self.facts.extents, *self.facts.constants})
        self.statements: dict[str, list[Accumulate]] = {}
        for statement in self.facts.program.statements:
            if not isinstance(statement, Accumulate):
                raise Unsupported("a block")
            # Moved to the end: a tensor is complete with its last statement.
            own = self.statements.pop(statement.target.tensor, [])
            self.statements[statement.target.tensor] = [*own, statement]
        self.definitions = {t: self._definition(t, own) for t, own in self.statements.items()}

    def extent(self, expression: Expression) -> str:
        def change(node: Expression) -> Expression:
            return self.names.apply(node) if isinstance(node, Extent) else rebuild(node, change)

        return nf.extent_text(change(expression))

    def _definition(self, tensor: str, statements: Iterable[Accumulate]) -> Definition:
        statements = list(statements)
        fact = self.facts.tensors[tensor]
        extents = tuple(map(self.extent, fact.extents))
        indices = self._indices(statements, len(extents))
        try:
            parts = [self._contribution(s, indices, extents) for s in statements]
            poly = nf.plus(*parts) if fact.element is ElementType.FLOAT else None
        except Unsupported:
            poly = None
        return Definition(tensor, indices, extents, poly, fact.element)

    def _indices(self, statements: list[Accumulate], rank: int) -> tuple[str, ...]:
        """For each axis the first index that a statement has there."""
        found: list[str] = []
        for axis in range(rank):
            subscripts = [s.target.subscripts[axis] for s in statements]
            names = [s.name for s in subscripts if isinstance(s, Index)]
            free = [n for n in names if n not in found and n not in self.taken]
            found.append(free[0] if free else f"i{axis}")
        return tuple(found)

    def _contribution(
        self, statement: Accumulate, indices: tuple[str, ...], extents: tuple[str, ...]
    ) -> Poly:
        sign = ADDED.get(statement.reduction)
        if sign is None:
            raise Unsupported(statement.reduction.value)
        ranges: dict[str, str] = {}
        for r in statement.ranges:
            assert r.upper is not None
            if r.lower not in (None, ZERO) or any(reads(r.upper)) or indices_of(r.upper):
                raise Unsupported("a range that depends")
            ranges[r.index] = self.extent(r.upper)
        names: dict[str, nf.Subscript] = {}
        deltas: list[tuple[str, Expression]] = []
        for index, extent, subscript in zip(
            indices, extents, statement.target.subscripts, strict=True
        ):
            plain = isinstance(subscript, Index) and subscript.name in ranges
            if plain and subscript.name not in names:  # type: ignore[union-attr]
                if ranges[subscript.name] != extent:  # type: ignore[union-attr]
                    raise Unsupported("a part of an axis")
                names[subscript.name] = index  # type: ignore[union-attr]
            else:
                deltas.append((index, subscript))
        bound = []
        for index, extent in ranges.items():
            if index not in names:
                names[index] = nf.fresh_index()
                bound.append((str(names[index]), extent))
        reader = Reader(names, self.naming)
        factors = [(reader.value(statement.value), 1)]
        atoms: dict[Atom, nf.Number] = {}
        for index, subscript in deltas:
            atoms[Atom("delta", "", (index, reader.subscript(subscript)))] = 1
        for condition in conjuncts(statement.guard):
            atoms[Atom("indicator", "", (reader.renamed(condition),))] = 1
        return nf.multiplied(tuple(bound), atoms, sign, factors)
