"""Is what a statement adds off by a factor that is a formula?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loopgrad.checking.findings import Kind
from loopgrad.checking.pieces import Place, Vector
from loopgrad.ir.nodes import Apply, Constant, Expression, Extent, Number
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import ONE, apply

NUMBERS = (2, 3, 4)


@dataclass(frozen=True)
class Factor:
    """The claim is too large by `formula`, or, if `inverse`, too small."""

    formula: Expression
    inverse: bool

    @property
    def text(self) -> str:
        return show_expression(self.formula)

    def said(self) -> str:
        return f"too {'small' if self.inverse else 'large'} by the factor {self.text}"

    def kind(self) -> Kind:
        if isinstance(self.formula, Number):
            return "too small by a factor" if self.inverse else "too large by a factor"
        return "missing factor"

    def applied(self, value: Expression) -> Expression:
        if not self.inverse:
            return apply("/", value, self.formula)
        return apply("*", self.formula, value)


def factor(
    claimed: Vector, goal: Vector, places: Sequence[Place], sizes: Sequence[int], scale: float
) -> Factor | None:
    """The formula by which the claimed contribution differs from what it ought to be.

    sizes: how many of the numbers belong to each of the places.
    """
    ratios = _ratios(claimed, goal, sizes, scale)
    if ratios is None:
        return None
    for formula in _formulas(places):
        values = np.array([_value(formula, place) for place in places], float)
        for inverse in (False, True):
            wanted = 1 / values if inverse else values
            if bool((np.abs(ratios - wanted) <= 1e-7 * np.abs(wanted)).all()):
                return Factor(formula, inverse)
    return None


def _ratios(claimed: Vector, goal: Vector, sizes: Sequence[int], scale: float) -> Vector | None:
    """claimed / goal in each trial, where it is one number in each."""
    if claimed.shape != goal.shape:
        return None
    found: list[float] = []
    start = 0
    for size in sizes:
        mine, right = claimed[start : start + size], goal[start : start + size]
        start += size
        some = np.isfinite(right) & (np.abs(right) > 1e-6 * scale)
        if not some.any() or not np.isfinite(mine[some]).all():
            return None
        ratio = mine[some] / right[some]
        if ratio[0] == 0 or (np.abs(ratio - ratio[0]) > 1e-7 * abs(ratio[0])).any():
            return None
        if np.abs(mine[~some & np.isfinite(right)]).max(initial=0.0) > 1e-5 * scale * abs(ratio[0]):
            return None
        found.append(float(ratio[0]))
    return np.array(found) if found else None


def _formulas(places: Sequence[Place]) -> Iterator[Expression]:
    names = list(places[0].extents)
    extents: list[Expression] = [Extent(n) for n in names]
    for value in NUMBERS:
        yield Number(value)
    yield from extents
    for extent in extents:
        yield apply("-", extent, ONE)
    yield from map(Constant, places[0].constants)
    for k, one in enumerate(extents):
        for other in extents[k:]:
            yield apply("*", one, other)
        yield apply("/", one, apply("-", one, ONE))
        for value in NUMBERS[:1]:
            yield apply("*", Number(value), one)
            yield apply("/", Number(value), one)
    for one in extents:
        for other in extents:
            if one != other:
                yield apply("/", one, other)


def _value(formula: Expression, place: Place) -> float:
    match formula:
        case Number(value):
            return float(value)
        case Extent(name):
            return float(place.extents[name])
        case Constant(name):
            return float(place.constants[name])
        case Apply(operation, (left, right)):
            a, b = _value(left, place), _value(right, place)
            if operation == "*":
                return a * b
            if operation == "-":
                return a - b
            return a / b if b else float("nan")
    return float("nan")
