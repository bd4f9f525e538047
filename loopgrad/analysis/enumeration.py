"""Concrete runs at small sizes, without data: how a program is shown to break a rule always.

A rule counts as broken for every input where it is broken at each of many assignments of sizes
that the header admits, the constants at their defaults. What hangs on the values of tensors is
left out: an access of which it is not known that it happens breaks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from loopgrad.analysis.accesses import Access, Turn
from loopgrad.analysis.facts import Equality, Facts
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
)
from loopgrad.ir.operations import COMPARE
from loopgrad.ir.walk import (
    all_statements,
    indices_of,
    statement_expressions,
    subexpressions,
)

Environment: TypeAlias = dict[str, int | float]

ASSIGNMENTS = 16  # of sizes, tried for one claim
DRAWS = 400  # of which those that the header does not admit are thrown away
MOST_ITERATIONS = 20_000  # at one assignment
MOST_IN_ALL = 150_000  # iterations, for one program
LARGEST_RANGE = 1 << 31
LARGEST_LITERAL = 40  # sizes are drawn beyond the literals of the program, up to this


class Unknown(Exception):
    """The value hangs on data, or there is none."""


# ---------------------------------------------------------------------------------------- values

_BINARY: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
}
_UNARY: dict[str, Callable[[float], float]] = {
    "neg": lambda a: -a,
    "abs": abs,
    "relu": lambda a: max(a, 0),
    "sign": lambda a: (a > 0) - (a < 0),
    "floor": math.floor,
    "stop_gradient": lambda a: a,
}
_LARGEST_POWER = 64


def evaluate(expression: Expression, values: Mapping[str, int | float]) -> int | float:
    """The value of an expression; raises Unknown where it reads a tensor or has none."""
    match expression:
        case Number(value):
            return value
        case Index(name) | Extent(name) | Constant(name):
            if name not in values:
                raise Unknown(name)
            return values[name]
        case Conditional(condition, then, otherwise):
            return evaluate(then if evaluate(condition, values) else otherwise, values)
        case Compare(operators, operands):
            return _compare(operators, operands, values)
        case Apply("and", (left, right)):
            return bool(evaluate(left, values) and evaluate(right, values))
        case Apply("or", (left, right)):
            return bool(evaluate(left, values) or evaluate(right, values))
        case Apply("not", (operand,)):
            return not evaluate(operand, values)
        case Apply(operation, operands):
            return _apply(operation, [evaluate(o, values) for o in operands])
    raise Unknown(expression)


def _compare(
    operators: Sequence[str], operands: Sequence[Expression], values: Mapping[str, int | float]
) -> bool:
    left = evaluate(operands[0], values)
    for operator, operand in zip(operators, operands[1:], strict=True):
        right = evaluate(operand, values)
        if not COMPARE[operator](left, right):
            return False
        left = right
    return True


def _apply(operation: str, operands: list[int | float]) -> int | float:
    try:
        if operation in _BINARY:
            return _BINARY[operation](operands[0], operands[1])
        if operation in _UNARY:
            return _UNARY[operation](operands[0])
        if operation == "**" and all(abs(o) <= _LARGEST_POWER for o in operands):
            power: float = operands[0] ** operands[1]
            return power
    except (ArithmeticError, ValueError, TypeError):
        pass
    raise Unknown(operation)


def whole(expression: Expression, values: Mapping[str, int | float]) -> int:
    value = evaluate(expression, values)
    if not isinstance(value, int):
        raise Unknown(expression)
    return int(value)


# ----------------------------------------------------------------------------------------- sizes


class Sizes:
    """Values of extents and constants that the header admits, found when asked for."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.constants: Environment = {c.name: c.value for c in facts.program.constants}
        self.free = tuple(name for name in facts.extents if name not in facts.defined)
        self._found: list[Environment] = []
        self._source = self._admissible()
        self.left = MOST_IN_ALL

    def __iter__(self) -> Iterator[Environment]:
        """The same assignments each time."""
        yield from self._found
        for values in self._source:
            self._found.append(values)
            yield values

    def _admissible(self) -> Iterator[Environment]:
        seen: set[tuple[int | float, ...]] = set()
        for draw in self._draws():
            values = self._completed({**self.constants, **draw})
            if values is None:
                continue
            identity = tuple(values[name] for name in self.facts.extents)
            if identity not in seen:
                seen.add(identity)
                yield values
            if len(seen) == ASSIGNMENTS:
                return

    def _draws(self) -> Iterator[dict[str, int]]:
        names = self.free
        yield {name: 2 + i % 5 for i, name in enumerate(names)}
        yield {name: 6 - i % 5 for i, name in enumerate(names)}
        yield dict.fromkeys(names, 3)
        from random import Random  # seldom needed: not at each start

        source = Random(len(names))
        beyond = self._beyond_literals()
        pools = ((2, 3, 4, 5, 6), (2, 3, 4, 5, 8, 12), beyond, (2, 3, *beyond))
        for i in range(DRAWS):
            pool = pools[i % len(pools)]
            yield {name: source.choice(pool) for name in names}

    def _beyond_literals(self) -> tuple[int, ...]:
        largest = 2
        literals = [c.value for c in self.facts.program.constants]
        for statement in all_statements(self.facts.program.statements):
            for expression in statement_expressions(statement):
                literals += [n.value for n in subexpressions(expression) if isinstance(n, Number)]
        for literal in literals:
            if isinstance(literal, int) and literal <= LARGEST_LITERAL:
                largest = max(largest, literal)
        return (largest + 1, largest + 2, largest + 4)

    def _completed(self, values: Environment) -> Environment | None:
        """With the extents that follow from the others; None where the header does not admit it."""
        try:
            for name, formula in self.facts.defined.items():
                values[name] = whole(formula, values)
            fixed: set[str] = set()
            for equality in self.facts.equalities:
                given, other = self._one_side(equality, fixed)
                if given is not None:
                    values[given] = whole(other, values)
                    fixed |= {given} | _names(other)
            for name, formula in self.facts.defined.items():
                values[name] = whole(formula, values)
            if any(whole(e.left, values) != whole(e.right, values) for e in self.facts.equalities):
                return None
            # An extent of 1 hides what is wrong with a loop over it.
            if any(values[name] < 2 for name in self.free):
                return None
            extents = (e for t in self.facts.tensors.values() for e in t.extents)
            if any(whole(extent, values) < 1 for extent in extents):
                return None
        except Unknown:
            return None
        return values

    def _one_side(self, equality: Equality, fixed: set[str]) -> tuple[str | None, Expression]:
        """A name that the equality can give its value, and the other side."""
        for side, other in (
            (equality.left, equality.right),
            (equality.right, equality.left),
        ):
            if isinstance(side, Extent) and side.name in self.free and side.name not in fixed:
                return side.name, other
        return None, equality.right

    def iterations(
        self,
        access: Access,
        assignment: Environment,
        indices: frozenset[str] | None = None,
        ends: bool = False,
    ) -> Iterator[Environment]:
        """The values of indices, sizes among them, at which the access is known to happen.

        With `indices`, of those that matter to none of them one value stands for all; with
        `ends`, only the first and the last value of each are tried. Raises Unknown where there
        are too many.
        """
        relevant = None if indices is None else relevant_indices(access, indices)
        left = MOST_ITERATIONS

        def inside(ranges: Sequence[Range], values: Environment) -> Iterator[Environment]:
            nonlocal left
            left -= 1
            self.left -= 1
            if left < 0 or self.left < 0:
                raise Unknown(access)
            if not ranges:
                if _happens(access, values):
                    yield dict(values)
                return
            first, rest = ranges[0], ranges[1:]
            assert first.lower is not None and first.upper is not None
            try:
                turns = range(whole(first.lower, values), whole(first.upper, values))
            except Unknown:
                return
            if turns.stop - turns.start > LARGEST_RANGE:
                raise Unknown(access)
            if relevant is not None and first.index not in relevant:
                turns = turns[:1]
            if ends:
                turns = turns[:: max(1, len(turns) - 1)]
            for value in turns:
                values[first.index] = value
                yield from inside(rest, values)
            values.pop(first.index, None)

        return inside(access.ranges, dict(assignment))


def _names(expression: Expression) -> set[str]:
    return {n.name for n in subexpressions(expression) if isinstance(n, Extent)}


# ------------------------------------------------------------------------------------- iterations


def _happens(access: Access, values: Environment) -> bool:
    try:
        return all(bool(evaluate(c, values)) == truth for c, truth in access.path)
    except Unknown:
        return False


def relevant_indices(access: Access, indices: frozenset[str]) -> frozenset[str]:
    """Those, and what the conditions and the bounds of all of them hang on."""
    found = set(indices).union(*(indices_of(c) for c, _ in access.path))
    for r in reversed(access.ranges):
        if r.index in found:
            for bound in (r.lower, r.upper):
                if bound is not None:
                    found |= indices_of(bound)
    # A range that may be empty for some values of the others decides whether anything happens.
    for r in access.ranges:
        for bound in (r.lower, r.upper):
            if bound is not None:
                found |= indices_of(bound)
    return frozenset(found)


def element(access: Access, values: Environment) -> tuple[int, ...]:
    """The subscripts' values."""
    return tuple(whole(s, values) for s in access.read.subscripts)


def moment(access: Access, values: Environment) -> tuple[int, ...]:
    """The time of the access, comparable with others'."""
    return tuple(
        step
        if isinstance(step, int)
        else int(-values[step.index] if step.descending else values[step.index])
        for step in access.time
    )


def turns_of(access: Access) -> frozenset[str]:
    """The indices that its time hangs on."""
    return frozenset(step.index for step in access.time if isinstance(step, Turn))
