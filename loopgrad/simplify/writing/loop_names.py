"""What the indices of new loops are called, and in which order loops stand: as the programs have it."""

from __future__ import annotations

from loopgrad.ir.walk import accumulates
from loopgrad.simplify.reading.statements import Reading
from loopgrad.simplify.searching.cost import lengths_of


def index_names(own: Reading, known: Reading | None) -> dict[str, list[str]]:
    """For each extent the indices that the programs run over it, those of the program itself first."""
    found: dict[str, list[str]] = {}
    for reading in (own, known):
        if reading is not None:
            for _, statement in accumulates(reading.facts.program.statements):
                for r in statement.ranges:
                    for extent in reading.extents_of(statement, r):
                        names = found.setdefault(extent, [])
                        if r.index not in names:
                            names.append(r.index)
    return found


def lengths(own: Reading, known: Reading | None) -> frozenset[str]:
    found = lengths_of(own.facts.program.statements)
    return found | lengths_of(known.facts.program.statements) if known is not None else found


def positions(own: Reading, known: Reading | None) -> dict[str, int]:
    """Where each index stands among loops: after all that once stand before it, as first seen."""
    names: list[str] = []
    for reading in (known, own):
        program = reading.facts.program if reading is not None else None
        for blocks, statement in accumulates(program.statements) if program is not None else ():
            turns = [r.index for b in blocks for r in b.ranges]
            loops = [*turns, *(r.index for r in statement.ranges)]
            at = -1
            for index in loops:
                if index not in names:
                    # A block's index stands before the loops inside it.
                    after = [names.index(i) for i in loops if i in names and index in turns]
                    end = min(after, default=len(names))
                    names.insert(at + 1 if at >= 0 else end, index)
                at = names.index(index)
    return {n: k for k, n in enumerate(names)}
