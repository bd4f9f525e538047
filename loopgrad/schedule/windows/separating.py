"""Windows over several axes, one axis after the other: sums, maxima, and what either spreads.

    for m, n, dx < 7, dy < 7:  y[m,n] max= x[m+dx,n+dy]

looks at 49 places; of

    for i, n, dy < 7:  r[i,n] max= x[i,n+dy]
    for m, n, dx < 7:  y[m,n] max= r[m+dx,n]

either looks at 7. So do sums that windows spread,

    for m, n, dx < 7, dy < 7:  x[m+dx,n+dy] += g[m,n]

first along one axis, then along the other. Where windows do not overlap as much, there is nothing to gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopgrad.analysis.extents import polynomial, to_expression
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Compare, Expression, Index, Number, Range, Read, Reduction
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import USUAL, Line, few_values

# Work in two stages, beside that in one, from which on they pay.
LESS = 0.65

_SUMS = (Reduction.ADD, Reduction.SUBTRACT)
_REDUCTIONS = (*_SUMS, Reduction.MAXIMUM, Reduction.MINIMUM)


@dataclass(frozen=True, slots=True)
class Window:
    """`step * position + ... window`: a subscript in an axis of `extent` elements, as windows have."""

    place: Expression
    extent: Expression
    position: str
    window: str
    step: int

    @property
    def indices(self) -> frozenset[str]:
        return frozenset((self.position, self.window))

    def is_at(self, subscript: Expression) -> bool:
        return polynomial(subscript) == polynomial(self.place)


def separated(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with stages for one axis of windows each."""
    found: list[Line] = []
    for line in lines:
        stages = _reduced(line, context) or _spread(line, context)
        found += separated(stages, context) if stages else [line]
    return tuple(found)


def windows(read: Read, line: Line, context: Context) -> Iterator[Window]:
    """The axes of the read, or of the target, that windows go over."""
    extents = context.tensors[read.tensor].extents
    for subscript, extent in zip(read.subscripts, extents, strict=True):
        inside = walk.indices_of(subscript)
        if len(inside) != 2 or any(True for _ in walk.reads(subscript)):
            continue
        linear = polynomial(subscript)
        few = [i for i in inside if few_values(line, i)]
        if len(few) != 1 or any(linear.get((Index(i),), 0) == 0 for i in inside):
            continue
        rest = [atoms for atoms in linear if atoms not in [(Index(i),) for i in inside]]
        if any(walk.indices_of(atom) for atoms in rest for atom in atoms):
            continue
        (position,) = inside - {*few}
        yield Window(subscript, extent, position, few[0], linear[(Index(position),)])


def pays(line: Line, window: Window, others: Sequence[str]) -> bool:
    """others: the indices that are left for the other stage."""
    first, second = (
        few_values(line, window.window),
        prod(few_values(line, i) or USUAL for i in others),
    )
    return window.step > 0 and first + window.step * second < LESS * first * second


# ---------------------------------------------------------------------------------- reductions


def _reduced(line: Line, context: Context) -> list[Line]:
    """The line as a reduction at each place of one axis, and one of these over its windows."""
    if (
        not is_plain(line)
        or line.statement.reduction not in _REDUCTIONS
        or not is_whole(line, context)
    ):
        return []
    for read in walk.reads(line.statement.value):
        for window in windows(read, line, context):
            others = [i for i in line.indices if i in line.reduced and i != window.window]
            if window.window in line.reduced and others and pays(line, window, others):
                stages = staged(line, window, others, context)
                if stages:
                    return stages
    return []


def staged(line: Line, window: Window, others: Sequence[str], context: Context) -> list[Line]:
    """Both stages; none where more than the window's place hangs on its indices."""
    statement = line.statement
    name = context.name(f"{line.written.tensor}.place")
    value = at_place(statement.value, window, name)
    guards = parted(statement.guard, window, frozenset(others))
    if value is None or guards is None:
        return []
    tensor = context.temporary(f"{line.written.tensor}.part", row_extents(line, window, context))
    row = Read(tensor, tuple(_with(window, name, s) for s in line.target.subscripts))
    how = Reduction.ADD if statement.reduction in _SUMS else statement.reduction
    ranges = tuple(
        Range(name, Number(0), window.extent) if r.index == window.position else r
        for r in statement.ranges
        if r.index != window.window
    )
    inner = Accumulate(row, how, value, ranges, guards[1])
    whole = walk.substitute(row, {name: window.place})
    left = tuple(r for r in statement.ranges if r.index not in others)
    outer = replace(statement, value=whole, ranges=left, guard=guards[0])
    return [Line(inner, first=True), replace(line, statement=outer)]


def is_plain(line: Line) -> bool:
    return not (line.unproved or line.integral or line.stands_alone or line.roles or line.bounding)


def is_whole(line: Line, context: Context) -> bool:
    """Has each axis of the target an index of its own, over all of it?"""
    extents = context.tensors[line.written.tensor].extents
    bare = line.written.bare
    return len({*bare}) == len(extents) and all(
        index is not None and line.bounds[index] == (Number(0), extent)
        for index, extent in zip(bare, extents, strict=True)
    )


def row_extents(line: Line, window: Window, context: Context) -> tuple[Expression, ...]:
    extents = context.tensors[line.written.tensor].extents
    return tuple(
        window.extent if subscript == Index(window.position) else extent
        for subscript, extent in zip(line.target.subscripts, extents, strict=True)
    )


def _with(window: Window, name: str, subscript: Expression) -> Expression:
    return Index(name) if subscript == Index(window.position) else subscript


def at_place(value: Expression, window: Window, name: str) -> Expression | None:
    """The value with an index in place of the window's place; None where more hangs on its indices."""

    def change(e: Expression) -> Expression:
        match e:
            case Read(tensor, subscripts, span):
                return Read(tensor, tuple(map(_changed, subscripts)), span)
        return walk.rebuild(e, change)

    def _changed(subscript: Expression) -> Expression:
        inside = walk.indices_of(subscript)
        if window.indices <= inside and window.is_at(subscript):
            return Index(name)
        return walk.rebuild(subscript, change)

    found = change(value)
    return None if walk.indices_of(found) & window.indices else found


def parted(
    guard: Expression | None, window: Window, others: frozenset[str]
) -> tuple[Expression | None, Expression | None] | None:
    """The conditions of the window's own stage, and those of the other one; None where some couple both."""
    own: list[Expression] = []
    rest: list[Expression] = []
    for condition in walk.conjuncts(guard):
        indices = walk.indices_of(condition)
        if not indices & window.indices:
            rest.append(condition)
        elif not indices & others:
            own.append(condition)
        else:
            return None
    return walk.conjunction(own), walk.conjunction(rest)


def in_sums(e: Expression) -> Expression:
    """With subscripts and comparisons of integers as plain sums: `m + 3 - 3` as `m`."""
    match e:
        case Read(tensor, subscripts, span):
            return Read(tensor, tuple(map(_sum, subscripts)), span)
        case Compare(operators, operands, span) if not any(True for _ in walk.reads(e)):
            return Compare(operators, tuple(map(_sum, operands)), span)
    return walk.rebuild(e, in_sums)


def _sum(e: Expression) -> Expression:
    return e if any(True for _ in walk.reads(e)) else to_expression(polynomial(e))


# ------------------------------------------------------------------------------------- spreads


def _spread(line: Line, context: Context) -> list[Line]:
    """The line as a sum that windows spread over one axis, and one that others spread over the others."""
    if not is_plain(line) or line.statement.reduction not in _SUMS or line.first:
        return []
    every = list(windows(line.target, line, context))
    for window in every:
        others = [other for other in every if other is not window]
        if others and pays(line, window, [other.window for other in others]):
            stages = spread_in_stages(line, window, others, context)
            if stages:
                return stages
    return []


def spread_in_stages(
    line: Line, window: Window, others: Sequence[Window], context: Context
) -> list[Line]:
    """Both stages, behind what the first starts from; none where the line has more to do with the windows."""
    statement = line.statement
    later = frozenset(other.window for other in others)
    guards = parted(statement.guard, window, later)
    if guards is None or walk.indices_of(statement.value) & (later | {window.window}):
        return []
    axes = _row_axes(line, window, others, context)
    if axes is None:
        return []
    # A condition on nothing of a window's is looked at once.
    rest = list(walk.conjuncts(guards[1]))
    early = [c for c in rest if not walk.indices_of(c) & later]
    name = context.name(f"{line.written.tensor}.place")
    extents = tuple(extent for _, extent in axes)
    tensor = context.temporary(f"{line.written.tensor}.part", extents)
    spread = Read(tensor, tuple(subscript for subscript, _ in axes))
    row = Read(tensor, tuple(Index(name) if s == window.place else s for s in spread.subscripts))
    ranges = {r.index: r for r in statement.ranges}
    own = tuple(r for r in statement.ranges if r.index not in later)
    guard = walk.conjunction([guards[0], *early])
    first = Accumulate(spread, Reduction.ADD, statement.value, own, guard)
    kept = [s.name for s in row.subscripts if isinstance(s, Index) and s.name != name]
    over = Range(name, Number(0), window.extent)
    start = _zeros(row, [over if i == name else ranges[i] for i in _names(row)], context)
    target = Read(
        line.target.tensor,
        tuple(Index(name) if s == window.place else s for s in line.target.subscripts),
    )
    indices = [name, *kept, *(i for i in line.indices if i in later)]
    second = replace(
        statement,
        target=target,
        value=row,
        ranges=tuple(over if i == name else ranges[i] for i in indices),
        guard=walk.conjunction([c for c in rest if c not in early]),
    )
    return [start, Line(first), replace(line, statement=second)]


def _row_axes(
    line: Line, window: Window, others: Sequence[Window], context: Context
) -> list[tuple[Expression, Expression]] | None:
    """Subscript and extent of each axis of what the first stage makes; None where indices leave some out."""
    positions = {id(other.place): other for other in others}
    axes: list[tuple[Expression, Expression]] = []
    extents = context.tensors[line.written.tensor].extents
    for subscript, extent in zip(line.target.subscripts, extents, strict=True):
        other = next((o for o in positions.values() if o.place == subscript), None)
        if subscript == window.place:
            axes.append((subscript, extent))
            continue
        index = (
            other.position if other else subscript.name if isinstance(subscript, Index) else None
        )
        if index is None or line.bounds[index][0] != Number(0):
            return None
        upper = line.bounds[index][1]
        if other is None and upper != extent:
            return None
        axes.append((Index(index), upper))
    found = [walk.indices_of(s) for s, _ in axes]
    distinct = sum(map(len, found)) == len(frozenset().union(*found))
    return axes if distinct else None


def _names(read: Read) -> list[str]:
    return [s.name for s in read.subscripts if isinstance(s, Index)]


def _zeros(row: Read, ranges: Sequence[Range], context: Context) -> Line:
    nothing = identity(Reduction.ADD, context.tensors[row.tensor].element)
    return Line(Accumulate(row, Reduction.SET, nothing, tuple(ranges)), first=True)
