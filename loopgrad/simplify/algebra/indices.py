"""The bound indices of a product: what conditions say of their ranges, and where they count from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from loopgrad.ir.nodes import Expression, Index
from loopgrad.simplify.algebra import integers
from loopgrad.simplify.algebra.atoms import AT_LEAST, Atom, Number, Subscript, subscript_of
from loopgrad.simplify.algebra.conditions import (
    CONDITIONAL,
    at_least,
    follows,
    form_of,
    in_range,
    settled,
)
from loopgrad.simplify.algebra.integers import Linear, combined, linear, not_negative, shifted

Powers = dict[Atom, Number]
Ranges = dict[str, str]  # index -> text of its extent
Expressions = Callable[[str], Expression]
Texts = Callable[[Expression], str]


def conditioned(
    ranges: Ranges, atoms: Powers, expression: Expressions, text: Texts
) -> Powers | None:
    """The atoms with those conditions that say something; None where they never hold together.

    A condition that cuts a range short becomes its extent: `i < N` and `i < N - 1` are `i < N - 1`.
    """
    conditions = [a for a in atoms if a.kind in CONDITIONAL]
    for atom in conditions:
        cut = _cut(atom, ranges, expression)
        if cut is not None:
            index, extent = cut
            ranges[index] = text(extent)
    extents = {i: expression(e) for i, e in ranges.items()}
    kept = settled(conditions, extents)
    if kept is None:
        return None
    result = {a: p for a, p in atoms.items() if a.kind not in CONDITIONAL}
    return {**result, **dict.fromkeys(kept, 1)}


def _cut(
    atom: Atom, ranges: Mapping[str, str], expression: Expressions
) -> tuple[str, Expression] | None:
    """The bound index below an extent no larger than its own, where the condition says that."""
    if atom.name != AT_LEAST:
        return None
    form = form_of(atom)
    for index in sorted(atom.free & set(ranges)):
        limit = shifted(form, 1)
        if limit.pop(Index(index), 0) != -1 or integers.indices_in(limit):
            continue
        if not_negative(combined(linear(expression(ranges[index])), limit, -1), {}):
            return index, integers.expression_of(limit)
    return None


def reindexed(ranges: Ranges, atoms: Powers, expression: Expressions, text: Texts) -> Powers:
    """Bound indices counted so that the first subscript with each is plain: `x[i] * x[i+1]`."""
    for index in sorted(ranges):
        for offset in _offsets(index, atoms):
            value = _renumbered(index, offset)
            moved = _moved(index, value, ranges, atoms, expression, text)
            if moved is not None:
                atoms = moved
            break
    return atoms


def _offsets(index: str, atoms: Powers) -> Iterator[Linear]:
    """What `index` is to be counted by: the smallest of what subscripts add to it, if not 0."""
    forms: list[Linear] = []
    for atom in atoms:
        if index not in atom.free or atom.kind in CONDITIONAL:
            continue
        for subscript in _subscripts(atom):
            if subscript is None:
                return  # it counts as a number
            if subscript == index:
                forms.append({Index(index): 1})
            elif isinstance(subscript, Atom) and index in subscript.free:
                forms.append(form_of(subscript))
    own = Index(index)
    for sign in (1, -1):
        offsets = []
        for form in forms:
            rest = {p: m for p, m in form.items() if p != own}
            if form.get(own) == sign and not integers.indices_in(rest):
                offsets.append(rest)
        if offsets:
            least = offsets[0]
            for other in offsets[1:]:
                if not_negative(combined(least, other, -1), {}):
                    least = other
            comparable = all(not_negative(combined(o, least, -1), {}) for o in offsets)
            if comparable and (least or sign < 0):
                yield {**least, own: sign}
            return


def _subscripts(atom: Atom) -> Iterator[Subscript | None]:
    """All subscripts of the reads in the atom; None for an index that is a number."""
    match atom.kind:
        case "read":
            yield from atom.parts  # type: ignore[misc]
        case "index" | "opaque" | "delta" | "integer":
            yield None
        case "function" | "sum":
            for poly in atom.parts:
                for term, _ in poly.terms:  # type: ignore[attr-defined]
                    for inner, _ in term.atoms:
                        yield from _subscripts(inner)


def _renumbered(index: str, subscript: Linear) -> Linear:
    """The index in terms of a new one of the same name, which is to be the subscript."""
    sign = subscript[Index(index)]
    rest = {p: m for p, m in subscript.items() if p != Index(index)}
    return combined({Index(index): sign}, rest, -sign)


def _moved(
    index: str,
    value: Linear,
    ranges: Ranges,
    atoms: Powers,
    expression: Expressions,
    text: Texts,
) -> Powers | None:
    """The atoms with a value for the index; None where the new index could be negative."""
    extent = expression(ranges[index])
    conditions = [a for a in atoms if a.kind in CONDITIONAL]
    known = {i: expression(e) for i, e in ranges.items()}
    # New index = old subscript: at least 0 by the old conditions?
    sign = value[Index(index)]
    rest = {p: m for p, m in value.items() if p != Index(index)}
    new = combined({Index(index): sign}, rest, -sign)
    if not all(follows(positive, conditions, known) for positive in at_least(new)):
        return None
    names: dict[str, Subscript] = {index: subscript_of(integers.expression_of(value))}
    moved: Powers = {}
    for atom, p in atoms.items():
        renamed = atom.renamed(names)
        moved[renamed] = moved.get(renamed, 0) + p
    kind = next((a.kind for a in conditions), "indicator")
    if sign > 0:  # i + c < N + c; at least c
        ranges[index] = text(integers.expression_of(combined(linear(extent), rest, -1)))
        bounds = at_least(linear(integers.expression_of(value)))
    else:  # r - i: from r - N + 1 to r
        ranges[index] = text(integers.expression_of(shifted(rest, 1)))
        bounds = in_range(integers.expression_of(value), None, extent)
    for bound in bounds:
        moved[Atom(kind, bound.name, bound.parts)] = 1
    return conditioned(ranges, moved, expression, text)
