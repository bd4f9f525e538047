"""Proofs that a set of integer constraints cannot hold, by elimination.

Equations are solved and put in; then atoms are eliminated one after the other from the
inequalities (Fourier and Motzkin's method, with polynomials of known sign as coefficients, so that
`stride*i <= X - dilation*d` works too). Where that finds no contradiction, one of two cases that
are left (`or`, `!=`, `min`, a conditional) is taken apart, and each case tried.

A proof is exact; that none is found says nothing. The work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable

from loopgrad.analysis.polynomial import (
    Polynomial,
    add,
    atom,
    atoms_of,
    coefficient_of,
    constant_value,
    content,
    degree,
    key,
    multiply,
    negate,
    scale,
    shift,
    subtract,
    tightened,
)
from loopgrad.analysis.terms import AtLeastZero, Every, Formula, IsZero, Some, Terms

MOST_ROWS = 120  # inequalities in one elimination
MOST_CASES = 48  # of one proof
MOST_KNOWLEDGE = 80  # inequalities about atoms, added to those given
MOST_PAIRS = 600  # of inequalities, combined to eliminate one atom
LARGEST_DEGREE = 4  # of a coefficient
MOST_PROOFS = 1_000  # for one program, and a few more for each of its accesses


class Prover:
    """Proofs about one program. `positive` names the constants that they took to be at least 1."""

    def __init__(self, terms: Terms, accesses: int = 0):
        self.terms = terms
        self.positive: set[str] = set()
        self._cases = 0
        self._proofs = MOST_PROOFS + 3 * accesses

    @property
    def exhausted(self) -> bool:
        """Whether so much was asked that nothing more is tried."""
        return self._proofs < 0

    def impossible(self, formulas: Iterable[Formula]) -> bool:
        """Whether no integers whatever make all of the formulas true."""
        self._cases = MOST_CASES
        system = System(self.terms)
        proved = not all(map(system.add, formulas)) or self._refutes(system)
        if proved:
            self.positive.update(self.terms.atoms[a].name for a in system.constants)
        return proved

    def _refutes(self, system: System) -> bool:
        self._cases -= 1
        if self._cases < 0:
            return False
        if system.equations_clash():
            return True
        self._proofs -= 1
        if self._proofs < 0:
            return False
        if not system.complete() or contradictory(system):
            return True
        return any(self._refutes_each(system, cases) for cases in system.cases())

    def _refutes_each(self, system: System, cases: tuple[Formula, ...]) -> bool:
        for case in cases:
            fork = system.fork()
            if fork.add(case) and not self._refutes(fork):
                return False
            system.constants |= fork.constants
        return True


class System:
    """Constraints that are supposed to hold together.

    `rows` are polynomials that are never negative, `equations` those that are zero and not yet put
    in, `choices` the disjunctions not yet taken apart.
    """

    def __init__(self, terms: Terms):
        self.terms = terms
        self.rows: list[Polynomial] = []
        self.equations: list[Polynomial] = list(terms.unsolved)
        self.choices: list[Some] = []
        self.constants: set[int] = set()
        self._known: set[int] = set()
        self._knowledge_left = MOST_KNOWLEDGE

    def fork(self) -> System:
        copy = System.__new__(System)
        copy.terms = self.terms
        copy.rows = list(self.rows)
        copy.equations = list(self.equations)
        copy.choices = list(self.choices)
        copy.constants = self.constants
        copy._known = set(self._known)
        copy._knowledge_left = self._knowledge_left
        return copy

    def add(self, formula: Formula) -> bool:
        """Supposes the formula too. False where that is impossible at first sight."""
        match formula:
            case AtLeastZero(polynomial):
                value = constant_value(polynomial)
                if value is not None:
                    return value >= 0
                self.rows.append(polynomial)
            case IsZero(polynomial):
                value = constant_value(polynomial)
                if value is not None:
                    return value == 0
                self.equations.append(polynomial)
            case Every(formulas):
                return all(map(self.add, formulas))
            case Some(formulas):
                if len(formulas) == 1:
                    return self.add(formulas[0])
                if formulas:
                    self.choices.append(formula)
                return bool(formulas)
        return True

    def equations_clash(self) -> bool:
        """Whether the equations alone contradict each other: `i == 3`, `i == j` and `j == 5`."""
        if len(self.equations) < 2:
            return False
        alone = System(self.terms)
        alone.equations = list(self.equations)
        return not alone._solve()

    def complete(self) -> bool:
        """Adds what is known of the atoms and solves the equations. False: a contradiction."""
        self._add_knowledge()
        if not self._solve():
            return False
        self._add_knowledge()
        return True

    def _solve(self) -> bool:
        while self.equations:
            equation = self.equations.pop()
            value = constant_value(equation)
            if value is not None:
                if value:
                    return False
                continue
            divisor = content(equation)
            if equation.get((), 0) % divisor:
                return False
            if divisor > 1:
                equation = {m: c // divisor for m, c in equation.items()}
            if not self._put_in(equation):
                self.rows += [equation, negate(equation)]
        return True

    def _add_knowledge(self) -> None:
        pending = [a for p in (*self.rows, *self.equations) for m in p for a in m]
        while pending:
            number = pending.pop()
            if number in self._known:
                continue
            self._known.add(number)
            if self.terms.atoms[number].operation == "comparison":
                self._add_exclusions(number)
            facts = self.terms.knowledge(number)
            facts = facts + self.terms.extent_knowledge.get(number, [])
            if not facts:
                continue
            if self.terms.taken_as_positive(number):
                self.constants.add(number)
            for fact in facts:
                if self._knowledge_left > 0:
                    self._knowledge_left -= 1
                    self.rows.append(fact)
                    pending += (a for m in fact for a in m)

    def _add_exclusions(self, number: int) -> None:
        """Of `a < b`, `b < a` and `a == b` one is true at most; nor are `a < b` and `b <= a`."""
        one = self.terms.atoms[number]
        for other_number in self._known:
            other = self.terms.atoms[other_number]
            if other.operation != "comparison" or other_number == number:
                continue
            swapped = one.operands == other.operands[::-1]
            same = one.operands == other.operands
            names = {one.name, other.name}
            exclusive = (swapped and (names == {"<"} or names == {"<", "<="})) or (
                (swapped or same) and names == {"<", "=="}
            )
            if exclusive:
                both = add(atom(number), atom(other_number))
                self.rows.append(shift(negate(both), 1))

    def _put_in(self, equation: Polynomial) -> bool:
        """Solves for one of the atoms and replaces it everywhere; False where none is fit."""
        terms = self.terms
        candidates = [m[0] for m, c in equation.items() if len(m) == 1 and (c == 1 or c == -1)]
        # Indices first: what depends on them (`w[b]`) becomes alike where they are alike.
        candidates.sort(key=lambda a: (terms.atoms[a].operation != "index", -a))
        for number in candidates:
            sign = equation[(number,)]
            rest = dict(equation)
            del rest[(number,)]
            if terms.depends_on(rest, number):
                continue
            values = {number: scale(rest, -sign)}
            self.rows = [terms.substitute(p, values) for p in self.rows]
            self.equations = [terms.substitute(p, values) for p in self.equations]
            self.choices = [
                choice
                for choice in (terms.substitute_formula(c, values) for c in self.choices)
                if isinstance(choice, Some)
            ]
            return True
        return False

    def cases(self) -> Iterable[tuple[Formula, ...]]:
        """The disjunctions that can still be taken apart, the one tried taken out of the system."""
        if self.choices:
            yield self.choices.pop().formulas
            return
        for number in sorted({a for row in self.rows for a in atoms_of(row)}, reverse=True):
            alternatives = self.terms.alternatives(number)
            if alternatives:
                itself = atom(number)
                yield tuple(
                    Every((when, IsZero(subtract(itself, value)))) for value, when in alternatives
                )
                return


def contradictory(system: System) -> bool:
    """Whether eliminating the atoms from the inequalities leads to a negative number."""
    rows = Rows()
    for polynomial in system.rows:
        if rows.put(polynomial):
            return True
    elimination = Elimination(system.terms, rows)
    return elimination.run()


class Rows:
    """Inequalities, of those that differ in the constant alone only the strongest."""

    def __init__(self) -> None:
        self.by_shape: dict[frozenset[tuple[tuple[int, ...], int]], Polynomial] = {}

    def put(self, polynomial: Polynomial) -> bool:
        """True where the polynomial is a negative number, or another row's opposite says so."""
        polynomial = tightened(polynomial)
        value = constant_value(polynomial)
        if value is not None:
            return value < 0
        least = polynomial.get((), 0)
        if least:
            shape = dict(polynomial)
            del shape[()]
            identity = key(shape)
        else:
            identity = key(polynomial)
        known = self.by_shape.get(identity)
        if known is None or least < known.get((), 0):
            self.by_shape[identity] = polynomial
        return False


class Elimination:
    """The state of one elimination: the rows left, and the atoms that are never negative."""

    def __init__(self, terms: Terms, rows: Rows):
        self.terms = terms
        self.rows = rows
        self.least: dict[int, int] = {}
        for row in rows.by_shape.values():
            self._note_least(row)
        for row in list(rows.by_shape.values()):
            cut = self._cut(row)
            if cut is not None:
                rows.put(cut)

    def _cut(self, row: Polynomial) -> Polynomial | None:
        """`p >= 1`, where the row says `A*p >= c` of a natural number A and a positive c."""
        if row.get((), 0) >= 0 or len(row) < 3:
            return None
        without = {m: c for m, c in row.items() if m}
        common = set.intersection(*map(set, without))
        number = next((a for a in common if self.least.get(a, -1) >= 0), None)
        if number is None:
            return None
        parts = coefficient_of(without, number)
        return None if parts is None else shift(parts[0], -1)

    def _note_least(self, row: Polynomial) -> None:
        if len(row) == 1 or (len(row) == 2 and () in row):
            for monomial, coefficient in row.items():
                if len(monomial) == 1 and coefficient > 0:
                    number = monomial[0]
                    least = -(row.get((), 0) // coefficient)
                    self.least[number] = max(least, self.least.get(number, least))

    def run(self) -> bool:
        while True:
            number = self._next()
            if number is None:
                return False
            if self._eliminate(number):
                return True
            if len(self.rows.by_shape) > MOST_ROWS:
                return False

    def _next(self) -> int | None:
        """The atom to eliminate: indices, then what depends on them, then extents; the cheapest."""
        lower: dict[int, int] = {}
        upper: dict[int, int] = {}
        for row in self.rows.by_shape.values():
            for monomial, coefficient in row.items():
                count = lower if coefficient > 0 else upper
                for number in monomial:
                    count[number] = count.get(number, 0) + 1
        best, best_rank = None, None
        for number in lower.keys() | upper.keys():
            operation = self.terms.atoms[number].operation
            kind = 0 if operation == "index" else 2 if operation in ("extent", "constant") else 1
            up, down = upper.get(number, 0), lower.get(number, 0)
            rank = (kind, up * down - up - down, -number)
            if best_rank is None or rank < best_rank:
                best, best_rank = number, rank
        return best

    def _eliminate(self, number: int) -> bool:
        positive: list[tuple[Polynomial, Polynomial]] = []
        negative: list[tuple[Polynomial, Polynomial]] = []
        remaining = Rows()
        for identity, row in self.rows.by_shape.items():
            if not any(number in monomial for monomial in row):
                remaining.by_shape[identity] = row
                continue
            parts = coefficient_of(row, number)
            if parts is None or degree(parts[0]) > LARGEST_DEGREE:
                continue
            sign = self._sign(parts[0])
            if sign > 0:
                positive.append(parts)
            elif sign < 0:
                negative.append((negate(parts[0]), parts[1]))
        self.rows = remaining
        if len(positive) * len(negative) > MOST_PAIRS:
            return False  # without them there is less to go by
        for c, p in positive:
            for d, q in negative:
                # c*v + p >= 0 and q - d*v >= 0, so that d*p + c*q >= 0.
                combined = add(p, q) if c == d else add(multiply(d, p), multiply(c, q))
                cut = self._cut(combined)
                if remaining.put(combined) or (cut is not None and remaining.put(cut)):
                    return True
                self._note_least(combined)
        return False

    def _sign(self, polynomial: Polynomial) -> int:
        """1 where it is never negative, -1 where never positive, 0 where that is not known."""
        value = constant_value(polynomial)
        if value is not None:
            return (value > 0) - (value < 0)
        if self._never_negative(polynomial):
            return 1
        return -1 if self._never_negative(negate(polynomial)) else 0

    def _never_negative(self, polynomial: Polynomial) -> bool:
        """Whether every coefficient is positive, once each atom counts from its least value."""
        least = self.least
        if not all(least.get(a, -1) >= 0 for monomial in polynomial for a in monomial):
            return False
        if all(coefficient > 0 for coefficient in polynomial.values()):
            return True
        moved: Polynomial = {}
        for monomial, coefficient in polynomial.items():
            product: Polynomial = {(): coefficient}
            for a in monomial:
                product = multiply(product, shift(atom(a), least[a]))
            moved = add(moved, product)
        return all(coefficient > 0 for coefficient in moved.values())
