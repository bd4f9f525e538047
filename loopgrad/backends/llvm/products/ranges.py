"""How many values indices take at most, in extents and constants alone: what memory is made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Extent, Index, Number
from loopgrad.schedule.tree import Blocks, Dimension, Over


@dataclass(frozen=True, slots=True)
class Interval:
    """Between which values an integer lies, both included; None where that is not known."""

    low: Expression | None
    high: Expression | None


Known = Mapping[str, Interval]
ANY = Interval(None, None)


def interval(expression: Expression, known: Known) -> Interval:
    """
    >>> t = {"t": Interval(Number(0), Extent("T"))}
    >>> interval(Apply("-", (Number(3), Index("t"))), t)
    Interval(low=Apply(operation='-', operands=(Number(value=3), Extent(name='T'))), high=Number(value=3))
    """
    if walk.is_fixed(expression):
        return Interval(expression, expression)
    match expression:
        case Index(name):
            return known.get(name, ANY)
        case Apply("+", (left, right)):
            a, b = interval(left, known), interval(right, known)
            return Interval(_both("+", a.low, b.low), _both("+", a.high, b.high))
        case Apply("-", (left, right)):
            a, b = interval(left, known), interval(right, known)
            return Interval(_both("-", a.low, b.high), _both("-", a.high, b.low))
        case Apply("neg", (operand,)):
            a = interval(operand, known)
            return Interval(_both("-", walk.ZERO, a.high), _both("-", walk.ZERO, a.low))
        case Apply("*", (Number(int()) | Extent() as factor, operand)) | Apply(
            "*", (operand, Number(int()) | Extent() as factor)
        ):
            a = interval(operand, known)
            return Interval(_both("*", factor, a.low), _both("*", factor, a.high))
        case Apply("//", (operand, Number(int(value)) as divisor)) if value > 0:
            a = interval(operand, known)
            return Interval(_both("//", a.low, divisor), _both("//", a.high, divisor))
        case Apply("max" | "min" as operation, (left, right)):
            a, b = interval(left, known), interval(right, known)
            low, high = _both(operation, a.low, b.low), _both(operation, a.high, b.high)
            # One of both is enough for a limit on its side.
            if operation == "max":
                return Interval(low or a.low or b.low, high)
            return Interval(low, high or a.high or b.high)
    return ANY


def _both(operation: str, a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return None
    match operation, a, b:
        case ("+" | "-", _, Number(0)):
            return a
        case ("+", Number(0), _):
            return b
    return walk.apply(operation, a, b)


def inside(node: Over | Blocks, known: Known) -> Known:
    """What is known of indices within a loop, or blocks."""
    between = Interval(interval(node.lower, known).low, interval(node.upper, known).high)
    if isinstance(node, Over):
        return {**known, node.index: between}
    return {**known, f"{node.index}.from": between, f"{node.index}.to": between}


def within(dimensions: Sequence[Dimension], known: Known) -> Known:
    """The same for indices of a product."""
    return {
        **known,
        **{
            d.index: Interval(interval(d.lower, known).low, interval(d.upper, known).high)
            for d in dimensions
        },
    }


def count_at_most(dimensions: Sequence[Dimension], known: Known) -> Expression | None:
    """How many values the indices take together, at most; None where nothing can be said."""
    total: Expression = walk.ONE
    for d in dimensions:
        low, high = interval(d.lower, known).low, interval(d.upper, known).high
        count = _both("-", high, low)
        if count is None:
            return None
        if not isinstance(count, Extent):  # which is never negative
            count = walk.apply("max", count, walk.ZERO)
        total = count if total == walk.ONE else walk.apply("*", total, count)
    return total
