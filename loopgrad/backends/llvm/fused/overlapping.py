"""Rows of windows that overlap, some at a time: what several of them read is loaded once.

    for m: for n vector: for dx < 3:  y[m,n] += k[dx] * x[m+dx,n]

loads each row of x three times. For four rows of y in one loop over n these are six rows of x, and not
twelve; and four sums do not wait for each other's additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loopgrad.analysis.extents import polynomial, to_expression
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Index, Number, Read, Reduction
from loopgrad.schedule.tree import Mark, Over, Step

ROWS = 4
FEWEST_TERMS = 4  # of an element's sum

_SUMS = (Reduction.ADD, Reduction.SUBTRACT)


@dataclass(frozen=True, slots=True)
class Term:
    """What is added to a row."""

    row: int
    reduction: Reduction
    factors: tuple[Expression, Expression]


@dataclass(frozen=True, slots=True)
class Overlap:
    """The rows' elements, what each is at first, and what is added, so that equal reads stand side by
    side."""

    targets: tuple[Read, ...]
    starts: tuple[Expression, ...]
    terms: tuple[Term, ...]


def overlap(loop: Over) -> Overlap | None:
    """Of the loop over the rows; None where they share nothing, or add to what is there."""
    match loop.body:
        case (Over(column, lower, upper, body, Mark.VECTOR),):
            pass
        case _:
            return None
    steps = [node for node in body if isinstance(node, Step)]
    fixed = loop.index not in walk.indices_of(lower) | walk.indices_of(upper)
    if len(steps) < len(body) or not fixed or loop.descending or loop.picks is not None:
        return None
    first, *rest = steps
    how = first.statement.reduction
    stores = how is Reduction.SET or (how is Reduction.ADD and first.first)
    adding = rest if stores else []
    if len(adding) < FEWEST_TERMS or not _is_one_sum((loop.index, column), steps, adding):
        return None
    rows = range(ROWS)
    terms = [term for row in rows for step in adding for term in _term(step, loop.index, row)]
    shared = {read for term in terms for f in term.factors for read in _reads_of(f, loop.index)}
    if len(terms) < ROWS * len(adding) or not len(shared) * 4 <= len(terms) * 3:
        return None
    terms.sort(key=lambda term: _order(term, loop.index))
    target = first.statement.target
    start = first.statement.value
    return Overlap(
        tuple(_read_at(target, loop.index, row) for row in rows),
        tuple(_at(start, loop.index, row) for row in rows),
        tuple(terms),
    )


def _is_one_sum(indices: tuple[str, str], steps: list[Step], adding: list[Step]) -> bool:
    """Do all write one element, of a row and a column of its own, which nothing reads, without guards or
    checks?"""
    target = steps[0].statement.target
    alone = all(
        Index(i) in target.subscripts
        and sum(i in walk.indices_of(s) for s in target.subscripts) == 1
        for i in indices
    )
    reads = {r.tensor for step in steps for r in walk.statement_reads(step.statement)}
    plain = all(
        step.statement.guard is None and not step.unproved and step.statement.target == target
        for step in steps
    )
    sums = all(step.statement.reduction in _SUMS and not step.first for step in adding)
    return plain and sums and alone and target.tensor not in reads


def _term(step: Step, index: str, row: int) -> Iterator[Term]:
    match step.statement.value:
        case Apply("*", (left, right)):
            factors = _at(left, index, row), _at(right, index, row)
            yield Term(row, step.statement.reduction, factors)


def _at(expression: Expression, index: str, row: int) -> Expression:
    """In so many rows from the loop's own on; turns of loops that are written out as the numbers they are."""
    moved: dict[str, Expression] = {
        name: Number(int(name.rpartition("#")[2]))
        for name in walk.indices_of(expression)
        if "#" in name
    }
    if row:
        moved[index] = walk.apply("+", Index(index), Number(row))
    return _plain(walk.substitute(expression, moved))


def _plain(expression: Expression) -> Expression:
    """With sums in subscripts put together, so that equal places are equal expressions."""
    match expression:
        case Read(tensor, subscripts):
            return Read(tensor, tuple(to_expression(polynomial(s)) for s in subscripts))
    return walk.rebuild(expression, _plain)


def _read_at(read: Read, index: str, row: int) -> Read:
    moved = _at(read, index, row)
    assert isinstance(moved, Read)
    return moved


def _reads_of(expression: Expression, index: str) -> Iterator[Read]:
    yield from (r for r in walk.reads(expression) if index in walk.indices_of(r))


def _order(term: Term, index: str) -> tuple[int, ...]:
    """How far the row that it reads is from the loop's own; then as they stood, by row."""
    found = [
        polynomial(s).get((), 0)
        for f in term.factors
        for read in _reads_of(f, index)
        for s in read.subscripts
        if index in walk.indices_of(s)
    ]
    return tuple(found)
