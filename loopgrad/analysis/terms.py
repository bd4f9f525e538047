"""What integer expressions and conditions mean to the prover: polynomials and formulas over atoms.

Sums and products of indices, extents and constants become polynomials. Everything else (`w[b]`,
`i // 2`, `min(i, j)`) becomes an atom, equal to every other of the same operation on equal
operands, about which `knowledge` says what is known: `c*q <= a <= c*q + c-1` for `q = a // c`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.polynomial import (
    Polynomial,
    add,
    atom,
    atoms_of,
    coefficient_of,
    constant,
    constant_value,
    degree,
    key,
    multiply,
    negate,
    scale,
    shift,
    subtract,
)
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
)
from loopgrad.ir.operations import ElementType


@dataclass(frozen=True, slots=True)
class AtLeastZero:
    """`polynomial >= 0`."""

    polynomial: Polynomial


@dataclass(frozen=True, slots=True)
class IsZero:
    """`polynomial == 0`."""

    polynomial: Polynomial


@dataclass(frozen=True, slots=True)
class Every:
    """All of the formulas hold; none at all is truth."""

    formulas: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of the formulas holds at least; none at all is falsehood."""

    formulas: tuple[Formula, ...]


Formula: TypeAlias = AtLeastZero | IsZero | Every | Some

TRUE, FALSE = Every(()), Some(())

LARGEST_POWER = 4  # of an integer, multiplied out
LARGEST_BITS = 256  # of a coefficient; beyond, an operation is an atom
MOST_MONOMIALS = 64  # of a product, likewise
LARGEST_DEGREE = 8  # likewise


@dataclass(slots=True)
class Atom:
    """`operation` on `operands` (polynomials, or for a conditional's condition a formula).

    Variables have a `name` and no operands. `below` holds the atoms in the operands, all the way
    down; `real` is true of those that stand for floating values.
    """

    operation: str
    name: str
    operands: tuple[Any, ...]
    below: frozenset[int]
    real: bool


class Terms:
    """The atoms of one program, and the translation of its expressions into them."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.atoms: list[Atom] = []
        self._numbers: dict[Any, int] = {}
        self._converted: dict[int, tuple[Expression, Polynomial]] = {}
        self._solved: dict[int, Polynomial] = {}
        self._knowledge: dict[int, list[Polynomial]] = {}
        self.extent_knowledge: dict[int, list[Polynomial]] = {}
        self.unsolved: list[Polynomial] = []
        self.defaults = {c.name: c.value for c in facts.program.constants}
        self._use_equalities()
        self._extents_are_not_negative()

    # ------------------------------------------------------------------------------------- atoms

    def variable(self, operation: str, name: str) -> int:
        """The atom of an index, an extent or a constant."""
        number = self._numbers.get((operation, name))
        if number is None:
            real = operation == "constant" and (
                self.facts.constants.get(name, ElementType.INT) is ElementType.FLOAT
            )
            number = self._new((operation, name), Atom(operation, name, (), frozenset(), real))
        return number

    def application(
        self, operation: str, name: str, operands: tuple[Any, ...], real: bool = False
    ) -> Polynomial:
        """The atom of an operation on operands."""
        identity = (operation, name, *map(_identity, operands))
        number = self._numbers.get(identity)
        if number is None:
            direct = {a for operand in operands for a in _atoms(operand)}
            below = frozenset(direct).union(*(self.atoms[a].below for a in direct))
            number = self._new(identity, Atom(operation, name, operands, below, real))
        return atom(number)

    def _new(self, identity: Any, new: Atom) -> int:
        number = len(self.atoms)
        self._numbers[identity] = number
        self.atoms.append(new)
        return number

    def is_real(self, polynomial: Polynomial) -> bool:
        return any(self.atoms[a].real for monomial in polynomial for a in monomial)

    def depends_on(self, polynomial: Polynomial, number: int) -> bool:
        """Whether the atom occurs, in operands of other atoms too."""
        return any(
            a == number or number in self.atoms[a].below
            for monomial in polynomial
            for a in monomial
        )

    def connected(self, goal: Formula, formulas: Iterable[Formula]) -> list[Formula]:
        """The formulas that share an atom with the goal, or with another such formula."""
        reached = self._all_atoms(goal)
        left = [(f, self._all_atoms(f)) for f in formulas]
        found: list[Formula] = []
        while True:
            joined = [pair for pair in left if not pair[1].isdisjoint(reached)]
            if not joined:
                return found
            left = [pair for pair in left if pair[1].isdisjoint(reached)]
            for formula, atoms in joined:
                found.append(formula)
                reached |= atoms

    def _all_atoms(self, formula: Formula) -> set[int]:
        direct = set(_atoms(formula))
        return direct.union(*(self.atoms[a].below for a in direct))

    # ------------------------------------------------------------------------------- expressions

    def convert(self, expression: Expression) -> Polynomial:
        """The polynomial of an integer expression; of a floating one, an atom of its own."""
        match expression:
            case Index(name):
                return atom(self.variable("index", name))
            case Number(int(value)):
                return constant(value)
        known = self._converted.get(id(expression))
        if known is None:
            # The expression is kept beside its polynomial: an id is its own as long as it lives.
            known = self._converted[id(expression)] = (expression, self._convert(expression))
        return known[1]

    def _convert(self, expression: Expression) -> Polynomial:
        match expression:
            case Number(value):
                return self.application("number", repr(value), (), real=True)
            case Extent(name):
                number = self.variable("extent", name)
                solved = self._solved.get(number)
                return atom(number) if solved is None else solved
            case Constant(name):
                return atom(self.variable("constant", name))
            case Read(tensor, subscripts):
                facts = self.facts.tensors.get(tensor)
                element = facts.element if facts else ElementType.FLOAT
                operands = tuple(map(self.convert, subscripts))
                operation = "truth of" if element is ElementType.BOOL else "read"
                return self.application(operation, tensor, operands, element is ElementType.FLOAT)
            case Compare():
                return self.choice(expression, constant(1), constant(0))
            case Conditional(condition, then, otherwise):
                return self.choice(condition, self.convert(then), self.convert(otherwise))
            case Apply("and" | "or" | "not"):
                return self.choice(expression, constant(1), constant(0))
            case Apply(operation, operands):
                return self._apply(operation, tuple(map(self.convert, operands)))
        raise TypeError(expression)

    def choice(self, condition: Expression, then: Polynomial, other: Polynomial) -> Polynomial:
        holds, fails = self.condition(condition, True), self.condition(condition, False)
        return self._choose(holds, fails, then, other)

    def _choose(
        self, holds: Formula, fails: Formula, then: Polynomial, other: Polynomial
    ) -> Polynomial:
        if then == other:
            return then
        real = self.is_real(then) or self.is_real(other)
        return self.application("choice", "", (holds, fails, then, other), real)

    def _apply(self, operation: str, operands: tuple[Polynomial, ...]) -> Polynomial:
        if operation == "stop_gradient":
            return operands[0]
        if operation == "floor":
            real = self.is_real(operands[0])
            return self.application("floor", "", operands) if real else operands[0]
        if any(map(self.is_real, operands)):
            # Rounding makes floating arithmetic depend on how it is written: nothing is rearranged.
            return self.application("real", operation, operands, real=True)
        match operation, operands:
            case "+", (left, right):
                return add(left, right)
            case "-", (left, right):
                return subtract(left, right)
            case "neg", (operand,):
                return negate(operand)
            case "*", (left, right):
                return self._product(left, right)
            case "//", (left, right):
                return self.quotient(left, right)
            case "%", (left, right):
                return subtract(left, multiply(right, self.quotient(left, right)))
            case "**", (base, exponent):
                return self._power(base, exponent)
            case "min" | "max", (left, right):
                return self.extreme(operation, left, right)
            case "relu", (operand,):
                return self.extreme("max", operand, {})
            case "abs", (operand,):
                return self.extreme("max", operand, negate(operand))
            case "sign", (operand,):
                return self.application("sign", "", (operand,))
        return self.application("real", operation, operands, real=True)

    def _power(self, base: Polynomial, exponent: Polynomial) -> Polynomial:
        times = constant_value(exponent)
        if times is None:
            return self.application("power", "", (base, exponent))
        if times < 0:
            return self.application("real", "**", (base, exponent), real=True)
        if times > LARGEST_POWER:
            return self.application("power", "", (base, exponent))
        product = constant(1)
        for _ in range(times):
            product = self._product(product, base)
        return product

    def _product(self, left: Polynomial, right: Polynomial) -> Polynomial:
        small = len(left) * len(right) <= MOST_MONOMIALS
        if small and degree(left) + degree(right) <= LARGEST_DEGREE:
            product = multiply(left, right)
            if all(c.bit_length() <= LARGEST_BITS for c in product.values()):
                return product
        return self.application("product", "", (left, right))

    def extreme(self, operation: str, left: Polynomial, right: Polynomial) -> Polynomial:
        """The lesser or the greater of two polynomials."""
        distance = constant_value(subtract(left, right))
        if distance is not None:
            return left if (distance <= 0) == (operation == "min") else right
        if repr(sorted(right.items())) < repr(sorted(left.items())):
            left, right = right, left  # the order of operands says nothing
        return self.application(operation, "", (left, right))

    def quotient(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """`left // right`; multiples of the divisor are taken out: `(2*i + 1) // 2` is `i`."""
        if len(right) != 1:
            return self.application("quotient", "", (left, right))
        [(monomial, divisor)] = right.items()
        if divisor < 0:
            return self.quotient(negate(left), negate(right))
        outside: Polynomial = {}
        inside: Polynomial = {}
        for m, coefficient in left.items():
            rest = _without(m, monomial)
            if rest is None or (coefficient % divisor and m):
                inside[m] = coefficient
                continue
            whole, part = divmod(coefficient, divisor)
            if whole:
                outside[rest] = outside.get(rest, 0) + whole
            if part:
                inside[m] = part
        if not inside or (not monomial and set(inside) == {()}):
            return outside
        return add(outside, self.application("quotient", "", (inside, right)))

    # -------------------------------------------------------------------------------- conditions

    def condition(self, expression: Expression, truth: bool) -> Formula:
        """The formula that holds where the condition is true, or false.

        It may say less than the condition, never more: a floating condition says nothing.
        """
        match expression:
            case Apply("and" | "or" as operation, operands):
                parts = tuple(self.condition(o, truth) for o in operands)
                return Every(parts) if (operation == "and") == truth else Some(parts)
            case Apply("not", (operand,)):
                return self.condition(operand, not truth)
            case Compare(operators, operands):
                links = zip(operators, operands, operands[1:], strict=False)
                parts = tuple(self._relation(o, a, b, truth) for o, a, b in links)
                if len(parts) == 1:
                    return parts[0]
                return Every(parts) if truth else Some(parts)
            case Conditional(test, then, otherwise):
                return Some(
                    (
                        Every((self.condition(test, True), self.condition(then, truth))),
                        Every((self.condition(test, False), self.condition(otherwise, truth))),
                    )
                )
        value = self.convert(expression)
        if self.is_real(value):
            return TRUE
        if not truth:
            return IsZero(value)
        return self._differs(value)

    def _differs(self, value: Polynomial) -> Formula:
        if len(value) == 1:
            [(monomial, coefficient)] = value.items()
            if coefficient == 1 and len(monomial) == 1:
                operation = self.atoms[monomial[0]].operation
                if operation in ("truth of", "comparison"):
                    return AtLeastZero(shift(value, -1))
        return Some((AtLeastZero(shift(value, -1)), AtLeastZero(shift(negate(value), -1))))

    def _relation(
        self, operator: str, left_side: Expression, right_side: Expression, truth: bool
    ) -> Formula:
        left, right = self.convert(left_side), self.convert(right_side)
        if operator in (">", ">="):
            left, right, operator = right, left, "<" if operator == ">" else "<="
        if operator == "!=":
            operator, truth = "==", not truth
        if self.is_real(left) or self.is_real(right):
            if operator == "==" and repr(left) > repr(right):
                left, right = right, left
            value = self.application("comparison", operator, (left, right))
            return AtLeastZero(shift(value, -1)) if truth else AtLeastZero(negate(value))
        difference = subtract(right, left)
        match operator, truth:
            case "<", True:
                return AtLeastZero(shift(difference, -1))
            case "<", False:
                return AtLeastZero(negate(difference))
            case "<=", True:
                return AtLeastZero(difference)
            case "<=", False:
                return AtLeastZero(shift(negate(difference), -1))
            case "==", True:
                return IsZero(difference)
        return self._differs(difference)

    # ------------------------------------------------------------------------------ substitution

    def substitute(self, polynomial: Polynomial, values: Mapping[int, Polynomial]) -> Polynomial:
        """The polynomial with atoms replaced, in the operands of others too."""
        if not any(self._changes(a, values) for monomial in polynomial for a in monomial):
            return polynomial
        total: Polynomial = {}
        for monomial, coefficient in polynomial.items():
            if any(self._changes(a, values) for a in monomial):
                product = constant(coefficient)
                for a in monomial:
                    product = self._product(product, self._substitute_atom(a, values))
                total = add(total, product)
            else:
                total = add(total, {monomial: coefficient})
        return total

    def _changes(self, number: int, values: Mapping[int, Polynomial]) -> bool:
        return number in values or not self.atoms[number].below.isdisjoint(values)

    def _substitute_atom(self, number: int, values: Mapping[int, Polynomial]) -> Polynomial:
        if number in values:
            return values[number]
        found = self.atoms[number]
        if found.below.isdisjoint(values):
            return atom(number)
        operands: tuple[Any, ...] = tuple(
            self._substitute_operand(o, values) for o in found.operands
        )
        match found.operation:
            case "quotient":
                return self.quotient(operands[0], operands[1])
            case "min" | "max":
                return self.extreme(found.operation, operands[0], operands[1])
            case "choice":
                return self._choose(operands[0], operands[1], operands[2], operands[3])
        return self.application(found.operation, found.name, operands, found.real)

    def _substitute_operand(
        self, operand: Polynomial | Formula, values: Mapping[int, Polynomial]
    ) -> Polynomial | Formula:
        if isinstance(operand, dict):
            return self.substitute(operand, values)
        return self.substitute_formula(operand, values)

    def substitute_formula(self, formula: Formula, values: Mapping[int, Polynomial]) -> Formula:
        match formula:
            case AtLeastZero(polynomial):
                return AtLeastZero(self.substitute(polynomial, values))
            case IsZero(polynomial):
                return IsZero(self.substitute(polynomial, values))
            case Every(formulas):
                return Every(tuple(self.substitute_formula(f, values) for f in formulas))
            case Some(formulas):
                return Some(tuple(self.substitute_formula(f, values) for f in formulas))

    # --------------------------------------------------------------------------------- knowledge

    def knowledge(self, number: int) -> list[Polynomial]:
        """What is known of an atom: polynomials that are never negative."""
        known = self._knowledge.get(number)
        if known is None:
            known = self._knowledge[number] = list(self._know(number))
        return known

    def _know(self, number: int) -> Iterator[Polynomial]:
        found, itself = self.atoms[number], atom(number)
        match found.operation:
            case "extent":
                if found.name not in self.facts.defined:
                    yield itself
            case "constant":
                if self.taken_as_positive(number):
                    yield shift(itself, -1)
            case "quotient":
                dividend, divisor = found.operands
                if self._is_not_negative(divisor):
                    # A division by zero ends the run, so that where there is a quotient there
                    # is a divisor of at least 1.
                    product = multiply(divisor, itself)
                    yield subtract(dividend, product)
                    yield shift(subtract(add(product, divisor), dividend), -1)
                    if constant_value(divisor) is None:
                        yield shift(divisor, -1)
            case "min":
                yield from (subtract(operand, itself) for operand in found.operands)
            case "max":
                yield from (subtract(itself, operand) for operand in found.operands)
            case "truth of" | "comparison":
                yield itself
                yield shift(negate(itself), 1)
            case "sign":
                yield shift(itself, 1)
                yield shift(negate(itself), 1)

    def taken_as_positive(self, number: int) -> bool:
        """Whether the atom is an integer constant whose default is at least 1."""
        found = self.atoms[number]
        if found.operation != "constant" or found.real:
            return False
        default = self.defaults.get(found.name, 0)
        return isinstance(default, int) and default >= 1

    def _is_not_negative(self, polynomial: Polynomial) -> bool:
        """Whether it is a sum of products of extents and of constants taken as positive."""
        return all(
            coefficient > 0
            and all(
                self.atoms[a].operation == "extent" or self.taken_as_positive(a) for a in monomial
            )
            for monomial, coefficient in polynomial.items()
        )

    def alternatives(self, number: int) -> tuple[tuple[Polynomial, Formula], ...]:
        """The values that a `min`, `max` or conditional may have, each with when it has it."""
        found = self.atoms[number]
        match found.operation:
            case "min" | "max":
                left, right = found.operands
                less = AtLeastZero(subtract(right, left))
                more = AtLeastZero(subtract(left, right))
                if found.operation == "min":
                    return ((left, less), (right, more))
                return ((left, more), (right, less))
            case "choice":
                holds, fails, then, other = found.operands
                return ((then, holds), (other, fails))
        return ()

    # ----------------------------------------------------------------------------------- extents

    def _use_equalities(self) -> None:
        """Writes extents in terms of others, where header or call make them equal."""
        for name, formula in self.facts.defined.items():
            self._solve(subtract(atom(self.variable("extent", name)), self.convert(formula)))
        for equality in self.facts.equalities:
            self._solve(subtract(self.convert(equality.left), self.convert(equality.right)))

    def _solve(self, difference: Polynomial) -> None:
        for number in sorted(atoms_of(difference), reverse=True):
            if self.atoms[number].operation != "extent":
                continue
            parts = coefficient_of(difference, number)
            if parts is None or constant_value(parts[0]) not in (1, -1):
                continue
            sign = parts[0][()]
            value = scale(parts[1], -sign)
            if self.depends_on(value, number):
                continue
            for solved, earlier in self._solved.items():
                self._solved[solved] = self.substitute(earlier, {number: value})
            self._solved[number] = value
            self._converted.clear()
            return
        if difference:
            self.unsolved.append(difference)

    def _extents_are_not_negative(self) -> None:
        for tensor in self.facts.tensors.values():
            for extent in tensor.extents:
                if isinstance(extent, (Number, Extent)) and not self._solved:
                    continue
                polynomial = self.convert(extent)
                for number in atoms_of(polynomial):
                    known = self.extent_knowledge.setdefault(number, [])
                    if polynomial not in known:
                        known.append(polynomial)


def _identity(operand: Any) -> Any:
    match operand:
        case dict():
            return key(operand)
        case AtLeastZero(polynomial):
            return (">=", key(polynomial))
        case IsZero(polynomial):
            return ("==", key(polynomial))
        case Every(formulas):
            return ("every", *map(_identity, formulas))
        case Some(formulas):
            return ("some", *map(_identity, formulas))
    raise TypeError(operand)


def _atoms(operand: Any) -> Iterable[int]:
    match operand:
        case dict():
            return atoms_of(operand)
        case AtLeastZero(polynomial) | IsZero(polynomial):
            return atoms_of(polynomial)
        case Every(formulas) | Some(formulas):
            return {a for f in formulas for a in _atoms(f)}
    raise TypeError(operand)


def _without(monomial: tuple[int, ...], factor: tuple[int, ...]) -> tuple[int, ...] | None:
    """The monomial divided by another, None where it is no multiple."""
    rest = list(monomial)
    for a in factor:
        if a not in rest:
            return None
        rest.remove(a)
    return tuple(rest)
