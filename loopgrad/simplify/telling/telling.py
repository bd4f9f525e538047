"""Tells how a candidate came about: its sums again, one rule at a time, as chains of equalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduce,
    Reduction,
)
from loopgrad.ir.walk import ZERO, accumulates, conjunction
from loopgrad.ir.walk import reads as expression_reads
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.conditions import at_least, written
from loopgrad.simplify.algebra.integers import Linear, combined, linear, shifted
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.reading.relations import AtomRelation, FoldRelation, SumRelation
from loopgrad.simplify.reading.statements import Definition, Reading
from loopgrad.simplify.searching.factors import with_value
from loopgrad.simplify.searching.rewrite import CANCEL, COUNT, SUPPORT, Algebra
from loopgrad.simplify.searching.rewrite import Rule as Relation
from loopgrad.simplify.searching.work import Candidate
from loopgrad.simplify.telling.bits import Stored, same_bits, stored
from loopgrad.simplify.telling.derivation import Chain, Derivation, Step, Words
from loopgrad.simplify.telling.rules import BY_NAME
from loopgrad.simplify.telling.steps import certified
from loopgrad.simplify.writing.expressions import Writer, invented

MOST_STEPS = 60  # of one tensor
SIGNS = {Reduction.ADD: 1, Reduction.SET: 1, Reduction.SUBTRACT: -1}


@dataclass(frozen=True, eq=False)
class Story:
    """What is needed to tell the derivation, which is done when somebody asks for it."""

    program: Program
    result: Program
    forward: Program | None
    winner: Candidate
    naming: nf.Naming

    def told(self) -> Derivation:
        """The chains, their lines certified; a line that is not certified is left out."""
        with nf.WORKING:
            nf.resume_names(self.naming)
            derivation = _with_factors(derive(self.winner), self.winner.work.own)
        return certified(derivation, self.program, self.result, self.forward)


def derive(winner: Candidate) -> Derivation:
    """The chains that lead from the literal sums to the statements of the winner."""
    teller = _Teller(winner)
    chains = []
    for key, definition in winner.work.own.definitions.items():
        region = definition.region
        if any(region.extent(index) is None for index in region.indices):
            continue  # an array of all turns has no known shape: there is no saying what holds
        if key in winner.rescaled:
            chains.append(teller.rescaled(key))
        elif teller.made.get(key) and key in winner.work.reduced:
            chains.append(teller.chain(key))
    return Derivation(tuple(chains))


def _with_factors(derivation: Derivation, own: Reading) -> Derivation:
    """The lines with factors that were kept apart as the programs have them."""
    makers = [
        s for _, s in accumulates(own.facts.program.statements) if s.target.tensor in own.made
    ]
    if not makers:
        return derivation

    def value(expression: Expression) -> Expression:
        for maker in makers:
            expression = with_value(expression, maker)
        return expression

    chains = []
    for chain in derivation.chains:
        steps = [replace(s, before=value(s.before), after=value(s.after)) for s in chain.steps]
        told = tuple(s for s in steps if s.before != s.after)
        chains.append(replace(chain, start=value(chain.start), steps=told))
    return replace(derivation, chains=tuple(chains))


class Lines:
    """The lines of one chain, as they are written down."""

    def __init__(self, target: Read, start: Expression, known: dict[str, Stored]):
        self.target, self.start, self.known = target, start, known
        self.steps: list[Step] = []

    @property
    def last(self) -> Expression:
        return self.steps[-1].after if self.steps else self.start

    def reach(self, after: Expression, says: Words, *applied: str) -> None:
        """The next line, if it reads otherwise than the one before."""
        if after != self.last:
            rules = tuple(BY_NAME[name] for name in applied)
            exact = same_bits(self.last, after, self.known)
            self.steps.append(Step(self.target, self.last, after, says, rules, exact))


class _Teller:
    def __init__(self, winner: Candidate):
        self.winner, self.work = winner, winner.work
        self.made = _made(winner)
        known = self.work.known
        self.known = stored(known.facts.program.statements) if known is not None else {}
        self.known |= stored(self.work.own.facts.program.statements)

    # ------------------------------------------------------------------------------------ chains

    def chain(self, key: str) -> Chain:
        """The chain of a tensor, or of what one region of blocks adds to it."""
        definition = self.work.own.definitions[key]
        assert definition.poly is not None
        algebra = self.work.algebra(key)
        self.writer = self._writer({i: i for i in definition.indices})
        target = Read(definition.tensor, tuple(map(nf.as_expression, definition.subscripts)))
        lines = Lines(target, self._literal(key, target), self.known)
        current = definition.poly

        def reach(poly: Poly, says: Words, *applied: str) -> None:
            nonlocal current
            if poly.key != current.key:
                lines.reach(self.show(poly), says, *applied)
                current = poly

        for name in self._put_in(key):
            reach(self._with(current, name), ("put in ", Read(name, ())), "put in", "distribute")
        for _ in range(MOST_STEPS):
            last = current
            for rule in algebra.rules:
                reach(_everywhere(algebra, current, rule), *self.says(rule))
            if current is last:
                break
        reach(self.work.form(key, self.winner.kept), ("collect",), "collect")
        statements = self._with_temporaries(key)
        self._written(lines, key, statements)
        return self._closed(lines, definition, statements)

    def rescaled(self, tensor: str) -> Chain:
        """The chain of a tensor that takes the place of another times a factor."""
        found = self.winner.rescaled[tensor]
        definition = self.work.own.definitions[tensor]
        assert definition.poly is not None
        self.writer = self._writer({i: i for i in definition.indices})
        target = Read(found.name, tuple(map(nf.as_expression, definition.indices)))
        own = nf.of_atom(nf.read(tensor, definition.indices))
        lines = Lines(target, self.show(nf.times(found.factor, own)), self.known)
        literal = self.show(nf.times(found.factor, definition.poly))
        lines.reach(literal, ("put in ", Read(tensor, ())), "rescale", "put in", "distribute")
        form = self.work.form(tensor, self.winner.kept)
        whole = self.show(self.work.algebra(tensor).reduce(nf.times(found.factor, form)))
        lines.reach(whole, ("by the definitions of the forward",), "definition", "collect")
        statements = self._with_temporaries(tensor)
        self._written(lines, tensor, statements)
        return self._closed(lines, definition, statements)

    def _closed(
        self, lines: Lines, definition: Definition, statements: Sequence[Accumulate]
    ) -> Chain:
        around = definition.region.ranges
        loops = {i: nf.extent_expression(e) for i, e in definition.loops.items()}
        ranges = (*around, *(Range(i, ZERO, e) for i, e in loops.items()))
        around_extents = (definition.region.extent(i) for i in definition.region.indices)
        extents = (*(e for e in around_extents if e is not None), *loops.values())
        chain = Chain(lines.target, lines.start, tuple(lines.steps), tuple(statements))
        return replace(chain, ranges=ranges, extents=extents, whole=definition.whole)

    def _written(self, lines: Lines, key: str, statements: Sequence[Accumulate]) -> None:
        """The last line: the sum as the statements write it."""
        definition, tensor = self.work.own.definitions[key], lines.target.tensor
        whole = as_sum(self.made[key], lines.target, definition)
        if whole is None or whole == lines.last:
            return
        named = [s.target.tensor for s in statements if s.target.tensor != tensor]
        named += [r.name for r in self.winner.rescaled.values()]
        read = {r.tensor for r in expression_reads(whole)}
        new = [n for n in dict.fromkeys(named) if n in read and n != tensor]
        says: list[str | Expression] = []
        for name in new:
            says += [", " if says else "name ", Read(name, ())]
        lines.reach(
            whole,
            (*says, "; factor") if new else ("factor",),
            *(["name", "pull out"] if new else []),
            "factor",
        )

    # ---------------------------------------------------------------------------------- the lines

    def _literal(self, key: str, target: Read) -> Expression:
        """The piece's statements as one sum, as they were written where that can be said."""
        definition = self.work.own.definitions[key]
        assert definition.poly is not None
        whole = as_sum(self.work.own.statements[key], target, definition)
        return whole if whole is not None else self.show(definition.poly)

    def show(self, poly: Poly) -> Expression:
        return self.writer.expression(poly)

    def _put_in(self, key: str) -> list[str]:
        """What is put into the piece, directly or not, the last computed first."""
        outside = set(self.work.candidates) - self.winner.kept
        found: set[str] = set()
        stack = [(key, False)]
        while stack:
            reader, dead = stack.pop()
            poly = self.work.own.definitions[reader].poly
            read = poly.tensors if poly is not None else frozenset()
            for name in sorted(read & set(self.work.candidates)):
                # What is 0 is shown with all that makes it so.
                whole = dead or name in self.work.dead.get(reader, ())
                if name not in found and (whole or name in outside):
                    found.add(name)
                    stack.append((name, whole))
        order = list(self.work.own.definitions)
        return sorted(found, key=order.index, reverse=True)

    def _with(self, poly: Poly, name: str) -> Poly:
        definition = self.work.own.definitions[name]
        assert definition.poly is not None
        value = definition.poly

        def change(atom: nf.Atom) -> Poly | None:
            if atom.kind != "read" or atom.name != name:
                return None
            return value.renamed(dict(zip(definition.indices, atom.parts, strict=True)))  # type: ignore[arg-type]

        return nf.map_atoms(poly, change)

    def _with_temporaries(self, key: str) -> list[Accumulate]:
        """The piece's statements, those of the temporaries that they read before them."""
        names = {s.target.tensor for s in self.winner.flat} - set(self.work.own.definitions)
        found = list(self.made[key])
        wanted = {r.tensor for s in found for r in expression_reads(s.value)} & names
        for statement in reversed(self.winner.flat):
            if statement.target.tensor in wanted:
                found.append(statement)
                wanted |= {r.tensor for r in expression_reads(statement.value)} & names
        place = {id(s): n for n, s in enumerate(self.winner.flat)}
        return sorted(found, key=lambda s: place[id(s)])

    # ---------------------------------------------------------------------------------- the rules

    def says(self, rule: Relation) -> tuple[Words, str]:
        """A rule in words, the equality and whose definition it is; and its row in the table."""
        left: Expression
        match rule:
            case AtomRelation():
                names = self._named(rule.pattern.free)
                if not rule.source:
                    return ("collect in ", self._difference(rule, names)), "difference"
                left = self._writer(names).atom(rule.pattern)
                if rule.pattern.kind == "sum":
                    left = self._writer(names).expression(rule.pattern.parts[0])  # type: ignore[arg-type]
                row = "definition"
            case SumRelation():
                names = self._named(rule.variables)
                inside = nf.product((), dict(rule.atoms))
                ranges: dict[str, Range] = {}
                for index, extent in rule.bound:
                    taken = {*names.values(), *(r.index for r in ranges.values())}
                    choices = self.winner.extraction.index_names.get(extent, [])
                    free = [n for n in choices if n not in taken]
                    name = free[0] if free else invented(extent, taken)
                    ranges[index] = Range(name, ZERO, nf.extent_expression(extent))
                inner = {index: r.index for index, r in ranges.items()}
                value = self._writer({**names, **inner}).expression(inside)
                left = Reduce("sum", tuple(ranges.values()), value) if ranges else value
                row = "fold" if rule.source in rule.value.tensors else "theorem"
            case FoldRelation():
                names = self._named(rule.variables)
                terms = (nf.product((), dict(atoms), c) for atoms, c in rule.terms)
                left = self._writer(names).expression(nf.plus(*terms))
                row = "fold"
            case _:
                return (rule,), {CANCEL: "cancel", SUPPORT: "support", COUNT: "count"}.get(
                    rule, "root"
                )
        whole = rule.value if isinstance(rule.value, Poly) else nf.of_atom(rule.value)
        right = self._writer(names).expression(whole)
        conditions = () if isinstance(rule, FoldRelation) else rule.conditions
        where = self._writer(names).conditions(c for c in conditions if c.free <= set(names))
        says: Words = (left, " = ", right, *((" where ", where) if where is not None else ()))
        return (*says, ", by the definition of ", Read(rule.source, ())), row

    def _difference(self, rule: AtomRelation, names: dict[str, str]) -> Expression:
        found = next(a for t, _ in rule.value.terms for a, _ in t.atoms if a.kind == "sum")
        return self._writer(names).atom(found)

    def _writer(self, names: dict[str, str]) -> Writer:
        extraction = self.winner.extraction
        return Writer(names, extraction.order, extraction.index_names, plain=True)

    def _named(self, indices: frozenset[str]) -> dict[str, str]:
        """Names of a reader for the pattern's indices: those of the programs where there are some."""
        names: dict[str, str] = {}
        pool = [n for same in self.winner.extraction.index_names.values() for n in same]
        for index in sorted(indices):
            if index[0] in "#$":
                taken = {*names.values(), *indices}
                names[index] = next((n for n in pool if n not in taken), index)
            else:
                names[index] = index
        return names


def _everywhere(algebra: Algebra, poly: Poly, rule: Relation) -> Poly:
    for _ in range(MOST_STEPS):
        following = algebra.step(poly, rule)
        if following.key == poly.key:
            break
        poly = following
    return poly


def _made(winner: Candidate) -> dict[str, list[Accumulate]]:
    """For each piece its statements in the end: what they share has been named since."""

    def place(statement: Accumulate) -> tuple[object, ...]:
        return statement.target, statement.reduction, statement.ranges, statement.guard

    found: dict[tuple[object, ...], list[Accumulate]] = {}
    for statement in reversed(winner.flat):
        found.setdefault(place(statement), []).append(statement)
    return {key: [found[place(s)].pop() for s in made] for key, made in winner.made.items()}


def as_sum(
    statements: Sequence[Accumulate], target: Read, definition: Definition
) -> Expression | None:
    """What the statements add up to, as one expression; None where their targets are others."""
    indices = definition.indices
    axes = {i: nf.extent_expression(e) for i, e in definition.loops.items()}
    whole: Expression | None = None
    for statement in statements:
        sign = SIGNS.get(statement.reduction)
        if statement.target.subscripts != target.subscripts or sign is None:
            return None
        value = statement.value
        if statement.guard is not None:
            value = Conditional(statement.guard, value, Number(0))
        inner = tuple(r for r in statement.ranges if r.index not in indices)
        partial = conjunction(_bounds(r, axes[r.index]) for r in statement.ranges if r not in inner)
        if partial is not None:
            value = Conditional(partial, value, Number(0))
        if inner:
            value = Reduce("sum", inner, value)
        if whole is None:
            whole = value if sign > 0 else Apply("neg", (value,))
        else:
            whole = Apply("+" if sign > 0 else "-", (whole, value))
    return whole


def _bounds(r: Range, axis: Expression) -> Expression | None:
    """What the range says of an index beyond being on its axis."""
    assert r.upper is not None
    own: Linear = {Index(r.index): 1}
    bounds: list[Atom] = []
    if r.lower not in (None, ZERO):
        bounds += at_least(combined(own, linear(r.lower), -1))
    if r.upper != axis:
        bounds += at_least(combined(shifted(linear(r.upper), -1), own, -1))
    return conjunction(written(bounds))
