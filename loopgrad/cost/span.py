"""Span: the longest chain of operations each of which reads the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.linear_recurrences import START, Linear
from loopgrad.analysis.polynomial import add, subtract
from loopgrad.cost import scans
from loopgrad.cost.depths import Depths, Statements
from loopgrad.cost.lines import Line, longest_of
from loopgrad.cost.polys import ONE, Formula, assuming, formula, indices_in, log, times
from loopgrad.cost.recurrent import solved
from loopgrad.cost.terms import Bounds, Term, Unknown, whole
from loopgrad.ir.nodes import Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import statement_reads


@dataclass(frozen=True)
class Chain:
    """A candidate for the longest: how long it is, where sizes are such that it exists at all."""

    length: Formula
    needs: tuple[Formula, ...]


@dataclass(frozen=True)
class Span:
    """The longest of the chains; `exact` where no chain is longer than one that there is.

    `reasons`: where what is not exact comes from. No chains at all: no formula is known but the work's.
    """

    chains: tuple[Chain, ...]
    exact: bool
    reasons: tuple[str, ...] = ()


def span(
    facts: Facts, lines: Sequence[Line], positive: frozenset[str], linear: Sequence[Linear] = ()
) -> Span:
    """The span of the program's graph; with the recurrences in `linear` computed by scans."""
    try:
        return _span(facts, lines, positive, linear)
    except Unknown:
        return Span((), False, ("no formula is found: all operations are one chain at most",))


def _span(
    facts: Facts, lines: Sequence[Line], positive: frozenset[str], linear: Sequence[Linear]
) -> Span:
    extents = {e for t in facts.tensors.values() for e in t.extents}
    formulas = [formula(e) for e in sorted(extents, key=str)]
    integers = frozenset(n for n, e in facts.constants.items() if e is ElementType.INT)
    given = tuple(subtract(f, ONE) for f in formulas)
    upper = _Depths(facts, lines, Bounds(True, positive, given, integers), linear).all()
    most = _chains(upper.found, upper.bounds)
    if linear:
        return Span(tuple(most), False, tuple(dict.fromkeys(upper.reasons)))
    lower = _Depths(facts, lines, Bounds(False, positive, given, integers)).all()
    least = _chains(lower.found, lower.bounds)
    exact = all(_is_attained(chain, least, upper.bounds) for chain in most)
    return Span(tuple(most), exact, tuple(dict.fromkeys(upper.reasons)))


def _is_attained(chain: Chain, least: Sequence[Chain], bounds: Bounds) -> bool:
    return any(
        bounds.natural(assuming(subtract(other.length, chain.length), chain.needs))
        and all(
            need in chain.needs or bounds.natural(assuming(need, chain.needs))
            for need in other.needs
        )
        for other in least
    )


class _Depths:
    """The terms of all computed tensors."""

    def __init__(
        self,
        facts: Facts,
        lines: Sequence[Line],
        bounds: Bounds,
        linear: Sequence[Linear] = (),
    ):
        self.facts, self.bounds = facts, bounds
        self.linear = {frozenset(found.tensors): found for found in linear}
        self.found: Depths = {}
        self.reasons: list[str] = []
        self.statements = Statements(facts, bounds, self.found)
        self.lines: dict[str, list[Line]] = {}
        for line in lines:
            self.lines.setdefault(line.target.tensor, []).append(line)

    def all(self) -> _Depths:
        for ring in rings(self.lines):
            if len(ring) == 1 and not self.reads(ring[0], ring):
                self.one(ring[0])
            else:
                self.ring(ring)
        return self

    def reads(self, name: str, ring: Sequence[str]) -> bool:
        return any(r.tensor in ring for line in self.lines[name] for r in _reads_of(line))

    def one(self, name: str) -> None:
        try:
            self.found[name] = self.statements.tensor(self.lines[name])
        except Unknown:
            self.found[name] = self.plainly([name])[name]

    def ring(self, ring: Sequence[str]) -> None:
        try:
            if frozenset(ring) in self.linear:
                self.scanned(self.linear[frozenset(ring)])
                return
            terms = {n: self.statements.tensor(self.lines[n], ring) for n in ring}
            self.found.update(solved(terms, self.statements))
        except Unknown:
            self.found.update(self.plainly(ring))

    def scanned(self, found: Linear) -> None:
        """The states of all turns by a scan; what else is in the ring from them, turn by turn at once."""
        rounds = add(times(scans.round_depth(found, self.facts), log(scans.turns(found))), {})
        if any(step.started for step in found.steps):
            rounds = add(rounds, scans.round_depth(found, self.facts))
        terms = []
        for name, heights in scans.step_heights(found, self.facts).items():
            for depth, needs in self.read_by(name, found):
                for height in heights:
                    terms.append(Term(add(add(depth, height), rounds), {}, None, needs))
        terms = self.bounds.pruned(terms)
        for step in found.steps:
            name = step.target.tensor
            place = whole(self.statements.lengths(name))
            self.found[name] = [Term(t.depth, place, None, t.needs) for t in terms]
        others = {n: self.lines[n] for n in found.tensors if n not in self.found}
        for [name] in rings(others):
            self.one(name)

    def read_by(self, name: str | None, found: Linear) -> list[tuple[Formula, tuple[Formula, ...]]]:
        """The depths of a tensor that the steps of a scan read, or of what a ring's holds before it."""
        nothing: list[tuple[Formula, tuple[Formula, ...]]] = [({}, ())]
        if name is not None and name.endswith(START):
            own = name.removesuffix(START)
            outside = [line for line in self.lines[own] if found.block not in line.blocks]
            terms = self.statements.tensor(outside)
        elif name in self.found:
            terms = self.found[name]
        else:
            return nothing
        return [(c.length, c.needs) for c in _chains({"": terms}, self.bounds)]

    def plainly(self, ring: Sequence[str]) -> Depths:
        """Any upper bound: every turn of the blocks waits for all of the one before."""
        if not self.bounds.upper:
            return {n: [] for n in ring}
        total: Formula = {}
        turns: Formula = {}
        for name in ring:
            for line in self.lines[name]:
                self.reasons.append(
                    f"every turn waits for the one before: {show_statement(line.statement)}"
                )
                total = add(total, self.longest(line))
        ranges = {r.index: r for n in ring for line in self.lines[n] for r in line.block_indices}
        turns = ONE
        for r in ranges.values():
            turns = times(turns, self.length(r.index, ring))
        before = self.before(ring)
        whole_depth = [
            Term(add(depth, times(turns, total)), {}, None, needs) for depth, needs in before
        ]
        return {
            n: [
                Term(t.depth, whole(self.statements.lengths(n)), None, t.needs) for t in whole_depth
            ]
            for n in ring
        }

    def length(self, index: str, ring: Sequence[str]) -> Formula:
        """How many values the index takes at most."""
        try:
            return self.length_of_range(index, ring)
        except Unknown:
            statements = (line.statement for name in ring for line in self.lines[name])
            found = (longest_of(self.facts, s, index) for s in statements)
            extent = next((e for e in found if e is not None), None)
            if extent is None:
                raise
            return formula(extent)

    def length_of_range(self, index: str, ring: Sequence[str]) -> Formula:
        for name in ring:
            for line in self.lines[name]:
                points = self.statements.at_points(line, ())
                if points is None or index not in points.domain:
                    continue
                low, high = points.domain[index]
                length = subtract(high, low)
                for _ in points.domain:
                    for other in sorted(indices_in(length)):
                        around = Term(length, {other: points.domain[other]})
                        ends = self.bounds.without(around, other)
                        if len(ends) != 1:
                            raise Unknown
                        length = ends[0].depth
                return length
        return ONE

    def longest(self, line: Line) -> Formula:
        """What one statement takes from what it reads to what it writes."""
        alone = Statements(self.facts, self.bounds, {})
        total: Formula = {}
        try:
            for chain in _chains({"": alone.line(line)}, self.bounds):
                total = add(total, chain.length)  # no chain is longer than all of them together
        except Unknown:
            total = self.all_at_once(line)
        return total if line.statement.reduction is Reduction.SET else add(total, ONE)

    def all_at_once(self, line: Line) -> Formula:
        """As if all points of the statement added to one element."""
        heights = [h for case in self.statements.cases(line) for _, h in case.reach]
        count: Formula = ONE
        for r in line.ranges:
            count = times(count, self.length(r.index, [line.target.tensor]))
        return add({(): max(heights, default=0)}, log(count))

    def before(self, ring: Sequence[str]) -> list[tuple[Formula, tuple[Formula, ...]]]:
        """The depths of all that the ring reads from outside."""
        names = {r.tensor for n in ring for line in self.lines[n] for r in _reads_of(line)}
        found: list[tuple[Formula, tuple[Formula, ...]]] = [({}, ())]
        for name in names & self.found.keys():
            found += [(c.length, c.needs) for c in _chains({name: self.found[name]}, self.bounds)]
        return found


def _reads_of(line: Line) -> Iterator[Read]:
    yield from statement_reads(line.statement)
    yield from line.bounded


def _chains(found: Depths, bounds: Bounds) -> list[Chain]:
    """The depths of all elements, the largest of each term."""
    terms: list[Term] = []
    for own in found.values():
        for term in own:
            ends = [term]
            for name in sorted(term.domain, reverse=True):
                ends = [e for one in ends for e in bounds.without(one, name)]
            terms += ends
    terms = bounds.pruned([*terms, Term({})])
    return [Chain(t.depth, t.needs) for t in terms]


def rings(lines: Mapping[str, Sequence[Line]]) -> list[tuple[str, ...]]:
    """Sets of tensors that hang on each other, each after those that it reads."""
    sources = {
        name: [
            n
            for n in dict.fromkeys(r.tensor for line in own for r in _reads_of(line))
            if n in lines
        ]
        for name, own in lines.items()
    }
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sources[name]:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            ring = set(stack[at:])
            del stack[at:]
            found.append(tuple(n for n in lines if n in ring))

    for name in lines:
        if name not in number:
            visit(name)
    return found
