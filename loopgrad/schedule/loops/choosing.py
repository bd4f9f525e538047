"""Which index runs over lanes, and the order of those around it; over threads: `threads/choosing.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import prod

from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Expression, Number, Read, Reduction
from loopgrad.schedule.costs import FUNCTION, cost
from loopgrad.schedule.lines import SMALL, Access, Line, few_values, once_per_line

# How much longer an operation takes outside of lanes.
LANES = 16

# A line that runs so many times less often than others has no say in the order of their loops.
LIGHT = 16

# Sums that are added up at once, each in a register.
FEW_SUMS = 12

# What lanes lose where each writes on its own, and what has to be computed for them to gain nevertheless.
SCATTER, DEAR = 16, 16

# What has to be the same for all values of an index for it to run inside of lanes that read where data tell.
COMMON = 4


def weight(line: Line) -> int:
    """How many times the line runs, at the usual extents."""
    return line.weight


def iterations(line: Line, indices: Iterable[str]) -> int:
    lengths = line.lengths
    return prod([lengths[index] for index in indices if index in lengths])


def depth(lines: Iterable[Line], index: str) -> float:
    """The axis that the index goes over, on average over the lines' tensors: 0 is the outermost."""
    total = count = 0.0
    for line in lines:
        for one in (line.written, *line.read):
            if index in one.affine:
                own = [i for i, bare in enumerate(one.bare) if bare == index]
                place = max(own or [i for i, inside in enumerate(one.axes) if index in inside])
                size = iterations(line, one.indices)
                total += size * (place + 1) / len(one.axes)
                count += size
    return total / count if count else 1.0


# --------------------------------------------------------------------------------------- lanes


def vector_index(
    lines: Sequence[Line], outside: Iterable[str], wanted: str | None = None
) -> str | None:
    """The index over which most of the memory is contiguous, of those not `outside`.

    The one that is wanted, where lines have it and no bounds hang on it.
    """
    around = frozenset(outside).union(*(line.bounding for line in lines))
    scores: dict[str, float] = {}
    looping = [line for line in lines if line.roles is None]
    outer = {id(line): around.intersection(line.indices) for line in looping}
    for index in dict.fromkeys(i for line in looping for i in line.indices):
        if index not in around:
            having = [line for line in looping if index in line.indices]
            score = sum(_gain(line, index, outer[id(line)]) + _computed(line) for line in having)
            score *= _filling(looping, index)
            if index == wanted:
                return index
            if score > 0:
                scores[index] = score
    return max(scores, key=lambda i: scores[i], default=None)


@once_per_line
def _computed(line: Line) -> float:
    """What lanes save where functions are evaluated, in elements that lie next to each other."""
    dear = cost(line.statement.value)
    return float(dear * iterations(line, line.indices)) if dear >= FUNCTION else 0.0


def _filling(lines: Sequence[Line], index: str) -> float:
    """Which share of the lanes has something to do; next to nothing where few ever have."""
    length = next(x.lengths[index] for x in lines if index in x.indices)
    if 4 * length <= LANES:
        return 0.0  # single values are as quick
    return min(1.0, length / LANES) if 2 * length >= LANES else 0.05


def gaining(
    lines: Sequence[Line], index: str, outside: tuple[str, ...], wanted: str | None = None
) -> Iterator[Line]:
    """The lines that should have a loop over the index, in lanes, without the others.

    Those whose time as single values would count, beside that of the lines with further loops, and of
    products.
    """
    heaviest = max((weight(line) * cost(line.statement.value) for line in lines), default=0)
    for line in (x for x in lines if x.roles is None and index in x.loops):
        singly = LANES * weight(line) * cost(line.statement.value)
        if 5 * singly >= heaviest and vector_index([line], outside, wanted) == index:
            yield line


@once_per_line
def _gain(line: Line, index: str, around: frozenset[str]) -> float:
    """Elements that are read or written next to each other, less those that are not. around: of the line's
    indices."""
    stored = iterations(line, line.kept)
    # What a loop does not move on is read once for it.
    times = [
        iterations(line, {*one.indices, *around}.intersection(line.indices)) for one in line.read
    ]
    runs = (_runs(one, index) * (0.5 if _is_offset(line, one, index) else 1) for one in line.read)
    total = sum(run * n for run, n in zip(runs, times, strict=True))
    if index in line.written.along:
        total += 2 * stored
    elif index in line.written.near:
        total += stored
    elif any(_has_in_common(line, other, index) for other in line.kept):
        pass  # of what lanes do one by one, what takes longest is done before
    elif is_scattered(line, index):
        total -= SCATTER * iterations(line, line.indices)
    elif index in line.written.indices and not _is_sparse(line, index):
        # Lanes that write apart do so in each turn of the loops around; `T[k,d,d]` has d in two axes.
        apart = iterations(line, {*line.kept, *around}.intersection(line.indices))
        total -= 4 * apart * (_lines_touched(line, index) / LANES if _computed(line) else 1)
    return total


def _lines_touched(line: Line, index: str) -> int:
    """Of memory, by lanes that write apart: few where axes of few values alone lie behind the index."""
    axis = line.written.axis_of(index)
    behind = () if axis is None else line.written.axes[axis + 1 :]
    counts = [few_values(line, i) for inner in behind for i in inner]
    known = axis is not None and all(len(inner) == 1 for inner in behind)
    return min(prod(counts), LANES) if known and all(counts) else LANES


@once_per_line
def is_scattered(line: Line, index: str) -> bool:
    """Do data tell where each lane writes, one by one, and is little computed for it?"""
    one = line.written
    data = frozenset(
        i for s in line.target.subscripts for r in walk.reads(s) for i in walk.indices_of(r)
    )
    if index not in one.indices or index not in data or _is_sparse(line, index):
        return False
    if any(_has_in_common(line, other, index) for other in line.kept):
        return False
    return cost(line.statement.value) < DEAR


def not_scattered(lines: Iterable[Line]) -> list[Line]:
    """Those that write where data tell have loops of their own."""
    return [line for line in lines if not any(is_scattered(line, i) for i in line.indices)]


def _is_sparse(line: Line, index: str) -> bool:
    """Does the line write few elements of its own, those that data tell?

    Lanes that have nothing to write cost nothing; a branch that nobody can foresee does, each time.
    """
    guard, last = line.statement.guard, line.target.subscripts[-1]
    own = index in line.written.axes[-1] and not any(True for _ in walk.reads(last))
    return own and guard is not None and any(True for _ in walk.reads(guard))


def _runs(one: Access, index: str) -> float:
    if index in one.along:
        return 1.0
    if index in one.near:
        return 0.5
    # Elements at a distance are fetched one by one, as they would be without lanes.
    return -1.0 if index in one.indices and index not in one.affine else 0.0


def _is_offset(line: Line, one: Access, index: str) -> bool:
    """Is it, in an axis of the read, beside an index with a larger range, as dx in `x[n+dx]`?

    A guess: `X-DX+1` is larger than `DX`.
    """
    beside = frozenset().union(*(axis - {index} for axis in one.axes if index in axis))
    return any(_parts(line, other) > _parts(line, index) for other in beside)


def _parts(line: Line, index: str) -> int:
    return sum(1 for bound in line.bounds[index] for _ in walk.subexpressions(bound))


# --------------------------------------------------------------------------------------- order


def loop_order(
    lines: Sequence[Line], outside: Iterable[str], wanted: str | None = None
) -> tuple[str, ...]:
    """The indices that are not `outside`, outermost first; the vector index stands last but for
    small reductions, which run in the lanes' registers.
    """
    around = list(outside)
    looping = dict.fromkeys(i for x in lines for i in _looping(x))
    indices = [i for i in looping if i not in around]
    vector = vector_index(lines, around, wanted)
    vector = vector or vector_index(not_scattered(lines), around, wanted)
    summed = _summed_by_all(lines)
    weights = {i: _weight_with(lines, i) for i in indices}
    # Around the others, an index of next to nothing would part those before its lines from those behind.
    light = {i for i in indices if LIGHT * weights[i] <= max(weights.values())}
    waiting = {i: _waiting(lines, i) for i in indices}
    places = {
        i: (i in summed, i in light, round(4 * depth(lines, i)), waiting[i], -weights[i])
        for i in indices
    }
    rest = sorted((i for i in indices if i != vector), key=lambda i: places[i])
    inner = [i for i in rest if vector is not None and _runs_inside(lines, i, vector, around)]
    ordered = [i for i in rest if i not in inner]
    return _after_bounds(lines, [*ordered, *([vector] if vector else []), *inner])


def _waiting(lines: Sequence[Line], index: str) -> int:
    """Of how many sums over the index what loops over it has to wait for the end."""
    having = [line for line in lines if index in line.indices]
    sums = {line.written.tensor for line in having if index in line.reduced}
    return len(sums.intersection(one.tensor for line in having for one in line.read))


def _summed_by_all(lines: Sequence[Line]) -> frozenset[str]:
    """The indices that all lines sum over, of lines that keep the same and read little: with these inside,
    what is added to stays near.
    """
    if len({line.kept for line in lines}) > 1 or not all(map(reads_little, lines)):
        return frozenset()
    return frozenset.intersection(*(line.reduced for line in lines))


def reads_little(line: Line) -> bool:
    """Is it a sum over more than any tensor holds that it reads or writes?"""
    if line.roles is not None or line.stands_alone or line.statement.reduction is Reduction.SET:
        return False
    everything = set(line.indices)
    return bool(line.reduced) and all(
        one.indices < everything for one in (line.written, *line.read)
    )


def _looping(line: Line) -> tuple[str, ...]:
    """The indices that may have loops: all of a contraction whose sums end at its rows."""
    ends = line.bounding - {*line.loops} if line.roles else line.bounding
    return line.indices if ends else line.loops


def _weight_with(lines: Sequence[Line], index: str) -> int:
    return sum(weight(line) for line in lines if index in line.indices)


def _runs_inside(lines: Sequence[Line], index: str, vector: str, around: Collection[str]) -> bool:
    """Is it reduced by every line that has it, into what the lanes hold, and is no step in memory?
    (An index in a gather of the target, as t in `E[w[t],k]`, is neither kept nor summed over.)

    Or does it take few values, beside those of the vector index: `x[2*n+d]`?
    """
    having = [line for line in lines if index in line.loops]

    def lanes(line: Line) -> str:
        """Its own: another line's lanes may be none of its indices."""
        return vector if vector in line.indices else vector_index([line], around) or vector

    if any(_has_in_common(line, index, vector) for line in having):
        having = [line for line in having if vector in line.indices]
    return all(
        _is_one_of_few_sums(line, index, lanes(line))
        or _is_in_lanes(line, index, lanes(line))
        or _has_in_common(line, index, lanes(line))
        for line in having
    )


@once_per_line
def _has_in_common(line: Line, index: str, vector: str) -> bool:
    """Do data that do not hang on the index tell each lane what it reads or writes, and is much the same
    for all its values: guards, places, weights? Then that is computed once for all.
    """
    written = line.written
    if vector not in line.kept and not _is_told(line.target, vector, index):
        return False
    if index in line.bounding or index in written.along:
        return False
    if index in written.indices and written.axis_of(index) is None:
        return False
    if not any(_is_told(one, vector, index) for one in (line.target, *line.reads())):
        return False
    statement = line.statement
    return sum(_common_cost(e, index) for e in (statement.guard, statement.value) if e) >= COMMON


def _is_told(one: Read, vector: str, index: str) -> bool:
    """Do data tell where each lane has its element, the same for all values of the index?"""
    data = [r for s in one.subscripts for r in walk.reads(s)]
    found = frozenset().union(*map(walk.indices_of, data))
    return vector in found and index not in found


def _common_cost(expression: Expression, index: str) -> int:
    """Of the largest parts of an expression that the index is not in, comparisons counted."""
    if index in walk.indices_of(expression):
        return sum(_common_cost(e, index) for e in walk.children(expression))
    compared = sum(
        len(e.operators) for e in walk.subexpressions(expression) if isinstance(e, Compare)
    )
    return cost(expression) + compared


def _is_in_lanes(line: Line, index: str, vector: str) -> bool:
    return (
        (
            index not in line.written.indices
            or (_is_short(line, index) and _is_window(line, index, vector))
        )
        and vector in line.kept
        and index not in line.bounding
        and (_is_short(line, index) or not any(_steps(one, index, vector) for one in line.read))
    )


def _is_one_of_few_sums(line: Line, index: str, vector: str) -> bool:
    """Does the line add up over the lanes, into a register each for the few places of a window?"""
    kept = [i for i in line.kept if _is_in_window(line, i)]
    counts = [few_values(line, i) for i in kept]
    return (
        index in kept
        and vector in line.reduced
        and index not in line.bounding
        and 0 not in counts
        and prod(counts) <= FEW_SUMS
    )


def _is_in_window(line: Line, index: str) -> bool:
    return any(index in axis and len(axis) > 1 for one in line.read for axis in one.axes)


def _is_window(line: Line, index: str, vector: str) -> bool:
    here = line.written.axes[-1] if line.written.axes else frozenset()
    near = vector in line.written.near or _is_sparse(line, vector)
    return near and (index in here or index not in line.written.along)


def _is_short(line: Line, index: str) -> bool:
    """Does it take few values: a constant's, or those within a block where it begins?"""
    if line.lengths[index] <= SMALL:
        return True
    return any(i.endswith(".from") for i in walk.indices_of(line.bounds[index][0]))


def _steps(one: Access, index: str, vector: str) -> bool:
    """Does it go from row to row with the index? `x[b,j]` with j in lanes does with b."""
    return any(index in axis and vector not in axis for axis in one.axes) and vector in one.indices


def _is_dear(line: Line, index: str) -> bool:
    """Does a bound of the index divide what hangs on another one by what is no number?"""
    return any(
        isinstance(e, Apply)
        and e.operation in ("//", "%")
        and not isinstance(e.operands[1], Number)
        and walk.indices_of(e)
        for bound in line.bounds.get(index, ())
        for e in walk.subexpressions(bound)
    )


def _after_bounds(lines: Sequence[Line], order: list[str]) -> tuple[str, ...]:
    """The order, changed where an index's bounds hang on one that comes later.

    Those whose bounds are dear come last: they are computed anew wherever their loop begins.
    """
    needs: dict[str, frozenset[str]] = {index: frozenset() for index in order}
    for line in lines:
        for index, others in line.bound_by.items():
            if index in needs:
                needs[index] |= others
    order = sorted(order, key=lambda i: any(_is_dear(line, i) for line in lines))
    placed: list[str] = []
    waiting = list(order)
    while waiting:
        ready = next(i for i in waiting if not needs[i] & (set(waiting) - {i}))
        placed.append(ready)
        waiting.remove(ready)
    return tuple(placed)
