"""Depths of tensors that hang on each other: the longest walks around a ring, in closed form.

Each tensor's depth is the largest of terms, some of which stand above an element of a tensor of the ring. Put
into each other, all but the tensors that read themselves go; what is left is `D(t) = max(e(t), D(t-1) + w)`,
which is `max(e(t), e(s) + w*(t-s))` for the first and the last `s` that `e` applies to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations, permutations, product

from loopgrad.analysis.polynomial import add, constant, constant_value, negate, scale, subtract
from loopgrad.cost.depths import Statements
from loopgrad.cost.polys import ONE, Formula, indices_in, linear_in, put, times
from loopgrad.cost.terms import Bounds, Interval, Term, Unknown, axis, coordinate


@dataclass(frozen=True)
class Walk:
    """Once around: from the element that is `shift` away, `weight` deeper, for elements within `domain`.

    Axes without a shift are those along which any element may be meant.
    """

    shift: Mapping[int, int]
    weight: Formula
    domain: Mapping[str, Interval]
    needs: tuple[Formula, ...]


def solved(ring: Mapping[str, list[Term]], statements: Statements) -> dict[str, list[Term]]:
    """The terms of the ring's tensors without sources. Raises Unknown where there is no closed form."""
    plain = [name for name in ring if not any(_reads(t, name) for t in ring[name])]
    return _Solver(statements).solve(dict(ring), plain)


def _reads(term: Term, name: str) -> bool:
    return term.source is not None and term.source.tensor == name


class _Solver:
    def __init__(self, statements: Statements):
        self.statements = statements
        self.bounds: Bounds = statements.bounds

    def solve(self, ring: dict[str, list[Term]], plain: list[str]) -> dict[str, list[Term]]:
        """Tensors that do not read themselves are put into the others, then those that do, one by one."""
        found: dict[str, list[Term]] = {}
        removed: list[tuple[str, list[Term]]] = []
        while True:
            free = [n for n in ring if not any(_reads(t, n) for t in ring[n])]
            if not free:
                break
            first = min(free, key=lambda n: self.is_read_elsewhere(n, ring))
            removed.append((first, ring.pop(first)))
            ring = {n: self.with_put(terms, removed[-1]) for n, terms in ring.items()}
        found = self.with_loops(ring) if ring else {}
        for name, terms in reversed(removed):
            for other, known in found.items():
                terms = self.with_put(terms, (other, known))
            found[name] = self.bounds.pruned(t for t in terms if t.source is None)
        return found

    def is_read_elsewhere(self, name: str, ring: dict[str, list[Term]]) -> bool:
        """Whether it is read of another turn: then it is better kept, for walks to begin at."""
        sources = [t.source for own in ring.values() for t in own if t.source and _reads(t, name)]
        return any(
            place is None or place != coordinate(axis(number))
            for source in sources
            for number, place in enumerate(source.at)
        )

    def with_loops(self, ring: dict[str, list[Term]]) -> dict[str, list[Term]]:
        """All of the ring read themselves, and maybe each other."""
        if len(ring) == 1:
            [(name, terms)] = ring.items()
            return {name: self.closed(name, terms)}
        if len(ring) > 4:
            raise Unknown
        for order in permutations(ring):
            try:
                return self.in_order(ring, order)
            except Unknown:
                continue
        raise Unknown

    def in_order(
        self, ring: dict[str, list[Term]], order: tuple[str, ...]
    ) -> dict[str, list[Term]]:
        """One after the other is put into the rest as if it did not read itself.

        That loses walks around it many times in a row, which are no longer than those around the last of
        the order, if that takes as much for each turn: so it has to.
        """
        self.check_aligned(ring)
        left = dict(ring)
        removed: list[tuple[str, list[Term]]] = []
        for name in order[:-1]:
            terms = left.pop(name)
            removed.append((name, terms))
            others = [t for t in terms if not _reads(t, name)]
            left = {n: self.with_put(found, (name, others)) for n, found in left.items()}
        [(last, terms)] = left.items()
        if self.bounds.upper:
            most = self.walks(last, terms)
            for name, own in removed:
                for walk in self.walks(name, own):
                    if not any(self.is_slower(walk, other) for other in most):
                        raise Unknown
        found = {last: self.closed(last, terms)}
        for name, own in reversed(removed):
            for other, known in found.items():
                own = self.with_put(own, (other, known))
            found[name] = self.closed(name, own)
        return found

    def check_aligned(self, ring: dict[str, list[Term]]) -> None:
        """That the one axis along which each tensor's walks go is the same for all of the ring."""
        along = {}
        for name, terms in ring.items():
            axes = {a for w in self.walks(name, terms) for a in w.shift if w.shift[a]}
            if len(axes) != 1:
                raise Unknown
            [along[name]] = axes
        for name, terms in ring.items():
            own = coordinate(axis(along[name]))
            for term in terms:
                if term.source is None:
                    continue
                place = term.source.at[along[term.source.tensor]]
                if place is None or constant_value(subtract(place, own)) is None:
                    raise Unknown

    def is_slower(self, walk: Walk, other: Walk) -> bool:
        """Whether `other` goes in the same direction, and gets at least as deep for each turn."""
        [mine] = [s for s in walk.shift.values() if s]
        [theirs] = [s for s in other.shift.values() if s]
        return mine * theirs > 0 and self.bounds.less(
            scale(walk.weight, abs(theirs)), scale(other.weight, abs(mine))
        )

    def with_put(self, terms: list[Term], known: tuple[str, list[Term]]) -> list[Term]:
        """The terms with a tensor's own in the place of what stands above it."""
        name, own = known
        found: list[Term] = []
        for term in terms:
            if not _reads(term, name):
                found.append(term)
                continue
            assert term.source is not None
            bare = replace(term, source=None)
            found.append(bare)  # an element that is not above anything is 0 deep
            for other in own:
                put_in = self.statements.composed(bare, other, name, list(term.source.at))
                if put_in is not None:
                    found.append(put_in)
        return self.bounds.pruned(found)

    # ------------------------------------------------------------------------------ closed form

    def walks(self, name: str, terms: list[Term]) -> list[Walk]:
        return [self.walk(t) for t in terms if _reads(t, name)]

    def walk(self, term: Term) -> Walk:
        assert term.source is not None
        if indices_in(term.depth):
            raise Unknown
        shift = {}
        for number, place in enumerate(term.source.at):
            if place is None:
                continue
            ahead = constant_value(subtract(place, coordinate(axis(number))))
            if ahead is not None:
                shift[number] = int(ahead)
        return Walk(shift, term.depth, term.domain, term.needs)

    def closed(self, name: str, terms: list[Term]) -> list[Term]:
        """Without reading itself."""
        own = [t for t in terms if _reads(t, name)]
        if any(t.source is not None and not _reads(t, name) for t in terms):
            raise Unknown
        others = [t for t in terms if t.source is None]
        rank = len(self.statements.lengths(name))
        walks: list[Walk] = []
        for term in own:
            try:
                walks.append(self.walk(term))
            except Unknown:
                if self.bounds.upper:
                    raise
        if self.bounds.upper:
            return self.bounds.pruned(chain(others, self.at_most(name, others, walks, rank)))
        found = list(others)
        for walk in walks:
            moving = [a for a, s in walk.shift.items() if s]
            if len(moving) == 1 and abs(walk.shift[moving[0]]) == 1:
                for term in others:
                    found += self.at_least(term, walk, moving[0], name)
        if len(walks) > 1:
            found = self.along_both(found, walks, name)
        return self.bounds.pruned(found)

    def along_both(self, terms: list[Term], walks: list[Walk], name: str) -> list[Term]:
        """Along one axis after another."""
        found = list(terms)
        for walk in walks:
            moving = [a for a, s in walk.shift.items() if s]
            if len(moving) == 1 and abs(walk.shift[moving[0]]) == 1:
                for term in terms:
                    found += self.at_least(term, walk, moving[0], name)
        return self.bounds.pruned(found)

    def at_least(self, term: Term, walk: Walk, along: int, name: str) -> list[Term]:
        """The term carried along an axis, from where it first applies."""
        lengths = self.statements.lengths(name)
        for number, length in enumerate(lengths):
            if number == along:
                continue
            low, high = term.domain[axis(number)]
            full = not low and not subtract(high, length)
            if walk.shift.get(number) == 0:
                continue
            if number in walk.shift or (axis(number) in indices_in(term.depth) and not full):
                return []
            reduced = self.bounds.without(term, axis(number))
            if len(reduced) != 1:
                return []
            domain = {**reduced[0].domain, axis(number): walk.domain[axis(number)]}
            term = replace(reduced[0], domain=domain)
        for number in range(len(lengths)):
            if number != along and walk.shift.get(number) == 0:
                narrowed = self.bounds.narrowed(term, axis(number), *walk.domain[axis(number)])
                if narrowed is None:
                    return []
                term = narrowed
        return list(self.carried(term, walk, along, walk.weight))

    def carried(
        self, term: Term, walk: Walk, along: int, rate: Formula, reach: int = 1
    ) -> Iterator[Term]:
        """From the first place of the term's domain, and in an upper bound from its last too, onwards.

        `reach`: how far a step goes at most.
        """
        bounds, at = self.bounds, axis(along)
        forwards = walk.shift[along] < 0
        low, high = term.domain[at]
        walk_low, walk_high = walk.domain[at]
        if forwards:
            before = subtract(walk_low, constant(reach))
            first = self.later(low, before, term)
            if first is None:
                return
            starts = [first]
        else:
            after = add(walk_high, constant(reach - 1))
            first = self.sooner(subtract(high, ONE), after, term)
            if first is None:
                return
            starts = [first]
        if bounds.upper and not self.is_carried_from_first(term, at, rate, forwards, walk):
            starts.append(subtract(high, ONE) if forwards else low)
        applies = bounds.where(replace(term, domain={}), subtract(subtract(high, low), ONE))
        if applies is None and not bounds.upper:
            return
        needs = applies.needs if applies else term.needs
        for start in starts:
            depth = put(term.depth, at, start)
            if depth is None:
                raise Unknown
            steps = subtract(coordinate(at), start)
            steps = steps if forwards else negate(steps)
            reached = (start, walk_high) if forwards else (walk_low, add(start, ONE))
            carried = replace(
                term,
                depth=add(depth, times(rate, steps)),
                domain={**term.domain, at: reached},
                needs=(*needs, *walk.needs),
            )
            kept = bounds.where(carried, subtract(subtract(reached[1], reached[0]), ONE))
            if kept is not None:
                yield kept

    def is_carried_from_first(
        self, term: Term, at: str, rate: Formula, forwards: bool, walk: Walk
    ) -> bool:
        """Whether the term itself says as much as it does when carried from its last place."""
        low, high = term.domain[at]
        walk_low, walk_high = walk.domain[at]
        over = subtract(high, walk_high) if forwards else subtract(walk_low, low)
        if not self.bounds.natural(over):
            return False
        parts = linear_in(term.depth, at)
        if parts is None:
            return False
        slope = parts[0] if forwards else negate(parts[0])
        return self.bounds.less(slope, rate)

    def later(self, one: Formula, other: Formula, term: Term) -> Formula | None:
        domain = term.domain
        if self.bounds.natural_in(subtract(one, other), domain):
            return one
        if self.bounds.natural_in(subtract(other, one), domain):
            return other
        return one if self.bounds.upper else None

    def sooner(self, one: Formula, other: Formula, term: Term) -> Formula | None:
        domain = term.domain
        if self.bounds.natural_in(subtract(other, one), domain):
            return one
        if self.bounds.natural_in(subtract(one, other), domain):
            return other
        return one if self.bounds.upper else None

    def at_most(self, name: str, terms: list[Term], walks: list[Walk], rank: int) -> list[Term]:
        """All walks, in any order, at the rates that none of them exceeds."""
        kept = [a for a in range(rank) if all(a in w.shift for w in walks)]
        rates = self.rates(walks, kept)
        directions = {a: next(w for w in walks if w.shift[a]) for a in rates}
        lengths = self.statements.lengths(name)
        found: list[Term] = []
        for term in terms:
            wide = [term]
            for number in range(rank):
                still = number in kept and all(w.shift[number] == 0 for w in walks)
                if not still and number not in rates:
                    wide = [
                        replace(t, domain={**t.domain, axis(number): ({}, lengths[number])})
                        for one in wide
                        for t in self.bounds.without(one, axis(number))
                    ]
            for moved in chain.from_iterable(
                combinations(rates, count) for count in range(1, len(rates) + 1)
            ):
                for choice in product(*(rates[a] for a in moved)):
                    carried = wide
                    for along, rate in zip(moved, choice, strict=True):
                        walk = self.widest(along, directions[along], walks)
                        reach = max(abs(w.shift.get(along, 0)) for w in walks)
                        carried = [
                            c for t in carried for c in self.carried(t, walk, along, rate, reach)
                        ]
                    found += carried
        return found

    def widest(self, along: int, one: Walk, walks: list[Walk]) -> Walk:
        """A walk along an axis whose domain there holds those of all that go along it."""
        at = axis(along)
        low, high = one.domain[at]
        for walk in walks:
            if walk.shift.get(along):
                other_low, other_high = walk.domain[at]
                low = low if self.bounds.natural(subtract(other_low, low)) else other_low
                high = high if self.bounds.natural(subtract(high, other_high)) else other_high
        return replace(one, domain={**one.domain, at: (low, high)}, needs=())

    def rates(self, walks: list[Walk], kept: list[int]) -> dict[int, list[Formula]]:
        """For each axis along which walks go, how much deeper a step gets at most."""
        rates: dict[int, list[Formula]] = {}
        slanted = []
        for walk in walks:
            moving = [a for a in kept if walk.shift[a]]
            if not moving:
                raise Unknown
            if len(moving) > 1:
                slanted.append((walk, moving))
                continue
            [a] = moving
            step = abs(walk.shift[a])
            rate = {m: c * _part(step) for m, c in walk.weight.items()}
            rates.setdefault(a, []).append(rate)
        for walk, moving in slanted:
            if any(self.is_within(walk, moving, rates, choice) for choice in range(1)):
                continue
            step = abs(walk.shift[moving[0]])
            rate = {m: c * _part(step) for m, c in walk.weight.items()}
            rates.setdefault(moving[0], []).append(rate)
        for a in rates:
            signs = {walk.shift[a] > 0 for walk in walks if walk.shift[a]}
            if len(signs) > 1:
                raise Unknown
            best: list[Formula] = []
            for rate in rates[a]:
                if not any(self.bounds.less(rate, other) for other in best):
                    best = [b for b in best if not self.bounds.less(b, rate)] + [rate]
            rates[a] = best
        return rates

    def is_within(
        self, walk: Walk, moving: list[int], rates: Mapping[int, list[Formula]], _: int
    ) -> bool:
        """Whether the walk gets no deeper than steps along its axes one by one."""
        if any(a not in rates for a in moving):
            return False
        total: Formula = {}
        for a in moving:
            total = add(total, scale(rates[a][0], abs(walk.shift[a])))
        return self.bounds.less(walk.weight, total)


def _part(step: int) -> object:
    from fractions import Fraction

    return 1 if step == 1 else Fraction(1, step)
