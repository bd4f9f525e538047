"""Sums of products over two sides: matrix products, whatever their indices are called.

`C[..] += X * Y` has four kinds of indices: those of a batch are in C, X and Y; `m` in C and X; `n`
in C and Y; `k` in X and Y alone, and summed. `n` is the side that holds C's last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from loopgrad.analysis.extents import polynomial
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Constant,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line, Roles, affine_indices, breadth, is_shifted, limits
from loopgrad.schedule.products.convolutions import apart_by_windows, with_units, without_guard
from loopgrad.schedule.products.grouping import Grouping
from loopgrad.schedule.products.joining import with_images_together
from loopgrad.schedule.products.mapped import Mapped
from loopgrad.schedule.products.masking import with_masks
from loopgrad.schedule.products.padding import Padding
from loopgrad.schedule.products.pairing import of_pairs
from loopgrad.schedule.products.picked_rows import PickedRows
from loopgrad.schedule.products.spreading import apart_by_places
from loopgrad.schedule.sums.sides import factors, multiplied
from loopgrad.schedule.tree import Dimension, Over, Pack, Product
from loopgrad.schedule.windows.gathering import at_places

_NEGATED = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}


def contraction(
    line: Line, context: Context, units: Collection[str] = ()
) -> tuple[Line, frozenset[str]]:
    """The line with the roles of its indices, if it is a contraction; else the line itself.

    Of `x[i+p] += e   if 0 <= i + p < X` the guard becomes the range of i, for each p. A line that
    is none, but would be if some of the constants `units` were 1, is taken for what it then is; the
    constants that have to be 1 are given beside.
    """
    found = _with_roles(line, context)
    if found is not None:
        return found, frozenset()
    simpler, used = with_units(line, units)
    found = _with_roles(simpler, context) if used else None
    return (line, frozenset()) if found is None else (found, used)


def _with_roles(line: Line, context: Context) -> Line | None:
    over = indices_of_axes(line)
    whole, around = (line, frozenset[str]()) if over is None else without_guard(line, over, context)
    found = roles(whole, around, context.tensors[line.target.tensor].extents)
    return None if found is None else replace(whole, roles=found)


def roles(
    line: Line, around: frozenset[str] = frozenset(), extents: Sequence[Expression] = ()
) -> Roles | None:
    """The roles of a line's indices; None where it is no contraction of two sides.

    around: indices of the sum that have loops around the products, as those have of which data end others'
    ranges. extents: of the target, of which the last axes may have one element, as a window of one has.
    """
    statement = line.statement
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or statement.guard:
        return None
    over = indices_of_axes(line)
    last = None if over is None else _last(line, over, extents)
    if over is None or last is None or line.unproved or not line.reduced:
        return None
    around |= _ending(line)
    if last in around:
        return None  # a product's columns lie side by side
    selecting = line.kept - {*over}
    if not _are_plain_bounds(line, selecting | around):
        return None
    parts = list(factors(statement.value))
    right = [f for f in parts if last in walk.indices_of(f)]
    left = [f for f in parts if last not in walk.indices_of(f) and walk.indices_of(f)]
    if not _are_sides(left, right):
        return None
    left, right = _with_scales_moved(line, left, right)
    right += [f for f in parts if not walk.indices_of(f)]
    return _assigned(line, left, right, over, around)


def _ending(line: Line) -> frozenset[str]:
    """The indices that tell, by way of data, how far others go: for each of them there is a product."""
    data = (read for bounds in line.bounds.values() for e in bounds for read in walk.reads(e))
    return frozenset().union(*map(walk.indices_of, data))


def _last(line: Line, over: Sequence[str | None], extents: Sequence[Expression]) -> str | None:
    """The index whose elements lie side by side in the target."""
    axes = list(zip(over, line.target.subscripts, strict=True))
    single = [extent == Number(1) for extent in extents]
    while axes and single and single.pop() and axes[-1] == (None, Number(0)):
        axes.pop()
    return axes[-1][0] if axes else None


def _with_scales_moved(
    line: Line, left: list[Expression], right: list[Expression]
) -> tuple[list[Expression], list[Expression]]:
    """What hangs on the sum's indices alone goes to the right, where the left is a transposed matrix then.

    That is packed as it stands, while a computed side is written, across memory, before it is.
    """
    scales = [f for f in left if walk.indices_of(f) <= line.reduced]
    match [f for f in left if f not in scales]:
        case [Read(subscripts=(*_, last)) as matrix] if scales:
            inside = walk.indices_of(matrix)
            if line.reduced <= inside and walk.indices_of(last).isdisjoint(line.reduced):
                return [matrix], right + scales
    return left, right


def _are_plain_bounds(line: Line, selecting: frozenset[str]) -> bool:
    """Do the bounds of at most one index hang on another, with which they rise: `max(t-3, 0) <= u <= t`?

    Others may hang on the selecting indices, which are loops around.
    """
    hanging = [(i, outer) for i, outer in line.bound_by.items() if outer - selecting]
    if not hanging:
        return True
    (inner, outer), *more = hanging
    if more or len(outer - selecting) > 1:
        return False
    (index,) = outer - selecting
    lower, upper = line.bounds[inner]
    ends = [*limits(lower, "max")], [*limits(upper, "min")]
    if not all(
        is_shifted(x, index) or index not in walk.indices_of(x) for side in ends for x in side
    ):
        return False
    return all(
        _may_differ(low, high)
        for low in ends[0]
        for high in ends[1]
        if index in walk.indices_of(low) and index in walk.indices_of(high)
    )


def _may_differ(low: Expression, high: Expression) -> bool:
    """May there be a value between them, for some sizes?

    Where there is none, for no row, nothing has shown that what a block of rows reads between the first one's
    `low` and the last one's `high` is in range.
    """
    return any(value > 0 for value in polynomial(walk.apply("-", high, low)).values())


def indices_of_axes(line: Line) -> tuple[str | None, ...] | None:
    """For each axis of the target the index that goes over it, one element after the other, if there is one.

    Of several, as in `x[i+p]`, the one with the larger range; the others select what is written by
    a whole product each, as `h` does in `k[h//2,u]`. None where an index is in two axes, or data tell.
    """
    found: list[str | None] = []
    seen: set[str] = set()
    for subscript in line.target.subscripts:
        indices = affine_indices(subscript)
        if seen & walk.indices_of(subscript) or indices != walk.indices_of(subscript):
            return None
        seen |= indices
        inside = [i for i in line.indices if i in indices]
        index = max(inside, key=lambda i: _breadth(line, i, subscript), default=None)
        found.append(index if index is not None and is_shifted(subscript, index) else None)
    return tuple(found)


def _breadth(line: Line, index: str, subscript: Expression) -> tuple[int, bool, bool]:
    """A guess at which of two ranges is larger.

    Of two like each other, that which a guard speaks of, or which goes in steps, or comes first.
    """
    lower, upper = line.bounds[index]
    guard = line.statement.guard
    guarding = guard is not None and upper in set(walk.subexpressions(guard))
    return breadth((lower, upper)), guarding, not is_shifted(subscript, index)


def _assigned(
    line: Line,
    left: Sequence[Expression],
    right: Sequence[Expression],
    over: Sequence[str | None],
    around: frozenset[str],
) -> Roles | None:
    on_left = frozenset().union(*map(walk.indices_of, left))
    on_right = frozenset().union(*map(walk.indices_of, right))
    both = on_left & on_right
    if not line.reduced - around <= both:
        return None

    def some(wanted: Collection[str]) -> tuple[str, ...]:
        return tuple(i for i in line.indices if i in wanted)

    # In the target's order, as n.
    m = tuple(i for i in over if i and i not in on_right and i not in around)
    if not m:
        return None
    # What stands before m in the target, on the right alone, selects a matrix, as a batch does.
    behind = max(over.index(i) for i in m)
    n = tuple(i for i in over[behind + 1 :] if i and i not in on_left and i not in around)
    if not n:
        return None
    k, batch = some(line.reduced - around), some((line.kept - {*m, *n}) | around)
    if not k:
        return None
    if (line.bounding - around) & {*over} & {*batch, *n}:
        return None
    # What selects a product is in all of it, or in none.
    if any(line.bound_by[i] & {*m, *n, *k} for i in batch):
        return None
    # Rows with columns of their own (`banded.py`) are no longer known by the index of a sum around them.
    own = any(line.bound_by[i] & {*m} for i in n)
    if own and any(line.bound_by[i] - line.kept for i in line.kept):
        return None
    if _are_few(line, n, 8) or _are_few(line, k, 8) or _are_few(line, m, 4):
        return None
    return Roles(multiplied(left), multiplied(right), batch, m, n, k)


def _are_few(line: Line, indices: Sequence[str], limit: int) -> bool:
    """Are they fewer values than the limit, whatever the sizes of a call?"""
    count = 1
    for index in indices:
        match line.bounds[index]:
            case Number(int(low)), Number(int(high)):
                count *= max(high - low, 0)
            case _:
                return False
    return count < limit


def _are_sides(left: Sequence[Expression], right: Sequence[Expression]) -> bool:
    """Does each side hold a tensor? What else it holds is computed before, once for all products."""
    return all(any(any(walk.reads(f)) for f in side) for side in (left, right))


def with_roles(
    lines: Iterable[Line], context: Context, units: Collection[str] = ()
) -> tuple[tuple[Line, ...], tuple[Expression, ...]]:
    """The lines, with the roles of those that are contractions; sums of several are taken apart.

    And the conditions under which they are, on the constants `units`, and on extents.
    """
    required: set[str] = set()
    padding = Padding(context)
    lines = tuple(lines)
    grouping, mapped = Grouping(context, lines, roles), Mapped(context)

    def products(line: Line, before: Sequence[Line] = ()) -> tuple[Line, ...]:
        around = mapped.around_ring(line)
        if around is not None:
            zeros, adds, takes = around
            steps, used = _as_products(adds, context, padding, units)
            if any(step.roles is not None for step in steps):
                required.update(used)
                return zeros, *steps, takes
            mapped.forget([zeros])
        of_places = mapped.by_places(line)
        if of_places is not None:
            computing, reading = of_places
            steps, used = _as_products(reading, context, padding, units)
            if any(step.roles is not None for step in steps):
                required.update(used)
                return *computing, *steps
            mapped.forget(computing)
        steps, used = _as_products(line, context, padding, units)
        required.update(used)
        if len(steps) == 1 and steps[0].roles is None:
            return with_masks(line, (*lines, *before), context, padding, roles) or steps
        return steps

    picked = PickedRows(context, roles, products)

    def found(line: Line) -> tuple[Line, ...]:
        steps = products(line)
        if line.target.tensor in context.choices.together:
            steps = tuple(map(with_images_together, steps))
        if len(steps) == 1 and steps[0].roles is None:
            by_rows = grouping.by_group(line) or picked.by_rows(line)
            return by_rows or of_pairs(line, context) or steps
        return steps

    parts = tuple(part for line in lines for part in apart(line, found))
    ones = (walk.compare("==", Constant(c), Number(1)) for c in sorted(required))
    return parts, (*ones, *grouping.requires, *picked.requires)


def _as_products(
    line: Line, context: Context, padding: Padding, units: Collection[str]
) -> tuple[tuple[Line, ...], frozenset[str]]:
    """The line, as lines of which one is a contraction if possible; and the constants that are 1."""
    simpler, used = with_units(line, units)
    for one, needed in {line: frozenset[str](), simpler: used}.items():
        found = (
            _gathered(one, context, padding) or _spread_out(one, context) or _padded(one, padding)
        )
        if found:
            return found, needed
    with_role, used = contraction(line, context, units)
    if with_role is line:
        return _over_windows(line, context, units)
    return _with_zeros(line, with_role), used


def _with_zeros(line: Line, product: Line) -> tuple[Line, ...]:
    """The product; where it writes first, and the line's guard leaves some of its rows or columns out, behind
    zeros: the sum of nothing."""
    guard = line.statement.guard
    if guard is None or not line.first or walk.indices_of(guard).isdisjoint(line.kept):
        return (product,)
    ranges = tuple(r for r in line.statement.ranges if r.index in line.kept)
    zeros = Accumulate(line.target, Reduction.SET, Number(0.0), ranges)
    return Line(zeros, first=True), replace(product, first=False)


def _spread_out(line: Line, context: Context) -> tuple[Line, ...]:
    """A contraction into a temporary, and the line that takes it to its places."""
    found = apart_by_places(line, context, _breadth)
    if found is None:
        return ()
    inner, outer, positions = found
    whole = roles(inner)
    if whole is None:
        del context.tensors[inner.target.tensor]
        return ()
    if inner.bounding:
        context.whole.add(inner.target.tensor)
    taken, _ = without_guard(outer, positions, context)
    return replace(inner, roles=whole), taken


def _gathered(line: Line, context: Context, padding: Padding) -> tuple[Line, ...]:
    """What is spread over its target as a sum at each place, if that is a contraction."""
    names = set(context.taken)
    moved = at_places(line, context)
    found = () if moved is line else _padded(moved, padding)
    if not found:
        context.taken.intersection_update(names)  # somebody else may want them
        return ()
    *before, whole = found
    if line.target.tensor in context.choices.together:
        return found
    turned, copying = _turned(whole, context)
    return *before, *copying, turned


def _turned(line: Line, context: Context) -> tuple[Line, tuple[Line, ...]]:
    """The contraction with a left side whose sums run along its rows, and the line that copies it so."""
    r = line.roles
    if r is None or not isinstance(r.left, Read):
        return line, ()
    order = tuple(i for i in (*r.batch, *r.m, *r.k) if i in walk.indices_of(r.left))
    indices = tuple(Index(i) for i in order)
    if r.left.subscripts == indices or {*r.left.subscripts} != {*indices}:
        return line, ()
    if len(r.left.subscripts) != len(indices):
        return line, ()
    bounds = [line.bounds[i] for i in order]
    if any(lower != Number(0) or walk.indices_of(upper) for lower, upper in bounds):
        return line, ()
    name = context.temporary(f"{r.left.tensor}.turned", tuple(upper for _, upper in bounds))
    turned = Read(name, indices)
    ranges = tuple(Range(i, *b) for i, b in zip(order, bounds, strict=True))
    copying = Line(Accumulate(turned, Reduction.SET, r.left, ranges), first=True)
    value = walk.apply("*", turned, r.right)
    whole = replace(line, statement=replace(line.statement, value=value))
    return replace(whole, roles=replace(r, left=turned)), (copying,)


def _padded(line: Line, padding: Padding) -> tuple[Line, ...]:
    """A contraction without a guard, behind the lines that it needs."""
    whole = replace(line, statement=replace(line.statement, guard=None))
    extents = padding.context.tensors[line.target.tensor].extents
    if roles(whole, extents=extents) is None:
        return ()
    found = padding.without_guard(line)
    if found is None:
        return ()
    before, whole = found
    made = roles(whole, extents=extents)
    assert made is not None
    return *before, replace(whole, roles=replace(made, borders=padding.borders(made.right)))


def _over_windows(
    line: Line, context: Context, units: Collection[str]
) -> tuple[tuple[Line, ...], frozenset[str]]:
    """The line; or a contraction into a temporary, for each value of the target's indices that the
    guard couples with the sum, and the line that takes it from there.
    """
    unchanged = (line,), frozenset[str]()
    if line.roles is not None or line.statement.guard is None or line.unproved:
        return unchanged
    simpler, used = with_units(line, units)
    found = apart_by_windows(simpler, context)
    if found is None:
        return unchanged
    windows, inner, outer = found
    whole = roles(inner, windows)
    if whole is None:
        del context.tensors[inner.target.tensor]
        return unchanged
    return (replace(inner, roles=whole), outer), used


def apart(line: Line, as_products: Callable[[Line], tuple[Line, ...]]) -> Iterable[Line]:
    """The terms of a sum as lines, where one is a contraction: `x += a*b + c*d`; each as what it is made."""
    statement = line.statement
    terms = walk.summands(statement.value)
    sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    if len(terms) == 1 or not sums or not line.reduced:
        return as_products(line)
    parts: list[Line] = []
    for taken_away, term in terms:
        how = _NEGATED[statement.reduction] if taken_away else statement.reduction
        part = replace(statement, value=term, reduction=how)
        first = line.first and not parts
        parts += as_products(replace(line, statement=part, first=first))
    return parts if any(part.roles is not None for part in parts) else as_products(line)


# --------------------------------------------------------------------------------------- nodes


def product(line: Line, found: Roles, packed: str | None = None) -> Product | Over:
    """The line as a node; its bounds are the line's. For each group of rows, where these have runs."""
    whole = _product(line, found, packed)
    runs = found.runs
    if runs is None:
        return whole
    rows, *others = whole.m
    lower = walk.apply("max", runs.first, rows.lower)
    upper = walk.apply("min", runs.end, rows.upper)
    some = walk.compare("<", lower, upper)
    own = Dimension(rows.index, lower, upper)
    each = replace(whole, right=runs.right, m=(own, *others), guard=some)
    return Over(runs.index, Number(0), runs.count, (each,))


def _product(line: Line, found: Roles, packed: str | None) -> Product:
    statement = line.statement
    return Product(
        line.target,
        found.left,
        found.right,
        _dimensions(line, found.m),
        _dimensions(line, found.n),
        _dimensions(line, found.k),
        line.first,
        statement.reduction is Reduction.SUBTRACT,
        packed,
        statement.guard,
        found.borders,
        found.update,
        found.runs_apart,
    )


def pack(line: Line, found: Roles, name: str) -> Pack:
    return Pack(name, found.right, _dimensions(line, found.n), _dimensions(line, found.k))


def _dimensions(line: Line, indices: Sequence[str]) -> tuple[Dimension, ...]:
    return tuple(Dimension(index, *line.bounds[index]) for index in indices)
