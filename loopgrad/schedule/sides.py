"""What is multiplied: a value as its factors, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Number


def factors(expression: Expression) -> Iterator[Expression]:
    """What is multiplied; a division is a factor `1 / c`."""
    match expression:
        case Apply("*", (left, right)):
            yield from factors(left)
            yield from factors(right)
        case Apply("/", (dividend, divisor)) if dividend != Number(1):
            yield from factors(dividend)
            yield walk.apply("/", Number(1), divisor)
        case _:
            yield expression


def multiplied(parts: Iterable[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), parts)
