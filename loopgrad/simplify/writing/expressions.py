"""Sums of products back into expressions, factored, in the order in which people write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from loopgrad.ir.limits import LARGEST_INTEGER
from loopgrad.ir.literals import decimal, whole_number
from loopgrad.ir.nodes import Apply, Conditional, Expression, Index, Number, Range, Read, Reduce
from loopgrad.ir.operations import RESERVED
from loopgrad.ir.walk import ZERO, apply, compare, conjunction, indices_of, substitute
from loopgrad.simplify.algebra import integers
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import AT_LEAST, FAILS, NOT_ZERO
from loopgrad.simplify.algebra.conditions import (
    conditions_of,
    evaluated,
    expression_of,
    opposite,
    written,
)
from loopgrad.simplify.algebra.integers import linear
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.algebra.quotients import (
    Powers,
    by_atom,
    by_power,
    complement_of,
    content_of,
    divide,
    spread,
)

MOST_FACTORED = 200  # terms; beyond, a sum is written as it is


@dataclass(frozen=True)
class Writer:
    """`names`: what internal indices are called; `ranks`: the header order of the tensors."""

    names: Mapping[str, str]
    order: Mapping[str, int] = field(default_factory=dict)
    # Names for indices of sums inside: without them, such a sum cannot be written.
    index_names: Mapping[str, list[str]] | None = None
    places: Mapping[str, int] | None = None  # of those internal indices in subscripts
    plain: bool = False  # every term for itself, nothing factored out

    # -------------------------------------------------------------------------------- expressions

    def signed(self, poly: Poly) -> tuple[int, Expression]:
        """The sum as a sign and an expression that does not start with a minus."""
        if len(poly.terms) == 1 and poly.terms[0][0].bound:
            return self._reduced(*poly.terms[0])
        if any(t.conditional and not t.bound for t, _ in poly.terms):
            return self._in_cases(poly)
        sign, factors, rest = self._factored(poly)
        return sign, self._product(factors, rest)

    def expression(self, poly: Poly) -> Expression:
        sign, value = self.signed(poly)
        return value if sign > 0 else Apply("neg", (value,))

    def _in_cases(self, poly: Poly) -> tuple[int, Expression]:
        """`f * (a if c else b) + rest`, for the condition that most terms hang on."""
        counts: dict[Atom, int] = {}
        for term, _ in poly.terms:
            for atom in conditions_of(a for a, _ in term.atoms if not term.bound):
                counts[atom] = counts.get(atom, 0) + 1
        condition = min(
            counts, key=lambda a: (-counts[a] - counts.get(opposite(a), 0), evaluated(a))
        )
        if condition.name in (FAILS, NOT_ZERO) and opposite(condition) in counts:
            condition = opposite(condition)
        other = opposite(condition)
        then, rest = _under(poly, condition)
        otherwise, rest = _under(rest, other)
        if condition.name == AT_LEAST and _size(then) < _size(otherwise):
            condition, other, then, otherwise = other, condition, otherwise, then
        then, otherwise = _without(then, condition), _without(otherwise, other)
        alone = self.plain or not (otherwise.terms or rest.terms)
        content = nf.ONE if alone else _shared_content(then, otherwise, rest)
        inverse = nf.power(content, -1)
        then, otherwise, rest = (nf.times(inverse, p) for p in (then, otherwise, rest))
        alone = self.plain or not otherwise.terms
        inner = nf.ONE if alone else _shared_content(then, otherwise)
        inverse = nf.power(inner, -1)
        sign = -1 if all(c < 0 for p in (then, otherwise) for _, c in p.terms) else 1
        one, two = (
            self.expression(nf.scaled(nf.times(inverse, p), sign)) if p.terms else Number(0)
            for p in (then, otherwise)
        )
        value: Expression = Conditional(self.condition(condition), one, two)
        if inner != nf.ONE:
            value = self._product(inner, (), (value,))
        if rest.terms:
            first, whole = self.signed(rest)
            value = apply("+" if sign == first else "-", whole, value)
            sign = first
        return sign, value if content == nf.ONE else self._product(content, (), (value,))

    def condition(self, atom: Atom) -> Expression:
        return self.formula(expression_of(atom, self.places))

    def conditions(self, atoms: Iterable[Atom]) -> Expression | None:
        """All of them, in an order in which they can be tested; None for none."""
        return conjunction(map(self.formula, written(atoms, self.places)))

    def _factored(self, poly: Poly) -> tuple[int, Poly, tuple[Poly, ...]]:
        """Sign, a single term, and sums: their product is the poly."""
        if not poly.terms:
            return 1, nf.ZERO, ()
        if len(poly.terms) > 1 or poly.terms[0][1] != 1:
            poly = spread(poly)
        if any(t.bound for t, _ in poly.terms):
            return 1, nf.ONE, (poly,)
        content, rest = content_of(poly)
        if self.plain and len(poly.terms) > 1:
            content, rest = nf.ONE, poly
        flat = spread(rest)
        if len(flat.terms) <= len(rest.terms):
            rest = flat  # `(a - p) - (a - n)` is `n - p`
        named: list[Poly] = []
        if len(rest.terms) == 1:
            content, factors = nf.times(content, rest), []
        else:
            factors = list(self.split(rest))
        term, coefficient = content.terms[0]
        kept: Powers = {}
        for atom, p in term.atoms:
            if atom.kind == "sum" and p == 1 and atom.tensors:
                named.append(spread(atom.parts[0]))  # type: ignore[arg-type]
            else:
                kept[atom] = p
        if not all(factor.terms for factor in (*factors, *named)):
            return 1, nf.ZERO, ()  # spread out, one of them is nothing
        sign = 1 if coefficient > 0 else -1
        for group in (factors, named):
            for k, factor in enumerate(group):
                if self._backwards(factor) and not (self.plain and group is factors):
                    group[k], sign = nf.scaled(factor, -1), -sign
        # `g * (p - y)` rather than `-g * (y - p)`; sums of the forward keep their order.
        for k, factor in enumerate(factors):
            if (
                sign < 0
                and not self.plain
                and all(t.atoms for t, _ in factor.terms)
                and len({c > 0 for _, c in factor.terms}) > 1
            ):
                factors[k], sign = nf.scaled(factor, -1), 1
        return sign, nf.product((), kept, max(coefficient, -coefficient)), (*factors, *named)

    def _backwards(self, poly: Poly) -> bool:
        """Would one rather write its negative: `1 - G`, `x - mu`?"""
        numbers = [c for t, c in poly.terms if not t.atoms]
        if numbers and poly.tensors:
            return numbers[0] < 0

        def key(item: tuple[Term, nf.Number]) -> tuple[object, ...]:
            order = sorted(self._rank(a) for a, _ in item[0].atoms)
            return (not item[0].tensors, -len(item[0].free), len(item[0].atoms), order, item[0].key)

        return min(poly.terms, key=key)[1] < 0

    def _reduced(self, term: Term, coefficient: nf.Number) -> tuple[int, Expression]:
        """`outside * sum[j](inside)`."""
        if self.index_names is None:
            raise nf.TooLarge
        bound, powers = term.opened()
        names, inner = dict(self.names), {i for i, _ in bound}
        used = {*(self.names.get(i, i) for i in term.free), *self.names.values()}
        for index, extent in bound:
            choices = [n for n in self.index_names.get(extent, ()) if n not in used]
            names[index] = choices[0] if choices else invented(extent, used)
            used.add(names[index])
        inside = nf.product((), {a: p for a, p in powers.items() if a.free & inner})
        around = {a: p for a, p in powers.items() if not a.free & inner}
        guards = sorted(conditions_of(around), key=evaluated)
        if guards:
            rest = nf.product(bound, {a: p for a, p in powers.items() if a not in guards})
            sign, whole = self.signed(nf.scaled(rest, coefficient))
            guard = self.conditions(guards)
            assert guard is not None
            return sign, Conditional(guard, whole, Number(0))
        outside = nf.product((), around, coefficient)
        value = replace(self, names=names).expression(inside)
        ranges = tuple(Range(names[i], ZERO, nf.extent_expression(e)) for i, e in bound)
        whole = Reduce("sum", ranges, value)
        sign, factor = self.signed(outside)
        if factor == Number(1):
            return sign, whole
        if isinstance(factor, Apply) and factor.operation == "/":
            above = factor.operands[0]
            top = whole if above == Number(1) else apply("*", above, whole)
            return sign, apply("/", top, factor.operands[1])
        return sign, apply("*", factor, whole)

    def split(self, poly: Poly) -> Iterable[Poly]:
        """Factors of a sum without common atoms: by cofactors of its atoms that divide it exactly."""
        if self.plain or len(poly.terms) > MOST_FACTORED:
            return [poly]
        for atom in self._atoms(poly):
            for part in by_power(poly, atom).values():
                if not 1 < len(part.terms) < len(poly.terms):
                    continue
                _, candidate = content_of(part)
                if len(candidate.terms) < 2:
                    continue
                quotient = divide(poly, candidate)
                if quotient is not None:
                    inner = self.split(quotient) if len(quotient.terms) > 1 else [quotient]
                    return [*inner, candidate]
        return [poly]

    def _atoms(self, poly: Poly) -> list[Atom]:
        found = {a for t, _ in poly.terms for a, _ in t.atoms}
        return sorted(found, key=lambda a: (self._rank(a), a.key))

    def _product(
        self, single: Poly, sums: tuple[Poly, ...], others: tuple[Expression, ...] = ()
    ) -> Expression:
        """A positive term times sums and other factors, as one fraction."""
        if not single.terms:
            return Number(0)
        term, coefficient = single.terms[0]
        fraction = Fraction(coefficient)
        above, below = fraction.numerator, fraction.denominator
        top: list[Expression] = []
        bottom: list[Expression] = []
        short = _decimal(fraction)
        if short is not None and below not in (1, 2):
            top.append(short)
            above = below = 1
        if above != 1:
            top.append(whole_number(above))
        if below != 1:
            bottom.append(whole_number(below))
        ordered = sorted(term.atoms, key=lambda t: (self._rank(t[0]), t[0].key))
        for atom, p in ordered:
            base = self.atom(atom)
            (top if p > 0 else bottom).append(_power(base, max(p, -p)))
        top += [*map(self.sum, sums), *others]
        if bottom:
            return self._fraction(top, bottom)
        return _chain("*", top) if top else Number(1)

    def _fraction(self, top: list[Expression], bottom: list[Expression]) -> Expression:
        """`g[b] / Z[b] * exp(s[b,j])`: what has fewer indices in front, to be computed outside."""
        divisor = _chain("*", bottom)
        every = frozenset().union(*map(indices_of, top), indices_of(divisor))
        low = [e for e in top if indices_of(e) < every]
        if len(low) == len(top) or not low or not indices_of(divisor) < every:
            return apply("/", _chain("*", top) if top else Number(1), divisor)
        rest = [e for e in top if e not in low]
        return _chain("*", [apply("/", _chain("*", low), divisor), *rest])

    def sum(self, poly: Poly) -> Expression:
        """A sum of terms; what most of them share is taken out of those (Horner)."""
        ordered = self._ordered(poly)
        shared = self._shared(poly)
        complement = None if self.plain else complement_of(poly)
        if complement is not None:
            inside = complement
            outside = nf.plus(poly, nf.scaled(complement, -1))
        elif shared is not None:
            inside, outside = by_atom(poly, shared)
        if complement is not None or shared is not None:
            pieces = [(inside, True), *((Poly({t: c}), False) for t, c in outside.terms)]
            place = {t: n for n, (t, _) in enumerate(ordered)}
            pieces.sort(key=lambda part: min(place[t] for t, _ in part[0].terms))
            polys = [p for p, _ in pieces]
        else:
            polys = [Poly({t: c}) for t, c in ordered]
        result: Expression | None = None
        parts = [self.signed(p) for p in polys]
        positive = next((n for n, (sign, _) in enumerate(parts) if sign > 0), 0)
        for sign, value in (parts[positive], *parts[:positive], *parts[positive + 1 :]):
            if result is None:
                result = value if sign > 0 else Apply("neg", (value,))
            else:
                result = apply("+" if sign > 0 else "-", result, value)
        return result if result is not None else Number(0)

    def _shared(self, poly: Poly) -> Atom | None:
        """The atom whose factoring out saves most operations."""
        if self.plain or len(poly.terms) < 3:
            return None
        counts: dict[Atom, int] = {}
        for term, _ in poly.terms:
            for atom, _ in term.atoms:
                counts[atom] = counts.get(atom, 0) + 1
        many = [a for a, n in counts.items() if 1 < n < len(poly.terms)]
        if not many:
            return None
        return min(many, key=lambda a: (-counts[a] * weight(a), self._rank(a), a.key))

    def _ordered(self, poly: Poly) -> list[tuple[Term, nf.Number]]:
        """Positive terms first; a number before tensors, names behind them, as in `v[b] + eps`."""

        def key(item: tuple[Term, nf.Number]) -> tuple[object, ...]:
            term, coefficient = item
            kinds = 0 if not term.atoms else 1 if term.tensors or term.free else 2
            rank = -len(term.free)
            order = sorted(self._rank(a) for a, _ in term.atoms)
            return coefficient < 0, kinds, rank, len(term.atoms), order, term.key

        return sorted(poly.terms, key=key)

    def _rank(self, atom: Atom) -> tuple[int, int, int]:
        """Where a factor stands: names and scalars first, then by the header's order."""
        order = min((self.order.get(t, 999) for t in atom.tensors), default=-1)
        return (len(atom.free) > 0, atom.kind in ("function", "sum"), order)

    # --------------------------------------------------------------------------------------- atoms

    def atom(self, atom: Atom) -> Expression:
        if not all(p.terms for p in atom.parts if isinstance(p, Poly)) and atom.name in ("", "log"):
            raise nf.TooLarge  # 1 / 0 or log(0): there is no telling what it is
        match atom.kind:
            case "read":
                return Read(atom.name, tuple(self.subscript(p) for p in atom.parts))  # type: ignore[arg-type]
            case "name":
                assert atom.node is not None
                return atom.node  # type: ignore[return-value]
            case "index":
                return Index(self.names.get(str(atom.parts[0]), str(atom.parts[0])))
            case "function":
                return Apply(atom.name, tuple(self.expression(p) for p in atom.parts))  # type: ignore[arg-type]
            case "delta":
                left, right = (self.subscript(p) for p in atom.parts)  # type: ignore[arg-type]
                return compare("==", left, right)
            case "sum":
                return self.sum(spread(atom.parts[0]))  # type: ignore[arg-type]
            case "indicator" | "truth":
                return Conditional(self.condition(atom), Number(1), Number(0))
        return self.formula(atom.parts[0])  # type: ignore[arg-type]

    def subscript(self, subscript: nf.Subscript) -> Expression:
        if isinstance(subscript, str):
            return Index(self.names.get(subscript, subscript))
        form = linear(nf.as_expression(subscript))
        return self.formula(integers.expression_of(form, self.places))

    def formula(self, expression: Expression) -> Expression:
        return substitute(expression, {i: Index(n) for i, n in self.names.items()})


def _range(index: str, extent: str) -> Range:
    """Bare where the extent is a name, which the reads tell."""
    return (
        Range(index) if extent.isidentifier() else Range(index, ZERO, nf.extent_expression(extent))
    )


def _size(poly: Poly) -> int:
    return sum(len(t.atoms) for t, _ in poly.terms)


def _under(poly: Poly, condition: Atom) -> tuple[Poly, Poly]:
    """The terms that stand under the condition, and the others; reductions are among these."""
    with_it = {t: c for t, c in poly.terms if not t.bound and condition in dict(t.atoms)}
    return Poly(with_it), Poly({t: c for t, c in poly.terms if t not in with_it})


def _without(poly: Poly, condition: Atom) -> Poly:
    return nf.plus(
        *(nf.product((), {a: p for a, p in t.atoms if a != condition}, c) for t, c in poly.terms)
    )


def _shared_content(*polys: Poly) -> Poly:
    """The atoms that all terms of all sums share, conditions apart."""
    shared: Powers | None = None
    for poly in polys:
        for term, _ in poly.terms:
            powers = {a: p for a, p in term.atoms if a.kind != "indicator"}
            if shared is None:
                shared = powers
                continue
            common: Powers = {}
            for atom, p in shared.items():
                q = powers.get(atom, 0)
                if p * q > 0:
                    common[atom] = min(p, q) if p > 0 else max(p, q)
            shared = common
    return nf.product((), shared or {})


def weight(atom: Atom) -> int:
    """About how many operations it takes to have the atom once more."""
    if atom.kind in ("function", "sum"):
        return 3 + len(atom.free)
    return 2 if atom.kind == "read" else 1


def invented(extent: str, used: Collection[str]) -> str:
    """A new name for an index over an extent."""
    name = extent.lower() if extent.isidentifier() else "i"
    if name in RESERVED:
        name = "i"
    while name in used:
        name += "'"
    return name


def _chain(operation: str, parts: list[Expression]) -> Expression:
    result = parts[0]
    for part in parts[1:]:
        result = apply(operation, result, part)
    return result


def _power(base: Expression, exponent: nf.Number) -> Expression:
    if exponent == 1:
        return base
    if exponent == Fraction(1, 2):
        return apply("sqrt", base)
    if exponent.denominator == 1:
        return apply("**", base, Number(int(exponent)))
    value = _decimal(Fraction(exponent))
    if value is not None:
        return apply("**", base, value)
    return apply(
        "**", base, apply("/", whole_number(exponent.numerator), whole_number(exponent.denominator))
    )


def _decimal(value: Fraction) -> Number | None:
    """The literal of a number with few digits behind the point: 1.5, 0.044715, 1e-30."""
    if value.denominator == 1:
        return None
    few = any((value * 10**digits).denominator == 1 for digits in range(1, 16))
    return decimal(value) if few or value.denominator > LARGEST_INTEGER else None
