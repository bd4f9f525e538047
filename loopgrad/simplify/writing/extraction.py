"""Reduced sums into statements: temporaries for what has fewer indices, scatter, factoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

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
)
from loopgrad.ir.walk import ZERO, fresh_name
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.bounds import is_bound, ranges_of
from loopgrad.simplify.algebra.contraction import first_step
from loopgrad.simplify.algebra.matching import match_product
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.algebra.products import connected, free_in, joined
from loopgrad.simplify.algebra.quotients import Powers
from loopgrad.simplify.reading.regions import Region
from loopgrad.simplify.reading.statements import Definition
from loopgrad.simplify.writing.expressions import Writer, invented
from loopgrad.simplify.writing.made import Aligned, Group, Made, Part, Piece, Target, Temporary


@dataclass
class Extraction:
    """Statements as they are made; temporaries are shared between all tensors."""

    index_names: Mapping[str, list[str]]  # extent -> names for indices over it
    order: dict[str, int]  # header order of tensors
    taken: set[str]
    reserved: frozenset[str]  # names that an index cannot have
    positions: Mapping[str, int]  # index name -> where it stands among the loops of the programs
    extent: Callable[[Expression], str] = nf.extent_text  # the text of a block's extent
    bounds: frozenset[str] = frozenset()  # shapes of conditions that the programs have as bounds
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

    def piece(self, name: str, definition: Definition, poly: Poly, sets: bool, most: int) -> None:
        """Statements for what the definition gives its tensor, here called `name`.

        sets: one `=` wrote it; one statement that sums nothing will be one again. most: how
        many there were; terms under different conditions share one where it would take more.
        """
        self.order.setdefault(name, len(self.order))
        # Definitions live as long as `known`.
        asked = (id(definition), name, poly.key, sets, most)
        piece = self.known.pieces.get(asked)
        if piece is None:
            before = self.asked
            piece = self._piece(name, definition, poly, sets, most)
            if self.asked == before:
                self.known.pieces[asked] = piece
        for group in piece.groups:
            self._write(group)
        if piece.remembered is not None:
            self.temporaries.append(piece.remembered)

    def _piece(self, name: str, definition: Definition, poly: Poly, sets: bool, most: int) -> Piece:
        over = {**self.around, **definition.loops}
        parts: list[Part] = []
        for term, coefficient in poly.terms:
            bound, powers = term.opened()
            rest = self._components(bound, powers, coefficient, over)
            parts += [self._contracted(*part, over) for part in rest]
        target = Target(name, definition.subscripts, sets, most)
        groups = self._groups(target, over, parts)
        remembered = self._remembered(name, definition.indices, poly) if definition.whole else None
        return Piece(tuple(groups), remembered)

    def _remembered(self, name: str, indices: tuple[str, ...], poly: Poly) -> Temporary | None:
        """A tensor that is one reduction stands for it wherever it comes again."""
        if len(poly.terms) != 1 or not poly.terms[0][0].bound:
            return None
        term, coefficient = poly.terms[0]
        bound, powers = term.opened()
        inner = {i for i, _ in bound}
        moving = {a: p for a, p in powers.items() if a.free & inner}
        rest = {a: p for a, p in powers.items() if not a.free & inner}
        plain = all(a.kind in ("read", "function", "sum", "indicator") for a in moving)
        if (
            not plain
            or any(a.free or a.tensors for a in rest)
            or len(connected([i for i, _ in bound], powers)) != 1
        ):
            return None
        factor = nf.product((), rest, coefficient)
        return Temporary(name, indices, bound, moving, factor, self.region)

    # --------------------------------------------------------------------------------- components

    def _components(
        self, bound: nf.Bound, powers: Powers, coefficient: nf.Number, over: Mapping[str, str]
    ) -> list[Part]:
        """The term with each part that has fewer indices than the target read from a temporary."""
        inner = [i for i, _ in bound]
        groups = connected(inner, powers)
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
            reaches = free >= (set(over) & free_in(powers))
            outside = [a for a in powers if a.kind == "indicator" and not a.free & set(inner)]
            carried = self._carried(own, outside, free)
            hanging = touched.union(*(a.free for a in carried))
            once = not self.region.turns(hanging, frozenset().union(*(a.tensors for a in own)))
            if (
                scatters
                or _needs(own, free, outside)
                or (not direct and not once and free >= set(over) and reaches)
            ):
                direct += 1
                kept_bound += [(i, extents[i]) for i in group]
                continue
            for atom in own:
                del atoms[atom]
            sizes = {
                a: p
                for a, p in atoms.items()
                if not a.free and not a.tensors and a.kind != "indicator"
            }
            for atom in sizes:
                del atoms[atom]
            whole = nf.times(factor, nf.product((), sizes))
            ranges: nf.Bound = tuple((i, extents[i]) for i in group)
            other = self.unfold(nf.product(ranges, own), self.region)
            if other is not None:
                (term, c) = other.terms[0]
                ranges, own = term.opened()
                whole = nf.scaled(whole, c)
            own = {**own, **dict.fromkeys(carried, 1)}
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
            outside = [a for a in powers if a.kind == "indicator" and a not in step.atoms]
            if _needs(step.atoms, step.free, outside):
                break
            carried = self._carried(step.atoms, outside, step.free)
            own = {**step.atoms, **dict.fromkeys(carried, 1)}
            # Outside of the sum, one would divide by 0 where the axis is empty.
            sizes = _divisors(powers, extents[step.index])
            read, factor = self._temporary(ranges, own, nf.product((), sizes), step.free, every)
            ((inside, number),) = factor.terms
            bound = tuple((i, e) for i, e in bound if i != step.index)
            inner = {*step.atoms, *sizes}
            powers = joined({a: p for a, p in powers.items() if a not in inner}, inside.atoms)
            powers = {a: p for a, p in joined(powers, [(read, 1)]).items() if p}
            coefficient = nf.exact(coefficient * number)
            step = first_step(bound, powers, over, self.around)
        return bound, powers, coefficient

    def _carried(self, own: Powers, outside: Iterable[Atom], free: frozenset[str]) -> list[Atom]:
        """The conditions of a term under which a sum in it is computed: those that its indices decide.

        Conditions on a block's turn alone are left to the reader, where nothing can go wrong without.
        """
        formulas = any("integer<" in a.key or "opaque<" in a.key for a in own)
        found = [c for c in outside if c.free <= free]
        return [c for c in found if formulas or not c.free or not c.free <= self.around.keys()]

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
            pattern = sorted(known.atoms.items(), key=lambda t: t[0].kind == "indicator")
            for names in match_product(tuple(pattern), atoms, {}, variables):
                if not names.keys() >= variables - set(turns):
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
            self._contracted(bound, joined(atoms, t.atoms), c, extents) for t, c in factor.terms
        ]
        for group in self._groups(Target(name, indices), extents, terms):
            self._write(group)
        self.order.setdefault(name, len(self.order))
        return nf.read(name, indices), nf.ONE

    # ---------------------------------------------------------------------------------- statements

    def _groups(
        self, target: Target, over: Mapping[str, str], parts: Iterable[Part]
    ) -> list[Group]:
        """Statements for terms; those with the same loops share one."""
        aligned = [self._aligned(over, *part) for part in parts]
        groups = _grouped(aligned, lambda a: a.alone)
        if target.sets or 0 < target.most < len(groups):
            groups = _grouped(aligned, lambda a: a.kind)
        summed = any(p.sums for group in groups.values() for p in group)
        target = replace(target, sets=target.sets and len(groups) == 1 and not summed)
        ordered = sorted(groups, key=lambda k: (k[0] != "", len(k), k))
        found = (self._group(target, groups[key]) for key in ordered)
        return [group for group in found if group is not None]

    def _aligned(
        self, over: Mapping[str, str], bound: nf.Bound, atoms: Powers, coefficient: nf.Number
    ) -> Aligned:
        """The term with names for its bound indices that all of its kind have."""
        own = sorted(bound, key=lambda t: (t[1], t[0]))
        same: dict[str, nf.Subscript] = {i: f"%{k}" for k, (i, _) in enumerate(own)}
        kept: Powers = {}
        deltas: dict[str, nf.Subscript] = {}
        conditions: list[Atom] = []
        for atom, p in atoms.items():
            new = atom.renamed(same)
            if atom.kind == "delta":
                left, right = new.parts
                target, source = (left, right) if left in over else (right, left)
                deltas[str(target)] = source  # type: ignore[assignment]
            elif atom.kind == "indicator":
                conditions.append(new)
            else:
                kept[new] = kept.get(new, 0) + p
        loops = {i: e for i, e in over.items() if i not in deltas and i not in self.around}
        loops |= {f"%{k}": e for k, (_, e) in enumerate(own)}
        bounds = sorted(
            (c for c in conditions if is_bound(c, loops, self._around, self.bounds)), key=nf.key_of
        )
        guards = [c for c in conditions if c not in bounds]
        for guard in guards:
            kept[guard] = 1
        return Aligned(loops, nf.product((), kept, coefficient), deltas, tuple(bounds))

    def _group(self, target: Target, parts: list[Aligned]) -> Group | None:
        """One statement for terms of one kind, None where they cancel; conditions that all of them
        have are its guard."""
        poly = nf.plus(*(p.poly for p in parts))
        if not poly.terms:
            return None
        shared = set.intersection(
            *({a for a, _ in t.atoms if a.kind == "indicator"} for t, _ in poly.terms)
        )
        if shared:
            poly = nf.plus(
                *(
                    nf.product((), {a: p for a, p in t.atoms if a not in shared}, c)
                    for t, c in poly.terms
                )
            )
        loops, deltas = parts[0].loops, parts[0].deltas
        conditions = (*parts[0].bounds, *sorted(shared, key=nf.key_of))
        scatter = tuple(f"{i} {d if isinstance(d, str) else d.key}" for i, d in deltas.items())
        texts = tuple(c.key for c in conditions)
        shown = tuple(s if isinstance(s, str) else s.key for s in target.subscripts)
        place = (self.region.number, target.name, shown, target.sets)
        key = (place, poly.key, tuple(loops.items()), scatter, texts)
        return Group(target, loops, poly, deltas, conditions, key)

    def _write(self, group: Group) -> None:
        ranks = tuple((t, self.order.get(t)) for t in sorted(group.poly.tensors))
        asked = (*group.key, ranks)
        known = self.known.statements
        if asked not in known:
            known[asked] = self._statement(group)
        made = known[asked]
        again = any(one.target.tensor == made.target.tensor for one in self.statements)
        if not (again and made.value == ZERO and made.reduction is not Reduction.SET):
            self.statements.append(made)

    def _statement(self, group: Group) -> Accumulate:
        target, loops, deltas = group.target, group.loops, group.deltas
        names = self._names(loops)
        ordered = sorted(loops, key=lambda i: self.positions.get(names[i], 999))
        places = {i: k for k, i in enumerate(ordered)}
        writer = Writer(names, self.order, places=places)
        sign, value = writer.signed(group.poly)
        subscripts = tuple(
            writer.subscript(deltas.get(s, s) if isinstance(s, str) else s)
            for s in target.subscripts
        )
        bounds, guards = ranges_of(ordered, loops, group.conditions, self._around, self.bounds)
        guard = writer.conditions(guards)
        ranges = tuple(
            Range(names[i], writer.formula(lower), writer.formula(upper))
            for i, lower, upper in bounds
        )
        reduction = Reduction.ADD if sign > 0 else Reduction.SUBTRACT
        if target.sets:
            reduction, value = Reduction.SET, value if sign > 0 else Apply("neg", (value,))
        return Accumulate(Read(target.name, subscripts), reduction, value, ranges, guard)

    @property
    def _around(self) -> dict[str, Expression]:
        """The extents of the blocks' indices, where sizes tell them."""
        return {i: nf.extent_expression(e) for i, e in self.around.items() if e}

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


def _grouped(
    parts: Iterable[Aligned], key: Callable[[Aligned], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Aligned]]:
    groups: dict[tuple[str, ...], list[Aligned]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return groups


def _needs(own: Powers, free: frozenset[str], around: Iterable[Atom]) -> bool:
    """Could it be out of range where a condition does not hold that it cannot be computed under?"""
    others = [a for a in around if a.free & free and not a.free <= free]
    return any("integer<" in a.key and a.free & c.free for a in own for c in others)


def _divisors(powers: Powers, extent: str) -> dict[Atom, nf.Number]:
    """The size of the axis, where the product is divided by it."""
    return {a: p for a, p in powers.items() if a.kind == "name" and p < 0 and a.key == extent}
