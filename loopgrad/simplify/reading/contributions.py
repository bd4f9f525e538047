"""What a statement adds to its target: its ranges and its guard as conditions, its value as a sum.

A range that hangs on other indices, or covers a part of an axis, is the whole axis where a condition
holds: `for t, u <= t` is u over its axis where `u <= t`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopgrad.ir.nodes import Accumulate, Expression, Index, Range, Reduction
from loopgrad.ir.walk import ZERO, indices_of, reads
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import subscript_of
from loopgrad.simplify.algebra.conditions import form_of, in_range
from loopgrad.simplify.algebra.integers import (
    Linear,
    combined,
    expression_of,
    indices_in,
    linear,
    not_negative,
    shifted,
    substituted,
)
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.reading.regions import Pattern

if TYPE_CHECKING:
    from loopgrad.simplify.reading.statements import Reading

ADDED = {Reduction.ADD: 1, Reduction.SUBTRACT: -1, Reduction.SET: 1}


class Unsupported(Exception):
    """The program has something that this algebra does not speak of."""


@dataclass(frozen=True)
class Target:
    """The part of a tensor that a piece writes: its pattern, its subscripts, what is looped over."""

    pattern: Pattern
    subscripts: tuple[nf.Subscript, ...]
    extents: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a statement runs: its indices under other names, those that it sums over, and what says
    which of their values meet the target, and are in range."""

    names: Mapping[str, nf.Subscript]
    bound: nf.Bound
    atoms: Mapping[Atom, nf.Number]


def place(reading: Reading, statement: Accumulate, target: Target) -> Place:
    """The iterations that write the elements of the target."""
    made = _Contribution(reading, statement, target)
    made.take_targets()
    for r in statement.ranges:
        if r.index not in made.names:
            made.bind(r)
    reader = reading.reader(made.names)
    atoms: dict[Atom, nf.Number] = {}
    for index, subscript in made.scattered.items():
        axis = made.axes[index]
        atoms[Atom("delta", axis, (index, reader.subscript(subscript)))] = 1
    for condition in made.conditions():
        atoms[condition] = 1
    return Place(made.names, tuple(made.bound), atoms)


def contribution(reading: Reading, statement: Accumulate, target: Target) -> Poly:
    """What the statement adds to the elements of the target, as a sum over its subscripts."""
    sign = ADDED[statement.reduction]
    there = place(reading, statement, target)
    reader = reading.reader(there.names)
    value = [(reader.value(statement.value), 1)]
    return nf.plus(
        *(
            nf.multiplied(there.bound, {**there.atoms, **dict.fromkeys(case, 1)}, sign, value)
            for case in reader.cases(reading.guard(statement))
        )
    )


class _Contribution:
    """The indices of a statement: those of its target, and those that it sums over."""

    def __init__(self, reading: Reading, statement: Accumulate, target: Target):
        self.reading, self.statement = reading, statement
        looped = [k for k, p in enumerate(target.pattern) if isinstance(p, str)]
        self.axes = {str(target.subscripts[k]): target.extents[k] for k in looped}
        self.subscripts = [statement.target.subscripts[k] for k in looped]
        self.ranges = {r.index: r for r in statement.ranges}
        self.names: dict[str, nf.Subscript] = {}
        self.bound: list[tuple[str, str]] = []
        self.scattered: dict[str, Expression] = {}
        self.bounded: list[str] = []  # indices whose bounds are conditions

    def take_targets(self) -> None:
        """The target's indices, where its subscripts tell those of the loops: `y[i+1]` too."""
        pairs = list(zip(self.axes, self.subscripts, strict=True))
        for index, subscript in pairs:
            name = subscript.name if isinstance(subscript, Index) else ""
            if name in self.ranges and name not in self.names:
                self.names[name] = index
                self.bounded.append(name)
            else:
                self.scattered[index] = subscript
        for index, subscript in list(self.scattered.items()):
            form = linear(subscript)
            inside = [i for i in indices_of(subscript) if i in self.ranges]
            if len(inside) == 1 and inside[0] not in self.names:
                (own,) = inside
                multiple = form.get(Index(own), 0)
                rest = combined(form, {Index(own): multiple}, -1)
                if multiple in (1, -1) and not indices_in(rest):
                    value = combined({Index(index): multiple}, rest, -multiple)
                    self.names[own] = subscript_of(expression_of(value))
                    self.bounded.append(own)
                    del self.scattered[index]

    def bind(self, r: Range) -> None:
        """An index that is summed over: its extent, and its bounds as conditions where they need be."""
        name = nf.fresh_index()
        lower, upper = linear(self._lower(r)), linear(self._upper(r))
        length = combined(upper, lower, -1)
        if not _varies(length) and (lower or not _varies(upper)):
            # Counted from 0; `product` finds the best place to count from.
            self.names[r.index] = subscript_of(expression_of(combined({Index(name): 1}, lower)))
            extent = expression_of(length) if lower else self._upper(r)
            self.bound.append((name, self.reading.extent(extent)))
            return
        axes = self.reading.axes(self.statement, r.index)
        if axes:
            axis = min(axes, key=lambda e: (len(e), e))
        else:
            if not not_negative(lower, {}):
                raise Unsupported("a range that starts below 0")
            axis = self.reading.extent(expression_of(self._highest(upper)))
        self.names[r.index] = name
        self.bound.append((name, axis))
        self.bounded.append(r.index)

    def conditions(self) -> Iterator[Atom]:
        """The bounds of ranges that say more than that an index is on its axis."""
        reader = self.reading.reader(self.names)
        extents = {i: nf.extent_expression(e) for i, e in (*self.axes.items(), *self.bound)}
        for index in self.bounded:
            r = self.ranges[index]
            own = nf.as_expression(self.names[index])
            lower, upper = (reader.renamed(e) for e in (self._lower(r), self._upper(r)))
            for condition in in_range(own, lower, upper):
                if not not_negative(form_of(condition), extents):
                    self.reading.bounds.add(condition.shape)
                    yield condition

    def _lower(self, r: Range) -> Expression:
        return ZERO if r.lower is None else self.reading.unified(r.lower)

    def _upper(self, r: Range) -> Expression:
        assert r.upper is not None
        return self.reading.unified(r.upper)

    def _highest(self, upper: Linear) -> Linear:
        """The upper bound for the highest values of the indices in it."""
        for index in reversed(self.statement.ranges):
            multiple = upper.get(Index(index.index), 0)
            if multiple > 0:
                last = shifted(linear(self._upper(index)), -1)
                upper = substituted(upper, index.index, last)
        if _varies(upper):
            raise Unsupported("a range that depends")
        return upper


def _varies(form: Linear) -> bool:
    return bool(indices_in(form)) or any(any(reads(part)) for part in form)
