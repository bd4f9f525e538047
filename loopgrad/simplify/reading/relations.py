"""What a forward's own definitions say about its tensors, solved for what is worth replacing.

    p = exp(s) / Z              exp(s) -> p * Z
    Z = sum_j exp(s[b,j])       sum_j exp(s[b,j]) -> Z
    both                        sum_j p[b,j] -> 1             (a theorem)

Nothing is divided by but sizes, exponentials, and what the forward itself divides by, takes a root
or a logarithm of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from loopgrad.ir.nodes import Expression
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import AT_LEAST
from loopgrad.simplify.algebra.conditions import (
    CONDITIONAL,
    conditions_of,
    follows,
    form_of,
    settled,
)
from loopgrad.simplify.algebra.integers import (
    linear,
    not_negative,
    shifted,
    substituted,
)
from loopgrad.simplify.algebra.matching import Names, match_atom
from loopgrad.simplify.algebra.normal_form import Atom, Number, Poly
from loopgrad.simplify.reading.statements import Definition, is_offset

MOST_FOLDED = 4  # terms of a sum that is looked for as a whole
Conditions = tuple[Atom, ...]


@dataclass(frozen=True, eq=False)
class AtomRelation:
    """`pattern -> value` where the conditions hold, for all values of the pattern's free indices that
    are not fixed."""

    pattern: Atom
    value: Poly
    source: str  # the tensor whose definition says so; none for the name of a difference
    fixed: frozenset[str] = frozenset()  # indices of blocks, for whose turn alone it holds
    conditions: Conditions = ()

    @property
    def variables(self) -> frozenset[str]:
        return self.pattern.free - self.fixed

    def holds(self, known: Iterable[Atom], names: Names) -> bool:
        """Does it, where those conditions do? Of indices that have no name some value is enough."""
        return _hold(self.conditions, known, names, self.fixed)


@dataclass(frozen=True, eq=False)
class SumRelation:
    """`sum over bound of the atoms -> value`, where the conditions hold."""

    bound: nf.Bound
    atoms: tuple[tuple[Atom, Number], ...]
    variables: frozenset[str]
    value: Poly
    source: str
    fixed: frozenset[str] = frozenset()
    conditions: Conditions = ()

    def holds(self, known: Iterable[Atom], names: Names) -> bool:
        """As for an AtomRelation."""
        return _hold(self.conditions, known, names, self.fixed)

    @cached_property
    def tensors(self) -> frozenset[str]:
        """What a term has to read."""
        return frozenset().union(*(a.tensors for a, _ in self.atoms))


def _hold(
    conditions: Conditions, known: Iterable[Atom], names: Names, fixed: frozenset[str]
) -> bool:
    unnamed = {i for c in conditions for i in c.free if i not in names} - fixed
    return satisfied(conditions, known, names, frozenset(unnamed), {})


@dataclass(frozen=True, eq=False)
class FoldRelation:
    """`c1 * product + c2 * product + ... -> value`, where all terms stand beside the same factor."""

    terms: tuple[tuple[tuple[tuple[Atom, Number], ...], Number], ...]
    variables: frozenset[str]
    value: Atom
    source: str


# -------------------------------------------------------------------------------------------- solving


@dataclass(frozen=True)
class Divisor:
    """What a forward divides by, or takes a root or logarithm of: it is not 0 where that is done."""

    atom: Atom
    conditions: Conditions
    extents: Mapping[str, str]  # of the indices of the place where it stands


Divisors = Mapping[str, Iterable[Divisor]]  # by shape


@dataclass(frozen=True)
class Solved:
    """`pattern = value`, where the conditions hold."""

    pattern: Atom
    value: Poly
    conditions: Conditions


def safe_divisors(definitions: Iterable[Definition]) -> Divisors:
    """What the forward divides by, or takes a root or logarithm of."""
    found: dict[str, list[Divisor]] = {}

    def visit(poly: Poly, outer: Conditions, extents: Mapping[str, str]) -> None:
        for term, _ in poly.terms:
            here = {**extents, **dict(term.bound)}
            conditions = (*outer, *conditions_of(a for a, _ in term.atoms))

            def add(atom: Atom, known: Conditions = conditions, own: Names = here) -> None:  # type: ignore[assignment]
                found.setdefault(atom.shape, []).append(Divisor(atom, known, own))  # type: ignore[arg-type]

            for atom, power in term.atoms:
                if power < 0 or power.denominator != 1:
                    add(atom)
                if atom.kind == "function" and atom.name == "log":
                    inside: Poly = atom.parts[0]  # type: ignore[assignment]
                    if len(inside.terms) == 1 and not inside.terms[0][0].bound:
                        for factor, _ in inside.terms[0][0].atoms:
                            add(factor)
                for part in atom.parts:
                    if isinstance(part, Poly):
                        visit(part, conditions, here)

    for definition in definitions:
        if definition.poly is not None:
            pairs = zip(definition.subscripts, definition.extents, strict=True)
            axes = {s: extent for s, extent in pairs if isinstance(s, str)}
            visit(definition.poly, (), axes)
    return found


def needed(factors: Mapping[Atom, Number], safe: Divisors) -> Conditions | None:
    """The conditions under which one may divide by the factors; None if one never may."""
    conditions: Conditions = ()
    for atom, power in sorted(factors.items(), key=lambda t: t[0].key):
        more = _needed(atom, power, safe)
        if more is None:
            return None
        conditions += more
    return tuple(dict.fromkeys(conditions))


def _needed(atom: Atom, power: Number, safe: Divisors) -> Conditions | None:
    if (
        (power < 0 and atom.kind != "name")
        or (atom.kind == "function" and atom.name == "exp")
        or (not atom.tensors and not atom.free and atom.kind not in CONDITIONAL)
    ):
        return ()
    found: Conditions | None = None
    for divisor in safe.get(atom.shape, ()):
        for names in match_atom(divisor.atom, atom, {}, divisor.atom.free):
            conditions = _where_there(divisor, names)
            if not conditions:
                return ()
            found = conditions if found is None else found
    return found


def _where_there(divisor: Divisor, names: Names) -> Conditions:
    """The conditions with which the divisor stands there for some values of the other indices."""
    others = frozenset().union(*(c.free for c in divisor.conditions)) - divisor.atom.free
    left = list(divisor.conditions)
    for index in sorted(others):
        # Is there always such a value: the first, or the last one?
        mine = [c for c in left if index in c.free]
        last = shifted(linear(nf.extent_expression(divisor.extents[index])), -1)
        known = {i: nf.extent_expression(e) for i, e in divisor.extents.items()}
        for value in ({}, last):
            forms = [substituted(form_of(c), index, value) for c in mine if c.name == AT_LEAST]
            if len(forms) == len(mine) and all(not_negative(f, known) for f in forms):
                left = [c for c in left if c not in mine]
                break
    fresh: Names = {i: nf.fresh_index() for i in sorted(others)}
    return tuple(c.renamed({**names, **fresh}) for c in left)


def satisfied(
    conditions: Conditions,
    known: Iterable[Atom],
    names: Names,
    variables: frozenset[str],
    extents: Mapping[str, Expression],
) -> bool:
    """Do they hold where those known do, for some values of the variables that have no names yet?"""
    if not conditions:
        return True
    first, *rest = conditions
    known = list(known)
    unnamed = (first.free & variables) - set(names)
    if not unnamed:
        renamed = first.renamed({i: n for i, n in names.items() if i in first.free})
        return follows(renamed, known, extents) and satisfied(
            tuple(rest), known, names, variables, extents
        )
    return any(
        satisfied(tuple(rest), known, inner, variables, extents)
        for other in known
        if other.shape == first.shape
        for inner in match_atom(first, other, names, variables)
    )


def split_conditions(powers: Mapping[Atom, Number]) -> tuple[Conditions, dict[Atom, Number]]:
    conditions = tuple(sorted(conditions_of(powers), key=nf.key_of))
    return conditions, {a: p for a, p in powers.items() if a not in conditions}


def pieces(poly: Poly) -> Iterator[tuple[Conditions, Poly]]:
    """What a definition says where some conditions hold, without saying so: one piece for each case."""
    split = []
    for term, coefficient in poly.terms:
        own = {i for i, _ in term.bound}
        outer = tuple(a for a, _ in term.atoms if a.kind == "indicator" and not a.free & own)
        split.append((outer, term, coefficient))
    for conditions in dict.fromkeys(outer for outer, _, _ in split):
        parts = []
        for outer, term, coefficient in split:
            if outer == conditions:
                bound, powers = term.opened()
                inside = {a: p for a, p in powers.items() if a not in conditions}
                parts.append(nf.product(bound, inside, coefficient))
            elif settled((*outer, *conditions), {}) is not None:
                break  # it may hold too
        else:
            yield conditions, nf.plus(*parts)


def solve_atom(definition: Definition, poly: Poly, safe: Divisors) -> Solved | None:
    """From `T = c * atom**r * rest`, the function or sum that carries all of T's indices."""
    if len(poly.terms) != 1:
        return None
    term, coefficient = poly.terms[0]
    if term.bound:
        return None
    own = definition.own
    for atom, power in term.atoms:
        if atom.kind not in ("function", "sum") or atom.free != definition.own.free:
            continue
        rest = {a: p for a, p in term.atoms if a is not atom}
        conditions = needed(rest, safe)
        if power not in (1, -1) and (atom.kind != "sum" or power.denominator == 1):
            continue
        if power == -1 and conditions is not None:
            more = [_needed(atom, 1, safe)] if atom.shape in safe else [None]
            conditions = None if more[0] is None else (*conditions, *more[0])
        if conditions is None:
            continue
        inverse = nf.product((), {own: 1, **{a: -p for a, p in rest.items()}}, 1)
        inverse = nf.scaled(inverse, Fraction(1) / coefficient)
        if power != 1:
            if rest or coefficient != 1:
                continue
            inverse = nf.product((), {own: nf.exact(Fraction(1) / power)}, 1)
        return Solved(atom, inverse, conditions)
    return None


def solve_exponential(atom: Atom, value: Poly) -> tuple[Atom, Poly] | None:
    """From `1 + exp(-x) = 1 / y`: `exp(-x) -> 1/y - 1`, for the one exponential in a sum with numbers."""
    if atom.kind != "sum":
        return None
    inside: Poly = atom.parts[0]  # type: ignore[assignment]
    moving = [(t, c) for t, c in inside.terms if t.tensors or t.free]
    if len(moving) != 1 or moving[0][0].bound or len(moving[0][0].atoms) != 1:
        return None
    ((term, coefficient),) = moving
    ((found, power),) = term.atoms
    if found.kind != "function" or found.name != "exp" or power != 1:
        return None
    rest = nf.plus(inside, Poly({term: -coefficient}))
    difference = nf.plus(value, nf.scaled(rest, -1))
    return found, nf.scaled(difference, Fraction(1) / coefficient)


def solve_named(atom: Atom) -> tuple[Atom, Poly] | None:
    """From a sum that is kept as a factor, `V = x - mu`: `x -> V + mu`."""
    inside: Poly = atom.parts[0]  # type: ignore[assignment]
    choices = []
    for term, coefficient in inside.terms:
        if term.bound or len(term.atoms) != 1 or term.atoms[0][1] != 1:
            continue
        found = term.atoms[0][0]
        if found.kind == "read" and found.free == atom.free and _plain(found):
            choices.append((found, term, coefficient))
    for found, term, coefficient in choices:
        rest = nf.plus(inside, Poly({term: -coefficient}))
        if is_offset(rest, found) and found.name not in rest.tensors:
            value = nf.plus(nf.of_atom(atom), nf.scaled(rest, -1))
            return found, nf.scaled(value, Fraction(1) / coefficient)
    return None


def _plain(atom: Atom) -> bool:
    return all(isinstance(p, str) for p in atom.parts) and len(set(atom.parts)) == len(atom.parts)


def solve_alias(definition: Definition, poly: Poly) -> Solved | None:
    """From `l = s - log(Z)`: `s -> l + log(Z)`, for a plain read that carries all indices.

    The rest has fewer indices, it is an offset: `p -> 2 m - q` would cancel digits.
    """
    if len(poly.terms) < 2 or any(t.bound for t, _ in poly.terms):
        return None
    own = nf.of_atom(definition.own)
    for term, coefficient in poly.terms:
        if len(term.atoms) != 1 or coefficient not in (1, -1) or term.atoms[0][1] != 1:
            continue
        atom = term.atoms[0][0]
        if atom.kind == "read" and atom.free == definition.own.free and _plain(atom):
            rest = nf.plus(poly, Poly({term: -coefficient}))
            offset = all(t.free < atom.free for t, _ in rest.terms)
            if offset and atom.name not in rest.tensors:
                value = nf.scaled(nf.plus(own, nf.scaled(rest, -1)), coefficient)
                return Solved(atom, value, ())
    return None


def solve_product(definition: Definition, poly: Poly, safe: Divisors) -> Solved | None:
    """From `p = E / Z`: `E -> p * Z`, for a plain read that carries all indices."""
    if len(poly.terms) != 1 or poly.terms[0][0].bound or len(poly.terms[0][0].atoms) < 2:
        return None
    term, coefficient = poly.terms[0]
    own = definition.own
    for atom, power in term.atoms:
        if atom.kind != "read" or power != 1 or not _plain(atom):
            continue
        rest = {a: p for a, p in term.atoms if a is not atom}
        conditions = needed(rest, safe)
        if atom.free == definition.own.free and conditions is not None:
            inverse = nf.product((), {own: 1, **{a: -p for a, p in rest.items()}})
            return Solved(atom, nf.scaled(inverse, Fraction(1) / coefficient), conditions)
    return None


def fold_product(definition: Definition, poly: Poly) -> SumRelation | None:
    """From `q = w * exp(u)`, where one may not divide by w: the whole product, `-> q`.

    Only where that saves a function or a root: a product of reads is as cheap as what it would be
    replaced by.
    """
    if len(poly.terms) != 1 or poly.terms[0][0].bound:
        return None
    term, coefficient = poly.terms[0]
    atoms = {a: p for a, p in term.atoms if a.free or a.tensors}
    costly = [a for a in atoms if a.kind in ("function", "sum")]
    if len(atoms) < 2 or not costly or term.free != definition.own.free:
        return None
    sizes = {a: -p for a, p in term.atoms if a not in atoms}
    own = definition.own
    value = nf.product((), {own: 1, **sizes}, Fraction(1) / coefficient)
    pattern = tuple(sorted(atoms.items(), key=lambda t: t[0].key))
    variables = definition.variables
    return SumRelation((), pattern, variables, value, definition.tensor, definition.fixed)


def fold_sum(definition: Definition, poly: Poly) -> FoldRelation | None:
    """From `m = (p + q) / 2`: the whole sum, `-> m`.

    Of reads, element by element. Nothing is solved for; with products in it, what is left beside the
    value could cancel against it: `h - h'` for `(1 - G) * (h - R)`.
    """
    if not 1 < len(poly.terms) <= MOST_FOLDED:
        return None
    for term, _ in poly.terms:
        reads = [a for a, p in term.atoms if p == 1 and a.kind == "read" and _plain(a)]
        if len(term.atoms) != 1 or not reads or reads[0].free != definition.own.free:
            return None
    own = definition.own
    terms = tuple((t.atoms, c) for t, c in poly.terms)
    variables = definition.variables
    return FoldRelation(terms, variables, own, definition.tensor)


def fold_offset(definition: Definition, poly: Poly) -> FoldRelation | None:
    """From `L = m + log(Z)`: the difference `L - m`, `-> log(Z)`, where both stand together."""
    if len(poly.terms) != 2 or any(len(t.atoms) != 1 or t.bound for t, _ in poly.terms):
        return None
    (one, c), (other, d) = sorted(poly.terms, key=lambda t: t[0].atoms[0][0].kind)
    function, read = one.atoms[0][0], other.atoms[0][0]
    powers = one.atoms[0][1], other.atoms[0][1]
    if (function.kind, read.kind) != ("function", "read") or powers != (1, 1) or c != 1:
        return None
    if not function.free == read.free == definition.own.free or not _plain(read):
        return None
    own = definition.own
    variables = definition.variables
    terms = ((((own, 1),), 1), (((read, 1),), -d))
    return FoldRelation(terms, variables, function, definition.tensor)


@dataclass(frozen=True)
class SolvedSum:
    """The part of a sum that its bound indices move, its value, and where that is so."""

    bound: nf.Bound
    moving: dict[Atom, Number]
    value: Poly
    conditions: Conditions


def solve_sum(left: Poly, right: Poly, safe: Divisors, several: bool = False) -> SolvedSum | None:
    """From `left = right` with one sum on the right: the sum's part that moves, and its value.

    several: of more sums, the first is solved for.
    """
    difference = nf.plus(right, nf.scaled(left, -1))
    sums = [(t, c) for t, c in difference.terms if t.bound]
    if not sums or (len(sums) > 1 and not several):
        return None
    term, coefficient = min(sums, key=lambda t: t[0].shape)
    bound, powers = term.opened()
    inner = {i for i, _ in bound}
    moving = {a: p for a, p in powers.items() if a.free & inner}
    outside, rest = split_conditions({a: p for a, p in powers.items() if not a.free & inner})
    conditions = needed(rest, safe)
    if not moving or conditions is None:
        return None
    others = nf.plus(difference, Poly({term: -coefficient}))
    value = nf.times(
        nf.scaled(others, Fraction(-1) / coefficient),
        nf.product((), {a: -p for a, p in rest.items()}),
    )
    return SolvedSum(bound, moving, value, tuple(dict.fromkeys((*outside, *conditions))))
