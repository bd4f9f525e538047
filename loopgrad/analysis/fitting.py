"""Which integers fit: what the elements of an index tensor lie between, so that subscripts are in range.

A subscript says what an expression has to lie between, and from there it is asked of what the expression is
made of, by arithmetic on intervals: of `2 * n[b] - 1`, of `t` where `t < n[b]`, of an index tensor that is
computed from another. What a guard or a conditional rules out is not asked.

    >>> import loopgrad as lg
    >>> from loopgrad.analysis.infer import infer
    >>> text = "last(x[T,B], int n[B]) -> y[B]:\\n    for b:  y[b] = x[n[b]-1,b]"
    >>> Fitting(infer(lg.program(text))).interval("n", {"T": 5, "B": 2}, {})
    Interval(low=1, high=5)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from loopgrad.analysis.accesses import Access, Collector, Path
from loopgrad.analysis.enumeration import Unknown, whole
from loopgrad.analysis.facts import Facts
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import all_statements, reads, statement_expressions, subexpressions

Known: TypeAlias = Mapping[str, Any]


class Interval(NamedTuple):
    """Numbers from `low` to `high`, both among them; an end that is infinite is none."""

    low: float = -inf
    high: float = inf

    def both(self, other: Interval) -> Interval:
        return Interval(max(self.low, other.low), min(self.high, other.high))

    def ends(self) -> tuple[int, int]:
        """The least and the largest to draw, of `FEW` values where an end is open."""
        low = int(self.low) if self.low > -inf else int(min(self.high, 0))
        return low, int(self.high) if self.high < inf else low + FEW - 1


ANY = Interval()
FEW = 4
AGAINST = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def covered(given: Mapping[str, Any]) -> dict[str, Interval]:
    """What the elements of index tensors among these arrays lie between."""
    return {
        name: Interval(int(array.min()), int(array.max()))
        for name, array in given.items()
        if isinstance(array, np.ndarray) and array.dtype.kind in "iub" and array.size
    }


def fitting(facts: Facts) -> Fitting:
    """What the program asks; found out once."""
    return _fitting(facts.program, facts)


@once_per_program
def _fitting(_: Program, facts: Facts) -> Fitting:
    return Fitting(facts)


class Fitting:
    """What a program asks of its index tensors."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.integer = {n for n, t in facts.tensors.items() if t.element is ElementType.INT}
        self.inputs = {i.name for i in facts.program.inputs if i.kind == "int"}

    def interval(self, name: str, known: Known, drawn: Mapping[str, Interval]) -> Interval | None:
        """What the elements of an input lie between; None where nothing is asked of it, or not by intervals.

        known: extents and constants. drawn: what the elements of other index tensors do lie between.
        """
        if name not in self.inputs:
            return None
        asking = _Asking(self, known, drawn)
        for access in self.accesses:
            asking.access(access)
        found = asking.found.get(name)
        return found if found is not None and found.low <= found.high else None

    @cached_property
    def collected(self) -> Collector:
        return Collector(self.facts)

    @cached_property
    def accesses(self) -> list[Access]:
        """Those whose subscripts hang on an index tensor, themselves or by the ranges of their indices."""
        if not self.inputs:
            return []
        return [
            access
            for access in (*self.collected.reads, *self.collected.writes)
            if any(self._hangs(subscript, access) for subscript in access.read.subscripts)
        ]

    def _hangs(self, subscript: Expression, access: Access) -> bool:
        bounds = [b for r in access.ranges for b in (r.lower, r.upper) if b is not None]
        return any(self._reads_integers(e) for e in (subscript, *bounds))

    def _reads_integers(self, expression: Expression) -> bool:
        return any(read.tensor in self.integer for read in reads(expression))

    @cached_property
    def compared(self) -> Mapping[str, tuple[Expression, ...]]:
        """The numbers and constants that elements are compared with: `label[b] != ignore` may be that number,
        though it subscripts no axis then."""
        found: dict[str, dict[Expression, None]] = {}
        for statement in all_statements(self.facts.program.statements):
            for expression in statement_expressions(statement):
                for node in subexpressions(expression):
                    if isinstance(node, Compare):
                        for one, other in pairwise(node.operands):
                            for read, value in ((one, other), (other, one)):
                                if isinstance(read, Read) and _is_fixed(value):
                                    found.setdefault(read.tensor, {})[value] = None
        return {name: tuple(values) for name, values in found.items()}

    @cached_property
    def values(self) -> Mapping[str, list[tuple[Access, Expression]]]:
        """For each index tensor that is computed, the writes whose values are its elements, and these; not
        where some are sums."""
        found: dict[str, list[tuple[Access, Expression]]] = {}
        sums: set[str] = set()
        for write in self.collected.writes:
            name, statement = write.read.tensor, write.statement
            if name in self.integer and isinstance(statement, Accumulate):
                found.setdefault(name, []).append((write, statement.value))
                if write.reduction is not Reduction.SET:
                    sums.add(name)
        return {name: writes for name, writes in found.items() if name not in sums}


@dataclass
class _Asking:
    """At some sizes: what is asked, collected in `found`."""

    fitting: Fitting
    known: Known
    drawn: Mapping[str, Interval]
    found: dict[str, Interval] = field(default_factory=dict)
    within: tuple[str, ...] = ()  # computed tensors that are being asked

    def access(self, access: Access) -> None:
        extents = self.fitting.facts.tensors[access.read.tensor].extents
        where = self._where(access)
        for subscript, extent in zip(access.read.subscripts, extents, strict=True):
            size = where.span(extent)
            where.ask(subscript, Interval(0, size.high - 1))

    def _where(self, access: Access) -> _Where:
        return _Where(self, access.ranges, access.path)

    def tensor(self, read: Read, asked: Interval) -> None:
        """Asks it of all elements of an index tensor."""
        name = read.tensor
        if name in self.fitting.inputs:
            self.found[name] = self.found.get(name, ANY).both(asked)
        elif name in self.fitting.values and name not in self.within:
            self.within += (name,)
            for write, value in self.fitting.values[name]:
                self._where(write).ask(value, asked)
            self.within = self.within[:-1]

    def elements(self, name: str) -> Interval:
        """What the elements of a tensor are known to lie between."""
        if name in self.drawn:
            return self.drawn[name]
        if name not in self.fitting.values or name in self.within:
            return ANY
        self.within += (name,)
        spans = [self._where(write).span(value) for write, value in self.fitting.values[name]]
        self.within = self.within[:-1]
        # What no statement writes is 0.
        return Interval(min(0, *(s.low for s in spans)), max(0, *(s.high for s in spans)))


class _Where:
    """A place in the program: what its indices, and what its conditions are about, lie between."""

    def __init__(self, asking: _Asking, ranges: tuple[Range, ...], path: Path):
        self.asking = asking
        self.ranges = {r.index: r for r in ranges}
        self.conditions: dict[Expression, Interval] = {}
        for condition, truth in path:
            self._assume(condition, truth)

    # ---------------------------------------------------------------------------- conditions

    def _assume(self, condition: Expression, truth: bool) -> None:
        match condition:
            case Compare(operators, operands) if truth or len(operators) == 1:
                for operator, (left, right) in zip(operators, pairwise(operands), strict=True):
                    operator = operator if truth else OPPOSITE[operator]
                    self._narrow(left, operator, self.span(right))
                    self._narrow(right, AGAINST[operator], self.span(left))
            case Apply("and", (left, right)) if truth:
                self._assume(left, True)
                self._assume(right, True)
            case Apply("or", (left, right)) if not truth:
                self._assume(left, False)
                self._assume(right, False)
            case Apply("not", (operand,)):
                self._assume(operand, not truth)

    def _narrow(self, e: Expression, operator: str, other: Interval) -> None:
        match operator:
            case "<":
                asked = Interval(high=other.high - 1)
            case "<=":
                asked = Interval(high=other.high)
            case ">":
                asked = Interval(low=other.low + 1)
            case ">=":
                asked = Interval(low=other.low)
            case "==":
                asked = other
            case _:
                return
        self.conditions[e] = self.conditions.get(e, ANY).both(asked)

    # ------------------------------------------------------------------------------ intervals

    def span(self, e: Expression) -> Interval:
        """What an integer expression lies between, as far as is known."""
        return self._span(e).both(self.conditions.get(e, ANY))

    def _span(self, e: Expression) -> Interval:
        match e:
            case Index(name):
                r = self.ranges.get(name)
                if r is None or r.lower is None or r.upper is None:
                    return ANY
                return Interval(self.span(r.lower).low, self.span(r.upper).high - 1)
            case Read(tensor):
                return self.asking.elements(tensor)
            case Conditional(_, then, otherwise):
                one, other = self.span(then), self.span(otherwise)
                return Interval(min(one.low, other.low), max(one.high, other.high))
            case Apply("neg", (operand,)):
                span = self.span(operand)
                return Interval(-span.high, -span.low)
            case Apply("+" | "-" | "*" | "//" | "%" | "min" | "max" as operation, (left, right)):
                return _combined(operation, self.span(left), self.span(right))
        try:
            value = whole(e, self.asking.known)
        except (Unknown, KeyError):
            return ANY
        return Interval(value, value)

    def ask(self, e: Expression, asked: Interval) -> None:
        """Asks it of all that the expression is made of. An end that a condition sees to is none."""
        span = self.span(e)
        low = -inf if span.low >= asked.low else asked.low
        high = inf if span.high <= asked.high else asked.high
        if low == -inf and high == inf:
            return
        match e:
            case Read():
                self.asking.tensor(e, Interval(low, high))
            case Index(name) if name in self.ranges:
                r = self.ranges[name]
                assert r.lower is not None and r.upper is not None
                self.ask(r.lower, Interval(low=low))
                self.ask(r.upper, Interval(high=high + 1))
            case Conditional(condition, then, otherwise):
                for branch, truth in ((then, True), (otherwise, False)):
                    self._under(condition, truth).ask(branch, Interval(low, high))
            case Apply("neg", (operand,)):
                self.ask(operand, Interval(-high, -low))
            case Apply("+", (left, right)):
                self.ask(left, _without(Interval(low, high), self.span(right)))
                self.ask(right, _without(Interval(low, high), self.span(left)))
            case Apply("-", (left, right)):
                taken = self.span(right)
                self.ask(left, _without(Interval(low, high), Interval(-taken.high, -taken.low)))
                self.ask(right, _less(self.span(left), Interval(low, high)))
            case Apply("*", (left, right)):
                self._scaled(left, self.span(right), low, high)
                self._scaled(right, self.span(left), low, high)
            case Apply("//", (left, right)):
                by = self.span(right)
                if by.low == by.high > 0:
                    self.ask(left, Interval(low * by.low, high * by.low + by.low - 1))
            case Apply("min", (left, right)):
                for operand in (left, right):
                    self.ask(operand, Interval(low=low))
            case Apply("max", (left, right)):
                for operand in (left, right):
                    self.ask(operand, Interval(high=high))

    def _scaled(self, e: Expression, by: Interval, low: float, high: float) -> None:
        """Of a product with a number."""
        if by.low == by.high and by.low not in (0, inf, -inf):
            ends = (low / by.low, high / by.low) if by.low > 0 else (high / by.low, low / by.low)
            self.ask(e, Interval(_up(ends[0]), _down(ends[1])))

    def _under(self, condition: Expression, truth: bool) -> _Where:
        more = _Where(self.asking, tuple(self.ranges.values()), ())
        more.conditions = dict(self.conditions)
        more._assume(condition, truth)
        return more


def _is_fixed(e: Expression) -> bool:
    """Is it a number or a constant of the header?"""
    if isinstance(e, Apply) and e.operation == "neg":
        return _is_fixed(e.operands[0])
    return isinstance(e, Number | Constant)


# ------------------------------------------------------------------------------------ arithmetic


def _without(asked: Interval, other: Interval) -> Interval:
    """What a summand lies between, whatever the other is; where an end of that is not known, the least is
    asked."""
    low = asked.low - _known(other.low, other.high)
    return Interval(low, asked.high - _known(other.high, other.low))


def _less(left: Interval, asked: Interval) -> Interval:
    """What r lies between, where `left - r` is as asked."""
    low = _known(left.high, left.low) - asked.high
    return Interval(low, _known(left.low, left.high) - asked.low)


def _known(end: float, other: float) -> float:
    return next((value for value in (end, other) if value not in (inf, -inf)), 0)


def _combined(operation: str, left: Interval, right: Interval) -> Interval:
    match operation:
        case "+":
            return Interval(left.low + right.low, left.high + right.high)
        case "-":
            return Interval(left.low - right.high, left.high - right.low)
        case "min":
            return Interval(min(left.low, right.low), min(left.high, right.high))
        case "max":
            return Interval(max(left.low, right.low), max(left.high, right.high))
        case "*":
            ends = [a * b if a and b else 0 for a in left for b in right]
            return Interval(min(ends), max(ends))
        case "//" if right.low == right.high > 0:
            return Interval(_down(left.low / right.low), _down(left.high / right.low))
        case "%" if right.low == right.high > 0:
            return Interval(0, right.low - 1)
    return ANY


def _down(value: float) -> float:
    return value if value in (inf, -inf) else int(value // 1)


def _up(value: float) -> float:
    return -_down(-value)
