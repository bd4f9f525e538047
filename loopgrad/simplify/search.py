"""Which intermediates to put into what reads them: the cheapest of what local search finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import (
    Accumulate,
    Local,
    Program,
    Statement,
)
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import names_in, statement_reads
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.cost import cost_of
from loopgrad.simplify.extraction import Extraction
from loopgrad.simplify.normal_form import Atom, Poly
from loopgrad.simplify.reading import Definition, Reading
from loopgrad.simplify.rescaling import Rescaled, rescale
from loopgrad.simplify.rewrite import Algebra, learn
from loopgrad.simplify.sharing import share

ROUNDS = 2
CONFIGURATIONS = ((False, False), (True, False), (True, True), (False, True))
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

    @property
    def rank(self) -> tuple[float, int, int, str]:
        text = "\n".join(map(self.work.text, self.statements))
        return round(self.value, 3), len(self.statements), len(self.rescaled), text


class Work:
    """One program under one set of relations."""

    def __init__(self, program: Program, own: Reading, known: Reading | None, algebra: Algebra):
        self.program, self.own, self.known, self.algebra = program, own, known, algebra
        self.results = [r.name for r in program.results]
        self.fixed = _fixed(own, self.results)
        self.candidates = [t for t in own.definitions if t not in self.fixed]
        self.positions = _positions(own, known)
        self.index_names = _index_names(own, known)
        self.order = self._order()
        self.reserved = own.taken | (known.taken if known is not None else frozenset())
        self.names = names_in(program)
        self.memory: dict[tuple[str, Kept], Poly] = {}
        self.made: dict[tuple[object, ...], Accumulate] = {}
        self.costs: dict[tuple[int, frozenset[str]], float] = {}
        self.texts: dict[int, str] = {}
        self.extractions: dict[Kept, Candidate] = {}
        self.reduced = {
            t: algebra.reduce(d.poly) for t, d in own.definitions.items() if d.poly is not None
        }

    # ------------------------------------------------------------------------------------- forms

    def form(self, tensor: str, kept: Kept) -> Poly:
        """The tensor's sum with everything put in that is not kept."""
        key = (tensor, kept)
        if key not in self.memory:
            poly = self.reduced[tensor]
            put = poly.tensors & (set(self.candidates) - kept)
            if put:
                poly = self.algebra.reduce(nf.map_atoms(poly, lambda a: self._put(a, put, kept)))
            self.memory[key] = poly
        return self.memory[key]

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
            lambda poly: self._unfolded(poly, kept),
            self.made,
        )
        made: list[Statement] = []
        locals: list[Local] = []
        definitions = self.own.definitions
        forms = {t: self.form(t, kept) for t in definitions if t in alive and t in self.reduced}
        movable = kept & set(self.candidates)
        rescaled = rescale(forms, definitions, movable, self.algebra, extraction.taken)
        for tensor, definition in definitions.items():
            if tensor not in alive:
                continue
            name = rescaled[tensor].name if tensor in rescaled else tensor
            if tensor not in self.results:
                locals.append(replace(self._local(definition), name=name))
            if definition.poly is None:
                extraction.statements += self.own.statements[tensor]
            else:
                extraction.tensor(name, definition.indices, definition.extents, forms[tensor])
        made += extraction.statements
        locals += extraction.locals
        value = sum(self._cost(s, frozenset(x.name for x in locals)) for s in made)
        return Candidate(made, locals, value, kept, self, extraction, rescaled)

    def _unfolded(self, poly: Poly, kept: Kept) -> Poly | None:
        """A reduction without the intermediates that it reads: `sum[u](a * a.grad)` is
        `sum[c](o * o.grad)`, where that sum has as few loops and reads what is given."""
        own = set(self.own.definitions)
        read = sorted(poly.tensors & kept & set(self.candidates))
        if not read or any(len(a.parts) == 0 for a, _ in poly.terms[0][0].atoms):
            return None
        whole = nf.map_atoms(poly, lambda a: self._put(a, read, kept))
        whole = self.algebra.reduce(whole)
        if len(whole.terms) != 1 or whole.tensors & own or whole.free != poly.free:
            return None
        term = whole.terms[0][0]
        inner = {i for i, _ in term.bound}
        if not term.bound or len(term.bound) > len(poly.terms[0][0].bound):
            return None
        return whole if all(a.free & inner for a, _ in term.atoms) else None

    def _cost(self, statement: Statement, temporaries: frozenset[str]) -> float:
        reads = frozenset(r.tensor for r in statement_reads(statement))
        key = (id(statement), temporaries & reads)  # statements live as long as `made` and `own`
        if key not in self.costs:
            self.costs[key] = cost_of([statement], temporaries).value
        return self.costs[key]

    def text(self, statement: Statement) -> str:
        if id(statement) not in self.texts:
            self.texts[id(statement)] = show_statement(statement)
        return self.texts[id(statement)]

    def _alive(self, kept: Kept) -> set[str]:
        """What the results need, of what is computed here."""
        alive: set[str] = set()
        stack = list(self.results)
        while stack:
            tensor = stack.pop()
            if tensor in alive or tensor not in self.own.definitions:
                continue
            alive.add(tensor)
            if tensor in self.reduced:
                stack += sorted(self.form(tensor, kept).tensors)
            else:
                for statement in self.own.statements[tensor]:
                    stack += [r.tensor for r in statement_reads(statement)]
        return alive

    def _local(self, definition: Definition) -> Local:
        extents = tuple(map(nf.extent_expression, definition.extents))
        return Local(definition.tensor, extents, definition.element)

    def _order(self) -> dict[str, int]:
        names: dict[str, None] = {}
        for reading in (self.known, self.own):
            if reading is not None:
                for i in reading.facts.program.inputs:
                    names.setdefault(i.name)
                for tensor in reading.definitions:
                    if reading is self.known:
                        names.setdefault(tensor)
        for i in self.program.inputs:
            names.setdefault(i.name)
        return {n: k for k, n in enumerate(names)}

    def _taken(self, alive: set[str]) -> set[str]:
        taken = self.names - (set(self.own.definitions) - alive - set(self.results))
        if self.known is not None:
            taken |= set(self.known.facts.tensors) | set(self.known.facts.constants)
        return taken


def _fixed(own: Reading, results: Iterable[str]) -> set[str]:
    """What is never put in: results, opaque tensors, and those that subscripts or conditions read."""
    fixed = set(results)
    for tensor, definition in own.definitions.items():
        if definition.poly is None:
            fixed.add(tensor)
            for statement in own.statements[tensor]:
                fixed.update(r.tensor for r in statement_reads(statement))
        else:
            for atom in nf.atoms_of(definition.poly):
                if atom.kind not in ("read", "function", "sum"):
                    fixed |= atom.tensors
                for part in atom.parts:
                    if isinstance(part, Atom):
                        fixed |= part.tensors
    return fixed


def _index_names(own: Reading, known: Reading | None) -> dict[str, list[str]]:
    """For each extent the indices that the programs run over it, those of the program itself first."""
    found: dict[str, list[str]] = {}
    for reading in (own, known):
        if reading is not None:
            for statement in reading.facts.program.statements:
                for r in statement.ranges:
                    if r.upper is not None:
                        names = found.setdefault(reading.extent(r.upper), [])
                        if r.index not in names:
                            names.append(r.index)
    return found


def _positions(own: Reading, known: Reading | None) -> dict[str, int]:
    """Where each index stands among loops: after all that once stand before it, as first seen."""
    names: list[str] = []
    for reading in (known, own):
        for statement in reading.facts.program.statements if reading is not None else ():
            at = -1
            for r in statement.ranges:
                if r.index not in names:
                    names.insert(at + 1 if at >= 0 else len(names), r.index)
                at = names.index(r.index)
    return {n: k for k, n in enumerate(names)}


# -------------------------------------------------------------------------------------------- search


def best(program: Program, own: Reading, known: Reading | None) -> Candidate | None:
    """The cheapest candidate over all relations and choices, if it is cheaper than the program."""
    found: list[Candidate] = []
    definitions: Mapping[str, Definition] = known.definitions if known is not None else {}
    seen: set[str] = set()
    for aliases, folds in CONFIGURATIONS if definitions else CONFIGURATIONS[:1]:
        algebra = learn(definitions, aliases, folds)
        described = algebra.describe()
        if described in seen:
            continue
        seen.add(described)
        try:
            found.append(_sharing(climb(Work(program, own, known, algebra))))
        except nf.TooLarge:
            continue
    if not found:
        return None
    winner = min(found, key=lambda c: c.rank)
    temporaries = {t.name for t in own.facts.tensors.values() if t.role == "temporary"}
    literal = cost_of(own.facts.program.statements, temporaries).value
    return winner if winner.value < literal else None


def _sharing(found: Candidate) -> Candidate:
    """The candidate with what its statements compute several times computed once."""
    inner = {x.name for x in found.locals}
    taken = {*found.extraction.taken, *found.extraction.reserved}
    shared = share(found.statements, inner, taken)
    locals = [*found.locals, *shared.locals]
    value = cost_of(shared.statements, {x.name for x in locals}).value
    if value >= found.value:
        return found
    return replace(found, statements=list(shared.statements), locals=locals, value=value)


def climb(work: Work) -> Candidate:
    """Local search: each intermediate in or out, for as long as that makes it cheaper."""
    starts = [frozenset(work.candidates), _sums(work)]
    tried = []
    for start in starts:
        try:
            tried.append(work.candidate(start))
        except nf.TooLarge:
            continue
    if not tried:
        raise nf.TooLarge
    current = min(tried, key=lambda c: c.rank)
    for _ in range(ROUNDS):
        before = current
        for tensor in work.candidates:
            try:
                other = work.candidate(current.kept ^ {tensor})
            except nf.TooLarge:
                continue
            if other.rank < current.rank:
                current = other
        if current is before:
            break
    return current


def _sums(work: Work) -> Kept:
    """Kept at first: intermediates that are sums of two axes or more."""
    return frozenset(
        t
        for t in work.candidates
        if t in work.reduced
        and any(x.bound for x, _ in work.reduced[t].terms)
        and len(work.own.definitions[t].indices) > 1
    )
