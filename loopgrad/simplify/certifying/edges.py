"""Where random trials at small sizes do not come: empty axes, larger sizes, and the programs' own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from loopgrad.analysis.accesses import Collector
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.polynomial import shift
from loopgrad.analysis.prover import Prover
from loopgrad.analysis.terms import AtLeastZero, Terms
from loopgrad.ir.nodes import Extent, Number, Program
from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions
from loopgrad.simplify.certifying.sampling import World
from loopgrad.simplify.certifying.trials import Draw

LARGER = (6, 9)
MOST_SIZE = 40  # of an axis
MOST_NEAR = 64
EMPTY = 4  # trials with empty axes
MOST_EXTENTS = 8
NEAR, WORLDS = 6, 6  # trials near the programs' numbers, and runs of each


def empty_axes(extents: Sequence[str], count: int = EMPTY) -> list[Draw]:
    """Trials in which some axes have no element: those over each extent in turn, then any."""
    world = (World("unit"),)
    found = [
        Draw(4100 + 2 * k, world, "reals", among=(2, 3), empty=True, none=name)
        for k, name in enumerate(extents[:MOST_EXTENTS])
    ]
    sizes = [(0, 2), (0, 2, 3), (0, 1, 2), (0,)]
    return found + [
        Draw(4000 + 2 * k, world, "reals", among=sizes[k % len(sizes)], empty=True)
        for k in range(count)
    ]


def at_empty_axes_alone(facts: Facts) -> frozenset[int]:
    """By `id`, the statements that no sizes but 0 let run: `if T <= 0`."""
    terms = Terms(facts)
    prover = Prover(terms)
    some = [AtLeastZero(shift(terms.convert(Extent(name)), -1)) for name in facts.extents]
    return frozenset(
        id(write.statement)
        for write in Collector(facts).writes
        if prover.impossible([*some, *write.formulas(terms)])
    )


def beyond(p: Program, q: Program) -> list[Draw]:
    """Trials at larger sizes, and on numbers near those that stand in the programs."""
    numbers = sorted({v for program in (p, q) for v in _numbers(program)})
    whole = [int(v) for v in numbers if v.denominator == 1 and 3 < v < MOST_SIZE]
    sizes = [*((n,) for n in LARGER), *((n + 1, n + 2) for n in whole[:3])]
    draws = [
        Draw(5000 + 2 * k, (World("signed"),), "reals", among=among)
        for k, among in enumerate(sizes)
    ]
    near = tuple(v for n in numbers for m in (n, -n) for v in (m, m - 1, m + 1, 2 * m))
    if near:
        worlds = (World("signed", near=near[:MOST_NEAR]),) * WORLDS
        draws += [Draw(6000 + 2 * k, worlds, "reals", among=(2, 3)) for k in range(NEAR)]
    return draws


def _numbers(program: Program) -> Iterator[Fraction]:
    """The literals of the program that are not 0."""
    for statement in all_statements(infer(program).program.statements):
        for expression in statement_expressions(statement):
            for node in subexpressions(expression):
                if isinstance(node, Number) and 0 < node.value < float("inf"):
                    yield Fraction(repr(node.value))
