"""What is multiplied: a value as its factors, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number
from loopgrad.schedule.sums.reciprocals import TAKEN, reciprocal


def factors(expression: Expression) -> Iterator[Expression]:
    """What is multiplied; a division is a factor `1 / c`."""
    match expression:
        case Apply("*", (left, right)):
            yield from factors(left)
            yield from factors(right)
        case Apply("/", (dividend, divisor)) if dividend not in (Number(1), TAKEN):
            yield from factors(dividend)
            yield reciprocal(divisor)
        case _:
            yield expression


def multiplied(parts: Iterable[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), parts)
