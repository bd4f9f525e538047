"""A program under one set of relations: its sums with intermediates put in, the statements of each choice.

What is found out is kept by what it follows from: a flip of one intermediate changes little of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from loopgrad.ir.nodes import Accumulate, Index, Local, Program, Reduction, Statement
from loopgrad.ir.walk import accumulates, names_in, statement_reads
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import AT_LEAST
from loopgrad.simplify.algebra.conditions import form_of
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.reading.movable import movable_tensors, subscript_tensors
from loopgrad.simplify.reading.regions import Region, rebuilt
from loopgrad.simplify.reading.statements import Reading
from loopgrad.simplify.searching.cost import cost_of
from loopgrad.simplify.searching.repeats import drop_copies, fold_repeated, merge
from loopgrad.simplify.searching.rescaling import Rescaled, rescale
from loopgrad.simplify.searching.rewrite import Algebra
from loopgrad.simplify.writing.extraction import Extraction
from loopgrad.simplify.writing.loop_names import index_names, lengths, positions
from loopgrad.simplify.writing.made import Made

REPEATED = 0.001  # of the cost, for an intermediate that is put in at several places
Kept = frozenset[str]


@dataclass
class Candidate:
    """Statements that compute the results, and what they cost."""

    statements: list[Statement]
    locals: list[Local]
    value: float
    kept: Kept
    work: Work
    extraction: Extraction
    rescaled: Mapping[str, Rescaled]
    made: Mapping[str, list[Accumulate]]  # for each piece its own statements

    @cached_property
    def flat(self) -> list[Accumulate]:
        """The statements without the blocks around them."""
        return [s for _, s in accumulates(self.statements)]

    @cached_property
    def rank(self) -> tuple[float, int, int, str]:
        text = "\n".join(map(self.work.text, self.flat))
        return round(self.value, 3), len(self.flat), len(self.rescaled), text


class Work:
    """One program under one set of relations: an algebra for each of its regions."""

    def __init__(
        self,
        program: Program,
        own: Reading,
        known: Reading | None,
        algebras: Mapping[int, Algebra],
        joint: bool,
        made: Made,
    ):
        self.program, self.own, self.known, self.algebras = program, own, known, algebras
        self.results = [r.name for r in program.results]
        # A forward that is computed here stays as it is: what it says is what is put to use.
        self.given = set(known.computed) if joint and known is not None else set[str]()
        movable = movable_tensors(own) - set(self.results) - self.given
        self.candidates = [t for t in own.definitions if t in movable]
        self.positions = positions(own, known)
        self.index_names = index_names(own, known)
        self.lengths = lengths(own, known)
        self.bounds = frozenset(own.bounds | (known.bounds if known is not None else set()))
        self.order = self._order()
        self.reserved = own.taken | (known.taken if known is not None else frozenset())
        self.names = names_in(program)
        # What was found out, by what it follows from: a flip changes little of it.
        self.memory: dict[tuple[str, Kept], Poly] = {}
        self.needs: dict[tuple[str, Kept], list[str]] = {}
        self.unfolded: dict[tuple[str, Kept, int, Kept], Poly | None] = {}
        self.made = made
        self.extractions: dict[Kept, Candidate] = {}
        self.reduced: dict[str, Poly] = {}
        for key, definition in own.definitions.items():
            poly = self._reduced(key)
            if poly is not None:
                self.reduced[key] = poly
                if definition.whole:
                    for algebra in algebras.values():
                        algebra.add_support(definition, poly)
        self.reachable = self._reachable()
        # For each piece those that are read where they are 0, such as the gradient of a maximum.
        self.dead: dict[str, frozenset[str]] = {}
        for key in self.reduced:
            if own.definitions[key].tensor not in self.given:
                self._leave_out_dead(key)
        self.reachable = self._reachable()
        self.repeated = self._repeated()

    def _reduced(self, key: str) -> Poly | None:
        definition = self.own.definitions[key]
        poly = definition.poly
        if poly is None or definition.tensor in self.given:
            return poly
        try:
            return self.algebra(key).reduce(poly)
        except nf.TooLarge:
            return poly

    def algebra(self, key: str) -> Algebra:
        """The relations that hold where the piece stands."""
        return self.algebras[self.own.definitions[key].region.number]

    # ------------------------------------------------------------------------------------- forms

    def form(self, key: str, kept: Kept) -> Poly:
        """The piece's sum with everything put in that is not kept."""
        asked = (key, kept & self.reachable[key])
        if asked not in self.memory:
            poly = self.reduced[key]
            put = (poly.tensors & self.reachable[key]) - kept
            if put:
                whole = nf.map_atoms(poly, lambda a: self._put(a, put, kept))
                poly = self.algebra(key).reduce(whole)
            self.memory[asked] = poly
        return self.memory[asked]

    def _reachable(self) -> dict[str, Kept]:
        """For each piece the candidates that it reads, directly or through others."""
        candidates = frozenset(self.candidates)
        direct = {key: poly.tensors & candidates for key, poly in self.reduced.items()}
        found: dict[str, Kept] = {}
        for key in direct:
            reached, stack = set[str](), list(direct[key])
            while stack:
                tensor = stack.pop()
                if tensor not in reached:
                    reached.add(tensor)
                    stack += found.get(tensor, direct[tensor])
            found[key] = frozenset(reached)
        return found

    def _parts(self, key: str, kept: Kept) -> set[str]:
        """The piece, and what is put into it."""
        outside = set(self.candidates) - kept
        found, stack = {key}, [key]
        while stack:
            inside = (self.reduced[stack.pop()].tensors & outside) - found
            found |= inside
            stack += inside
        return found

    def _relaxed(self, key: str, kept: Kept) -> Poly:
        """The piece's form without guards that its statements did not have, and that only say where
        a factor is 0."""
        poly = self.form(key, kept)
        literal = (self.own.definitions[k].poly for k in self._parts(key, kept))
        shapes = {a.shape for p in literal if p is not None for a in nf.atoms_of(p)}
        around = set(self.own.definitions[key].region.indices)
        return self.algebra(key).relaxed(
            poly, lambda c: c.shape not in shapes and not _of_loops(c, around)
        )

    def _repeated(self) -> set[str]:
        """Element-wise intermediates that several sums read: put in, each computes them again."""
        terms = [t for p in self.reduced.values() for t, _ in p.terms]
        readers = Counter(name for t in terms if t.bound for name in t.tensors)
        wise = {t for t, p in self.reduced.items() if not any(x.bound for x, _ in p.terms)}
        return {t for t in self.candidates if t in wise and readers[t] > 1}

    def _leave_out_dead(self, key: str) -> None:
        """Without the terms under a condition that are 0 once all that they read is put in."""
        whole, dead = self.reduced[key], set()
        for term, coefficient in self.reduced[key].terms:
            inside = {
                t
                for t in term.tensors & set(self.candidates)
                if t in self.reduced and len(self.reduced[t].terms) > 1
            }
            if not term.conditional or not inside:
                continue
            put = term.tensors & set(self.candidates)
            with suppress(nf.TooLarge):
                part = self._with_all(Poly({term: 1}), put)
                if not self.algebra(key).reduce(part).terms:
                    whole = nf.plus(whole, Poly({term: -coefficient}))
                    dead |= inside
        if dead:
            self.reduced[key], self.dead[key] = whole, frozenset(dead)
            self.memory.clear()

    def _with_all(self, poly: Poly, put: Iterable[str]) -> Poly:
        return nf.map_atoms(poly, lambda a: self._put(a, put, frozenset()))

    def _put(self, atom: Atom, put: Iterable[str], kept: Kept) -> Poly | None:
        if atom.kind != "read" or atom.name not in put:
            return None
        definition = self.own.definitions[atom.name]
        names = dict(zip(definition.indices, atom.parts, strict=True))
        return self.form(atom.name, kept).renamed(names)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------- extraction

    def candidate(self, kept: Kept) -> Candidate:
        if kept not in self.extractions:
            self.extractions[kept] = self._extract(kept)
        return self.extractions[kept]

    def _extract(self, kept: Kept) -> Candidate:
        alive = self._alive(kept)
        extraction = Extraction(
            self.index_names,
            dict(self.order),
            self._taken(alive),
            self.reserved,
            self.positions,
            self.own.extent,
            self.bounds,
            lambda poly, region: self._unfolded(poly, kept, region, alive),
            self.made,
        )
        locals: dict[str, Local] = {}
        own = self.own
        present = {k: d for k, d in own.definitions.items() if d.tensor in alive}
        forms = {k: self._relaxed(k, kept) for k in present if k in self.reduced}
        movable = kept & set(self.candidates)
        fold_repeated(forms, own, self.given)
        drop_copies(forms, own, movable)
        rescaled = rescale(forms, own, movable, self.algebra, extraction.taken)
        rescaled |= merge(forms, own, movable - set(rescaled), self.results)
        made: dict[str, list[Accumulate]] = {}
        for key, definition in present.items():
            tensor = definition.tensor
            name = rescaled[tensor].name if tensor in rescaled else tensor
            if key in self.reduced and key not in forms:
                continue  # another tensor has its place
            if name not in self.results:
                locals.setdefault(tensor, replace(self._local(tensor), name=name))
            extraction.enter(definition.region)
            before = len(extraction.statements)
            if key not in forms:
                extraction.statements += own.statements[key]
            elif forms[key].terms:
                sets = [s.reduction for s in own.statements[key]] == [Reduction.SET]
                most = sum(len(own.statements[k]) for k in self._parts(key, kept))
                try:
                    with extraction.undone():
                        extraction.piece(name, definition, forms[key], sets, most)
                except nf.TooLarge:
                    if not self._as_written(key, alive, rescaled, forms):
                        raise
                    extraction.statements += own.statements[key]
            elif key == tensor and all(
                k in forms and not forms[k].terms for k in own.pieces[tensor]
            ):
                extraction.zero(name, own.extents(tensor))
            if self._told_otherwise(key, name, extraction.statements[before:]) and self._as_written(
                key, alive, rescaled, forms
            ):
                extraction.statements[before:] = own.statements[key]
            added = extraction.statements[before:]
            made[key] = [s for s in added if s.target.tensor == name]
        statements = rebuilt(own.layout, extraction.regions)
        declared = [*locals.values(), *extraction.locals]
        names = frozenset(x.name for x in declared)
        value = sum(
            self._cost(s, region, names)
            for region in own.regions
            for s in extraction.regions.get(region.number, ())
        )
        value *= 1 + REPEATED * len(self.repeated - kept)
        return Candidate(statements, declared, value, kept, self, extraction, rescaled, made)

    def _told_otherwise(self, key: str, name: str, made: list[Accumulate]) -> bool:
        """Is one statement told as another of other subscripts, `h[i] += x[i-1]` for `h[t+1] += x[t]`,
        which costs no less?"""
        literal = self.own.statements[key]
        if len(made) != 1 or len(literal) != 1 or name != literal[0].target.tensor:
            return False
        return made[0].target != literal[0].target and (
            cost_of(literal, ()).value <= cost_of(made, ()).value
        )

    def _as_written(
        self,
        key: str,
        alive: set[str],
        rescaled: Mapping[str, Rescaled],
        forms: Mapping[str, Poly],
    ) -> bool:
        """Are the piece's statements right as they are, beside what the others have become?"""
        read = {r.tensor for s in self.own.statements[key] for r in statement_reads(s)}
        if any(
            k in self.reduced and k not in forms for t in read for k in self.own.pieces.get(t, ())
        ):
            return False
        changed = {key, *read} & {*rescaled, *(r.name for r in rescaled.values())}
        return not changed and read & set(self.own.computed) <= alive

    def _unfolded(self, poly: Poly, kept: Kept, region: Region, alive: set[str]) -> Poly | None:
        near = poly.tensors.intersection(self.candidates)
        kept = kept & near.union(*(self.reachable[t] for t in near))
        there = frozenset(alive.difference(self.candidates))
        asked = (poly.key, kept, region.number, there)
        if asked not in self.unfolded:
            self.unfolded[asked] = self._unfold(poly, kept, region, there)
        return self.unfolded[asked]

    def _unfold(self, poly: Poly, kept: Kept, region: Region, there: Kept) -> Poly | None:
        """A reduction without the intermediates that it reads: `sum[u](a * a.grad)` is
        `sum[c](o * o.grad)`, where that sum has as few loops and reads what is given."""
        own = set(self.own.computed) - there
        read = sorted(poly.tensors & kept & set(self.candidates))
        if not read or any(len(a.parts) == 0 for a, _ in poly.terms[0][0].atoms):
            return None
        whole = nf.map_atoms(poly, lambda a: self._put(a, read, kept))
        whole = self.algebras[region.number].reduce(whole)
        if len(whole.terms) != 1 or whole.tensors & own or whole.free != poly.free:
            return None
        term = whole.terms[0][0]
        inner = {i for i, _ in term.bound}
        if not term.bound or len(term.bound) > len(poly.terms[0][0].bound):
            return None
        return whole if all(a.free & inner for a, _ in term.atoms) else None

    def _cost(self, statement: Accumulate, region: Region, temporaries: frozenset[str]) -> float:
        key = (id(statement), temporaries & self.made.reads_of(statement))
        if key not in self.made.costs:
            found = cost_of([statement], temporaries, region.ranges, self.lengths)
            self.made.costs[key] = found.value
        return self.made.costs[key]

    def text(self, statement: Statement) -> str:
        return self.made.text_of(statement)

    def _alive(self, kept: Kept) -> set[str]:
        """What the results need, of what is computed here; blocks need what their bounds read."""
        alive: set[str] = set()
        stack = list(self.results)
        while stack:
            tensor = stack.pop()
            if tensor in alive or tensor not in self.own.pieces:
                continue
            alive.add(tensor)
            for key in self.own.pieces[tensor]:
                stack += self._needed(key, kept)
        return alive

    def _needed(self, key: str, kept: Kept) -> list[str]:
        """What the piece reads, and the blocks around it."""
        asked = (key, kept & self.reachable.get(key, frozenset()))
        if asked not in self.needs:
            definition = self.own.definitions[key]
            needs = {r.tensor for b in definition.region.blocks for r in statement_reads(b)}
            if key in self.reduced:
                needs |= self.form(key, kept).tensors | subscript_tensors(definition)
            else:
                for statement in self.own.statements[key]:
                    needs |= {r.tensor for r in statement_reads(statement)}
            self.needs[asked] = sorted(needs)
        return self.needs[asked]

    def _local(self, tensor: str) -> Local:
        fact = self.own.facts.tensors[tensor]
        extents = tuple(map(nf.extent_expression, self.own.extents(tensor)))
        return Local(tensor, extents, fact.element)

    def _order(self) -> dict[str, int]:
        names: dict[str, None] = {}
        for reading in (self.known, self.own):
            if reading is not None:
                for i in reading.facts.program.inputs:
                    names.setdefault(i.name)
                if reading is self.known:
                    for tensor in reading.complete:
                        names.setdefault(tensor)
        for i in self.program.inputs:
            names.setdefault(i.name)
        return {n: k for k, n in enumerate(names)}

    def _taken(self, alive: set[str]) -> set[str]:
        taken = self.names - (set(self.own.computed) - alive - set(self.results))
        if self.known is not None:
            taken |= set(self.known.facts.tensors) | set(self.known.facts.constants)
        return taken


def _of_loops(condition: Atom, around: set[str]) -> bool:
    """Is it a bound of an index that is no block's?"""
    parts = form_of(condition) if condition.name == AT_LEAST else {}
    return any(isinstance(p, Index) and p.name not in around for p in parts)
