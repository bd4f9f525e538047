"""How often a loop runs: `sum[t < n[b]](1)` is `n[b]` where that is between 0 and the axis.

It is where another term of the sum's context runs for some `t < n[b]`; `u <= t` runs t + 1 times anyway.
"""

from __future__ import annotations

from collections.abc import Collection

from loopgrad.ir.nodes import Index
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import AT_LEAST, Atom, subscript_of
from loopgrad.simplify.algebra.conditions import at_least, conditions_of, follows, form_of
from loopgrad.simplify.algebra.integers import (
    Linear,
    combined,
    expression_of,
    indices_in,
    linear,
    not_negative,
    shifted,
)
from loopgrad.simplify.algebra.normal_form import Poly, Term
from loopgrad.simplify.reading.statements import number_of


def counted(poly: Poly, within: Collection[str]) -> Poly:
    """With the sums of ones as the numbers that they are.

    within: the shapes of conditions that are bounds of ranges, and so end within the axis.
    """
    parts, hit = [], False
    for term, coefficient in poly.terms:
        new = _counted(term, within) if term.conditional and term.bound else None
        hit |= new is not None
        parts.append(Poly({term: coefficient}) if new is None else nf.scaled(new, coefficient))
    return nf.plus(*parts) if hit else poly


def _counted(term: Term, within: Collection[str]) -> Poly | None:
    extents = {i: nf.extent_expression(e) for i, e in term.bound}
    for index, _ in term.bound:
        own = [a for a, _ in term.atoms if index in a.free]
        if len(own) != 1 or own[0].kind != "indicator" or own[0].name != AT_LEAST:
            continue
        count = shifted(form_of(own[0]), 1)
        if count.pop(Index(index), 0) != -1 or index in indices_in(count):
            continue
        above = combined(linear(extents[index]), count, -1)
        known = [c for c in conditions_of(a for a, _ in term.atoms) if c is not own[0]]
        ends = own[0].shape in within or not_negative(above, extents)
        if ends and all(follows(c, known, extents) for c in at_least(count)):
            return _without(term, index, own[0], count)
    return None


def _without(term: Term, index: str, condition: Atom, count: Linear) -> Poly:
    names: dict[str, nf.Subscript] = {i: nf.fresh_index() for i, _ in term.bound}
    bound = tuple((str(names[i]), e) for i, e in term.bound if i != index)
    powers = {a.renamed(names): p for a, p in term.atoms if a is not condition}
    value = number_of(subscript_of(expression_of(count))).renamed(names)
    return nf.multiplied(bound, powers, 1, [(value, 1)])
