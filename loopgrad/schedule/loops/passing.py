"""Sums that need not wait for a map: they read what it is made of.

    p[b,j] = exp(s[b,j]) * h[b]         h, of a sum over j
    c[b]   += p[b,j] * g[b,j]

needs a pass over j after the one that h waits for. `exp(s[b,j]) * g[b,j]` needs none: the factor h
leaves the sum (factoring.py), which joins the first pass. The map stays for whoever else reads it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Expression, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.costs import cost, operation_cost
from loopgrad.schedule.lines import Line
from loopgrad.schedule.products.contractions import roles
from loopgrad.schedule.sums.factoring import factors, factors_of
from loopgrad.schedule.sums.sharing import WORTH_A_ROW, parts
from loopgrad.schedule.sums.sides import multiplied

CHEAP = 4  # what may be computed twice, so that a sum has one pass less to wait for


def earlier_sums(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with maps written out in sums that join an earlier pass by that."""
    current = list(lines)
    writers = Counter(line.written.tensor for line in lines)
    for place, line in enumerate(current):
        for factor in factors_of(line)[1]:
            if isinstance(factor, Read) and writers[factor.tensor] == 1:
                current[place] = _written_out(current, place, factor, context)
    return tuple(current)


def _written_out(lines: Sequence[Line], place: int, read: Read, context: Context) -> Line:
    """The sum with the map's value for the read; the sum as it is, where that gains nothing."""
    line = lines[place]
    at = next(i for i, x in enumerate(lines) if x.written.tensor == read.tensor)
    found = lines[at]
    if at > place or not _is_map(found, read, context):
        return line
    sources = {one.tensor for one in found.read}
    if any(other.written.tensor in sources for other in lines[at:place]):
        return line
    value = found.statement.value
    whole = [value if f == read else f for f in factors(line.statement.value)]
    changed = replace(line, statement=replace(line.statement, value=multiplied(whole)))
    if roles(changed) is not None:
        return line
    bound = factors_of(changed)[1]
    passes = _passes(lines[:place], line.reduced)
    waits = [passes[r.tensor] for f in bound for r in walk.reads(f)]
    if not bound or max(waits, default=0) >= max(passes[one.tensor] for one in line.read):
        return line
    others = [x for x in lines if x is not found and x is not line]
    inside = [f for f in factors(value) if walk.indices_of(f) & line.reduced]
    return changed if _computes(inside, others, line.reduced) <= CHEAP else line


def _is_map(line: Line, read: Read, context: Context) -> bool:
    statement = line.statement
    plain = line.first and not line.reduced and not line.unproved and statement.guard is None
    adds = statement.reduction in (Reduction.SET, Reduction.ADD)
    bare = None not in line.written.bare and line.target == read
    return plain and adds and bare and not line.integral and context.is_floating(read)


def _passes(lines: Sequence[Line], reduced: Collection[str]) -> dict[str, int]:
    """How many passes over one of the indices, one after the other, each tensor waits for."""
    found: dict[str, int] = defaultdict(int)
    for line in lines:
        before = max((found[one.tensor] for one in line.read), default=0)
        own = before + bool(line.reduced & set(reduced))
        found[line.written.tensor] = max(found[line.written.tensor], own)
    return found


def _computes(
    expressions: Sequence[Expression], others: Sequence[Line], reduced: Collection[str]
) -> int:
    """The cost of the expressions, but for what another sum over the indices computes anyway."""
    known = {
        expression
        for line in others
        if line.reduced & set(reduced)
        for expression, always in parts(line.statement)
        if always
    }
    return sum(map(cost, expressions)) - sum(
        cost(shared) for expression in expressions for shared in _shared(expression, known)
    )


def _shared(expression: Expression, known: Collection[Expression]) -> Iterator[Expression]:
    """The outermost dear parts that are known."""
    if isinstance(expression, Apply) and expression in known and _is_dear(expression):
        yield expression
    elif not isinstance(expression, Read):
        for child in walk.children(expression):
            yield from _shared(child, known)


def _is_dear(expression: Apply) -> bool:
    return operation_cost(expression.operation) >= WORTH_A_ROW
