"""Reduced sums into statements: temporaries for what has fewer indices, scatter, factoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Local,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import ZERO, conjunction, fresh_name, statement_reads
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.contraction import first_step
from loopgrad.simplify.normal_form import Atom, Poly
from loopgrad.simplify.reading import Definition
from loopgrad.simplify.regions import Region
from loopgrad.simplify.relations import match_product
from loopgrad.simplify.writing import Powers, Writer, invented


@dataclass
class Temporary:
    """`name[indices] = coefficient * sum over bound of the atoms`, made in a region's blocks."""

    name: str
    indices: tuple[str, ...]
    bound: nf.Bound
    atoms: Powers
    factor: Poly  # numbers and sizes
    region: Region


@dataclass(frozen=True)
class Target:
    """What a statement writes: a tensor, and its subscripts."""

    name: str
    subscripts: tuple[nf.Subscript, ...]
    sets: bool = False  # by `=`


@dataclass(frozen=True)
class Group:
    """One statement before it is written: its sum, loops, and where it scatters and runs."""

    target: Target
    loops: Mapping[str, str]
    poly: Poly
    deltas: Mapping[str, nf.Subscript]
    guards: tuple[Atom, ...]
    key: tuple[object, ...]


@dataclass(frozen=True)
class Piece:
    """The statements of a piece that has no temporaries, and itself as one that others may read."""

    groups: tuple[Group, ...]
    remembered: Temporary | None


@dataclass
class Made:
    """What was made before, by all that it follows from: most is the same in all candidates."""

    statements: dict[tuple[object, ...], Accumulate] = field(default_factory=dict)
    pieces: dict[tuple[object, ...], Piece] = field(default_factory=dict)
    costs: dict[tuple[int, frozenset[str]], float] = field(default_factory=dict)
    # By `id`, with the statements, which live as long as this does.
    texts: dict[int, tuple[Statement, str]] = field(default_factory=dict)
    reads: dict[int, tuple[Statement, frozenset[str]]] = field(default_factory=dict)

    def text_of(self, statement: Statement) -> str:
        if id(statement) not in self.texts:
            self.texts[id(statement)] = statement, show_statement(statement)
        return self.texts[id(statement)][1]

    def reads_of(self, statement: Statement) -> frozenset[str]:
        if id(statement) not in self.reads:
            found = frozenset(r.tensor for r in statement_reads(statement))
            self.reads[id(statement)] = statement, found
        return self.reads[id(statement)][1]


@dataclass
class Extraction:
    """Statements as they are made; temporaries are shared between all tensors."""

    index_names: Mapping[str, list[str]]  # extent -> names for indices over it
    order: dict[str, int]  # header order of tensors
    taken: set[str]
    reserved: frozenset[str]  # names that an index cannot have
    positions: Mapping[str, int]  # index name -> where it stands among the loops of the programs
    extent: Callable[[Expression], str] = nf.extent_text  # the text of a block's extent
    # A reduction with an intermediate put in, where that makes a simpler one of it.
    unfold: Callable[[Poly, Region], Poly | None] = lambda poly, region: None
    known: Made = field(default_factory=Made)
    regions: dict[int, list[Accumulate]] = field(default_factory=dict)
    locals: list[Local] = field(default_factory=list)
    temporaries: list[Temporary] = field(default_factory=list)
    # Where statements are being made: in a region, under blocks with these indices and extents.
    region: Region = field(default_factory=lambda: Region(0))
    around: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0  # how often for a temporary

    # ---------------------------------------------------------------------------------- a tensor

    @property
    def statements(self) -> list[Accumulate]:
        """Those of the region."""
        return self.regions.setdefault(self.region.number, [])

    @statements.setter
    def statements(self, value: list[Accumulate]) -> None:
        self.regions[self.region.number] = value

    def enter(self, region: Region) -> None:
        """What is made from now on stands in the region."""
        if region is not self.region:
            self.region = region
            extents = {i: region.extent(i) for i in region.indices}
            self.around = {i: self.extent(e) if e is not None else "" for i, e in extents.items()}

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Takes back what was made inside where that became too large."""
        counts = {n: len(made) for n, made in self.regions.items()}
        temporaries, locals = len(self.temporaries), len(self.locals)
        try:
            yield
        except nf.TooLarge:
            for number, made in self.regions.items():
                del made[counts.get(number, 0) :]
            del self.temporaries[temporaries:], self.locals[locals:]
            raise

    def zero(self, name: str, extents: tuple[str, ...]) -> None:
        """A tensor to which nothing is added."""
        self.order.setdefault(name, len(self.order))
        names: list[str] = []
        for extent in extents:
            names.append(self._index(extent, names))
        target = Read(name, tuple(map(Index, names)))
        ranges = tuple(map(self._range, names, extents))
        statement = Accumulate(target, Reduction.SET, Number(0.0), ranges)
        self.regions.setdefault(0, []).append(statement)

    def piece(self, name: str, definition: Definition, poly: Poly, sets: bool) -> None:
        """Statements for what the definition gives its tensor, here called `name`.

        sets: one `=` wrote it; one statement that sums nothing will be one again.
        """
        self.order.setdefault(name, len(self.order))
        asked = (id(definition), name, poly.key, sets)  # definitions live as long as `known`
        piece = self.known.pieces.get(asked)
        if piece is None:
            before = self.asked
            piece = self._piece(name, definition, poly, sets)
            if self.asked == before:
                self.known.pieces[asked] = piece
        for group in piece.groups:
            self._write(group)
        if piece.remembered is not None:
            self.temporaries.append(piece.remembered)

    def _piece(self, name: str, definition: Definition, poly: Poly, sets: bool) -> Piece:
        over = {**self.around, **definition.loops}
        kinds: dict[tuple[str, ...], list[tuple[nf.Bound, Powers, nf.Number]]] = {}
        for term, coefficient in poly.terms:
            bound, powers = term.opened()
            rest = self._components(bound, powers, coefficient, over)
            for part in (self._contracted(*r, over) for r in rest):
                kinds.setdefault(self._kind(*part[:2]), []).append(part)
        sets = sets and len(kinds) == 1 and not any(b for g in kinds.values() for b, _, _ in g)
        target = Target(name, definition.subscripts, sets)
        ordered = sorted(kinds, key=lambda k: (k[0] != "", len(k), k))
        groups = [self._group(target, over, kinds[key]) for key in ordered]
        remembered = self._remembered(name, definition.indices, poly) if definition.whole else None
        return Piece(tuple(g for g in groups if g is not None), remembered)

    def _remembered(self, name: str, indices: tuple[str, ...], poly: Poly) -> Temporary | None:
        """A tensor that is one reduction stands for it wherever it comes again."""
        if len(poly.terms) != 1 or not poly.terms[0][0].bound:
            return None
        term, coefficient = poly.terms[0]
        bound, powers = term.opened()
        inner = {i for i, _ in bound}
        moving = {a: p for a, p in powers.items() if a.free & inner}
        rest = {a: p for a, p in powers.items() if not a.free & inner}
        plain = all(a.kind in ("read", "function", "sum") for a in moving)
        if (
            not plain
            or any(a.free or a.tensors for a in rest)
            or len(_connected([i for i, _ in bound], powers)) != 1
        ):
            return None
        factor = nf.product((), rest, coefficient)
        return Temporary(name, indices, bound, moving, factor, self.region)

    def _kind(self, bound: nf.Bound, atoms: Powers) -> tuple[str, ...]:
        """Terms of one kind share a statement: same extents summed over, deltas and guards."""
        own = [a.key for a in atoms if a.kind == "indicator"]
        own += [a.key for a in atoms if a.kind == "delta"]  # opened names differ: those stay alone
        return ("delta" if own else "", *sorted(own), *sorted(e for _, e in bound))

    # --------------------------------------------------------------------------------- components

    def _components(
        self, bound: nf.Bound, powers: Powers, coefficient: nf.Number, over: Mapping[str, str]
    ) -> list[tuple[nf.Bound, Powers, nf.Number]]:
        """The term with each part that has fewer indices than the target read from a temporary."""
        inner = [i for i, _ in bound]
        groups = _connected(inner, powers)
        extents = dict(bound)
        kept_bound: list[tuple[str, str]] = []
        atoms = dict(powers)
        factor = nf.number(coefficient)
        direct = 0
        for group in groups:
            own = {a: p for a, p in powers.items() if a.free & set(group)}
            touched = frozenset().union(*(a.free for a in own)) - set(inner)
            free = touched.union(self.around)
            scatters = any(a.kind == "delta" for a in own)
            conditions = _conditions(own, powers)
            guarded = any(a.kind == "indicator" for a in own)
            guarded = guarded or not all(a.free <= touched | set(group) for a in conditions)
            reaches = free >= (set(over) & powers_free(powers))
            once = not self.region.turns(touched, frozenset().union(*(a.tensors for a in own)))
            if scatters or guarded or (not direct and not once and free >= set(over) and reaches):
                direct += 1
                kept_bound += [(i, extents[i]) for i in group]
                continue
            for atom in own:
                del atoms[atom]
            sizes = {a: p for a, p in atoms.items() if not a.free and not a.tensors}
            for atom in sizes:
                del atoms[atom]
            whole = nf.times(factor, nf.product((), sizes))
            ranges: nf.Bound = tuple((i, extents[i]) for i in group)
            other = self.unfold(nf.product(ranges, own), self.region)
            if other is not None:
                (term, c) = other.terms[0]
                ranges, own = term.opened()
                whole = nf.scaled(whole, c)
            own = {**own, **dict.fromkeys(conditions, 1)}
            read, factor = self._temporary(ranges, own, whole, free, over)
            atoms[read] = atoms.get(read, 0) + 1
        result = []
        for term, c in factor.terms:
            joined = dict(atoms)
            for atom, p in term.atoms:
                joined[atom] = joined.get(atom, 0) + p
            result.append((tuple(kept_bound), {a: p for a, p in joined.items() if p}, c))
        return result

    def _contracted(
        self, bound: nf.Bound, powers: Powers, coefficient: nf.Number, over: Mapping[str, str]
    ) -> tuple[nf.Bound, Powers, nf.Number]:
        """The term with the sums inside that have fewer loops read from temporaries."""
        step = first_step(bound, powers, over, self.around)
        while step is not None:
            extents = dict(bound)
            every = {**over, **extents}
            ranges = ((step.index, extents[step.index]),)
            seen = [i for a in sorted(step.atoms, key=self._rank) for i in a.indices]
            every = {i: every[i] for i in dict.fromkeys([*self.around, *seen]) if i in step.free}
            conditions = _conditions(step.atoms, powers)
            if not all(a.free <= step.free | {step.index} for a in conditions):
                break
            own = {**step.atoms, **dict.fromkeys(conditions, 1)}
            read, factor = self._temporary(ranges, own, nf.ONE, step.free, every)
            ((inside, number),) = factor.terms
            bound = tuple((i, e) for i, e in bound if i != step.index)
            powers = _joined({a: p for a, p in powers.items() if a not in step.atoms}, inside.atoms)
            powers = {a: p for a, p in _joined(powers, [(read, 1)]).items() if p}
            coefficient = nf.exact(coefficient * number)
            step = first_step(bound, powers, over, self.around)
        return bound, powers, coefficient

    def _rank(self, atom: Atom) -> tuple[int, str]:
        return min((self.order.get(t, 999) for t in atom.tensors), default=-1), atom.shape

    def _temporary(
        self,
        bound: nf.Bound,
        atoms: Powers,
        factor: Poly,
        free: frozenset[str],
        over: Mapping[str, str],
    ) -> tuple[Atom, Poly]:
        """The read of a temporary for the sum, and what it has still to be multiplied by."""
        self.asked += 1
        wanted = sorted(f"{a.shape}^{p}" for a, p in atoms.items())
        for known in self.temporaries:
            if not self.region.within(known.region):
                continue
            if sorted(f"{a.shape}^{p}" for a, p in known.atoms.items()) != wanted:
                continue
            variables = frozenset(known.indices) | {i for i, _ in known.bound}
            turns = known.region.indices
            for names in match_product(tuple(known.atoms.items()), atoms, {}, variables):
                if any(i not in names for i in known.indices if i not in turns):
                    continue  # the sum does not tell which element of the temporary is meant
                if any(names.get(i, i) != i for i in turns):
                    continue  # an element of another turn of the block
                taken = [names[i] for i, _ in known.bound]
                if sorted(map(str, taken)) == sorted(i for i, _ in bound):
                    read = nf.read(known.name, [names.get(i, i) for i in known.indices])
                    return read, nf.times(factor, nf.power(known.factor, -1))
        indices = tuple(i for i in over if i in free)
        name = fresh_name("e", self.taken)
        self.taken.add(name)
        made = Temporary(name, indices, bound, atoms, factor, self.region)
        self.temporaries.append(made)
        extents = {i: over[i] for i in indices}
        if "" in extents.values():
            raise nf.TooLarge  # a block whose extent hangs on data: nothing can be kept of each turn
        self.locals.append(Local(name, tuple(nf.extent_expression(extents[i]) for i in indices)))
        terms = [
            self._contracted(bound, _joined(atoms, t.atoms), c, extents) for t, c in factor.terms
        ]
        group = self._group(Target(name, indices), extents, terms)
        if group is not None:
            self._write(group)
        self.order.setdefault(name, len(self.order))
        return nf.read(name, indices), nf.ONE

    # ---------------------------------------------------------------------------------- statements

    def _group(
        self,
        target: Target,
        over: Mapping[str, str],
        terms: list[tuple[nf.Bound, Powers, nf.Number]],
    ) -> Group | None:
        """One statement for terms that are summed over the same extents; None where they cancel."""
        first = sorted(terms[0][0], key=lambda t: (t[1], t[0]))
        alike: list[Poly] = []
        deltas: dict[str, nf.Subscript] = {}
        guards: list[Atom] = []
        for bound, atoms, coefficient in terms:
            own = sorted(bound, key=lambda t: (t[1], t[0]))
            same: dict[str, nf.Subscript] = {i: f"%{k}" for k, (i, _) in enumerate(own)}
            kept: Powers = {}
            deltas, guards = {}, []
            for atom, p in atoms.items():
                new = atom.renamed(same)
                if atom.kind == "delta":
                    left, right = new.parts
                    axis, source = (left, right) if left in over else (right, left)
                    deltas[str(axis)] = source  # type: ignore[assignment]
                elif atom.kind == "indicator":
                    guards.append(new)
                else:
                    kept[new] = kept.get(new, 0) + p
            alike.append(nf.product((), kept, coefficient))
        poly = nf.plus(*alike)
        if not poly.terms:
            return None
        loops = {i: e for i, e in over.items() if i not in deltas and i not in self.around}
        loops |= {f"%{k}": e for k, (_, e) in enumerate(first)}
        scatter = tuple(f"{i} {d if isinstance(d, str) else d.key}" for i, d in deltas.items())
        conditions = tuple(a.key for a in guards)
        shown = tuple(s if isinstance(s, str) else s.key for s in target.subscripts)
        place = (self.region.number, target.name, shown, target.sets)
        key = (place, poly.key, tuple(loops.items()), scatter, conditions)
        return Group(target, loops, poly, deltas, tuple(guards), key)

    def _write(self, group: Group) -> None:
        ranks = tuple((t, self.order.get(t)) for t in sorted(group.poly.tensors))
        asked = (*group.key, ranks)
        known = self.known.statements
        if asked not in known:
            known[asked] = self._statement(group)
        self.statements.append(known[asked])

    def _statement(self, group: Group) -> Accumulate:
        target, loops, deltas = group.target, group.loops, group.deltas
        names = self._names(loops)
        writer = Writer(names, self.order)
        sign, value = writer.signed(group.poly)
        subscripts = tuple(
            writer.subscript(deltas.get(s, s) if isinstance(s, str) else s)
            for s in target.subscripts
        )
        guard = conjunction(writer.formula(a.parts[0]) for a in group.guards)  # type: ignore[arg-type]
        ordered = sorted(loops, key=lambda i: self.positions.get(names[i], 999))
        ranges = tuple(self._range(names[i], loops[i]) for i in ordered)
        reduction = Reduction.ADD if sign > 0 else Reduction.SUBTRACT
        if target.sets:
            reduction, value = Reduction.SET, value if sign > 0 else Apply("neg", (value,))
        return Accumulate(Read(target.name, subscripts), reduction, value, ranges, guard)

    def _names(self, loops: Mapping[str, str]) -> dict[str, str]:
        """What each index is called: named ones as they are, others as the programs call theirs."""
        names = {i: i for i in loops if i[0] not in "$#%"}
        for index, extent in loops.items():
            if index not in names:
                names[index] = self._index(extent, names.values())
        return names

    def _index(self, extent: str, others: Iterable[str]) -> str:
        """A name for an index over the extent beside others."""
        used = {*others, *self.around, *self.reserved, *self.order}
        choices = [n for n in self.index_names.get(extent, ()) if n not in used]
        return choices[0] if choices else invented(extent, used)

    def _range(self, index: str, extent: str) -> Range:
        return Range(index, ZERO, nf.extent_expression(extent))


def powers_free(powers: Powers) -> set[str]:
    return {i for a in powers for i in a.free}


def _conditions(own: Powers, powers: Powers) -> list[Atom]:
    """The term's conditions on what atoms of it read: they may keep a formula within its axis."""
    inside = list(nf.atoms_of(nf.product((), own)))
    if not any(a.kind == "opaque" or any(isinstance(p, Atom) for p in a.parts) for a in inside):
        return []
    free = frozenset().union(*(a.free for a in own))
    return [a for a in powers if a.kind == "indicator" and a.free & free and a not in own]


def _joined(atoms: Powers, more: Iterable[tuple[Atom, nf.Number]]) -> Powers:
    result = dict(atoms)
    for atom, p in more:
        result[atom] = result.get(atom, 0) + p
    return result


def _connected(indices: list[str], powers: Powers) -> list[list[str]]:
    """Bound indices in groups that share atoms."""
    groups = [{i} for i in indices]
    for atom in powers:
        touched = [g for g in groups if g & atom.free]
        if len(touched) > 1:
            merged = set().union(*touched)
            groups = [g for g in groups if g not in touched] + [merged]
    return [sorted(g) for g in sorted(groups, key=min)]
