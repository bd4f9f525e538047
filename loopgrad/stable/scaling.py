"""A program's exponentials computed shifted: sums of them without their largest factor, products of
them put together, their logs unfolded.

    Z[b] += exp(s[b,j])                 Z.max[b] max= s[b,j]
    p[b,j] = exp(s[b,j]) / Z[b]         Z'[b] += exp(s[b,j] - Z.shift[b])
                                        p[b,j] = exp(s[b,j] - Z.shift[b]) / Z'[b]

A tensor is stored without a factor, its scale, where some reader's own exponential cancels it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.grad.assembly import needed
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Index,
    Local,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    ZERO as NO_RANGE,
)
from loopgrad.ir.walk import (
    accumulates,
    bounds,
    compare,
    computed_tensors,
    conjunction,
    fresh_name,
    indices_of,
    names_in,
    reads,
    rebuild_range,
    subexpressions,
    substitute,
)
from loopgrad.stable.forms import (
    ZERO,
    Linear,
    Product,
    names,
    negated,
    plus,
    replaced,
)
from loopgrad.stable.loops import loops_over
from loopgrad.stable.parting import parted
from loopgrad.stable.reader import Reader, Scale, Top, finite, logistic_settled
from loopgrad.stable.writer import of_linear, of_terms

SIGNS = {Reduction.ADD: False, Reduction.SET: False, Reduction.SUBTRACT: True}
WATCHED = frozenset(("exp", "sigmoid", "log", "log1p"))


PARTINGS = 3  # tensors that are taken apart at most, and one


@dataclass(frozen=True)
class Place:
    """A statement of a tensor, and the blocks around it."""

    blocks: tuple[Block, ...]
    statement: Accumulate

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (*(r for block in self.blocks for r in block.ranges), *self.statement.ranges)


@dataclass(frozen=True)
class Scaled:
    """program: with its exponentials shifted and put together, or None where nothing is gained. differs:
    whether `once` made a difference. mixed: a tensor whose statements have different scales, with the first.
    """

    program: Program | None
    differs: bool
    mixed: tuple[str, list[Accumulate]] | None


def scaled_once(facts: Facts, tops: Sequence[Top] = (), once: bool = False) -> Scaled:
    """A first form, in which each tensor is one.

    tops: maxima that are known beside those that `max=` statements make. once: a tensor is not put into
    loops that it does not hang on, which would compute its elements again and again.
    """
    scaling = _Scaling(facts, tuple(tops), once)
    found = scaling.program()
    return Scaled(found, scaling.reader.kept_out, next(iter(scaling.mixed.items()), None))


def scaled(
    facts: Facts, tops: Sequence[Top] = (), once: bool = False, first: Scaled | None = None
) -> Scaled:
    """The last form, with tensors taken apart whose statements have different scales. first: `scaled_once`
    of the same, if it is known."""
    found = first or scaled_once(facts, tops, once)
    differs = found.differs
    for _ in range(PARTINGS - 1):
        parts = None if found.mixed is None else parted(facts, *found.mixed)
        if parts is None:
            break
        facts = infer(parts)
        found = scaled_once(facts, tops, once)
        differs |= found.differs
    return replace(found, differs=differs)


@dataclass
class _Scaling:
    facts: Facts
    tops: tuple[Top, ...] = ()
    once: bool = False
    refused: set[str] = field(default_factory=set)  # tensors that are not worth a scale
    reader: Reader = field(default_factory=Reader)
    inserted: dict[int, list[Statement]] = field(default_factory=dict)
    locals: list[Local] = field(default_factory=list)

    # Tensors whose statements have different scales, and the statements of the first.
    mixed: dict[str, list[Accumulate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places: dict[str, list[Place]] = {}
        self.loops: dict[int, frozenset[str]] = {}
        for blocks, statement in accumulates(self.facts.program.statements):
            # Moved to the end: a tensor is complete with its last statement.
            name = statement.target.tensor
            place = Place(blocks, statement)
            self.places[name] = [*self.places.pop(name, []), place]
            self.loops[id(statement)] = frozenset(r.index for r in place.ranges if self.once)
        self.results = {r.name for r in self.facts.program.results}
        self.inputs = {i.name for i in self.facts.program.inputs}

    # ------------------------------------------------------------------------------ the program

    def program(self) -> Program | None:
        while True:
            self._learn()
            statements = self._rewritten()
            idle = set(self.reader.scales) - self.reader.useful
            if not idle:
                break
            self.refused |= idle
        if statements is None:
            return None
        return assembled(self.facts, statements, self.locals)

    def _rewritten(self) -> list[Statement] | None:
        """The statements; None where each is as it was."""
        changed = False

        def rewrite(body: Sequence[Statement]) -> Iterator[Statement]:
            nonlocal changed
            for statement in body:
                yield from self.inserted.get(id(statement), ())
                match statement:
                    case Accumulate():
                        new = self._statement(statement)
                        changed = changed or new is not statement
                        yield new
                    case Block():
                        yield replace(statement, body=tuple(rewrite(statement.body)))

        statements = list(rewrite(self.facts.program.statements))
        for name in self.reader.scales:
            if name in self.results:
                statements.append(self._restored(name))
        return statements if changed else None

    def _statement(self, statement: Accumulate) -> Accumulate:
        reader, before = self.reader, self.reader.gains
        reader.loops = self.loops[id(statement)]
        scale = reader.scales.get(statement.target.tensor)
        ranges = tuple(rebuild_range(r, reader.stored) for r in statement.ranges)
        guard = None if statement.guard is None else reader.stored(statement.guard)
        if scale is None:
            value = reader.value(statement.value)
            if reader.gains == before:
                return statement
            return _signed(replace(statement, value=value, guard=guard, ranges=ranges))
        subscripts = statement.target.subscripts
        binding = {f"${axis}": s for axis, s in enumerate(subscripts)}
        own = {substitute(a, binding): c for a, c in scale.exponent.items()}
        terms = []
        for term in map(self._settled, reader.terms(statement.value)):
            exponent = plus(reader.split(term.exponent), own, -1)  # type: ignore[arg-type]
            terms.append(logistic_settled(reader, replace(term, exponent=reader.joined(exponent))))
        return _signed(
            replace(
                statement,
                target=Read(scale.stored, subscripts),
                value=of_terms(terms),
                guard=guard,
                ranges=ranges,
            )
        )

    def _restored(self, name: str) -> Accumulate:
        """A result that is stored without its scale, with it."""
        self.reader.loops = frozenset()
        ranges = loops_over(self.facts, self.facts.tensors[name].extents)
        subscripts = tuple(Index(r.index) for r in ranges)
        stored = self.reader._read(Read(name, subscripts), name, subscripts)
        return Accumulate(
            Read(name, subscripts),
            Reduction.SET,
            of_terms([stored]),
            ranges,
        )

    # ------------------------------------------------------------------------------ learning

    def _learn(self) -> None:
        """What each tensor is made of, in the order of the program."""
        self.reader, self.inserted, self.locals = Reader(tops=list(self.tops)), {}, []
        self.taken = names_in(self.facts.program)
        for name, places in self.places.items():
            if self.facts.tensors[name].element is not ElementType.FLOAT:
                continue
            if places[0].statement.reduction is Reduction.MAXIMUM:
                self._learn_maximum(name, places)
            elif all(p.statement.reduction in SIGNS for p in places) and any(
                self._is_watched(p.statement.value) for p in places
            ):
                self._learn_sum(name, places)

    def _is_watched(self, value: Expression) -> bool:
        reader = self.reader
        known = (reader.products, reader.sums, reader.scales)
        for node in subexpressions(value):
            if isinstance(node, Read) and any(node.tensor in table for table in known):
                return True
            if getattr(node, "operation", None) in WATCHED:
                return True
        return any(reader._is_top(n) for n in subexpressions(value))

    def _learn_maximum(self, name: str, places: list[Place]) -> None:
        if len(places) != 1 or self._axes(places[0]) is None:
            return
        statement = places[0].statement
        binding = self._free(places[0])
        argument = self.reader.flat(substitute(statement.value, binding))
        if argument and all(names(a) for a in argument):
            axes = tuple(Index(f"${axis}") for axis in range(len(statement.target.subscripts)))
            self.reader.tops.append(Top(argument, Read(name, axes)))

    def _axes(self, place: Place) -> dict[str, Index] | None:
        """The target's indices as `$0`, `$1`, ...; None where one is no plain index, or comes twice."""
        found: dict[str, Index] = {}
        for axis, subscript in enumerate(place.statement.target.subscripts):
            if not isinstance(subscript, Index) or subscript.name in found:
                return None
            found[subscript.name] = Index(f"${axis}")
        return found

    def _free(self, place: Place) -> dict[str, Expression]:
        """Every index with a `$`: the target's by axis, the others by name."""
        found: dict[str, Expression] = {r.index: Index(f"${r.index}") for r in place.ranges}
        found.update(self._axes(place) or {})
        return found

    def _is_elementwise(self, name: str, place: Place) -> bool:
        axes = self._axes(place)
        if axes is None or {r.index for r in place.ranges} != set(axes):
            return False
        extents = self.facts.tensors[name].extents
        for r in place.ranges:
            axis = int(axes[r.index].name[1:])
            if r.lower not in (None, NO_RANGE) or r.upper != extents[axis]:
                return False
        return True

    def _terms(self, place: Place) -> list[Product]:
        """The products that the statement adds, in its own indices."""
        statement = place.statement
        self.reader.loops = self.loops[id(statement)]
        found = self.reader.terms(statement.value)
        if SIGNS[statement.reduction]:
            found = [negated(t) for t in found]
        if statement.guard is not None:
            guard = self.reader.stored(statement.guard)
            found = [replace(t, guards=(guard, *t.guards)) for t in found]
        return found

    def _learn_sum(self, name: str, places: list[Place]) -> None:
        if all(self._is_elementwise(name, p) for p in places):
            self._learn_elementwise(name, places)
        elif name not in self.refused:
            self._learn_scale(name, places)

    def _learn_elementwise(self, name: str, places: list[Place]) -> None:
        reader = self.reader
        terms = [
            t.map(lambda e, p=p: substitute(e, self._axes(p) or {}))  # type: ignore[misc]
            for p in places
            for t in self._terms(p)
        ]
        whole = terms[0] if len(terms) == 1 else reader.summed(terms, any_exponent=True)
        if whole is not None:
            whole = logistic_settled(reader, whole)
            if whole.exponent or any(
                getattr(b, "operation", "") == "sigmoid" for b in whole.factors
            ):
                reader.products[name] = whole
        if any(p.statement.guard is not None for p in places):
            return
        total: Linear = ZERO
        for place in places:
            sign = -1 if SIGNS[place.statement.reduction] else 1
            axes = self._axes(place) or {}
            part = reader.linear(place.statement.value)
            canonical = {substitute(a, axes): c for a, c in part.items()}
            total = plus(total, canonical, sign)  # type: ignore[arg-type]
        total = reader.joined(total)
        if any(reader._is_top(a) or reader.is_difference(a) for a in total):
            reader.sums[name] = total

    # ------------------------------------------------------------------------------ scales

    def _learn_scale(self, name: str, places: list[Place]) -> None:
        terms = [(p, self._settled(t)) for p in places for t in self._terms(p)]
        if not any(t.exponent for _, t in terms):
            return
        kept: list[Linear] = []
        for place, term in terms:
            own, rest = self._parted(place, self.reader.split(term.exponent))
            if not self.reader.bounded(rest):
                self._learn_shifted(name, terms)
                return
            kept.append(own)
        exponent = self.reader.largest(kept)
        if exponent is None:
            first = [p.statement for (p, _), k in zip(terms, kept, strict=True) if k == kept[0]]
            if name not in self.results:
                self.mixed[name] = first
        if exponent:
            sources = frozenset[str]().union(*(t.sources for _, t in terms))
            self.reader.scales[name] = Scale(self._stored(name), exponent, sources)

    def _settled(self, term: Product) -> Product:
        """What a sigmoid and an exponential of one argument come to is known before a largest exponent is:
        `exp(-z) * sigmoid(z)**2` is never large."""
        return logistic_settled(self.reader, term)

    def _stored(self, name: str) -> str:
        stored = name
        while stored in self.taken:
            stored += "'"
        self.taken.add(stored)
        self.locals.append(Local(stored, self.facts.tensors[name].extents))
        return stored

    def _parted(self, place: Place, exponent: Linear) -> tuple[Linear, Linear]:
        """The part of an exponent that the target's subscripts alone decide, in `$0`, ..., and the rest."""
        subscripts = place.statement.target.subscripts
        computed: dict[Expression, Expression] = {
            s: Index(f"${axis}") for axis, s in enumerate(subscripts) if not isinstance(s, Index)
        }
        plain = {
            s.name: Index(f"${axis}") for axis, s in enumerate(subscripts) if isinstance(s, Index)
        }
        own: dict[Expression, object] = {}
        rest: dict[Expression, object] = {}
        for atom, coefficient in exponent.items():
            canonical = substitute(replaced(atom, computed), plain)
            if all(n.startswith("$") for n in names(canonical)):
                own[canonical] = coefficient
            else:
                rest[atom] = coefficient
        return own, rest  # type: ignore[return-value]

    def _learn_shifted(self, name: str, terms: list[tuple[Place, Product]]) -> None:
        """A sum of exponentials with a maximum of its own: of each element that it depends on."""
        first = terms[0][0]
        blocks = {r.index for block in first.blocks for r in block.ranges}
        for place, _ in terms:
            plain = {s.name for s in place.statement.target.subscripts if isinstance(s, Index)}
            if place.blocks != first.blocks or not blocks <= plain or _is_twice(place):
                return
        used = sorted(
            {
                axis
                for place, term in terms
                for axis, subscript in enumerate(place.statement.target.subscripts)
                if not indices_of(subscript).isdisjoint(_chosen_by(place, term))
            }
        )
        if any(t.sources for _, t in terms) and not used and first.statement.target.subscripts:
            return
        raw, top = fresh_name(f"{name}.max", self.taken), fresh_name(f"{name}.shift", self.taken)
        self.taken |= {raw, top}
        extents = tuple(self.facts.tensors[name].extents[axis] for axis in used)
        self.locals += [Local(raw, extents), Local(top, extents)]
        maxima: list[Accumulate] = []
        for place, term in terms:
            maxima.append(self._maximum(raw, used, place, term))
            whole = maxima[-1].guard is None and self._is_whole(place, term)
            if term.exponent:
                free = self._free(place)
                argument = {substitute(a, free): c for a, c in term.exponent.items()}
                subscripts = place.statement.target.subscripts
                own = tuple(substitute(subscripts[axis], free) for axis in used)
                self.reader.tops.append(Top(argument, Read(top, own), whole))
        statements: list[Statement] = list(dict.fromkeys(maxima))
        statements.append(self._finite(raw, top, used, first, extents))
        self.inserted.setdefault(id(first.statement), []).extend(statements)
        self.reader.unbounded[top] = raw
        exponent = {Read(top, tuple(Index(f"${axis}") for axis in used)): 1}
        self.reader.scales[name] = Scale(self._stored(name), exponent)  # type: ignore[arg-type]

    def _is_whole(self, place: Place, term: Product) -> bool:
        """Is it over all elements that there are: does each loop go over whole axes?"""
        ends = {r.index: r.upper for r in place.ranges if r.lower in (None, NO_RANGE)}
        exponents = (read for atom in term.exponent for read in reads(atom))
        return all(
            isinstance(subscript, Index) and ends.get(subscript.name) == extent
            for read in (place.statement.target, *exponents)
            if read.tensor in self.facts.tensors
            for subscript, extent in zip(
                read.subscripts, self.facts.tensors[read.tensor].extents, strict=True
            )
        )

    def _maximum(self, raw: str, used: list[int], place: Place, term: Product) -> Accumulate:
        """`raw max= exponent`, over the loops of the statement that it needs."""
        statement = place.statement
        target = Read(raw, tuple(statement.target.subscripts[axis] for axis in used))
        value = of_linear(term.exponent) if term.exponent else Number(0.0)
        here = indices_of(value) | indices_of(target)
        weights = [
            compare("!=", base, Number(0))
            for base, power in term.factors.items()
            if isinstance(base, Read)
            and power > 0
            and base.tensor in self.inputs
            and indices_of(base) <= here
            and not indices_of(base) <= indices_of(target)
        ]
        guard = conjunction((*term.guards, *weights))
        wanted = set(here) | (set(indices_of(guard)) if guard is not None else set())
        ranges: list[Range] = []
        for r in reversed(statement.ranges):
            if r.index in wanted:
                ranges.insert(0, r)
                wanted |= {n for b in (r.lower, r.upper) if b is not None for n in indices_of(b)}
        return Accumulate(target, Reduction.MAXIMUM, value, tuple(ranges), guard)

    def _finite(
        self, raw: str, top: str, used: list[int], place: Place, extents: tuple[Expression, ...]
    ) -> Accumulate:
        """The maximum, or 0 where it is no finite number: then the sum is computed as written."""
        own = [place.statement.target.subscripts[axis] for axis in used]
        around = {r.index for block in place.blocks for r in block.ranges}
        fresh = loops_over(self.facts, extents, {r.index for r in place.ranges})
        subscripts = tuple(
            s if isinstance(s, Index) else Index(r.index) for s, r in zip(own, fresh, strict=True)
        )
        maximum = Read(raw, subscripts)
        ranges = tuple(
            Range(s.name, NO_RANGE, extent)
            for s, extent in zip(subscripts, extents, strict=True)
            if s.name not in around
        )
        return Accumulate(Read(top, subscripts), Reduction.SET, finite(maximum), ranges)


def _is_twice(place: Place) -> bool:
    """Is an index in two of the target's subscripts?"""
    found = [i for s in place.statement.target.subscripts for i in indices_of(s)]
    return len(found) != len({*found})


def _chosen_by(place: Place, term: Product) -> set[str]:
    """The indices that tell which exponents there are to choose the largest from: those in them, in their
    guards, and in the bounds of their loops."""
    found = {n for e in (*term.exponent, *term.guards) for n in names(e)}
    for r in reversed(place.statement.ranges):
        if r.index in found:
            found |= {n for bound in bounds([r]) for n in names(bound)}
    return found


def _signed(statement: Accumulate) -> Accumulate:
    """`T -= e` for `T += -e`."""
    other = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}
    match statement.value:
        case Apply("neg", (operand,)) if statement.reduction in other:
            return replace(statement, reduction=other[statement.reduction], value=operand)
    return statement


def assembled(facts: Facts, statements: Sequence[Statement], locals: Sequence[Local]) -> Program:
    """The program with these statements, of which it keeps what its results need; and what they never
    needed, since a call may find a mistake there."""
    program = facts.program
    results = [r.name for r in program.results]
    used = computed_tensors(replace(program, statements=needed(program.statements, results)))
    idle = [name for name in computed_tensors(program) if name not in used]
    kept = needed(statements, [*results, *idle])
    draft = replace(program, statements=kept)
    made = set(computed_tensors(draft)) - set(results)
    declared = {local.name: local for local in (*program.locals, *locals)}
    every = []
    for name in computed_tensors(draft):
        if name in made:
            fact = facts.tensors.get(name)
            assert name in declared or fact is not None
            every.append(declared.get(name) or Local(name, fact.extents, fact.element))  # type: ignore[union-attr]
    return replace(draft, locals=tuple(every))
