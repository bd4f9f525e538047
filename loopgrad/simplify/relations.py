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

from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.normal_form import Atom, Number, Poly, Subscript, Term
from loopgrad.simplify.reading import Definition, is_offset

Names = dict[str, Subscript]
MOST_FOLDED = 4  # terms of a sum that is looked for as a whole


@dataclass(frozen=True, eq=False)
class AtomRelation:
    """`pattern -> value` for all values of the pattern's free indices that are not fixed."""

    pattern: Atom
    value: Poly
    source: str  # the tensor whose definition says so; none for the name of a difference
    fixed: frozenset[str] = frozenset()  # indices of blocks, for whose turn alone it holds

    @property
    def variables(self) -> frozenset[str]:
        return self.pattern.free - self.fixed


@dataclass(frozen=True, eq=False)
class SumRelation:
    """`sum over bound of the atoms -> value`."""

    bound: nf.Bound
    atoms: tuple[tuple[Atom, Number], ...]
    variables: frozenset[str]
    value: Poly
    source: str

    @cached_property
    def tensors(self) -> frozenset[str]:
        """What a term has to read."""
        return frozenset().union(*(a.tensors for a, _ in self.atoms))


@dataclass(frozen=True, eq=False)
class FoldRelation:
    """`c1 * product + c2 * product + ... -> value`, where all terms stand beside the same factor."""

    terms: tuple[tuple[tuple[tuple[Atom, Number], ...], Number], ...]
    variables: frozenset[str]
    value: Atom
    source: str


# ------------------------------------------------------------------------------------------ matching


def match_subscript(
    pattern: Subscript, found: Subscript, names: Names, variables: frozenset[str]
) -> Names | None:
    if isinstance(pattern, str):
        if pattern not in variables:
            return names if pattern == found else None
        if pattern in names:
            return names if names[pattern] == found else None
        return {**names, pattern: found}
    if isinstance(found, str) or pattern.shape != found.shape:
        return None
    return names if pattern.renamed(names) == found else None


def match_atom(
    pattern: Atom, found: Atom, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    """The ways to name the variables so that the pattern is what was found."""
    if pattern.kind != found.kind or pattern.name != found.name:
        return
    match pattern.kind:
        case "read" | "delta" | "index":
            current: Names | None = names
            # Plain indices first: a formula is compared once its own are known.
            pairs = sorted(
                zip(pattern.parts, found.parts, strict=True),
                key=lambda t: not isinstance(t[0], str),
            )
            for left, right in pairs:
                if current is not None:
                    current = match_subscript(left, right, current, variables)  # type: ignore[arg-type]
            if current is not None:
                yield current
        case "function" | "sum":
            yield from _match_polys(pattern.parts, found.parts, names, variables)  # type: ignore[arg-type]
        case "name":
            yield names
        case _:
            if pattern.renamed(names) == found:
                yield names


def _match_polys(
    patterns: tuple[Poly, ...], found: tuple[Poly, ...], names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    if not patterns:
        yield names
        return
    if patterns[0].shape != found[0].shape:
        return
    for inner in _match_terms(patterns[0].terms, list(found[0].terms), names, variables):
        yield from _match_polys(patterns[1:], found[1:], inner, variables)


def _match_terms(
    patterns: tuple[tuple[Term, Number], ...],
    found: list[tuple[Term, Number]],
    names: Names,
    variables: frozenset[str],
) -> Iterator[Names]:
    if not patterns:
        yield names
        return
    term, coefficient = patterns[0]
    for at, (other, c) in enumerate(found):
        if c == coefficient and other.shape == term.shape:
            rest = found[:at] + found[at + 1 :]
            for inner in _match_term(term, other, names, variables):
                yield from _match_terms(patterns[1:], rest, inner, variables)


def _match_term(
    pattern: Term, found: Term, names: Names, variables: frozenset[str]
) -> Iterator[Names]:
    bound, powers = pattern.opened()
    _, others = found.opened()
    inside = variables | {i for i, _ in bound}
    for result in match_product(tuple(powers.items()), others, names, inside):
        yield {i: n for i, n in result.items() if i in variables}


def match_product(
    patterns: tuple[tuple[Atom, Number], ...],
    found: Mapping[Atom, Number],
    names: Names,
    variables: frozenset[str],
    within: bool = False,
) -> Iterator[Names]:
    """The ways in which every atom of the pattern is one of those found, to the same power.

    within: or to a higher one, of which a part is left: `x * g` is within `x * g**2`.
    """
    if not patterns:
        yield names
        return
    atom, power = patterns[0]
    for other in sorted(found, key=lambda a: a.key):
        fits = found[other] == power or (within and _exceeds(found[other], power))
        if fits and other.shape == atom.shape:
            rest = {a: p for a, p in found.items() if a != other}
            for inner in match_atom(atom, other, names, variables):
                yield from match_product(patterns[1:], rest, inner, variables, within)


def _exceeds(power: Number, other: Number) -> bool:
    """Is the power the other's and a whole number more, away from 0?"""
    more = power - other
    return more.denominator == 1 and (more > 0 if other > 0 else more < 0)


# -------------------------------------------------------------------------------------------- solving


def safe_divisors(definitions: Iterable[Definition]) -> set[str]:
    """The shapes of atoms that the forward divides by, or takes a root or logarithm of."""
    found: set[str] = set()

    def visit(poly: Poly) -> None:
        for term, _ in poly.terms:
            for atom, power in term.atoms:
                if power < 0 or power.denominator != 1:
                    found.add(atom.shape)
                if atom.kind == "function" and atom.name == "log":
                    inside: Poly = atom.parts[0]  # type: ignore[assignment]
                    if len(inside.terms) == 1 and not inside.terms[0][0].bound:
                        found.update(a.shape for a, _ in inside.terms[0][0].atoms)
                for part in atom.parts:
                    if isinstance(part, Poly):
                        visit(part)

    for definition in definitions:
        if definition.poly is not None:
            visit(definition.poly)
    return found


def never_zero(atom: Atom, power: Number, safe: set[str]) -> bool:
    """May one divide by this factor?"""
    return (
        atom.shape in safe
        or (power < 0 and atom.kind != "name")
        or (atom.kind == "function" and atom.name == "exp")
        or (not atom.tensors and not atom.free)
    )


def solve_atom(definition: Definition, poly: Poly, safe: set[str]) -> tuple[Atom, Poly] | None:
    """From `T = c * atom**r * rest`, the function or sum that carries all of T's indices."""
    if len(poly.terms) != 1:
        return None
    term, coefficient = poly.terms[0]
    if term.bound:
        return None
    own = nf.read(definition.tensor, definition.indices)
    for atom, power in term.atoms:
        if atom.kind not in ("function", "sum") or atom.free != set(definition.indices):
            continue
        rest = {a: p for a, p in term.atoms if a is not atom}
        if not all(never_zero(a, p, safe) for a, p in rest.items()):
            continue
        if power not in (1, -1) and (atom.kind != "sum" or power.denominator == 1):
            continue
        if power == -1 and atom.shape not in safe:
            continue
        inverse = nf.product((), {own: 1, **{a: -p for a, p in rest.items()}}, 1)
        inverse = nf.scaled(inverse, Fraction(1) / coefficient)
        if power != 1:
            if rest or coefficient != 1:
                continue
            inverse = nf.product((), {own: nf.exact(Fraction(1) / power)}, 1)
        return atom, inverse
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


def solve_alias(definition: Definition, poly: Poly) -> tuple[Atom, Poly] | None:
    """From `l = s - log(Z)`: `s -> l + log(Z)`, for a plain read that carries all indices.

    The rest has fewer indices, it is an offset: `p -> 2 m - q` would cancel digits.
    """
    if len(poly.terms) < 2 or any(t.bound for t, _ in poly.terms):
        return None
    own = nf.of_atom(nf.read(definition.tensor, definition.indices))
    for term, coefficient in poly.terms:
        if len(term.atoms) != 1 or coefficient not in (1, -1) or term.atoms[0][1] != 1:
            continue
        atom = term.atoms[0][0]
        if atom.kind == "read" and atom.free == set(definition.indices) and _plain(atom):
            rest = nf.plus(poly, Poly({term: -coefficient}))
            offset = all(t.free < atom.free for t, _ in rest.terms)
            if offset and atom.name not in rest.tensors:
                return atom, nf.scaled(nf.plus(own, nf.scaled(rest, -1)), coefficient)
    return None


def solve_product(definition: Definition, poly: Poly, safe: set[str]) -> tuple[Atom, Poly] | None:
    """From `p = E / Z`: `E -> p * Z`, for a plain read that carries all indices."""
    if len(poly.terms) != 1 or poly.terms[0][0].bound or len(poly.terms[0][0].atoms) < 2:
        return None
    term, coefficient = poly.terms[0]
    own = nf.read(definition.tensor, definition.indices)
    for atom, power in term.atoms:
        if atom.kind != "read" or power != 1 or not _plain(atom):
            continue
        rest = {a: p for a, p in term.atoms if a is not atom}
        if atom.free == set(definition.indices) and all(
            never_zero(a, p, safe) for a, p in rest.items()
        ):
            inverse = nf.product((), {own: 1, **{a: -p for a, p in rest.items()}})
            return atom, nf.scaled(inverse, Fraction(1) / coefficient)
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
    if len(atoms) < 2 or not costly or term.free != set(definition.indices):
        return None
    sizes = {a: -p for a, p in term.atoms if a not in atoms}
    own = nf.read(definition.tensor, definition.indices)
    value = nf.product((), {own: 1, **sizes}, Fraction(1) / coefficient)
    pattern = tuple(sorted(atoms.items(), key=lambda t: t[0].key))
    variables = frozenset(definition.indices) - definition.fixed
    return SumRelation((), pattern, variables, value, definition.tensor)


def fold_sum(definition: Definition, poly: Poly) -> FoldRelation | None:
    """From `m = (p + q) / 2`: the whole sum, `-> m`.

    Of reads, element by element. Nothing is solved for; with products in it, what is left beside the
    value could cancel against it: `h - h'` for `(1 - G) * (h - R)`.
    """
    if not 1 < len(poly.terms) <= MOST_FOLDED:
        return None
    for term, _ in poly.terms:
        reads = [a for a, p in term.atoms if p == 1 and a.kind == "read" and _plain(a)]
        if len(term.atoms) != 1 or not reads or reads[0].free != set(definition.indices):
            return None
    own = nf.read(definition.tensor, definition.indices)
    terms = tuple((t.atoms, c) for t, c in poly.terms)
    variables = frozenset(definition.indices) - definition.fixed
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
    if not function.free == read.free == set(definition.indices) or not _plain(read):
        return None
    own = nf.read(definition.tensor, definition.indices)
    variables = frozenset(definition.indices) - definition.fixed
    terms = ((((own, 1),), 1), (((read, 1),), -d))
    return FoldRelation(terms, variables, function, definition.tensor)


def solve_sum(
    left: Poly, right: Poly, safe: set[str], several: bool = False
) -> tuple[Term, nf.Bound, dict[Atom, Number], Poly] | None:
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
    rest = {a: p for a, p in powers.items() if not a.free & inner}
    if not moving or not all(never_zero(a, p, safe) for a, p in rest.items()):
        return None
    others = nf.plus(difference, Poly({term: -coefficient}))
    value = nf.times(
        nf.scaled(others, Fraction(-1) / coefficient),
        nf.product((), {a: -p for a, p in rest.items()}),
    )
    return term, bound, moving, value
