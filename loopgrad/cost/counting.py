"""How many points a space of loops has: sums over ranges, in closed form where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from loopgrad.cost.cases import Conditions
from loopgrad.cost.symbols import Symbols
from loopgrad.ir.nodes import Apply, Compare, Expression, Range
from loopgrad.ir.walk import conjuncts, indices_of

SPELLED_OUT = 64  # terms of a sum over a range of numbers


class Counting:
    """Counts the points of spaces whose ranges have integer bounds, under conditions that read no tensor."""

    def __init__(self, symbols: Symbols, extents: Iterable[Expression] = ()):
        """`extents`: formulas that are 0 or more, since tensors have them as extents."""
        self.symbols = symbols
        self.sympy = symbols.sympy
        formulas = (symbols.expression(e) for e in dict.fromkeys(extents))
        self.known = [self.sympy.expand(f) for f in formulas if not f.is_Symbol]
        self._known: dict[tuple[tuple[Range, ...], Conditions], Any] = {}

    def points(self, ranges: Sequence[Range], conditions: Conditions = ()) -> Any:
        """The number of points at which every condition comes out as stated: a formula, exactly."""
        key = (tuple(ranges), conditions)
        if key not in self._known:
            self._known[key] = self._points(key[0], conditions)
        return self._known[key]

    def at_most(self, ranges: Sequence[Range], conditions: Conditions = ()) -> tuple[Any, bool]:
        """The number of points, and whether it is exact: without conditions that SymPy is not told of."""
        for used in (conditions, ()):
            try:
                return self.points(ranges, used), used == conditions
            except (ValueError, TypeError):
                continue
        return self.sympy.oo, False

    def _points(self, ranges: tuple[Range, ...], conditions: Conditions) -> Any:
        """Conditions are taken apart until only comparisons that hold are left."""
        plain: list[Expression] = []
        for place, (condition, truth) in enumerate(conditions):
            rest = (*((p, True) for p in plain), *conditions[place + 1 :])
            if not truth:
                return self.points(ranges, rest) - self.points(ranges, ((condition, True), *rest))
            match condition:
                case Apply("and", (left, right)):
                    return self.points(ranges, ((left, True), (right, True), *rest))
                case Apply("or", (left, right)):
                    one, other = ((left, True),), ((right, True),)
                    both = self.points(ranges, (*one, *other, *rest))
                    apart = self.points(ranges, (*one, *rest)) + self.points(
                        ranges, (*other, *rest)
                    )
                    return apart - both
                case Apply("not", (operand,)):
                    return self.points(ranges, ((operand, False), *rest))
                case Compare(("!=",), operands):
                    return self.points(ranges, ((Compare(("==",), operands), False), *rest))
                case Compare(operators) if len(operators) > 1:
                    links = tuple((link, True) for link in conjuncts(condition))
                    return self.points(ranges, (*links, *rest))
            plain.append(condition)
        return self.sum(ranges, tuple(dict.fromkeys(plain)), self.sympy.Integer(1))

    def sum(self, ranges: tuple[Range, ...], conditions: tuple[Expression, ...], body: Any) -> Any:
        """The sum of the body over the ranges, innermost first, where the conditions hold."""
        sympy = self.sympy
        if not ranges:
            for condition in conditions:
                body = sympy.Piecewise((body, self.symbols.expression(condition)), (0, True))
            return body
        *outer, inner = ranges
        assert inner.lower is not None and inner.upper is not None
        lower = self.symbols.expression(inner.lower)
        upper = self.symbols.expression(inner.upper)
        index = self.symbols.index(inner.index)
        left = []
        for condition in conditions:
            if inner.index not in indices_of(condition):
                left.append(condition)
                continue
            bounds = self._bounds(condition, inner.index)
            if bounds is None:  # nothing that a bound says: a sum of ones and zeros
                holds = self.symbols.expression(condition)
                body = sympy.Piecewise((body, holds), (0, True))
                continue
            low, high = bounds
            lower = lower if low is None else self._larger(lower, low, outer)
            upper = upper if high is None else self._smaller(upper, high, outer)
        total = self._sum_over(index, lower, upper, body, tuple(outer))
        return self.sum(tuple(outer), tuple(left), total)

    def _bounds(self, condition: Expression, index: str) -> tuple[Any, Any] | None:
        """What a comparison says of the index: at least, and less than."""
        if not isinstance(condition, Compare):
            return None
        [operator], (left, right) = condition.operators, condition.operands
        try:
            difference = self.sympy.expand(
                self.symbols.expression(left) - self.symbols.expression(right)
            )
        except ValueError:
            return None
        own = self.symbols.index(index)
        slope = difference.coeff(own, 1)
        rest = difference - slope * own
        if own in rest.free_symbols or not rest.is_integer or not slope.is_integer:
            return None
        step = 1 if slope.is_positive else -1 if slope.is_negative else 0
        if not step or (operator == "==" and slope != step):
            return None
        width, slope = slope * step, self.sympy.Integer(step)
        if operator in (">", ">="):
            slope, rest = -slope, -rest
            operator = operator.replace(">", "<")
        more = 0 if operator == "<" else 1  # `w*i + r < 0`, or `w*i + r <= 0`
        if operator == "==":
            value = -rest * slope
            return value, value + 1
        if slope == 1:
            return None, self.sympy.ceiling((more - rest) / width)
        return self.sympy.floor((rest - more) / width) + 1, None

    def _sum_over(
        self, index: Any, lower: Any, upper: Any, body: Any, outer: Sequence[Range]
    ) -> Any:
        sympy = self.sympy
        count = sympy.expand(upper - lower)
        if count.is_Integer and (count <= 0):
            return sympy.Integer(0)
        if not self.is_never_negative(count, outer):
            upper = lower + sympy.Max(0, count)
        if index not in body.free_symbols:
            return sympy.expand(body * (upper - lower))
        if count.is_Integer and count <= SPELLED_OUT:
            return sympy.expand(sum(body.subs(index, lower + k) for k in range(int(count))))
        if body.is_polynomial(index):
            return sympy.expand(sympy.summation(body, (index, lower, upper - 1)))
        return sympy.Sum(body, (index, lower, upper - 1))

    def _larger(self, one: Any, other: Any, outer: Sequence[Range]) -> Any:
        if self.is_never_negative(one - other, outer):
            return one
        return other if self.is_never_negative(other - one, outer) else self.sympy.Max(one, other)

    def _smaller(self, one: Any, other: Any, outer: Sequence[Range]) -> Any:
        if self.is_never_negative(one - other, outer):
            return other
        return one if self.is_never_negative(other - one, outer) else self.sympy.Min(one, other)

    def is_never_negative(self, value: Any, outer: Sequence[Range]) -> bool:
        """Whether that is evident for all values of the outer indices."""
        value = self.sympy.expand(value)
        for r in reversed(outer):
            index = self.symbols.index(r.index)
            if index not in value.free_symbols:
                continue
            slope = value.coeff(index, 1)
            if index in (value - slope * index).free_symbols or not slope.is_number:
                return False
            assert r.lower is not None and r.upper is not None
            end = r.lower if slope > 0 else r.upper
            at = self.symbols.expression(end) - (0 if slope > 0 else 1)
            value = self.sympy.expand(value.subs(index, at))
        return bool(self.natural(value))

    def natural(self, value: Any) -> bool:
        """Whether it is 0 or more: with each extent written as 1 and what is 0 or more."""
        if value.is_nonnegative or value in self.known:
            return True
        more = {
            s: self.sympy.Symbol(f"{s.name}+", integer=True, nonnegative=True) + 1
            for s in value.free_symbols
            if s.is_positive
        }
        return bool(self.sympy.expand(value.subs(more, simultaneous=True)).is_nonnegative)
