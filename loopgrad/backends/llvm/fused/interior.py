"""Where in a vector loop conditions hold throughout, so that whole vectors need not look at them.

    for n vector:  y[n] max= x[2*n+2]   if 2*n + 2 < X

looks at the last windows alone. A condition counts that fails for a few values at the ends of its
indices, as those of windows do; where one that hangs on the loops around fails, the loop looks at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant, degree, subtract
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.surroundings import BOOL, INT, Position
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.text import I64, Body
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Index, Number
from loopgrad.schedule.limits import conditions, is_natural, limits
from loopgrad.schedule.lines import Bounds
from loopgrad.schedule.tree import Over, Step

_FEW = 16  # values at the ends for which a condition may fail


@dataclass(frozen=True, slots=True)
class Interior:
    """The conditions hold where the index is below `upper`, and `lower` or more if that is given."""

    conditions: frozenset[Expression]
    lower: str | None
    upper: str

    def holds(self, body: Body, index: str, count: int) -> str:
        """The i1 that tells whether they hold for `count` values of the index from this one on."""
        end = body.value(f"add nsw i64 {index}, {count}")
        inside = body.value(f"icmp sle i64 {end}, {self.upper}")
        if self.lower is None:
            return inside
        behind = body.value(f"icmp sge i64 {index}, {self.lower}")
        return body.value(f"and i1 {behind}, {inside}")

    @property
    def known(self) -> Mapping[Expression, Value]:
        return {condition: Value("true", BOOL) for condition in self.conditions}


def interior(
    vectors: Vectors, loop: Over, whole: Position, lower: Value, upper: Value
) -> Interior | None:
    """Emits the limits, before the loop, which runs; None where no condition nearly always holds.

    whole: the bounds of the index, as formulas.
    """
    bounds = dict(_bounds({**vectors.indices, loop.index: whole}))
    found: dict[Expression, list[Polynomial]] = {}
    for condition in _conditions(loop):
        formulas = _formulas(condition, vectors)
        if formulas and all(_nearly_always(f, bounds, loop.index) for f in formulas):
            found[condition] = formulas
    if not found:
        return None
    limiting = _Limits(vectors, loop.index, lower, upper)
    for formula in {to_expression(f): f for own in found.values() for f in own}.values():
        limiting.add(formula)
    return Interior(frozenset(found), limiting.lower(), limiting.upper())


class _Limits:
    """What formulas that have to be 0 or more say of an index."""

    def __init__(self, vectors: Vectors, index: str, lower: Value, upper: Value):
        self.vectors, self.body, self.whole = vectors, vectors.body, vectors.whole
        self.index = index
        self.first, self.end = lower, upper
        self.below: list[Value] = []
        self.above = [upper]
        self.always: list[str] = []

    def add(self, formula: Polynomial) -> None:
        """`step * index + rest >= 0`."""
        step, rest = _split(formula, self.index)
        value = self.vectors.integer(to_expression(rest))
        if step == 0:
            self.always.append(self.body.value(f"icmp sge i64 {value.text}, 0"))
        elif step > 0:
            missing = self.whole.arithmetic("-", self.whole.literal(step - 1), value)
            self.below.append(self._divided(missing, step))
        else:
            last = self._divided(value, -step)
            self.above.append(self.whole.arithmetic("+", last, self.whole.literal(1)))

    def _divided(self, value: Value, step: int) -> Value:
        return value if step == 1 else self.whole.apply("//", [value, self.whole.literal(step)])

    def lower(self) -> str | None:
        if not self.below:
            return None
        return self._extreme("max", self.below).text

    def upper(self) -> str:
        end = self._extreme("min", self.above).text
        for holds in self.always:
            end = self.body.select(holds, I64, end, self.first.text)
        return end

    def _extreme(self, operation: str, values: list[Value]) -> Value:
        found, *others = values
        for value in others:
            found = self.whole.extremum(operation, found, value)
        return found


def _bounds(indices: Mapping[str, Position]) -> Iterator[tuple[str, Bounds]]:
    for name, position in indices.items():
        if position.text.lstrip("-").isdigit():  # a turn of a loop that is written out
            yield name, (Number(int(position.text)), Number(int(position.text) + 1))
        elif position.lower is not None and position.upper is not None:
            yield name, (position.lower, position.upper)


def _conditions(loop: Over) -> Iterator[Expression]:
    """The comparisons that have to hold for something in the loop's own steps to be done."""
    for step in loop.body:
        if isinstance(step, Step):
            yield from _parts(step.statement.guard)
            for node in walk.subexpressions(step.statement.value):
                if isinstance(node, Conditional):
                    yield from _parts(node.condition)


def _parts(condition: Expression | None) -> Iterator[Expression]:
    """As they stand: chains as a whole."""
    match condition:
        case Compare():
            yield condition
        case Apply("and", operands):
            for operand in operands:
                yield from _parts(operand)


def _formulas(condition: Expression, vectors: Vectors) -> list[Polynomial]:
    """What has to be 0 or more for it to hold; none where it is no comparison of integers."""
    if not isinstance(condition, Compare):
        return []
    if any(vectors.type_of(operand) is not INT for operand in condition.operands):
        return []
    return conditions(condition) or []


def _nearly_always(formula: Polynomial, bounds: Mapping[str, Bounds], index: str) -> bool:
    """Does it fail for a few values of the indices at most, at their ends, or for one row of many?"""
    step, _ = _split(formula, index)
    rest = subtract(formula, {(Index(index),): step})
    if any(index in walk.indices_of(atom) for monomial in rest for atom in monomial):
        return False
    found = limits(formula, bounds)
    if found is None:
        return False
    few = is_natural(add(found[0], constant(_FEW * max(1, abs(step)))))
    return few or degree(found[0]) < degree(polynomial(bounds[index][1]))


def _split(formula: Polynomial, index: str) -> tuple[int, Polynomial]:
    """What the index is multiplied by, and the rest."""
    step = formula.get((Index(index),), 0)
    return step, subtract(formula, {(Index(index),): step})
