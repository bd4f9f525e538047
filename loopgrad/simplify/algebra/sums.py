"""Sums of terms, and their arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple

from loopgrad.ir.nodes import Expression, Extent
from loopgrad.ir.printer import show_expression
from loopgrad.simplify.algebra.atoms import (
    Atom,
    Keyed,
    Number,
    Subscript,
    as_expression,
    exact,
    free_of,
    key_of,
)
from loopgrad.simplify.algebra.budget import TooLarge as TooLarge
from loopgrad.simplify.algebra.conditions import CONDITIONAL, in_range, opposite
from loopgrad.simplify.algebra.indices import conditioned, reindexed
from loopgrad.simplify.algebra.integers import linear, not_negative
from loopgrad.simplify.algebra.terms import Powers, Term, closed, fresh_index

MOST_TERMS = 4_000


class Poly(Keyed):
    """A sum of terms; zero coefficients are left out, terms sorted by their text."""

    def __init__(self, terms: Mapping[Term, Number]):
        if len(terms) > MOST_TERMS:
            raise TooLarge
        kept = [(t, c) for t, c in terms.items() if c]
        if len(kept) > 1:
            kept.sort(key=lambda t: t[0].key)
        self.terms: tuple[tuple[Term, Number], ...] = tuple(kept)

    # Most sums are parts of larger ones, and are never asked.

    @cached_property
    def key(self) -> str:  # type: ignore[override]
        return " + ".join([t.key if c == 1 else f"{c} {t.key}" for t, c in self.terms]) or "0"

    @cached_property
    def shape(self) -> str:
        return " + ".join(sorted([f"{c} {t.shape}" for t, c in self.terms]))

    @cached_property
    def free(self) -> frozenset[str]:
        return frozenset().union(*[t.free for t, _ in self.terms])

    @cached_property
    def tensors(self) -> frozenset[str]:
        return frozenset().union(*[t.tensors for t, _ in self.terms])

    @cached_property
    def height(self) -> int:
        return max([t.height for t, _ in self.terms], default=0)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def renamed(self, names: Mapping[str, Subscript]) -> Poly:
        if self.free.isdisjoint(names):
            return self
        opened = ((t.opened(), c) for t, c in self.terms)
        return plus(*(product(b, _renamed(p, names), c) for (b, p), c in opened))

    @cached_property
    def constant(self) -> Number | None:
        """Its value, where it is a number."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0].atoms and not self.terms[0][0].bound:
            return self.terms[0][1]
        return None


def _renamed(powers: Powers, names: Mapping[str, Subscript]) -> dict[Atom, Number]:
    found: dict[Atom, Number] = {}
    for atom, power in powers.items():
        new = atom.renamed(names)
        found[new] = found.get(new, 0) + power
    return found


UNIT = Term((), ())
ZERO = Poly({})
ONE = Poly({UNIT: 1})


KEEP = Poly({UNIT: 2})  # known by identity


def number(value: Number) -> Poly:
    return Poly({UNIT: exact(value)})


def of_atom(atom: Atom, power: Number = 1) -> Poly:
    return product((), {atom: power})


def product(bound: Iterable[tuple[str, str]], powers: Powers, coefficient: Number = 1) -> Poly:
    """The sum over opened indices of a product, in normal form."""
    if not coefficient:
        return ZERO
    ranges, atoms = _without_deltas(dict(bound), {a: p for a, p in powers.items() if p})
    coefficient *= _take_whole_powers(atoms)
    if any(a.kind in CONDITIONAL for a in atoms):
        kept = conditioned(ranges, atoms, extent_expression, extent_text)
        if kept is None:
            return ZERO
        atoms = kept
    if ranges and any("integer<" in a.key for a in atoms):
        atoms = reindexed(ranges, atoms, extent_expression, extent_text)
    sizes: list[str] = []
    if ranges:
        used = frozenset().union(*(a.free for a in atoms))
        for index in [i for i in ranges if i not in used]:
            if is_size(ranges[index]):
                sizes.append(ranges.pop(index))
    term = Poly({closed(ranges, atoms): exact(coefficient)})
    for size in sorted(sizes):
        term = times(term, extent_poly(size))
    return term


def _without_deltas(
    ranges: dict[str, str], atoms: dict[Atom, Number]
) -> tuple[dict[str, str], dict[Atom, Number]]:
    """Each delta with a bound index put into the other factors."""
    delta = next((a for a in sorted(atoms, key=key_of) if a.kind == "delta"), None)
    while delta is not None:
        left, right = delta.parts
        names: dict[str, Subscript] = {}
        if left == right:
            pass
        elif isinstance(left, str) and left in ranges and left not in free_of(right):  # type: ignore[arg-type]
            names = {left: right}  # type: ignore[dict-item]
        elif isinstance(right, str) and right in ranges and right not in free_of(left):  # type: ignore[arg-type]
            names = {right: left}  # type: ignore[dict-item]
        else:
            break
        del atoms[delta]
        again: dict[Atom, Number] = {}
        for index, value in names.items():
            extent = ranges.pop(index)
            if extent != delta.name:  # the value is below the extent of the axis only
                for atom in in_range(as_expression(value), None, extent_expression(extent)):
                    again[atom] = 1
        for atom, power in atoms.items():
            new = atom.renamed(names)
            again[new] = again.get(new, 0) + power
        atoms = {a: p for a, p in again.items() if p}
        delta = next((a for a in sorted(atoms, key=key_of) if a.kind == "delta"), None)
    return ranges, _along_deltas(atoms)


def _along_deltas(atoms: dict[Atom, Number]) -> dict[Atom, Number]:
    """`f(j) delta(j, e)` is `f(e) delta(j, e)`."""
    for delta in sorted((a for a in atoms if a.kind == "delta"), key=key_of):
        left, right = delta.parts
        if not isinstance(left, str) or left in free_of(right):  # type: ignore[arg-type]
            continue
        moved: dict[Atom, Number] = {}
        for atom, power in atoms.items():
            new = atom if atom is delta else atom.renamed({left: right})  # type: ignore[dict-item]
            moved[new] = moved.get(new, 0) + power
        atoms = {a: p for a, p in moved.items() if p}
    return atoms


def _take_whole_powers(atoms: dict[Atom, Number]) -> Number:
    """`(a b)**-1.5` as `(a b)**-0.5 / (a b)`, changed in place; the number that comes out.

    So `a` cancels against `(a b)**-1.5`. It divides by what the power divides by.
    """
    number: Number = 1
    for whole in [a for a, p in atoms.items() if a.kind == "sum" and p.denominator != 1]:
        inside: Poly = whole.parts[0]  # type: ignore[assignment]
        power = int(atoms[whole])  # towards 0
        if not power or len(inside.terms) != 1 or inside.terms[0][0].bound:
            continue
        term, coefficient = inside.terms[0]
        if any(p.denominator != 1 for _, p in term.atoms):
            continue
        atoms[whole] = exact(atoms[whole] - power)
        number *= Fraction(coefficient) ** power
        for atom, p in term.atoms:
            atoms[atom] = exact(atoms.get(atom, 0) + p * power)
            if not atoms[atom]:
                del atoms[atom]
    return number


def plus(*polys: Poly) -> Poly:
    if len(polys) == 1:
        return polys[0]
    total: dict[Term, Number] = {}
    for poly in polys:
        for term, coefficient in poly.terms:
            total[term] = total.get(term, 0) + coefficient
    total = {t: exact(c) for t, c in total.items() if c}
    if any(t.conditional for t in total):
        total = _merged(total)
    return Poly(total)


def _merged(total: dict[Term, Number]) -> dict[Term, Number]:
    """`f` where c and `f` where not c are `f`; `f` less `f` where c is `f` where not c."""
    for term in sorted((t for t in total if t.conditional), key=key_of):
        for condition in (a for a, _ in term.atoms if a.kind == "indicator"):
            coefficient = total.get(term)
            if coefficient is None:
                break
            whole, rest = _parted(term, condition)
            if rest is not None and whole is not None and total.get(rest) == coefficient:
                changes = {term: -coefficient, rest: -coefficient, whole: coefficient}
            elif rest is not None and whole in total and total[whole] == -coefficient:
                changes = {term: -coefficient, whole: coefficient, rest: -coefficient}
            else:
                continue
            total = dict(total)
            for changed, difference in changes.items():
                total[changed] = exact(total.get(changed, 0) + difference)
            return _merged({t: c for t, c in total.items() if c})
    return total


@lru_cache(maxsize=4096)
def _parted(term: Term, condition: Atom) -> tuple[Term | None, Term | None]:
    """The term without a condition, and with its opposite."""
    names: dict[str, Subscript] = {i: fresh_index() for i, _ in term.bound}
    bound = [(str(names[i]), e) for i, e in term.bound]
    powers = {a.renamed(names): p for a, p in term.atoms if a is not condition}
    other = opposite(condition).renamed(names)
    one, two = product(bound, powers), product(bound, {**powers, other: 1})
    return _only(one), _only(two)


def _only(poly: Poly) -> Term | None:
    return poly.terms[0][0] if len(poly.terms) == 1 and poly.terms[0][1] == 1 else None


def scaled(poly: Poly, factor: Number) -> Poly:
    return Poly({t: exact(c * factor) for t, c in poly.terms})


def times(*polys: Poly) -> Poly:
    """The product, distributed. Whole sums of sizes stay atoms: `(B - 1)` meets `1 / (B - 1)`."""
    result = ONE
    for poly in polys:
        if len(result.terms) * len(poly.terms) > MOST_TERMS:
            raise TooLarge
        if poly is ONE or not result.terms:
            continue
        if result is ONE:
            result = poly
            continue
        result = plus(
            *[_times_term(t, c, u, d) for t, c in factors_of(result) for u, d in factors_of(poly)]
        )
    return result


def factors_of(poly: Poly) -> Sequence[tuple[Term, Number]]:
    if len(poly.terms) > 1 and _of_sizes(poly):
        whole = powered_sum(poly, 1)
        return whole.terms
    return poly.terms


def _of_sizes(poly: Poly) -> bool:
    if poly.tensors or poly.free:
        return False
    return any(isinstance(a.node, Extent) for t, _ in poly.terms for a, _ in t.atoms)


def _times_term(t: Term, c: Number, u: Term, d: Number) -> Poly:
    if not t.atoms and not t.bound:
        return Poly({u: exact(c * d)})
    (left, powers), (right, more) = t.opened(), u.opened()
    for atom, power in more.items():
        powers[atom] = powers.get(atom, 0) + power
    return product((*left, *right), powers, c * d)


def powered_sum(poly: Poly, exponent: Number) -> Poly:
    """A sum as one factor, under a power; its leading coefficient is 1 where the power is whole.

    What all terms share is a factor of its own: `(B - B p)**-1` is `B**-1 (1 - p)**-1`.
    """
    shared = _shared(poly) if exponent.denominator == 1 and exponent < 0 else {}
    if shared:
        rest = times(poly, product((), {a: -p for a, p in shared.items()}))
        outside = product((), {a: p * exponent for a, p in shared.items()})
        return times(outside, powered_sum(rest, exponent))
    leading: Number = 1
    if exponent.denominator == 1 and poly.terms:
        leading = min(poly.terms, key=lambda t: (not t[0].atoms, t[0].shape))[1]
    inside = scaled(poly, Fraction(1) / leading)
    atom = Atom("sum", "", (inside,))
    return product((), {atom: exponent}, Fraction(leading) ** int(exponent) if leading != 1 else 1)


def _shared(poly: Poly) -> dict[Atom, Number]:
    """The powers of atoms that every term has, where there are several terms."""
    if len(poly.terms) < 2 or any(t.bound for t, _ in poly.terms):
        return {}
    first, *others = (dict(t.atoms) for t, _ in poly.terms)
    return {
        a: min(p, *(o[a] for o in others))
        for a, p in first.items()
        if p > 0 and all(o.get(a, 0) > 0 for o in others)
    }


# ------------------------------------------------------------------------------- extents as numbers

_EXTENTS: dict[str, Expression] = {}
_AXES: set[str] = set()


def extent_text(extent: Expression) -> str:
    text = show_expression(extent, True)
    _EXTENTS.setdefault(text, extent)
    return text


def add_axis(text: str) -> None:
    """An input has an axis of this extent: it is not negative."""
    _AXES.add(text)


def is_size(text: str) -> bool:
    """Is the extent surely not negative, so that it is how many values the index takes?"""
    return text in _AXES or not_negative(linear(_EXTENTS[text]), {})


def extent_expression(text: str) -> Expression:
    return _EXTENTS[text]


@lru_cache(maxsize=1024)
def extent_poly(text: str) -> Poly:
    from loopgrad.simplify.reading.statements import Reader

    return Reader({}).value(_EXTENTS[text])


class Sizes(NamedTuple):
    """The extents by their texts, and which of them are those of inputs."""

    extents: Mapping[str, Expression]
    axes: frozenset[str]


def known_extents() -> Sizes:
    return Sizes(dict(_EXTENTS), frozenset(_AXES))


def forget_extents(known: Sizes | None = None) -> None:
    """All extents but the known ones."""
    _EXTENTS.clear()
    _AXES.clear()
    if known is not None:
        _EXTENTS.update(known.extents)
        _AXES.update(known.axes)
    extent_poly.cache_clear()
    _parted.cache_clear()
