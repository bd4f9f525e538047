"""Depths where recurrences that are linear in their state are computed by parallel scans.

A step `h = A h' + b` may be put before another, `(A2 A1, A2 b1 + b2)`, whatever the state: all turns of the
block are put together in as many rounds as the logarithm of theirs. docs/cost.md has the formula.
"""

from __future__ import annotations

from collections.abc import Mapping

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.linear_recurrences import START, Linear, Step
from loopgrad.analysis.linear_recurrences import Term as Taken
from loopgrad.analysis.polynomial import add, constant, subtract
from loopgrad.cost.polys import ONE, Formula, formula, indices_in, log, times
from loopgrad.cost.terms import Unknown
from loopgrad.ir.nodes import Conditional, Expression, Index, Range, Read, Reduce
from loopgrad.ir.walk import children, reads

Heights = dict[str | None, list[Formula]]  # by tensor, how high above it an expression stands


def turns(found: Linear) -> Formula:
    """How many steps are put together."""
    r = found.block.ranges[0]
    assert r.lower is not None and r.upper is not None
    return subtract(formula(r.upper), formula(r.lower))


def round_depth(found: Linear, facts: Facts) -> Formula:
    """One round: a product of matrices, or of numbers, applied to an addend, and a sum."""
    if found.coefficient is not None:
        return constant(2)
    return add(constant(2), log(dimension(found, facts)))


def dimension(found: Linear, facts: Facts) -> Formula:
    """How many numbers a step's matrix mixes: of all states, and of all turns that it looks back."""
    total: Formula = {}
    for step in found.steps:
        size: Formula = ONE
        extents = facts.tensors[step.target.tensor].extents
        for axis, subscript in enumerate(step.target.subscripts):
            own = isinstance(subscript, Index) and any(
                r.index == subscript.name for r in step.ranges
            )
            if own and any(_mixes(found, other, step, axis) for other in found.steps):
                size = times(size, formula(extents[axis]))
        total = add(total, size)
    return times(total, constant(found.order))


def _mixes(found: Linear, reader: Step, source: Step, axis: int) -> bool:
    """Whether a term takes other elements along the axis than the one at the reader's own place."""
    return any(
        term.source.tensor == source.target.tensor
        and term.source.subscripts[axis] not in reader.target.subscripts
        for term in reader.terms
    )


def step_heights(found: Linear, facts: Facts) -> Heights:
    """What the coefficients and addends read, and how high above it they stand."""
    total: Heights = {}
    for step in found.steps:
        terms = log(constant(len(step.terms)))
        for term in step.terms:
            inside = add(terms, log(_length(_summed_away(term))))
            _merge(total, _heights(term.coefficient), inside)
        _merge(total, _heights(step.addend), ONE)  # the sum of both parts
        if step.started:
            total.setdefault(step.target.tensor + START, []).append(ONE)
    return total


def _summed_away(term: Taken) -> tuple[Range, ...]:
    """The sums that are not over the source's places: they are part of the matrix."""
    placed = {n.name for s in term.source.subscripts for n in _walk(s) if isinstance(n, Index)}
    return tuple(r for r in term.summed if r.index not in placed)


def _heights(e: Expression) -> Heights:
    if not any(reads(e)):
        return {None: [{}]}
    if isinstance(e, Read):
        below = [_heights(s) for s in e.subscripts if any(reads(s))]
        found: Heights = {e.tensor: [{}]}
        for heights in below:
            _merge(found, heights, {})
        return found
    found = {}
    if isinstance(e, Reduce):
        _merge(found, _heights(e.body), add(log(_length(e.ranges)), ONE))
        return found
    static = isinstance(e, Conditional) and not any(reads(e.condition))
    for part in children(e)[1:] if static else children(e):
        _merge(found, _heights(part), {} if static else ONE)
    return found


def _merge(total: Heights, found: Mapping[str | None, list[Formula]], more: Formula) -> None:
    for name, heights in found.items():
        own = total.setdefault(name, [])
        own += [h for h in (add(height, more) for height in heights) if h not in own]


def _length(ranges: tuple[Range, ...]) -> Formula:
    total: Formula = ONE
    for r in ranges:
        assert r.lower is not None and r.upper is not None
        length = subtract(formula(r.upper), formula(r.lower))
        if indices_in(length) or any(reads(r.upper)) or any(reads(r.lower)):
            raise Unknown
        total = times(total, length)
    return total


def _walk(e: Expression) -> list[Expression]:
    return [e, *(n for part in children(e) for n in _walk(part))]
