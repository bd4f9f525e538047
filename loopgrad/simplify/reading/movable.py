"""Which tensors may be put into what reads them."""

from __future__ import annotations

from loopgrad.ir.walk import statement_reads
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom
from loopgrad.simplify.reading.regions import Region
from loopgrad.simplify.reading.statements import Definition, Reading


def subscript_tensors(definition: Definition) -> set[str]:
    return {t for s in definition.subscripts if isinstance(s, Atom) for t in s.tensors}


def movable_tensors(own: Reading) -> set[str]:
    """What may be put into its readers: whole sums that all readers read at the same turn of the
    blocks, and of which neither subscripts, conditions nor opaque statements read an element."""
    movable = {k for k, d in own.definitions.items() if d.whole and d.poly is not None}
    movable -= own.apart
    for key, definition in own.definitions.items():
        movable -= subscript_tensors(definition)
        if definition.poly is None:
            for statement in own.statements[key]:
                movable -= {r.tensor for r in statement_reads(statement)}
            continue
        for atom in nf.atoms_of(definition.poly):
            if atom.kind not in ("read", "function", "sum"):
                movable -= atom.tensors
            for part in atom.parts:
                if isinstance(part, Atom):
                    movable -= part.tensors
            read = own.definitions.get(atom.name) if atom.kind == "read" else None
            if read is not None and read.whole and not _same_turn(atom, read, definition.region):
                movable.discard(atom.name)
    for block in {b for region in own.regions for b in region.blocks}:
        movable -= {r.tensor for r in statement_reads(block)}
    return movable


def _same_turn(read: Atom, definition: Definition, reader: Region) -> bool:
    """Is what is read made in the same turn of the blocks around its definition?"""
    region = definition.region
    around = region.indices
    return reader.within(region) and all(
        part == index
        for part, index in zip(read.parts, definition.indices, strict=True)
        if index in around or part in around
    )
