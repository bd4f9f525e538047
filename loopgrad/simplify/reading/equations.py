"""Which definitions of a forward hold where: as equations for all indices, or under a reader's blocks.

Values never change once read, so `h[t,b] = tanh(a[t,b])` in a block over `t` is an equation. Where the
block covers the axis it holds for every `t`; where it covers `1 <= t < T` only, it is used in blocks
over just that range, for the `t` of the turn.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir.nodes import Expression, Index, Range, Reduction
from loopgrad.ir.walk import ZERO, bounds, indices_of, substitute
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import free_of
from loopgrad.simplify.reading.regions import Region, from_zero
from loopgrad.simplify.reading.statements import Definition, Reading


def equations(known: Reading, own: Reading, region: Region) -> dict[str, Definition]:
    """The forward's definitions that hold for what the region of the other program reads."""
    found: dict[str, Definition] = {}
    for key, definition in known.definitions.items():
        if definition.poly is None:
            continue
        if _is_shifted(key, definition, known):
            found[key] = definition
        elif _is_equation(key, definition, known):
            held = _held(definition, known, own, region)
            if held is not None:
                found[key] = held
    return found


def _is_equation(key: str, definition: Definition, known: Reading) -> bool:
    """Is the element that one statement writes all that its value says?"""
    plain = definition.indices
    if len(set(plain)) != len(definition.subscripts):
        return False
    if not set(definition.region.indices) <= set(plain):
        return False
    if definition.whole:
        return True
    # Of several pieces: `=` writes an element once, and nothing is added to it after.
    own, around = known.statements[key], definition.region.indices
    every = [s for other in known.pieces[definition.tensor] for s in known.statements[other]]
    covers = definition.extents == known.extents(definition.tensor)
    return (
        len(own) == 1
        and own[0].guard is None
        and covers
        and all(r.index in around or from_zero(r) for r in own[0].ranges)
        and all(s.reduction is Reduction.SET for s in every)
    )


def _is_shifted(key: str, definition: Definition, known: Reading) -> bool:
    """Is it `h[t+1,b] = tanh(a[t,b])`, which holds for every t that `a` has?

    Only where each factor reads, by the bare index, a tensor that has as many elements along it as the
    block has turns: then whatever element is read, its equation was computed.
    """
    bare = [free_of(s) for s in definition.subscripts]
    free = definition.own.free
    if all(isinstance(s, str) for s in definition.subscripts) or any(len(f) != 1 for f in bare):
        return False
    if len(free) != len(bare) or not set(definition.region.indices) <= free:
        return False
    every = [s for piece in known.pieces[definition.tensor] for s in known.statements[piece]]
    own = known.statements[key]
    if (
        len(own) != 1
        or own[0].guard is not None
        or any(s.reduction is not Reduction.SET for s in every)
    ):
        return False
    assert definition.poly is not None
    atoms = [a for t, _ in definition.poly.terms for a, _ in t.atoms]
    ranges = (*definition.region.ranges, *own[0].ranges)
    return not any(a.kind in ("delta", "indicator") for a in atoms) and all(
        _covers(r, atom, known) for r in ranges for atom in atoms if r.index in atom.free
    )


def _covers(r: Range, atom: nf.Atom, known: Reading) -> bool:
    """Does the atom read an axis by the range's bare index that has no element beyond the range?"""
    if not from_zero(r) or r.upper is None:
        return False
    extent = known.extent(r.upper)
    return any(
        part == r.index and known.extents(read.name)[axis] == extent
        for read in nf.atoms_of(nf.of_atom(atom))
        if read.kind == "read"
        for axis, part in enumerate(read.parts)
    )


def _held(
    definition: Definition, known: Reading, own: Reading, region: Region
) -> Definition | None:
    """The definition with the indices of partial blocks under the names of the reader's blocks."""
    extents = dict(zip(definition.indices, definition.extents, strict=True))
    names: dict[str, str] = {}
    bounding = frozenset().union(*map(indices_of, bounds(definition.region.ranges)))
    for r in definition.region.ranges:
        assert r.upper is not None
        covers = r.lower in (None, ZERO) and known.extent(r.upper) == extents[r.index]
        if covers and r.index not in bounding:
            continue
        matching = [
            q.index
            for q in region.ranges
            if q.index not in names.values() and _range(q, {}, own) == _range(r, names, known)
        ]
        if not matching:
            return None
        names[r.index] = r.index if r.index in matching else matching[0]
    if not names:
        return definition
    # Other indices give way to the names that are fixed now.
    away = {i: nf.fresh_index() for i in extents if i in names.values() and i not in names}
    poly = definition.poly
    assert poly is not None
    changed: dict[str, nf.Subscript] = {**away, **{i: nf.fresh_index() for i in names}}
    back: dict[str, nf.Subscript] = {str(changed[i]): n for i, n in names.items()}
    final = {i: back.get(str(changed.get(i)), changed.get(i, i)) for i in extents}
    return replace(
        definition,
        subscripts=tuple(final[i] for i in definition.indices),
        poly=poly.renamed(changed).renamed(back),
        fixed=frozenset(names.values()),
    )


def _range(r: Range, names: dict[str, str], reading: Reading) -> tuple[str, str]:
    """Both bounds as texts, with outer indices renamed."""
    outer: dict[str, Expression] = {i: Index(n) for i, n in names.items()}
    assert r.upper is not None
    lower, upper = (substitute(e, outer) for e in (r.lower or ZERO, r.upper))
    return reading.extent(lower), reading.extent(upper)
