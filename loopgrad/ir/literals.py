"""Exact numbers as literals: what reads back as the same number, where there is one."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isfinite

from loopgrad.ir.limits import LARGEST_INTEGER
from loopgrad.ir.nodes import Number


def whole_number(value: int) -> Number:
    """A positive whole number; where 64 bits do not hold it, the nearest floating one: `1e30`, `inf`."""
    return Number(value if value <= LARGEST_INTEGER else nearest(value))


def decimal(value: Fraction) -> Number | None:
    """The floating literal that is, taken as the decimal number that is written, this positive number."""
    number = nearest(value)
    return Number(number) if isfinite(number) and Fraction(repr(number)) == value else None


def nearest(value: Fraction | int) -> float:
    """The floating number nearest to a positive one; infinity beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return inf
