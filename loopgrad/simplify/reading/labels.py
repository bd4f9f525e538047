"""Names that say what a tensor is: two tensors of one label are computed alike, all the way down."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from loopgrad.ir.nodes import Expression, Extent
from loopgrad.ir.walk import map_statement, rebuild, rename_tensors
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.atoms import Atom
from loopgrad.simplify.algebra.normal_form import Poly
from loopgrad.simplify.reading.canonical import statement_text
from loopgrad.simplify.reading.statements import Reading


def label(reading: Reading, tensor: str, whole: Poly | None, others: Mapping[str, str]) -> str:
    """A name made of the tensor's sum, or of its statements, which read others under their labels."""
    definition = reading.definitions[tensor]
    if whole is not None:
        names: dict[str, nf.Subscript] = {i: f"axis {n}" for n, i in enumerate(definition.indices)}
        texts = [whole.renamed(names).key]
    else:
        texts = []
        pieces = [s for key in reading.pieces[tensor] for s in reading.statements[key]]
        for statement in pieces:
            unified = map_statement(statement, lambda e: _unified(e, reading))
            texts.append(statement_text(unified, {**others, tensor: "itself"}))
    said = "\n".join([definition.element.value, *definition.extents, *sorted(texts)])
    return f"·{sha256(said.encode()).hexdigest()[:20]}"


def _unified(expression: Expression, reading: Reading) -> Expression:
    if isinstance(expression, Extent):
        return reading.names.apply(expression)
    return rebuild(expression, lambda e: _unified(e, reading))


def labelled(poly: Poly, names: Mapping[str, str]) -> Poly:
    """The sum with every tensor that is named under its label, in subscripts and conditions too."""
    if poly.tensors.isdisjoint(names):
        return poly

    def change(atom: Atom) -> Poly | None:
        if atom.tensors.isdisjoint(names):
            return None
        match atom.kind:
            case "read" | "delta":
                parts = tuple(_subscript(p, names) for p in atom.parts)  # type: ignore[arg-type]
                return nf.of_atom(Atom(atom.kind, names.get(atom.name, atom.name), parts))
            case "indicator" | "truth" | "opaque" | "integer":
                inside: Expression = atom.parts[0]  # type: ignore[assignment]
                return nf.of_atom(Atom(atom.kind, atom.name, (rename_tensors(inside, names),)))
        return None

    return nf.map_atoms(poly, change)


def _subscript(subscript: nf.Subscript, names: Mapping[str, str]) -> nf.Subscript:
    if isinstance(subscript, str):
        return subscript
    inside: Expression = subscript.parts[0]  # type: ignore[assignment]
    return Atom(subscript.kind, subscript.name, (rename_tensors(inside, names),))
