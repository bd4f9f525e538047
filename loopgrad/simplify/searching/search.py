"""Which intermediates to put into what reads them: the cheapest of what local search finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.ir.walk import accumulates, computed_tensors, map_statement
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.association import best_order
from loopgrad.simplify.algebra.budget import spelling
from loopgrad.simplify.algebra.complements import with_complements
from loopgrad.simplify.reading.empty_sums import EmptySums
from loopgrad.simplify.reading.equations import equations
from loopgrad.simplify.reading.statements import Reading
from loopgrad.simplify.searching.apart import put_back
from loopgrad.simplify.searching.common_sums import share_sums
from loopgrad.simplify.searching.cost import cost_of
from loopgrad.simplify.searching.invariant import before_blocks
from loopgrad.simplify.searching.rewrite import Algebra, learn
from loopgrad.simplify.searching.sharing import share
from loopgrad.simplify.searching.work import Candidate, Kept, Work
from loopgrad.simplify.writing.loop_names import lengths
from loopgrad.simplify.writing.made import Made

ROUNDS = 2

# How many letters the terms have that all of a search closes, and that one candidate does (`budget`).
SEARCH, CANDIDATE = 500_000, 120_000
CONFIGURATIONS = ((False, False), (True, False), (True, True), (False, True))


def cheaper(
    program: Program,
    own: Reading,
    known: Reading | None,
    joint: bool = False,
    theorems: bool = True,
) -> list[Candidate]:
    """The best candidate of each set of relations that is cheaper than the program, cheapest first.

    joint: whether `own` computes the forward, too. theorems: as in `learn`.
    """
    found: list[Candidate] = []
    with suppress(nf.TooLarge), spelling(SEARCH):
        for candidate in _bests(program, own, known, joint, theorems):
            found += candidate
    facts = infer(program)
    temporaries = {t.name for t in facts.tensors.values() if t.role == "temporary"}
    literal = cost_of(facts.program.statements, temporaries, lengths=lengths(own, known)).value
    found = [c if c.value < literal else _associated(c) for c in found]
    return [c for c in sorted(found, key=lambda c: c.rank) if c.value < literal]


def _bests(
    program: Program, own: Reading, known: Reading | None, joint: bool, theorems: bool
) -> Iterator[list[Candidate]]:
    """The best candidate of each set of relations, shared and not."""
    made = Made()
    seen: set[str] = set()
    sources = [set(known.computed) if known is not None else set[str]()]
    if joint:
        sources.append(set(computed_tensors(program)))  # nothing beyond the literal is computed
    for source, (aliases, folds) in product(
        sources, CONFIGURATIONS if known else ((False, False),)
    ):
        algebras = _algebras(own, known, source, aliases, folds, theorems)
        described = "\n\n".join(dict.fromkeys(a.describe() for a in algebras.values()))
        if described in seen:
            continue
        seen.add(described)
        try:
            with spelling(CANDIDATE):
                work = Work(program, own, known, algebras, joint, made)
            best = climb(work)
        except nf.TooLarge:
            continue
        yield _with_sharing(best)


def _associated(found: Candidate) -> Candidate:
    """The candidate with its products in another order: what is won may hang on that alone."""
    statements = [best_order(s) for s in found.statements]
    names = {x.name for x in found.locals}
    value = cost_of(statements, names, lengths=found.work.lengths).value
    return replace(found, statements=statements, value=value)


def _with_sharing(found: Candidate) -> list[Candidate]:
    """The candidate with what its statements compute several times, or at each turn, computed once;
    and again with sums that several contain left in each."""
    if found.work.own.made:
        statements, own = put_back(found.statements, found.locals, found.work.own.made)
        value = cost_of(statements, {x.name for x in own}, lengths=found.work.lengths).value
        there = {s.target.tensor for _, s in accumulates(statements)}
        made = {k: m for k, m in found.made.items() if all(s.target.tensor in there for s in m)}
        found = replace(found, statements=statements, locals=own, value=value, made=made)
    summed = _summed(found)
    return [_shared(c) for c in ([found] if summed is found else [summed, found])]


def _shared(found: Candidate) -> Candidate:
    inner = {x.name for x in found.locals}
    taken = {*found.extraction.taken, *found.extraction.reserved, *inner}
    shared = share(found.statements, inner, taken, found.work.lengths)
    lifted = before_blocks(shared.statements, [*found.locals, *shared.locals], taken)
    locals = list(lifted.locals)
    names = {x.name for x in locals}
    value = cost_of(lifted.statements, names, lengths=found.work.lengths).value
    if value < found.value:
        found = replace(found, statements=list(lifted.statements), locals=locals, value=value)
    statements = [map_statement(s, with_complements) for s in found.statements]
    return replace(found, statements=statements)


def _summed(found: Candidate) -> Candidate:
    """The candidate with the sums that several statements contain computed once."""
    inner = {x.name for x in found.locals}
    taken = {*found.extraction.taken, *found.extraction.reserved}
    known = found.work.known.facts.program.statements if found.work.known is not None else ()
    given = (*known, *found.work.own.facts.program.statements)
    statements, own, changes = share_sums(
        found.statements, inner, taken, EmptySums((*given, *found.statements)), found.work.lengths
    )
    if not changes:
        return found
    made = {key: list(each) for key, each in found.made.items()}
    for old, new in changes:
        for each in made.values():
            for at, statement in enumerate(each):
                if statement is old:
                    each[at : at + 1] = [] if new is None else [new]
                    break
    locals = [*found.locals, *own]
    names = {x.name for x in locals}
    value = cost_of(statements, names, lengths=found.work.lengths).value
    return replace(found, statements=statements, locals=locals, value=value, made=made)


def _algebras(
    own: Reading,
    known: Reading | None,
    source: set[str],
    aliases: bool,
    folds: bool,
    theorems: bool,
) -> dict[int, Algebra]:
    """What the forward says of the tensors in `source` where each region stands; regions for which
    that is the same share it."""
    found: dict[int, Algebra] = {}
    learnt: dict[tuple[object, ...], Algebra] = {}
    bounds = frozenset(own.bounds | (known.bounds if known is not None else set()))
    for region in own.regions:
        holding = equations(known, own, region) if known is not None else {}
        holding = {k: d for k, d in holding.items() if d.tensor in source}
        key = tuple(
            (k, tuple(sorted(d.fixed)), d.indices if d.fixed else ()) for k, d in holding.items()
        )
        if key not in learnt:
            learnt[key] = learn(holding, aliases, folds, bounds, theorems)
        found[region.number] = learnt[key]
    return found


def climb(work: Work) -> Candidate:
    """Local search: each intermediate in or out, for as long as that makes it cheaper; in the end one
    in and one that reads it out, or the other way."""
    starts = [frozenset(work.candidates), _sums(work)]
    tried = []
    for start in starts:
        try:
            tried.append(_candidate(work, start))
        except nf.TooLarge:
            continue
    if not tried:
        raise nf.TooLarge
    current = min(tried, key=lambda c: c.rank)
    singles = [frozenset({t}) for t in work.candidates]
    for _ in range(ROUNDS):
        before = current
        current = _moved(work, current, singles)
        if current is before:
            break
    return _moved(work, current, _exchanges(work))


def _candidate(work: Work, kept: Kept) -> Candidate:
    with spelling(CANDIDATE):
        return work.candidate(kept)


def _moved(work: Work, current: Candidate, moves: Iterable[Kept]) -> Candidate:
    """After each move that makes it cheaper; of two tensors, one goes in and one out."""
    for move in moves:
        if len(move) > 1 and len(move & current.kept) != 1:
            continue
        try:
            other = _candidate(work, current.kept ^ move)
        except nf.TooLarge:
            continue
        if other.rank < current.rank:
            current = other
    return current


def _exchanges(work: Work) -> list[Kept]:
    """Each candidate with each that it reads."""
    return [
        frozenset({reader, read})
        for reader in work.candidates
        for read in work.candidates
        if reader != read and read in work.reduced[reader].tensors
    ]


def _sums(work: Work) -> Kept:
    """Kept at first: intermediates that are sums of two axes or more."""
    return frozenset(
        t
        for t in work.candidates
        if any(x.bound for x, _ in work.reduced[t].terms)
        and len(work.own.definitions[t].indices) > 1
    )
