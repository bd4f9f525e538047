"""An intermediate that every reader multiplies by the same: `Z.grad[b] * Z[b]` becomes `e[b]`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from loopgrad.ir.walk import fresh_name
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading.statements import Reading
from loopgrad.simplify.searching.rewrite import Algebra

Powers = dict[Atom, nf.Number]


@dataclass(frozen=True)
class Rescaled:
    """`name = tensor * factor`, with the sum that it is."""

    name: str
    tensor: str
    factor: Poly


def rescale(
    forms: dict[str, Poly],
    own: Reading,
    movable: Collection[str],
    algebra: Callable[[str], Algebra],
    taken: set[str],
) -> dict[str, Rescaled]:
    """Changes the forms in place; tells which tensor is replaced by what."""
    found: dict[str, Rescaled] = {}
    readers: dict[str, list[str]] = {}
    for reader, poly in forms.items():
        for tensor in poly.tensors.intersection(movable):
            readers.setdefault(tensor, []).append(reader)
    for tensor in [t for t in forms if t in movable]:
        read_by = readers.get(tensor, [])
        factor, number = _common_factor(tensor, [forms[r] for r in read_by], own)
        if len(forms[tensor].terms) > 1:  # numbers and sizes would be written once a term
            factor, number = {a: p for a, p in factor.items() if a.tensors}, Fraction(1)
        if not factor and number == 1:
            continue
        scale = nf.product((), factor, number)
        whole = algebra(tensor).reduce(nf.times(forms[tensor], scale))
        if _size(whole) > _size(forms[tensor]):
            continue
        name = fresh_name("e", taken)
        taken.add(name)
        indices = own.definitions[tensor].indices
        for reader in read_by:
            forms[reader] = nf.plus(
                *(
                    _with(t, nf.exact(c / number), tensor, name, indices, factor)
                    if tensor in t.tensors
                    else Poly({t: c})
                    for t, c in forms[reader].terms
                )
            )
        forms[tensor] = whole
        found[tensor] = Rescaled(name, tensor, scale)
    return found


def _size(poly: Poly) -> int:
    return sum(bool(a.free or a.tensors) for t, _ in poly.terms for a, _ in t.atoms)


def _read_of(tensor: str, powers: Mapping[Atom, nf.Number]) -> Atom | None:
    """The one read of the tensor in a term, by plain indices, each once; else None."""
    found = [a for a in powers if tensor in a.tensors]
    if len(found) != 1 or found[0].kind != "read" or powers[found[0]] != 1:
        return None
    read = found[0]
    plain = read.name == tensor and all(isinstance(p, str) for p in read.parts)
    return read if plain and len(set(read.parts)) == len(read.parts) else None


def _common_factor(tensor: str, readers: Iterable[Poly], own: Reading) -> tuple[Powers, Fraction]:
    """What every term with the tensor has beside it that hangs on the tensor's indices only.

    The number among it is that of all terms, or 1; the sign is theirs where all have the same.
    """
    indices = own.definitions[tensor].indices
    computed = set(own.computed)
    common: Powers | None = None
    numbers: set[Fraction] = set()
    for poly in readers:
        for term, coefficient in poly.terms:
            if tensor not in term.tensors:
                continue
            powers = dict(term.atoms)
            read = _read_of(tensor, powers)
            if read is None:
                return {}, Fraction(1)
            numbers.add(Fraction(coefficient))
            back: dict[str, nf.Subscript] = {
                str(p): i for p, i in zip(read.parts, indices, strict=True)
            }
            beside = {
                a.renamed(back): p
                for a, p in powers.items()
                if a is not read and a.free <= set(back)
                if a.kind in ("read", "name") and not a.tensors & computed
            }
            shared = beside if common is None else common
            common = {a: p for a, p in shared.items() if beside.get(a) == p}
    sizes = {abs(n) for n in numbers}
    number = sizes.pop() if len(sizes) == 1 else Fraction(1)
    if number != 1 and all(n < 0 for n in numbers):
        number = -number
    return common or {}, number


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
