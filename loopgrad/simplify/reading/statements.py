"""Statements as sums of products: what each tensor of a program is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import Unification, infer
from loopgrad.analysis.types import element_type
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    fresh_name,
    indices_of,
    reads,
    rebuild,
    statement_expressions,
    subexpressions,
    substitute,
)
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import subscript_of
from loopgrad.simplify.algebra.conditions import Complicated, Conjunction, cases
from loopgrad.simplify.algebra.integers import canonical_inside, linear
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.reading.contributions import ADDED, Target, Unsupported, contribution
from loopgrad.simplify.reading.regions import Piece, Region, layout_of, pieces_of, regions_in

FUNCTIONS = frozenset(
    "exp log log1p expm1 sqrt rsqrt tanh sigmoid softplus erf sin cos relu abs sign max min".split()
)


@dataclass(frozen=True)
class Definition:
    """`tensor[subscripts] = poly`; None for the sum of a tensor that stays opaque.

    Where others write the tensor too, or a block adds to it at each turn, it is not `whole`: only
    what one region contributes. Under blocks, their indices are free in the sum.
    """

    tensor: str
    subscripts: tuple[nf.Subscript, ...]
    extents: tuple[str, ...]  # texts: what is looped over, which may be less than the axis
    poly: Poly | None
    element: ElementType
    region: Region
    whole: bool
    fixed: frozenset[str] = frozenset()  # indices of a reader's blocks, for which alone it holds

    @property
    def indices(self) -> tuple[str, ...]:
        """The axes' indices, in order; of a whole definition each axis has one."""
        return tuple(s for s in self.subscripts if isinstance(s, str))

    @cached_property
    def own(self) -> Atom:
        """The element that is defined, as it is read."""
        return nf.read(self.tensor, self.subscripts)

    @property
    def variables(self) -> frozenset[str]:
        """The indices for all of whose values the definition holds."""
        return self.own.free - self.fixed

    @property
    def loops(self) -> dict[str, str]:
        """The indices that are no block's, with the texts of their extents."""
        around = self.region.indices
        pairs = zip(self.subscripts, self.extents, strict=True)
        return {s: e for s, e in pairs if isinstance(s, str) and s not in around}

    @cached_property
    def support(self) -> tuple[Atom, ...]:
        """Conditions that hold wherever the tensor is not 0."""
        if self.poly is None or not self.poly.terms:
            return ()
        shared = set.intersection(
            *({a for a, _ in t.atoms if a.kind == "indicator"} for t, _ in self.poly.terms)
        )
        return tuple(sorted((a for a in shared if a.free <= set(self.indices)), key=nf.key_of))


Naming = Literal["none", "reads", "sums"]


def _of_reads(poly: Poly) -> bool:
    """A sum of plain reads, such as `x - mu`."""
    return all(
        len(t.atoms) == 1 and t.atoms[0][0].kind == "read" and t.atoms[0][1] == 1 and not t.bound
        for t, _ in poly.terms
    )


def _solvable(poly: Poly) -> bool:
    """A sum in which one can solve for a read: `x - mu`, where the rest is an offset."""
    terms = [(t, t.atoms[0][0]) for t, _ in poly.terms if len(t.atoms) == 1 and not t.bound]
    return any(
        atom.kind == "read"
        and is_offset(nf.plus(poly, Poly({term: -dict(poly.terms)[term]})), atom)
        for term, atom in terms
    )


def is_offset(rest: Poly, atom: Atom) -> bool:
    """Has no tensor of the sum as many indices as the atom?"""
    terms = (t.atoms for t, _ in rest.terms if not t.bound)
    return not any(
        len(a) == 1 and a[0][0].kind == "read" and a[0][0].free >= atom.free for a in terms
    )


@dataclass(frozen=True)
class Reader:
    """Expressions as sums. `naming`: which sums of different tensors, as a factor, stay one factor."""

    names: Mapping[str, nf.Subscript]
    naming: Naming = "none"
    elements: Mapping[str, ElementType] = field(default_factory=dict)
    constants: Mapping[str, ElementType] = field(default_factory=dict)

    def value(self, expression: Expression) -> Poly:
        match expression:
            case Number(value) if math.isfinite(value):
                return nf.number(nf.exact(Fraction(str(value))))
            case Index(name):
                return number_of(self.names.get(name, name))
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
                inverse = self.inverse(right)
                if inverse is not None:
                    return nf.times(self.factor(left), inverse)
            case Apply("**", (base, exponent)):
                power = self.value(exponent).constant
                if power is not None and (power > 0 or self.value(base)) and -20 < power < 20:
                    return nf.power(self.factor(base), power)
            case Apply("stop_gradient", (operand,)):
                return self.value(operand)
            case Apply(name, operands) if name in FUNCTIONS:
                return nf.function(name, *map(self.value, operands))
            case Conditional(condition, then, otherwise):
                with suppress(Complicated):
                    taken = (self.value(e) for e in (then, otherwise))
                    return nf.plus(
                        *(
                            nf.times(nf.product((), dict.fromkeys(case, 1)), value)
                            for holds, value in zip((True, False), taken, strict=True)
                            for case in self.cases(condition, holds)
                        )
                    )
        return nf.of_atom(Atom("opaque", "", (self.renamed(expression),)))

    def cases(self, condition: Expression | None, holds: bool = True) -> list[Conjunction]:
        renamed = None if condition is None else self.renamed(condition)
        return cases(renamed, self.is_integer, holds)

    def is_integer(self, expression: Expression) -> bool:
        return element_type(expression, self.elements, self.constants) is ElementType.INT

    def inverse(self, expression: Expression) -> Poly | None:
        """One over a value; powers of sums are not multiplied out. None for one over zero."""
        match expression:
            case Apply("*", (left, right)):
                first, second = self.inverse(left), self.inverse(right)
                return None if first is None or second is None else nf.times(first, second)
            case Apply("**", (base, exponent)):
                power = self.value(exponent).constant
                if power is not None and 0 < power < 20 and self.value(base):
                    return nf.power(self.value(base), -power)
        divisor = self.value(expression)
        return nf.power(divisor, -1) if divisor else None

    def factor(self, expression: Expression) -> Poly:
        poly = self.value(expression)
        several = len(poly.terms) > 1 and len(poly.tensors) > 1
        several = several and not any(t.conditional for t, _ in poly.terms)
        named = {"none": False, "reads": _of_reads(poly), "sums": _solvable(poly)}
        if several and named[self.naming]:
            return nf.powered_sum(poly, 1)
        return poly

    def subscript(self, expression: Expression) -> nf.Subscript:
        if isinstance(expression, Index):
            return self.names.get(expression.name, expression.name)
        return subscript_of(self.renamed(expression))

    def renamed(self, expression: Expression) -> Expression:
        names = {i: nf.as_expression(n) for i, n in self.names.items()}
        return canonical_inside(substitute(expression, names))


def number_of(subscript: nf.Subscript) -> Poly:
    """An index, or an integer form, as a number."""
    if isinstance(subscript, str):
        return nf.of_atom(Atom("index", "", (subscript,)))
    parts = []
    for part, multiple in linear(nf.as_expression(subscript)).items():
        match part:
            case Number():
                parts.append(nf.number(multiple))
            case Index(name):
                parts.append(nf.scaled(number_of(name), multiple))
            case Extent(name) | Constant(name):
                parts.append(nf.scaled(nf.of_atom(Atom("name", name, (), part)), multiple))
            case Read(tensor, subscripts):
                read = nf.read(tensor, [subscript_of(s) for s in subscripts])
                parts.append(nf.scaled(nf.of_atom(read), multiple))
            case _:
                parts.append(nf.scaled(nf.of_atom(Atom("opaque", "", (part,))), multiple))
    return nf.plus(*parts)


class Reading:
    """The pieces of a program's tensors as sums, in the order in which they are complete.

    `definitions` has a tensor of one piece under its name; further pieces are numbered, `a#2`.
    Pieces that are computed in another way than by sums stay opaque.
    """

    def __init__(self, program: Program, naming: Naming, names: Unification | None = None):
        self.facts: Facts = infer(program)
        self.names = names or Unification(self.facts.extents, self.facts.equalities)
        self.naming = naming
        # Tensors that are put into nothing, and those of them that were made for that (apart.py).
        self.apart = self.made = frozenset[str]()
        self.taken = frozenset({*self.facts.tensors, *self.facts.extents, *self.facts.constants})
        self.elements = {n: t.element for n, t in self.facts.tensors.items()}
        for fact in self.facts.tensors.values():
            if fact.role == "input":
                for axis in fact.extents:
                    nf.add_axis(self.extent(axis))
        # Shapes of the conditions that are bounds of ranges, and may be written as such again.
        self.bounds: set[str] = set()
        self.layout = layout_of(self.facts.program.statements)
        self.regions = tuple(regions_in(self.layout))
        self.statements: dict[str, list[Accumulate]] = {}
        self.definitions: dict[str, Definition] = {}
        self.pieces: dict[str, list[str]] = {}  # tensor -> keys of its definitions
        found = pieces_of(self.layout, self.extent)
        operations: dict[str, set[Reduction]] = {}
        counts = Counter(piece.tensor for piece in found)
        for piece in found:
            operations.setdefault(piece.tensor, set()).update(s.reduction for s in piece.statements)
        for piece in found:
            own = self.pieces.setdefault(piece.tensor, [])
            key = f"{piece.tensor}#{len(own) + 1}" if own else piece.tensor
            own.append(key)
            self.statements[key] = piece.statements
            summed = operations[piece.tensor] <= ADDED.keys()
            self.definitions[key] = self._definition(piece, summed, counts[piece.tensor] == 1)

    @property
    def computed(self) -> Collection[str]:
        """The tensors that the program computes, in the order of their first pieces."""
        return self.pieces.keys()

    @property
    def complete(self) -> Sequence[str]:
        """The tensors that the program computes, in the order of their last pieces."""
        last = dict.fromkeys(d.tensor for d in reversed(self.definitions.values()))
        return tuple(reversed(last))

    def unified(self, node: Expression) -> Expression:
        """With one name for extents that are equal."""
        return self.names.apply(node) if isinstance(node, Extent) else rebuild(node, self.unified)

    def extent(self, expression: Expression) -> str:
        return nf.extent_text(self.unified(expression))

    def extents_of(self, statement: Accumulate, r: Range) -> list[str]:
        """The extents that an index runs over, in whole or in part."""
        assert r.upper is not None
        axes = self.axes(statement, r.index)
        whole = [] if indices_of(r.upper) or any(reads(r.upper)) else [self.extent(r.upper)]
        return list(dict.fromkeys((*whole, *sorted(axes))))

    def axes(self, statement: Accumulate, index: str) -> set[str]:
        """The extents of the axes that the index alone subscripts."""
        found: set[str] = set()
        for root in (statement.target, *statement_expressions(statement)):
            for node in subexpressions(root):
                if isinstance(node, Read):
                    axes = self.facts.tensors[node.tensor].extents
                    for subscript, axis in zip(node.subscripts, axes, strict=True):
                        if subscript == Index(index):
                            found.add(self.extent(axis))
        return found

    def guard(self, statement: Accumulate) -> Expression | None:
        return None if statement.guard is None else self.unified(statement.guard)

    def reader(self, names: Mapping[str, nf.Subscript]) -> Reader:
        return Reader(names, self.naming, self.elements, self.facts.constants)

    def extents(self, tensor: str) -> tuple[str, ...]:
        return tuple(map(self.extent, self.facts.tensors[tensor].extents))

    def _definition(self, piece: Piece, summed: bool, alone: bool) -> Definition:
        axes = self.extents(piece.tensor)
        looped = [p if isinstance(p, str) else "" for p in piece.pattern]
        extents = tuple(p or axis for p, axis in zip(looped, axes, strict=True))
        element = self.facts.tensors[piece.tensor].element
        subscripts = self._subscripts(piece)
        poly = None
        if summed and element is ElementType.FLOAT:
            with suppress(Unsupported, Complicated, nf.TooLarge):
                written = Target(piece.pattern, subscripts, extents)
                poly = nf.plus(*(contribution(self, s, written) for s in piece.statements))
        plain = [s for s in subscripts if isinstance(s, str)]
        whole = (
            alone
            and extents == axes
            and len(set(plain)) == len(subscripts)
            and set(piece.region.indices) <= set(plain)
        )
        return Definition(piece.tensor, subscripts, extents, poly, element, piece.region, whole)

    def _subscripts(self, piece: Piece) -> tuple[nf.Subscript, ...]:
        """For each axis what the pattern fixes, or the first index that a statement has there."""
        found: list[nf.Subscript] = []
        reader = Reader({})
        for axis, fixed in enumerate(piece.pattern):
            if not isinstance(fixed, str):
                found.append(reader.subscript(fixed))
                continue
            subscripts = [s.target.subscripts[axis] for s in piece.statements]
            names = [s.name for s in subscripts if isinstance(s, Index)]
            free = [n for n in names if n not in found and n not in self.taken]
            used = {*found, *self.taken, *piece.region.indices} if not free else set()
            found.append(free[0] if free else fresh_name(f"i{axis}", used))  # type: ignore[arg-type]
        return tuple(found)
