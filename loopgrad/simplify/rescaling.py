"""An intermediate that every reader multiplies by the same: `Z.grad[b] * Z[b]` becomes `e[b]`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from loopgrad.ir.walk import fresh_name
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading import Definition
from loopgrad.simplify.rewrite import Algebra

Powers = dict[Atom, nf.Number]


@dataclass(frozen=True)
class Rescaled:
    """`name = tensor * factor`, with the sum that it is."""

    name: str
    tensor: str
    factor: Poly


def rescale(
    forms: dict[str, Poly],
    definitions: Mapping[str, Definition],
    movable: Collection[str],
    algebra: Algebra,
    taken: set[str],
) -> dict[str, Rescaled]:
    """Changes the forms in place; tells which tensor is replaced by what."""
    found: dict[str, Rescaled] = {}
    for tensor in [t for t in forms if t in movable]:
        factor = _common_factor(tensor, forms, definitions)
        if not factor:
            continue
        whole = algebra.reduce(nf.times(forms[tensor], nf.product((), factor)))
        if _size(whole) > _size(forms[tensor]):
            continue
        name = fresh_name("e", taken)
        taken.add(name)
        indices = definitions[tensor].indices
        for reader, poly in forms.items():
            if tensor in poly.tensors:
                forms[reader] = nf.plus(
                    *(
                        _with(t, c, tensor, name, indices, factor)
                        if tensor in t.tensors
                        else Poly({t: c})
                        for t, c in poly.terms
                    )
                )
        forms[tensor] = whole
        found[tensor] = Rescaled(name, tensor, nf.product((), factor))
    return found


def _size(poly: Poly) -> int:
    return sum(len(t.atoms) for t, _ in poly.terms)


def _read_of(tensor: str, powers: Mapping[Atom, nf.Number]) -> Atom | None:
    """The one read of the tensor in a term, by plain indices, each once; else None."""
    found = [a for a in powers if tensor in a.tensors]
    if len(found) != 1 or found[0].kind != "read" or powers[found[0]] != 1:
        return None
    read = found[0]
    plain = read.name == tensor and all(isinstance(p, str) for p in read.parts)
    return read if plain and len(set(read.parts)) == len(read.parts) else None


def _common_factor(
    tensor: str, forms: Mapping[str, Poly], definitions: Mapping[str, Definition]
) -> Powers:
    """What every term with the tensor has beside it that hangs on the tensor's indices only."""
    indices = definitions[tensor].indices
    common: Powers | None = None
    for poly in forms.values():
        for term, _ in poly.terms:
            if tensor not in term.tensors:
                continue
            powers = dict(term.atoms)
            read = _read_of(tensor, powers)
            if read is None:
                return {}
            back: dict[str, nf.Subscript] = {
                str(p): i for p, i in zip(read.parts, indices, strict=True)
            }
            beside = {
                a.renamed(back): p
                for a, p in powers.items()
                if a is not read and a.tensors and a.free <= set(back)
                if a.kind == "read" and not a.tensors & set(definitions)
            }
            shared = beside if common is None else common
            common = {a: p for a, p in shared.items() if beside.get(a) == p}
    return common or {}


def _with(
    term: Term,
    coefficient: nf.Number,
    tensor: str,
    name: str,
    indices: tuple[str, ...],
    factor: Powers,
) -> Poly:
    """The term with the new tensor read for the old one and its factor."""
    bound, powers = term.opened()
    read = _read_of(tensor, powers)
    assert read is not None
    names: dict[str, nf.Subscript] = dict(zip(indices, read.parts, strict=True))  # type: ignore[arg-type]
    del powers[read]
    powers[nf.read(name, read.parts)] = 1  # type: ignore[arg-type]
    for atom, p in factor.items():
        there = atom.renamed(names)
        powers[there] = powers.get(there, 0) - p
    return nf.product(bound, powers, coefficient)
