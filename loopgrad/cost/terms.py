"""Depths as formulas: what is known of all elements of a tensor, or of all points of a statement, at once.

A term says that, where its coordinates are within a domain, the depth is a formula that is linear in
them. A set of terms means the largest of those that apply; 0 always does. Two kinds of sets are made by
the same rules: an upper bound may say that a term applies where it does not, a lower one leaves out what is
not certain. Where both come to the same, the depth is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.polynomial import add, constant, constant_value, negate, subtract
from loopgrad.cost.polys import (
    Formula,
    assuming,
    formula,
    indices_in,
    is_never_negative,
    linear_in,
    put,
)
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
)
from loopgrad.ir.walk import conjuncts, subexpressions

Interval = tuple[Formula, Formula]  # at least, and less than
Domain = Mapping[str, Interval]  # by coordinate: an index's name, or that of an axis


WHOLE = frozenset("+ - * // % neg ** max min abs sign and or not".split())
MOST_TERMS = 120  # of one set: beyond, a formula says little, and takes long


class Unknown(Exception):
    """There is no formula for what is asked."""


@dataclass(frozen=True)
class Source:
    """An element of a tensor whose depth is still sought, by its coordinates; None for any along an axis."""

    tensor: str
    at: tuple[Formula | None, ...]

    def moved(self, name: str, place: Formula) -> Source:
        """With a coordinate replaced."""
        return Source(
            self.tensor, tuple(None if f is None else put(f, name, place) for f in self.at)
        )


@dataclass(frozen=True)
class Term:
    """`depth` where the coordinates are in `domain`, above `source` if there is one.

    `needs`: formulas of sizes alone that are 0 or more where the term applies to anything.
    """

    depth: Formula
    domain: Domain = field(default_factory=dict)
    source: Source | None = None
    needs: tuple[Formula, ...] = ()

    def raised(self, by: Formula) -> Term:
        return replace(self, depth=add(self.depth, by))


def axis(number: int) -> str:
    """The name of an axis as a coordinate."""
    return f"@{number}"


def coordinate(name: str) -> Formula:
    return {(Index(name),): 1}


@dataclass(frozen=True)
class Bounds:
    """One of the two ways to make terms, and what is known of sizes.

    `positive`: the integer constants that count as 1 or more.
    """

    upper: bool
    positive: frozenset[str]
    given: tuple[Formula, ...] = ()  # what else is 0 or more: extents that are formulas, less 1
    integers: frozenset[str] = frozenset()  # the constants that are

    # ---------------------------------------------------------------------------------- formulas

    def less(self, left: Formula, right: Formula) -> bool:
        return self.natural(subtract(right, left))

    def natural(self, f: Formula) -> bool:
        return is_never_negative(f, self.positive) or any(
            is_never_negative(subtract(f, g), self.positive) for g in self.given
        )

    def natural_in(self, f: Formula, domain: Domain) -> bool:
        """Whether the formula is 0 or more at all coordinates of the domain."""
        for _ in range(len(domain) + 1):
            names = [name for name in domain if name in indices_in(f)]
            if not names:
                return self.natural(f)
            # The coordinate whose bounds hang on others goes first.
            name = max(names, key=lambda n: len(_names(domain[n])))
            parts = linear_in(f, name)
            if parts is None:
                return False
            low, high = domain[name]
            if self.natural(parts[0]):
                end = low
            elif self.natural(negate(parts[0])):
                end = subtract(high, constant(1))
            else:
                return False
            found = put(f, name, end)
            if found is None:
                return False
            f = found
        return False

    # ----------------------------------------------------------------------------------- domains

    def narrowed(self, term: Term, name: str, low: Formula, high: Formula) -> Term | None:
        """The term where the coordinate is also within these; None where nothing is left, or certain."""
        old_low, old_high = term.domain[name]
        around = {n: i for n, i in term.domain.items() if n != name}
        new_low = self._larger(old_low, low, around)
        new_high = self._smaller(old_high, high, around)
        if new_low is None or new_high is None:
            if not self.upper:
                return None
            if new_low is None:
                new_low, left_out = _simpler(old_low, low)
                term = self._needing(term, subtract(new_high or old_high, left_out))
            if new_high is None:
                new_high, left_out = _simpler(old_high, high)
                term = self._needing(term, subtract(left_out, new_low))
        length = constant_value(subtract(new_high, new_low))
        if length is not None and length <= 0:
            return None
        return replace(term, domain={**term.domain, name: (new_low, new_high)})

    def _needing(self, term: Term, length: Formula) -> Term:
        """The term where an interval, of which nothing else is said, is not empty."""
        more = subtract(length, constant(1))
        if indices_in(more) or more in term.needs or self.natural(more):
            return term
        return replace(term, needs=(*term.needs, more))

    def _larger(self, one: Formula, other: Formula, domain: Domain) -> Formula | None:
        if self.natural_in(subtract(one, other), domain):
            return one
        return other if self.natural_in(subtract(other, one), domain) else None

    def _smaller(self, one: Formula, other: Formula, domain: Domain) -> Formula | None:
        if self.natural_in(subtract(one, other), domain):
            return other
        return one if self.natural_in(subtract(other, one), domain) else None

    def where(self, term: Term, f: Formula) -> Term | None:
        """The term where the formula is 0 or more, which may hang on its coordinates."""
        names = sorted(indices_in(f) & set(term.domain))
        if not names:
            if self.natural(f):
                return term
            value = constant_value(f)
            if value is not None:
                return None
            return term if f in term.needs else replace(term, needs=(*term.needs, f))
        if self.natural_in(f, term.domain):
            return term
        for name in names:
            parts = linear_in(f, name)
            slope = constant_value(parts[0]) if parts else None
            if parts is None or slope not in (1, -1):
                continue
            low, high = term.domain[name]
            if slope == 1:  # name >= -rest
                return self.narrowed(term, name, negate(parts[1]), high)
            return self.narrowed(term, name, low, add(parts[1], constant(1)))
        return term if self.upper else None

    def holding(self, term: Term, condition: Expression, truth: bool) -> Term | None:
        """The term where the condition comes out so."""
        if truth:
            links = list(conjuncts(condition))
            if len(links) > 1:
                found: Term | None = term
                for link in links:
                    found = found and self.holding(found, link, True)
                return found
        if not self.is_integral(condition):
            return term if self.upper else None
        match condition:
            case Apply("not", (operand,)):
                return self.holding(term, operand, not truth)
            case Apply("or", (left, right)) if not truth:
                found = self.holding(term, left, False)
                return found and self.holding(found, right, False)
            case Compare((operator,), (left, right)):
                formulas = _at_least_zero(operator, left, right, truth)
                if formulas is not None:
                    found = term
                    for f in formulas:
                        found = found and self.where(found, f)
                    return found
                return self._apart(term, left, right)
        return term if self.upper else None

    def is_integral(self, e: Expression) -> bool:
        """Whether it is about integers alone, which is what formulas are about."""
        return all(
            (isinstance(n, Constant) and n.name in self.integers)
            or (isinstance(n, Number) and isinstance(n.value, int))
            or (isinstance(n, Apply) and n.operation in WHOLE)
            or isinstance(n, Index | Extent | Compare | Conditional)
            for n in subexpressions(e)
        )

    def _apart(self, term: Term, left: Expression, right: Expression) -> Term | None:
        """Where two numbers differ: all but an end of the domain, if that is where they are equal."""
        f = subtract(formula(left), formula(right))
        names = sorted(indices_in(f) & set(term.domain))
        parts = linear_in(f, names[0]) if len(names) == 1 else None
        if parts is not None and constant_value(parts[0]) in (1, -1):
            value = parts[1] if constant_value(parts[0]) == -1 else negate(parts[1])
            low, high = term.domain[names[0]]
            if not subtract(value, low):
                return self.narrowed(term, names[0], add(low, constant(1)), high)
            if not subtract(add(value, constant(1)), high):
                return self.narrowed(term, names[0], low, value)
        return term if self.upper else None

    # ------------------------------------------------------------------------------- elimination

    def without(self, term: Term, name: str) -> list[Term]:
        """The largest depth over the values of a coordinate, which goes."""
        released = self._released(term, name)
        if released is None:
            return []
        low, high = released.domain[name]
        rest = {n: i for n, i in released.domain.items() if n != name}
        source = released.source
        if source is not None:
            at = tuple(None if f is not None and name in indices_in(f) else f for f in source.at)
            source = Source(source.tensor, at)
        parts = linear_in(released.depth, name)
        if parts is None:
            raise Unknown
        slope = parts[0]
        last = subtract(high, constant(1))
        if not slope:
            ends = [low]
        elif self.natural(slope):
            ends = [last]
        elif self.natural(negate(slope)):
            ends = [low]
        else:
            ends = [low, last]
        found = []
        for end in ends:
            depth = put(released.depth, name, end)
            if depth is None:
                raise Unknown
            left = replace(released, depth=depth, domain=rest, source=source)
            kept = self.where(left, subtract(last, low))
            if kept is not None:
                found.append(kept)
        return found

    def _released(self, term: Term, name: str) -> Term | None:
        """The term with no other coordinate's bound hanging on this one: they bound it instead."""
        found: Term | None = term
        for other, (low, high) in term.domain.items():
            if other == name or name not in _names((low, high)):
                continue
            assert found is not None
            own_low, own_high = found.domain[name]
            for bound, is_low in ((low, True), (high, False)):
                parts = linear_in(bound, name)
                if parts is None:
                    return self._failed()
                slope = constant_value(parts[0])
                if slope == 0:
                    continue
                if slope not in (1, -1):
                    return self._failed()
                # other >= bound, or bound - 1 >= other, as one of `name`
                over = subtract(coordinate(other), bound)
                over = over if is_low else subtract(negate(over), constant(1))
                end = own_low if (slope == 1) == is_low else subtract(own_high, constant(1))
                widest = put(bound, name, end)
                assert widest is not None
                pair = found.domain[other]
                pair = (widest, pair[1]) if is_low else (pair[0], widest)
                found = replace(found, domain={**found.domain, other: pair})
                found = self._bounded(found, name, over)
                if found is None:
                    return None
        return found

    def _bounded(self, term: Term, name: str, f: Formula) -> Term | None:
        """Where the formula, which hangs on the coordinate with slope 1 or -1, is 0 or more."""
        parts = linear_in(f, name)
        assert parts is not None
        low, high = term.domain[name]
        if constant_value(parts[0]) == 1:
            return self.narrowed(term, name, negate(parts[1]), high)
        return self.narrowed(term, name, low, add(parts[1], constant(1)))

    def _failed(self) -> Term | None:
        if self.upper:
            raise Unknown
        return None

    # ----------------------------------------------------------------------------------- pruning

    def pruned(self, terms: Iterable[Term]) -> list[Term]:
        """Without those that others are never below."""
        kept: list[Term] = []
        for term in terms:
            if any(self.covers(other, term) for other in kept):
                continue
            kept = [other for other in kept if not self.covers(term, other)]
            kept.append(term)
            if len(kept) > MOST_TERMS:
                raise Unknown
        return kept

    def covers(self, one: Term, other: Term) -> bool:
        """Whether `one` applies wherever `other` does, and is never below it there."""
        if one.source != other.source:
            return False
        for name, (low, high) in other.domain.items():
            if name not in one.domain:
                return False
            own_low, own_high = one.domain[name]
            if not self.natural_in(subtract(low, own_low), other.domain):
                return False
            if not self.natural_in(subtract(own_high, high), other.domain):
                return False
        for need in one.needs:
            if need not in other.needs and not self.natural(need):
                return False
        domain = {
            name: (assuming(low, other.needs), assuming(high, other.needs))
            for name, (low, high) in other.domain.items()
        }
        return self.natural_in(assuming(subtract(one.depth, other.depth), other.needs), domain)


def _simpler(one: Formula, other: Formula) -> tuple[Formula, Formula]:
    """The two, a number first."""
    return (other, one) if constant_value(other) is not None else (one, other)


def _names(interval: Interval) -> set[str]:
    return indices_in(interval[0]) | indices_in(interval[1])


def _at_least_zero(
    operator: str, left: Expression, right: Expression, truth: bool
) -> list[Formula] | None:
    """The comparison as formulas that are 0 or more; None for two numbers that differ."""
    if not truth:
        opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
        operator = opposite[operator]
    one, other = formula(left), formula(right)
    ahead = subtract(other, one)
    match operator:
        case "<":
            return [subtract(ahead, constant(1))]
        case "<=":
            return [ahead]
        case ">":
            return [subtract(negate(ahead), constant(1))]
        case ">=":
            return [negate(ahead)]
        case "==":
            return [ahead, negate(ahead)]
    return None


def whole(lengths: Sequence[Formula]) -> dict[str, Interval]:
    """The domain of all elements of a tensor."""
    return {axis(a): ({}, length) for a, length in enumerate(lengths)}
