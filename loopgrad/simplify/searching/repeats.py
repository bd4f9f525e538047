"""Sums that are computed twice: read the second time, and an intermediate that is a result by name."""

from __future__ import annotations

from collections.abc import Collection

from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.reading.statements import Definition, Reading
from loopgrad.simplify.searching.rescaling import Rescaled


def fold_repeated(forms: dict[str, Poly], own: Reading, left: Collection[str]) -> None:
    """Sums that an earlier tensor is, read from it: `c.grad = g * d` and `x.grad = g * d + u`.

    Changes the forms in place, but for tensors that are left as they are.
    """
    whole: list[tuple[Definition, Poly]] = []
    for key, poly in forms.items():
        definition = own.definitions[key]
        if definition.tensor not in left:
            for earlier, value in whole:
                if _reaches(earlier, definition):
                    poly = _folded(poly, earlier, value)
            forms[key] = poly
        plain = definition.whole and not any(t.bound for t, _ in poly.terms)
        if plain and sum(len(t.atoms) for t, _ in poly.terms) > 1:
            whole.append((definition, poly))


def _reaches(earlier: Definition, reader: Definition) -> bool:
    """Is the element of the earlier tensor with the reader's indices complete where it would be read?"""
    extents = dict(zip(earlier.indices, earlier.extents, strict=True))
    loops = reader.loops
    around = earlier.region.indices
    return reader.region.within(earlier.region) and all(
        i in around or loops.get(i) == e for i, e in extents.items()
    )


def _folded(poly: Poly, earlier: Definition, value: Poly) -> Poly:
    terms = dict(poly.terms)
    if not all(terms.get(t) == c for t, c in value.terms):
        return poly
    rest = {t: c for t, c in poly.terms if t not in dict(value.terms)}
    return nf.plus(Poly(rest), nf.of_atom(nf.read(earlier.tensor, earlier.indices)))


def drop_copies(forms: dict[str, Poly], own: Reading, movable: Collection[str]) -> None:
    """Intermediates that only repeat another tensor: what reads them reads that.

    Changes the forms in place: those of the copies are dropped.
    """
    for tensor in [t for t in forms if t in movable]:
        source = _repeated(forms[tensor])
        indices = own.definitions[tensor].indices
        if source and forms[tensor] == nf.of_atom(nf.read(source, indices)):
            del forms[tensor]
            _rename(forms, tensor, source)


def _rename(forms: dict[str, Poly], old: str, new: str) -> None:
    def renamed(atom: Atom) -> Poly | None:
        if atom.kind != "read" or atom.name != old:
            return None
        return nf.of_atom(nf.read(new, atom.parts))  # type: ignore[arg-type]

    for reader, poly in forms.items():
        if old in poly.tensors:
            forms[reader] = nf.map_atoms(poly, renamed)


def merge(
    forms: dict[str, Poly], own: Reading, movable: Collection[str], results: Collection[str]
) -> dict[str, Rescaled]:
    """Intermediates that a result only repeats, `x.grad[b,j] += a.grad[b,j]`, under its name.

    Changes the forms in place: that of the result is dropped.
    """
    found: dict[str, Rescaled] = {}
    for result in results:
        definition = own.definitions.get(result)
        if definition is None or not definition.whole or result not in forms:
            continue
        tensor = _repeated(forms[result])
        if tensor not in movable or tensor in found:
            continue
        other = own.definitions[tensor]
        same = nf.of_atom(nf.read(tensor, definition.indices)) == forms[result]
        if not same or other.extents != definition.extents:
            continue
        if other.region.blocks != definition.region.blocks:
            continue
        del forms[result]
        _rename(forms, tensor, result)
        found[tensor] = Rescaled(result, tensor, nf.ONE)
    return found


def _repeated(poly: Poly) -> str:
    """The one tensor that is read; "" where there is more to it."""
    return next(iter(poly.tensors)) if len(poly.tensors) == 1 else ""
