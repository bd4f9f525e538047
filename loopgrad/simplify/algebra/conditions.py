"""Conditions as indicators: comparisons of integers as `e >= 0`, others as they are written.

A condition is read as conjunctions of which at most one holds (`literals`), so that what it guards
becomes one term for each. `settled` leaves out of a product what follows from the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from loopgrad.ir.nodes import Apply, Compare, Expression, Index, Number
from loopgrad.ir.walk import compare, conjuncts, indices_of, number, reads
from loopgrad.simplify.algebra import integers
from loopgrad.simplify.algebra.atoms import (
    AT_LEAST,
    FAILS,
    HOLDS,
    IS_ZERO,
    NOT_ZERO,
    Atom,
    key_of,
    signed,
)
from loopgrad.simplify.algebra.integers import Linear, combined, linear, not_negative

MOST_CASES = 8  # of one condition
CONDITIONAL = ("indicator", "truth")  # the kinds of atoms that say where
Conjunction = tuple[Atom, ...]
Places = Mapping[str, int] | None  # of indices among one another, where they are written
OPPOSITE = {IS_ZERO: NOT_ZERO, NOT_ZERO: IS_ZERO, HOLDS: FAILS, FAILS: HOLDS}
COMPLEMENT = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}


class Complicated(Exception):
    """A condition with too many cases."""


# ------------------------------------------------------------------------------------------ reading


def cases(
    condition: Expression | None, integer: Callable[[Expression], bool], holds: bool = True
) -> list[Conjunction]:
    """Conjunctions of which exactly one holds where the condition does (or does not hold).

    Each says first what has to hold for the rest to be evaluated. `integer`: is it an integer?
    """
    if condition is None:
        return [()] if holds else []
    parts = list(conjuncts(condition))
    if len(parts) > 1:
        found: list[Conjunction] = [()] if holds else []
        so_far: list[Conjunction] = [()]
        for part in parts:
            if not holds:
                found += _joined(so_far, cases(part, integer, False))
            so_far = _joined(so_far, cases(part, integer))
        return _few(so_far if holds else found)
    match condition:
        case Apply("not", (operand,)):
            return cases(operand, integer, not holds)
        case Apply("or", (left, right)) if not holds:
            return _few(_joined(cases(left, integer, False), cases(right, integer, False)))
        case Compare((operator,), (left, right)) if integer(left) and integer(right):
            return _compared(operator if holds else COMPLEMENT[operator], left, right)
        case Compare((">" | ">=" as operator,), (left, right)):
            condition = compare({">": "<", ">=": "<="}[operator], right, left)
        case Compare(("!=",), (left, right)):
            return cases(compare("==", left, right), integer, not holds)
    condition = integers.canonical_inside(condition)
    return [(Atom("indicator", HOLDS if holds else FAILS, (condition,)),)]


def _joined(left: Iterable[Conjunction], right: list[Conjunction]) -> list[Conjunction]:
    return [a + b for a in left for b in right]


def _few(found: list[Conjunction]) -> list[Conjunction]:
    if len(found) > MOST_CASES:
        raise Complicated
    return found


def _compared(operator: str, left: Expression, right: Expression) -> list[Conjunction]:
    difference = combined(linear(right), linear(left), -1)
    match operator:
        case "<":
            return [at_least(integers.shifted(difference, -1))]
        case "<=":
            return [at_least(difference)]
        case ">":
            return [at_least(integers.shifted(combined({}, difference, -1), -1))]
        case ">=":
            return [at_least(combined({}, difference, -1))]
    part = signed(integers.expression_of(difference))
    return [(Atom("indicator", IS_ZERO if operator == "==" else NOT_ZERO, (part,)),)]


def at_least(form: Linear) -> Conjunction:
    """`form >= 0`; no less than a maximum is no less than each of its operands."""
    for part, multiple in form.items():
        match part:
            case Apply("max" | "min" as name, (left, right)) if (name == "max") == (multiple < 0):
                rest = {p: m for p, m in form.items() if p != part}
                both = (combined(rest, linear(operand), multiple) for operand in (left, right))
                return tuple(atom for one in both for atom in at_least(one))
    return (Atom("indicator", AT_LEAST, (integers.expression_of(form),)),)


def in_range(value: Expression, lower: Expression | None, upper: Expression) -> Conjunction:
    """`lower <= value < upper`; 0 for no lower bound."""
    own = linear(value)
    below = at_least(combined(own, linear(lower), -1) if lower is not None else own)
    return below + at_least(integers.shifted(combined(linear(upper), own, -1), -1))


def opposite(atom: Atom) -> Atom:
    """What holds where the indicator does not."""
    if atom.name == AT_LEAST:
        form = integers.shifted(combined({}, form_of(atom), -1), -1)
        return Atom(atom.kind, AT_LEAST, (integers.expression_of(form),))
    return Atom(atom.kind, OPPOSITE[atom.name], atom.parts)


def form_of(atom: Atom) -> Linear:
    return linear(atom.parts[0])  # type: ignore[arg-type]


def expression_of(atom: Atom, places: Places = None) -> Expression:
    """The condition as it is written: `u <= t`, `i > 0`, `j != y[b]`, `not x[b,j] > 0`."""
    part: Expression = atom.parts[0]  # type: ignore[assignment]
    if atom.name == HOLDS:
        return _turned(part)
    if atom.name == FAILS:
        return Apply("not", (_turned(part),))
    form = form_of(atom)
    constant = form.pop(integers.UNIT, 0)
    above: Linear = {p: m for p, m in form.items() if m > 0}
    below: Linear = {p: -m for p, m in form.items() if m < 0}
    if atom.name != AT_LEAST:
        if not any(isinstance(p, Index) for p in above):
            above, below, constant = below, above, -constant
        right = integers.expression_of(integers.shifted(below, -constant), places)
        return compare(
            "==" if atom.name == IS_ZERO else "!=", integers.expression_of(above, places), right
        )
    if not below:
        value = Number(0) if constant == -1 else number(-constant)
        return compare(
            ">" if constant == -1 else ">=", integers.expression_of(above, places), value
        )
    if any(isinstance(p, Index) for p in above):
        sizes = {p: m for p, m in above.items() if not indices_of(p)}
        if sizes:  # `t - u < W` rather than `t < u + W`
            below = combined(below, {p: m for p, m in above.items() if p not in sizes}, -1)
            above = sizes
    strict = constant < 0
    if not any(isinstance(p, Index) for p in below) and any(isinstance(p, Index) for p in above):
        left = integers.expression_of(integers.shifted(above, constant + strict), places)
        return compare(">" if strict else ">=", left, integers.expression_of(below, places))
    right = integers.expression_of(integers.shifted(above, constant + strict), places)
    return compare("<" if strict else "<=", integers.expression_of(below, places), right)


def written(atoms: Iterable[Atom], places: Places = None) -> Iterator[Expression]:
    """Conditions in an order in which they can be tested, two bounds as `0 <= i + d - 1 < I`."""
    left = sorted(atoms, key=evaluated)
    while left:
        atom = left.pop(0)
        pair = next((o for o in left if _between(atom, o)), None)
        if pair is None:
            yield expression_of(atom, places)
            continue
        left.remove(pair)
        lower, upper = (atom, pair) if _between(atom, pair) == "below" else (pair, atom)
        value = form_of(lower)
        limit = integers.shifted(combined(form_of(upper), value), 1)
        yield Compare(
            ("<=", "<"),
            (
                Number(0),
                integers.expression_of(value, places),
                integers.expression_of(limit, places),
            ),
        )


def _between(one: Atom, other: Atom) -> str:
    """Which of two bounds of one sum of several indices the first is; nothing if they are not that."""
    if one.name != AT_LEAST or other.name != AT_LEAST:
        return ""
    value, total = form_of(one), combined(form_of(one), form_of(other))
    if integers.indices_in(total) or len(integers.indices_in(value)) < 2:
        return ""
    first = min((p for p in value if isinstance(p, Index)), key=lambda p: p.name, default=None)
    return "" if first is None else "below" if value[first] > 0 else "above"


def _turned(condition: Expression) -> Expression:
    """`x > 0` rather than `0 < x`."""
    match condition:
        case Compare(("<" | "<=" as operator,), (left, right)) if not indices_of(left):
            if indices_of(right):
                return compare({"<": ">", "<=": ">="}[operator], right, left)
    return condition


# --------------------------------------------------------------------------------------- simplifying


def settled(
    conditions: Iterable[Atom], extents: Mapping[str, Expression]
) -> tuple[Atom, ...] | None:
    """Without those that follow from the others; None where they exclude one another.

    `extents`: of the indices that are known to be in range.
    """
    kept = sorted(set(conditions), key=key_of)
    if any(opposite(c) in kept for c in kept):
        return None
    for atom in list(kept):
        form = form_of(atom) if atom.integer else {}
        if atom.name == AT_LEAST:
            if not_negative(integers.shifted(combined({}, form, -1), -1), extents):
                return None
            if not_negative(form, extents):
                kept.remove(atom)
        elif atom.integer and set(form) <= {integers.UNIT}:
            if bool(form) == (atom.name == IS_ZERO):
                return None
            kept.remove(atom)
    forms = {a: form_of(a) for a in kept if a.name == AT_LEAST}
    for atom, form in list(forms.items()):
        for other, stronger in forms.items():
            if other is atom:
                continue
            total = combined(form, stronger)
            if not_negative(integers.shifted(combined({}, total, -1), -1), extents):
                return None
            weaker = not_negative(combined(form, stronger, -1), extents)
            if weaker and atom in kept and other in kept:
                kept.remove(atom)
    return tuple(kept)


def follows(condition: Atom, known: Iterable[Atom], extents: Mapping[str, Expression]) -> bool:
    """Does the condition hold where those known hold?"""
    known = list(known)
    if condition in known:
        return True
    if condition.name != AT_LEAST:
        return False
    form = form_of(condition)
    return not_negative(form, extents) or any(
        other.name == AT_LEAST and not_negative(combined(form, form_of(other), -1), extents)
        for other in known
    )


def conditions_of(atoms: Iterable[Atom]) -> Iterator[Atom]:
    return (a for a in atoms if a.kind == "indicator")


def evaluated(condition: Atom) -> tuple[object, ...]:
    """Conditions in the order in which they are tested: what others may hang on first."""
    part: Expression = condition.parts[0]  # type: ignore[assignment]
    return len(list(reads(part))), condition.name in (HOLDS, FAILS), condition.key
