"""The depth of every element, statement by statement: the terms that each adds to its target's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.polynomial import add, constant, constant_value, subtract
from loopgrad.cost.cases import Case, Conditions, TooManyCases, is_static, leaves, truth
from loopgrad.cost.lines import Line
from loopgrad.cost.polys import ONE, Formula, formula, indices_in, linear_in, log, put, times
from loopgrad.cost.terms import (
    Bounds,
    Domain,
    Interval,
    Source,
    Term,
    Unknown,
    axis,
    coordinate,
    whole,
)
from loopgrad.ir.nodes import Expression, Read, Reduction

Depths = dict[str, list[Term]]


class Statements:
    """Makes the terms of statements, from those of the tensors that they read."""

    def __init__(self, facts: Facts, bounds: Bounds, known: Depths):
        self.facts, self.bounds, self.known = facts, bounds, known

    def lengths(self, tensor: str) -> list[Formula]:
        return [formula(e) for e in self.facts.tensors[tensor].extents]

    # ------------------------------------------------------------------------------------ folding

    def tensor(self, lines: list[Line], sought: Collection[str] = ()) -> list[Term]:
        """The terms of a tensor that these statements write, in order; of those sought, as sources."""
        bounds = self.bounds
        terms: list[Term] = []
        for line in lines:
            added = self.line(line, sought)
            if line.statement.reduction is Reduction.SET:
                terms += added
            else:
                region = self.region(line)
                later = [
                    narrowed.raised(ONE)
                    for term in terms
                    for place in region
                    if (narrowed := self.within(term, place)) is not None
                ]
                terms += [*later, *(term.raised(ONE) for term in added)]
            terms = bounds.pruned(terms)
        return terms

    def within(self, term: Term, place: Term) -> Term | None:
        """The term where another applies."""
        found: Term | None = replace(term, needs=_all(term.needs, place.needs))
        for name, (low, high) in place.domain.items():
            found = found and self.bounds.narrowed(found, name, low, high)
        return found

    # ------------------------------------------------------------------------------ one statement

    def line(self, line: Line, sought: Collection[str] = ()) -> list[Term]:
        """How deep what the statement adds to an element stands, its sum included."""
        if line.bounded and not self.bounds.upper:
            return []  # data may cut its loops short
        found: list[Term] = []
        for case in self.cases(line):
            rounds = self.rounds(line, case)
            for read, height in (*case.reach, *((read, 0) for read in line.bounded)):
                for term in self.read(line, case, read, height, sought):
                    for own in rounds:
                        both = self.joined(term, own)
                        if both is not None:
                            found += self.written(line, both)
        return self.bounds.pruned(found)

    def region(self, line: Line) -> list[Term]:
        """Where the statement writes, with a depth of 0."""
        if line.bounded and not self.bounds.upper:
            return []
        found: list[Term] = []
        for conditions in self.guards(line):
            term = self.at_points(line, conditions)
            if term is not None:
                found += self.written(line, term)
        return self.bounds.pruned(found)

    def cases(self, line: Line) -> list[Case]:
        try:
            return leaves(line.statement)
        except TooManyCases:
            raise Unknown from None

    def guards(self, line: Line) -> list[Conditions]:
        if line.statement.guard is None:
            return [()]
        try:
            return [c.conditions for c in truth(line.statement.guard) if c.truth is not False]
        except TooManyCases:
            raise Unknown from None

    def at_points(self, line: Line, conditions: Conditions) -> Term | None:
        """A term of depth 0 at the points where the conditions come out so."""
        domain: dict[str, Interval] = {}
        for r in line.ranges:
            assert r.lower is not None and r.upper is not None
            domain[r.index] = (formula(r.lower), formula(r.upper))
        found: Term | None = Term({}, domain)
        for condition, holds in conditions:
            found = found and self.bounds.holding(found, condition, holds)
        return found

    def joined(self, one: Term, other: Term) -> Term | None:
        """Both depths together, where both terms apply."""
        found = self.within(one, other)
        return found and found.raised(other.depth)

    # -------------------------------------------------------------------------------------- reads

    def read(
        self, line: Line, case: Case, read: Read | None, height: int, sought: Collection[str]
    ) -> list[Term]:
        """How deep a read stands, and what is above it, at the points of the case."""
        points = self.at_points(line, case.conditions)
        if points is None:
            return []
        points = points.raised(constant(height))
        if read is None or read.tensor not in {*self.known, *sought}:
            return [points]
        if read.tensor in sought:
            at = tuple(formula(s) if is_static(s) else None for s in read.subscripts)
            if not self.bounds.upper and any(not is_static(s) for s in read.subscripts):
                return []
            return [replace(points, source=Source(read.tensor, at))]
        found = [points]
        for term in self.known[read.tensor]:
            placed = self.placed(points, term, read.tensor, read.subscripts)
            if placed is not None:
                found.append(placed)
        return found

    def placed(
        self, points: Term, term: Term, tensor: str, subscripts: tuple[Expression, ...]
    ) -> Term | None:
        """An element's term where it is read, on top of what is there."""
        at = [formula(s) if is_static(s) else None for s in subscripts]
        return self.composed(points, term, tensor, at)

    def composed(
        self, points: Term, term: Term, tensor: str, at: list[Formula | None]
    ) -> Term | None:
        """The term of a tensor's element, whose coordinates are given, or None for any along an axis."""
        places = {
            axis(n): f
            for n, f in enumerate(at)
            if f is not None and self.is_plain(f, points.domain)
        }
        any_place = [axis(n) for n, f in enumerate(at) if f is None]
        narrow = self.along_axes(term, tensor, places, any_place)
        if narrow is None:
            return None
        found: Term | None = replace(points, needs=_all(points.needs, narrow.needs))
        depth, source = narrow.depth, narrow.source
        own = {f"{name}.": f for name, f in places.items()}  # apart from the points' own axes
        for name in places:
            depth = _must(put(depth, name, coordinate(f"{name}.")))
            source = source and source.moved(name, coordinate(f"{name}."))
        for name, f in own.items():
            depth = _must(put(depth, name, f))
            source = source and source.moved(name, f)
        for name, place in places.items():
            low, high = narrow.domain[name]
            if (low, high) == ({}, self.lengths(tensor)[int(name[1:])]):
                continue  # it is read where it is
            for end in ("low", "high"):
                bound = low if end == "low" else high
                for other in places:
                    bound = _must(put(bound, other, coordinate(f"{other}.")))
                for other, f in own.items():
                    bound = _must(put(bound, other, f))
                over = subtract(place, bound)
                over = over if end == "low" else subtract({m: -c for m, c in over.items()}, ONE)
                found = found and self.bounds.where(found, over)
        return found and replace(found.raised(depth), source=source)

    def along_axes(
        self, term: Term, tensor: str, places: Collection[str], any_place: Collection[str]
    ) -> Term | None:
        """The term with the axes gone at which it is not said where the element is.

        `any_place`: those of which every element is meant, of which an upper bound takes the largest, as
        a lower one may; elsewhere a lower one needs that all are as deep.
        """
        bounds = self.bounds
        found = term
        for number, length in reversed(list(enumerate(self.lengths(tensor)))):
            name = axis(number)
            if name in places:
                continue
            low, high = found.domain[name]
            full = not low and not subtract(high, length)
            if not bounds.upper and not (full and name not in indices_in(found.depth)):
                return None
            ends = bounds.without(found, name)
            if len(ends) != 1:
                raise Unknown
            found = ends[0]
        return found

    def is_plain(self, place: Formula, domain: Domain) -> bool:
        """Whether the place is linear in each coordinate."""
        return all(linear_in(place, name) is not None for name in domain)

    # --------------------------------------------------------------------------------------- sums

    def rounds(self, line: Line, case: Case) -> list[Term]:
        """How many rounds the sum of an element takes, at the points of the case."""
        points = self.at_points(line, case.conditions)
        if points is None:
            return []
        if line.statement.reduction is Reduction.SET:
            return [points]
        guards = self.guards(line)
        if self.bounds.upper:
            conditions: Conditions = guards[0] if len(guards) == 1 else ()
        else:
            own = {c for guard in guards for c in guard}
            conditions = tuple(c for c in case.conditions if c in own)
        counted = self.at_points(line, conditions)
        kept = self.kept(line)
        if counted is None or kept is None:
            return []
        count = self.count(counted, kept, [r.index for r in line.ranges])
        if count is None:
            return []
        return self.largest_log(points, count)

    def kept(self, line: Line) -> set[str] | None:
        """The indices that are known where an element is; None where they are only at most that."""
        found: set[str] = set()
        for subscript in line.target.subscripts:
            names = indices_in(formula(subscript)) if is_static(subscript) else {"?"}
            plain = is_static(subscript) and self.is_unit(subscript)
            if plain and names <= found:
                plain = False  # as in `L[j,j]`
            if not plain and names and not self.bounds.upper:
                return None
            if not is_static(subscript):
                continue
            # Of several indices, one is known once the others are.
            if self.is_mixed(subscript, line):
                found |= names
                continue
            new = [r.index for r in line.ranges if r.index in names - found]
            moving = [i for i in new if self.is_moving(subscript, i)]
            found |= set(names if plain else moving[:1])
        return found

    def is_unit(self, subscript: Expression) -> bool:
        f = formula(subscript)
        names = indices_in(f)
        parts = linear_in(f, min(names)) if len(names) == 1 else None
        return not names or (parts is not None and constant_value(parts[0]) == 1)

    def is_mixed(self, subscript: Expression, line: Line) -> bool:
        """Whether it is `i*width + di` with di below the width: each place comes from one pair."""
        f = formula(subscript)
        names = indices_in(f)
        for r in line.ranges:
            if r.index not in names or len(names) != 2:
                continue
            [other] = names - {r.index}
            parts, slope = linear_in(f, r.index), linear_in(f, other)
            if parts is None or slope is None or constant_value(parts[0]) != 1:
                continue
            assert r.lower is not None and r.upper is not None
            if not formula(r.lower) and not subtract(formula(r.upper), slope[0]):
                return True
        return False

    def is_moving(self, subscript: Expression, index: str) -> bool:
        """Whether two values of the index, and the same of all others, never come to one place."""
        parts = linear_in(formula(subscript), index)
        if parts is None or not parts[0]:
            return False
        ahead = subtract(parts[0], ONE)
        return self.bounds.natural(ahead) or constant_value(parts[0]) is not None

    def count(self, points: Term, kept: set[str], order: list[str]) -> Formula | None:
        """How many points there are for each value of the coordinates that are kept."""
        total: Formula = ONE
        for name in reversed(order):
            if name in kept:
                continue
            released = self.bounds._released(points, name)
            if released is None:
                return None
            low, high = released.domain[name]
            points = replace(
                released, domain={n: i for n, i in released.domain.items() if n != name}
            )
            parts = linear_in(total, name)
            if parts is None:
                raise Unknown
            slope, rest = parts
            total = times(rest, subtract(high, low))
            if slope:
                below = subtract(_sum_below(high), _sum_below(low))
                total = add(total, times(slope, below))
        return total

    def largest_log(self, points: Term, count: Formula) -> list[Term]:
        """Rounds where they are most: a lower bound holds at that place alone."""
        bounds = self.bounds
        found = points
        while names := sorted(indices_in(count)):
            ranked = [(_hangs_on(found, n), n) for n in names]
            name = max(ranked)[1]
            parts = linear_in(count, name)
            if parts is None:
                raise Unknown
            low, high = found.domain[name]
            if bounds.natural(parts[0]):
                end = subtract(high, ONE)
            elif bounds.natural({m: -c for m, c in parts[0].items()}):
                end = low
            else:
                raise Unknown
            count = _must(put(count, name, end))
            if not bounds.upper:
                narrowed = bounds.narrowed(found, name, end, add(end, ONE))
                if narrowed is None:
                    return []
                found = narrowed
        return [found.raised(log(count))]

    # ------------------------------------------------------------------------------------- target

    def written(self, line: Line, term: Term) -> list[Term]:
        """The term of points as one of the target's elements: the largest over what is summed."""
        bounds = self.bounds
        lengths = self.lengths(line.target.tensor)
        axes: dict[str, tuple[int, Formula]] = {}  # index -> its axis, and what is added to it
        fixed: dict[int, Formula] = {}
        for number, subscript in enumerate(line.target.subscripts):
            f = formula(subscript) if is_static(subscript) else None
            names = indices_in(f) if f is not None else {"?"}
            if f is not None and not names:
                fixed[number] = f
                continue
            [*single] = names
            parts = linear_in(f, single[0]) if f is not None and len(single) == 1 else None
            if (
                parts is not None
                and constant_value(parts[0]) == 1
                and single[0] in term.domain
                and single[0] not in axes
            ):
                axes[single[0]] = (number, parts[1])
            elif not bounds.upper:
                return []
        terms = [term]
        for name in reversed([r.index for r in line.ranges]):
            if name not in axes:
                terms = [left for one in terms for left in bounds.without(one, name)]
        found = []
        for one in terms:
            domain: dict[str, Interval] = whole(lengths)
            depth, source = one.depth, one.source
            for name, (number, more) in axes.items():
                own = subtract(coordinate(axis(number)), more)
                low, high = one.domain[name]
                domain[axis(number)] = (add(low, more), add(high, more))
                depth = _must(put(depth, name, own))
                if source is not None:
                    at = tuple(None if f is None else put(f, name, own) for f in source.at)
                    source = Source(source.tensor, at)
            for name, (number, more) in axes.items():  # bounds may hang on other indices
                own = subtract(coordinate(axis(number)), more)
                domain = {
                    n: (_must(put(low, name, own)), _must(put(high, name, own)))
                    for n, (low, high) in domain.items()
                }
            for number, place in fixed.items():
                domain[axis(number)] = (place, add(place, ONE))
            found.append(Term(depth, domain, source, one.needs))
        return found


def _sum_below(f: Formula) -> Formula:
    """The sum of 0, 1, ... below a number."""
    return times({(): Fraction(1, 2)}, times(f, subtract(f, ONE)))


def _hangs_on(term: Term, name: str) -> int:
    """How many other coordinates bound this one."""
    low, high = term.domain[name]
    return len(indices_in(low) | indices_in(high))


def _must(f: Formula | None) -> Formula:
    if f is None:
        raise Unknown
    return f


def _all(one: tuple[Formula, ...], other: tuple[Formula, ...]) -> tuple[Formula, ...]:
    """What either needs, each once."""
    return (*one, *(need for need in other if need not in one))
