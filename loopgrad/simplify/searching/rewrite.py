"""Putting relations to use: `Algebra.reduce` rewrites a sum until no relation applies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial

from loopgrad.ir.operations import ElementType
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.conditions import conditions_of, follows
from loopgrad.simplify.algebra.counting import counted
from loopgrad.simplify.algebra.matching import Names, match_atom, match_product
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading import relations as rel
from loopgrad.simplify.reading.domains import is_nonnegative, is_positive_atom
from loopgrad.simplify.reading.relations import AtomRelation, Conditions, FoldRelation, SumRelation
from loopgrad.simplify.reading.statements import Definition

MOST_ROUNDS = 60
CANCEL = "cancel g against g + r: g / (g + r) = 1 - r / (g + r)"
COUNT = "how often the loop runs"
ROOT = "the root of a square: sqrt(s**2) = s, where s is a root itself"
SUPPORT = "leave out what is multiplied by 0"
Rule = AtomRelation | SumRelation | FoldRelation | str


class Algebra:
    """Relations between the tensors of a forward, in the order in which they were found."""

    def __init__(self) -> None:
        self.atoms: dict[str, list[AtomRelation]] = {}
        self.sums: list[SumRelation] = []
        self.folds: list[FoldRelation] = []
        self.named: dict[str, Atom] = {}  # shapes of sums that stay one factor
        self.bounds: frozenset[str] = frozenset()  # shapes of conditions that end within the axis
        self.nonnegative: set[str] = set()  # tensors that are so by their definition
        # Where tensors can be other than 0: their indices, and the conditions on those.
        self.supports: dict[str, tuple[tuple[str, ...], Conditions]] = {}
        self.memory: dict[str, Poly] = {}

    # ------------------------------------------------------------------------------------ learning

    def add_atom(self, relation: AtomRelation) -> None:
        self.atoms.setdefault(relation.pattern.shape, []).append(relation)
        self.memory.clear()

    def add_sum(self, relation: SumRelation) -> None:
        self.sums.append(relation)
        self.memory.clear()

    def add_fold(self, relation: FoldRelation) -> None:
        self.folds.append(relation)
        self.memory.clear()

    def add_support(self, definition: Definition, poly: Poly) -> None:
        """From the tensor's reduced sum: the conditions that all its terms have."""
        support = replace(definition, poly=poly).support
        if support:
            self.supports[definition.tensor] = (definition.indices, support)
            self.memory.clear()

    def describe(self) -> str:
        """All relations as one text: two algebras with the same do the same."""
        atoms = [r for found in self.atoms.values() for r in found]
        lines = [f"{sorted(r.variables)} {r.pattern} -> {r.value}" for r in atoms]
        lines += [f"{sorted(r.variables)} {r.atoms} -> {r.value}" for r in self.sums]
        lines += [f"{sorted(r.variables)} {r.terms} -> {r.value}" for r in self.folds]
        return re.sub(r"#\d+", "#", "\n".join(lines))

    @property
    def rules(self) -> list[Rule]:
        """All rules, in the order in which they are tried."""
        return [
            *(r for same in self.atoms.values() for r in same),
            *self.sums,
            *self.folds,
            COUNT,
            ROOT,
            CANCEL,
            SUPPORT,
        ]

    # ------------------------------------------------------------------------------------ rewriting

    def reduce(self, poly: Poly) -> Poly:
        """The sum after all relations that apply."""
        known = self.memory.get(poly.key)
        if known is None:
            known = poly
            for _ in range(MOST_ROUNDS):
                following = self.step(known)
                if following.key == known.key:
                    break
                known = following
            self.memory[poly.key] = known
        return known

    def step(self, poly: Poly, only: Rule | None = None) -> Poly:
        """One round of the first kind of rule that changes anything, or of one rule."""
        if self.supports and only in (None, SUPPORT):
            supported = self.supported(poly)
            if supported is not poly:
                return supported
        hit = False

        def change(atom: Atom, known: Conditions) -> Poly | None:
            nonlocal hit
            for relation in self.atoms.get(atom.shape, ()):
                if only is None or only is relation:
                    for names in match_atom(relation.pattern, atom, {}, relation.variables):
                        if not relation.holds(known, names):
                            continue
                        hit = True
                        return relation.value.renamed(names)
            if atom.kind == "sum" and atom.shape in self.named:
                return nf.KEEP
            return None

        changed = nf.map_under(poly, change)
        if hit:
            return changed
        for relation in self.sums:
            if only is None or only is relation:
                changed = self._sums(poly, relation)
                if changed is not poly:
                    return changed
        for fold in self.folds:
            if only is None or only is fold:
                changed = folded(poly, fold)
                if changed is not poly:
                    return changed
                changed = nf.map_atoms(poly, partial(_folded_inside, relation=fold))
                if changed is not poly:
                    return changed
        if only in (None, COUNT):
            changed = counted(poly, self.bounds)
            if changed is not poly:
                return changed
        if only in (None, ROOT):
            changed = rooted(poly, self.nonnegative)
            if changed is not poly:
                return changed
        return divided(poly) if only in (None, CANCEL) else poly

    def supported(self, poly: Poly) -> Poly:
        """With the conditions that say where the tensors that are factors of a term are not 0."""
        parts, hit = [], False
        for term, coefficient in poly.terms:
            new = self._supported(term)
            hit |= new is not None
            parts.append(Poly({term: coefficient}) if new is None else nf.scaled(new, coefficient))
        return nf.plus(*parts) if hit else poly

    def _supported(self, term: Term) -> Poly | None:
        if term.tensors.isdisjoint(self.supports):
            return None
        extents = {i: nf.extent_expression(e) for i, e in term.bound}
        known = list(conditions_of(a for a, _ in term.atoms))
        missing = [
            condition
            for atom, p in term.atoms
            if atom.kind == "read" and p > 0
            for condition in self.support(atom)
            if not follows(condition, known, extents)
        ]
        if not missing:
            return None
        names: dict[str, nf.Subscript] = {i: nf.fresh_index() for i, _ in term.bound}
        bound = tuple((str(names[i]), e) for i, e in term.bound)
        powers = {a.renamed(names): p for a, p in term.atoms}
        powers.update((c.renamed(names), 1) for c in missing)
        new = nf.product(bound, powers)
        return None if new == Poly({term: 1}) else new

    def relaxed(self, poly: Poly, may: Callable[[Atom], bool]) -> Poly:
        """Without those conditions that a factor says anyway, of those that may be left out."""
        parts, hit = [], False
        for term, coefficient in poly.terms:
            bound, powers = term.opened() if term.conditional else ((), {})
            said = {
                condition
                for atom, p in powers.items()
                if atom.kind == "read" and p > 0
                for condition in self.support(atom)
            }
            dropped = {c for c in conditions_of(powers) if c in said and may(c)}
            hit |= bool(dropped)
            left = {a: p for a, p in powers.items() if a not in dropped}
            parts.append(
                nf.product(bound, left, coefficient) if dropped else Poly({term: coefficient})
            )
        return nf.plus(*parts) if hit else poly

    def support(self, read: Atom) -> Conditions:
        """The conditions under which the tensor's element can be other than 0."""
        indices, conditions = self.supports.get(read.name, ((), ()))
        names: dict[str, nf.Subscript] = dict(zip(indices, read.parts, strict=False))  # type: ignore[arg-type]
        return tuple(c.renamed(names) for c in conditions)

    def _sums(self, poly: Poly, relation: SumRelation) -> Poly:
        if not relation.tensors <= poly.tensors:
            return poly
        parts, hit = [], False
        for term, coefficient in poly.terms:
            new = self._in_term(term, relation)
            hit |= new is not None
            parts.append(Poly({term: coefficient}) if new is None else nf.scaled(new, coefficient))
        return nf.plus(*parts) if hit else poly

    def _in_term(self, term: Term, relation: SumRelation) -> Poly | None:
        inside = self._in_arguments(term, relation)
        if inside is not None:
            return inside
        if len(term.bound) < len(relation.bound):
            return None
        bound, powers = term.opened()
        extents = dict(bound)
        pattern = {i for i, _ in relation.bound}
        variables = relation.variables | pattern
        fold = not relation.bound
        for names in match_product(relation.atoms, powers, {}, variables, within=fold):
            if not pattern <= names.keys():
                continue  # a sum of which no atom hangs on the index: `sum over t < k of x[i]`
            taken = [names[i] for i, _ in relation.bound]
            if len(set(map(str, taken))) != len(taken) or not all(
                isinstance(i, str) and extents.get(i) == e
                for i, (_, e) in zip(taken, relation.bound, strict=True)
            ):
                continue
            rest = _without(powers, relation.atoms, names)
            if any(a.free & set(taken) for a in rest):
                continue
            outer = {i: n for i, n in names.items() if i in relation.variables}
            if any(str(n) in taken for n in outer.values()):
                continue
            known = conditions_of(rest)
            if not relation.holds(known, outer):
                continue
            ranges = tuple((i, e) for i, e in bound if i not in taken)
            return nf.multiplied(ranges, rest, 1, [(relation.value.renamed(outer), 1)])
        return None

    def _in_arguments(self, term: Term, relation: SumRelation) -> Poly | None:
        """The relation applied inside functions: `log(sum_j exp(s))`."""
        if term.height <= bool(term.bound):
            return None

        def change(atom: Atom) -> Poly | None:
            if atom.height and atom.kind in ("function", "sum"):
                parts: tuple[Poly, ...] = atom.parts  # type: ignore[assignment]
                new = tuple(self._sums(p, relation) for p in parts)
                if any(a is not b for a, b in zip(new, parts, strict=True)):
                    return nf.function(atom.name, *new) if atom.kind == "function" else new[0]
            return None

        whole = Poly({term: 1})
        changed = nf.map_atoms(whole, change)
        return None if changed is whole else changed


def _folded_inside(atom: Atom, relation: FoldRelation) -> Poly | None:
    if atom.kind != "function":
        return None
    parts: tuple[Poly, ...] = atom.parts  # type: ignore[assignment]
    new = tuple(folded(p, relation) for p in parts)
    changed = any(a is not b for a, b in zip(new, parts, strict=True))
    return nf.function(atom.name, *new) if changed else None


def folded(poly: Poly, relation: FoldRelation) -> Poly:
    """The sum with the first place where all terms of the relation stand written as its value."""
    if not all(a.tensors <= poly.tensors for atoms, _ in relation.terms for a, _ in atoms):
        return poly
    present = dict(poly.terms)
    anchor, first = relation.terms[0]
    for term, coefficient in poly.terms:
        bound, powers = term.opened()
        for names in match_product(anchor, powers, {}, relation.variables, within=True):
            rest = _without(powers, anchor, names)
            scale = Fraction(coefficient) / first
            there = nf.plus(
                *(
                    nf.product(bound, _without(rest, atoms, names, -1), scale * c)
                    for atoms, c in relation.terms
                )
            )
            if len(there.terms) == len(relation.terms) and all(
                present.get(t) == c for t, c in there.terms
            ):
                value = _without(rest, ((relation.value, 1),), names, -1)
                return nf.plus(poly, nf.scaled(there, -1), nf.product(bound, value, scale))
    return poly


def _without(
    powers: Mapping[Atom, nf.Number],
    atoms: tuple[tuple[Atom, nf.Number], ...],
    names: Names,
    sign: int = 1,
) -> dict[Atom, nf.Number]:
    """The product divided by the atoms, under these names; with the sign -1, multiplied by them."""
    rest = dict(powers)
    for atom, p in atoms:
        there = atom.renamed(names)
        rest[there] = nf.exact(rest.get(there, 0) - sign * p)
    return {a: p for a, p in rest.items() if p}


def rooted(poly: Poly, nonnegative: set[str]) -> Poly:
    """`(s**2)**0.5` as `s`, of tensors that are nowhere below 0."""
    parts, hit = [], False
    for term, coefficient in poly.terms:
        bound, powers = term.opened()
        roots = [a for a, p in powers.items() if _is_root(a, p, nonnegative)]
        for atom in roots:
            power = powers.pop(atom)
            inside: Poly = atom.parts[0]  # type: ignore[assignment]
            for factor, p in inside.terms[0][0].atoms:
                powers[factor] = nf.exact(powers.get(factor, 0) + p * power)
        parts.append(nf.product(bound, powers, coefficient) if roots else Poly({term: coefficient}))
        hit |= bool(roots)
    return nf.plus(*parts) if hit else poly


def _is_root(atom: Atom, power: nf.Number, nonnegative: set[str]) -> bool:
    if atom.kind != "sum" or power.denominator == 1:
        return False
    inside: Poly = atom.parts[0]  # type: ignore[assignment]
    if len(inside.terms) != 1 or inside.terms[0][1] != 1 or inside.terms[0][0].bound:
        return False
    factors = [a for a, _ in inside.terms[0][0].atoms]
    if len(factors) != 1:
        return False  # one root of a product is cheaper than two
    known = factors[0].kind == "read" and factors[0].name in nonnegative
    return known or is_positive_atom(factors[0], frozenset())


def divided(poly: Poly) -> Poly:
    """`g * V**-k -> (V**(1-k) - rest * V**-k) / c` where `V = c*g + rest`, in terms that hold both."""
    parts, hit = [], False
    for term, coefficient in poly.terms:
        new = _divided(term)
        hit |= new is not None
        parts.append(Poly({term: coefficient}) if new is None else nf.scaled(new, coefficient))
    return nf.plus(*parts) if hit else poly


def _divided(term: Term) -> Poly | None:
    for divisor, power in term.atoms:
        if divisor.kind != "sum" or power >= 0 or not divisor.tensors:
            continue
        inside: Poly = divisor.parts[0]  # type: ignore[assignment]
        for part, c in inside.terms:
            if part.bound or len(part.atoms) != 1 or not part.tensors:
                continue
            ((atom, degree),) = part.atoms
            present = dict(term.atoms).get(atom, 0)
            if degree.denominator != 1 or degree < 1 or present < degree:
                continue
            # The highest power of it in V: any other comes back with the rest, and no end to it.
            if any(dict(t.atoms).get(atom, 0) > degree for t, _ in inside.terms):
                continue
            bound, powers = term.opened()
            renamed = _renaming(term, bound)
            powers = dict(powers)
            powers[atom.renamed(renamed)] -= degree
            rest = nf.plus(inside, Poly({part: -c})).renamed(renamed)
            V = divisor.renamed(renamed)
            up = {**powers, V: powers[V] + 1}
            first = nf.product(bound, up, Fraction(1) / c)
            second = nf.multiplied(bound, powers, Fraction(-1) / c, [(rest, 1)])
            return nf.plus(first, second)
    return None


def _renaming(term: Term, opened: nf.Bound) -> dict[str, nf.Subscript]:
    return {old: new for (old, _), (new, _) in zip(term.bound, opened, strict=True)}


# ------------------------------------------------------------------------------- from definitions


def learn(
    definitions: Mapping[str, Definition],
    aliases: bool,
    folds: bool,
    bounds: frozenset[str] = frozenset(),
    theorems: bool = True,
) -> Algebra:
    """What the definitions of a forward say, each later tensor preferred to what it is made of.

    bounds: the shapes of conditions that are bounds of ranges. theorems: whether also what is not so
    over an empty axis, `sum[j](p[b,j]) = 1`.
    """
    algebra = Algebra()
    algebra.bounds = bounds
    floats = [
        d for d in definitions.values() if d.poly is not None and d.element is ElementType.FLOAT
    ]
    safe = rel.safe_divisors(floats)
    for definition in floats:
        assert definition.poly is not None
        for atom in nf.atoms_of(definition.poly):
            if atom.kind == "sum" and atom.tensors and atom.shape not in algebra.named:
                _learn_named(algebra, atom)
        reduced = algebra.reduce(definition.poly)
        if definition.whole and is_nonnegative(definition.poly, frozenset()):
            algebra.nonnegative.add(definition.tensor)
        if definition.whole:
            algebra.add_support(definition, reduced)
        for conditions, piece in rel.pieces(reduced):
            _learn_atom(algebra, definition, conditions, piece, safe, aliases)
    for _ in range(2):
        for definition in floats:
            _learn_sum(algebra, definition, safe, folds, theorems)
    return algebra


def _learn_atom(
    algebra: Algebra,
    definition: Definition,
    conditions: Conditions,
    poly: Poly,
    safe: rel.Divisors,
    aliases: bool,
) -> None:
    """What the definition says where the conditions hold."""

    def add(solved: rel.Solved) -> None:
        holds = tuple(dict.fromkeys((*conditions, *solved.conditions)))
        relation = AtomRelation(
            solved.pattern, solved.value, definition.tensor, definition.fixed, holds
        )
        algebra.add_atom(relation)

    solved = rel.solve_atom(definition, poly, safe)
    if solved is not None:
        add(solved)
        inner = rel.solve_exponential(solved.pattern, solved.value) if aliases else None
        if inner is not None and _is_new(algebra, inner[0]):
            add(rel.Solved(*inner, solved.conditions))
        return
    product = rel.fold_product(definition, poly)
    if product is not None:
        algebra.add_sum(replace(product, conditions=conditions))
        return
    if aliases and definition.tensor not in poly.tensors:
        solved = rel.solve_alias(definition, poly) or rel.solve_product(definition, poly, safe)
        if solved is not None and _is_new(algebra, solved.pattern):
            add(solved)
            return
    whole = rel.fold_sum(definition, poly) or rel.fold_offset(definition, poly)
    if whole is not None and not conditions:
        algebra.add_fold(whole)


def _is_new(algebra: Algebra, pattern: Atom) -> bool:
    """Is nothing said of it yet?"""
    return algebra.reduce(nf.of_atom(pattern)) == nf.of_atom(pattern)


def _learn_named(algebra: Algebra, atom: Atom) -> None:
    algebra.named[atom.shape] = atom
    # Its indices may be bound in the term that it comes from: as variables they get their own names.
    atom = atom.renamed({i: nf.fresh_index() for i in sorted(atom.free) if i.startswith("$")})
    solved = rel.solve_named(atom)
    if solved is None:
        return
    pattern, value = solved
    if algebra.reduce(nf.of_atom(pattern)) == nf.of_atom(pattern):
        algebra.add_atom(AtomRelation(pattern, value, ""))


def _learn_sum(
    algebra: Algebra, definition: Definition, safe: rel.Divisors, folds: bool, theorems: bool
) -> None:
    assert definition.poly is not None
    if not any(t.bound for t, _ in definition.poly.terms):
        return
    own = algebra.reduce(nf.of_atom(definition.own))
    reduced = algebra.reduce(definition.poly)
    if own == reduced:
        return
    solved = rel.solve_sum(own, reduced, safe, several=folds)
    if solved is None:
        return
    bound, moving, conditions = solved.bound, solved.moving, solved.conditions
    value = algebra.reduce(solved.value)
    inner = {i for i, _ in bound}
    variables = frozenset().union(*(a.free for a in moving)) - inner - definition.fixed
    # A sum over products of tensors folds to its result only where that is asked for.
    factors = [a for a in moving if a.kind != "indicator"]
    if not folds and len(factors) > 1 and definition.tensor in value.tensors:
        return
    if not value.free <= variables | definition.fixed:
        return
    if not theorems and value.terms and definition.tensor not in value.tensors:
        return
    pattern = tuple(sorted(moving.items(), key=lambda t: (t[0].kind == "indicator", t[0].key)))
    algebra.add_sum(
        SumRelation(
            bound, pattern, variables, value, definition.tensor, definition.fixed, conditions
        )
    )
