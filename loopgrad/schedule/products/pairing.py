"""Sums and extrema over pairs of elements of two sides that are no products of them.

    d[b,j] += (x[b,i] - c[j,i])**2          distances
    d[b,j] += abs(x[b,i] - c[j,i])
    y[m,n] max= a[m,k] + b[n,k]             products of matrices of other rings

have rows, columns and sums as a product has, and each element of a side is used as often. So they run in
tiles that registers hold, over a right side that is packed; what is done with a pair stands in `Update`.
A right side that lies along the columns, `b[k,n]`, is read in lanes as it is: to pack it gains nothing.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, Roles, few_values
from loopgrad.schedule.tree import LEFT_OF_PAIR, RIGHT_OF_PAIR, Update

# Values of rows, of columns and of sums below which a tile has too little to do.
ROWS, COLUMNS, SUMS = 4, 8, 8

# With others, functions, what is computed for a pair takes longer than to read it.
_PLAIN = frozenset("+ - * neg abs max min relu".split())
_POWERS = (2, 3, 4)

_REDUCTIONS = {
    Reduction.ADD: Reduction.ADD,
    Reduction.SUBTRACT: Reduction.ADD,  # the sum is taken away
    Reduction.MAXIMUM: Reduction.MAXIMUM,
    Reduction.MINIMUM: Reduction.MINIMUM,
}


def of_pairs(line: Line, context: Context) -> tuple[Line, ...]:
    """The line with the roles of its indices, if it is a sum or an extremum over pairs; else none."""
    statement = line.statement
    if line.unproved or line.integral or line.stands_alone or statement.guard is not None:
        return ()
    if line.roles is not None or statement.reduction not in _REDUCTIONS or not line.reduced:
        return ()
    if any(walk.indices_of(b) or any(walk.reads(b)) for pair in line.bounds.values() for b in pair):
        return ()
    found = _roles(line, context)
    return () if found is None else (replace(line, roles=found),)


def _roles(line: Line, context: Context) -> Roles | None:
    over = _plain(line.target)
    reads = list(dict.fromkeys(walk.reads(line.statement.value)))
    if not over or {*over} != {*line.kept} or len(reads) != 2:
        return None
    *others, n = over
    left, right = sorted(reads, key=lambda read: n in walk.indices_of(read))
    on_left, on_right = _plain(left), _plain(right)
    if n in on_left or n not in on_right[:-1] or not line.reduced <= {*on_left} & {*on_right}:
        return None
    m = tuple(i for i in others if i in on_left and i not in on_right)
    if not m or {*line.indices} != {*on_left, *on_right}:
        return None
    if {*on_right} - {*on_left} != {n} or not all(map(context.is_floating, reads)):
        return None
    k = tuple(i for i in line.indices if i in line.reduced)
    counts = ((m, ROWS), ((n,), COLUMNS), (k, SUMS))
    if any(_are_few(line, indices, limit) for indices, limit in counts):
        return None
    value = _of_pair(line.statement.value, left, right)
    if not _is_plain(value):
        return None
    batch = tuple(i for i in line.indices if i in line.kept and i not in (*m, n))
    update = Update(_REDUCTIONS[line.statement.reduction], value)
    return Roles(left, right, batch, m, (n,), k, update=update)


def _plain(read: Read) -> tuple[str, ...]:
    """The indices that subscript it, each alone in an axis of its own; none where others do."""
    names = tuple(s.name for s in read.subscripts if isinstance(s, Index))
    return names if len(names) == len({*names}) == len(read.subscripts) else ()


def _are_few(line: Line, indices: tuple[str, ...], limit: int) -> bool:
    """Are they fewer values than the limit, whatever the sizes of a call?"""
    count = 1
    for index in indices:
        if line.bounds[index] == (Number(0), Number(0)):
            return True
        count *= few_values(line, index) or limit
    return count < limit


def _of_pair(value: Expression, left: Read, right: Read) -> Expression:
    match value:
        case Read():
            return LEFT_OF_PAIR if value == left else RIGHT_OF_PAIR
    return walk.rebuild(value, lambda e: _of_pair(e, left, right))


def _is_plain(value: Expression) -> bool:
    """Is it computed at once, from the two elements and what is the same for all?"""
    match value:
        case Read():
            return value in (LEFT_OF_PAIR, RIGHT_OF_PAIR)
        case Number() | Constant() | Extent():
            return True
        case Apply("**", (base, Number(exponent))):
            return exponent in _POWERS and _is_plain(base)
        case Apply(operation, operands):
            return operation in _PLAIN and all(map(_is_plain, operands))
        case Conditional(Compare((_,), sides), then, otherwise):
            return all(map(_is_plain, (*sides, then, otherwise)))
    return False
