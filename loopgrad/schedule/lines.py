"""A program's statements as a schedule sees them: lines, whose indices have one meaning throughout."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from math import prod
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.memo import by_identity
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Constant,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)

if TYPE_CHECKING:
    from loopgrad.schedule.tree import Border, Update

# What an extent that is not known before a call counts as, and a constant with a default.
USUAL, SMALL = 64, 4

NEAR = 4  # the distance of elements up to which vectors with gaps hold them

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")
Tensors = Mapping[str, TensorFacts]
Bounds = tuple[Expression, Expression]


@dataclass(frozen=True, slots=True)
class Access:
    """How a read, or a target, goes over its tensor.

    `axes`: the indices in each subscript, and `bare` the one that is all of it. `affine`: of all
    `indices` those outside of gathers. `along`: those over which its elements are contiguous; `near`:
    those over which there are few others between them.
    """

    tensor: str
    axes: tuple[frozenset[str], ...]
    bare: tuple[str | None, ...]
    indices: frozenset[str]
    affine: frozenset[str]
    along: frozenset[str]
    near: frozenset[str]

    def axis_of(self, index: str) -> int | None:
        """The axis that the index alone subscripts; None where there is none, or two."""
        return self.bare.index(index) if self.bare.count(index) == 1 else None


@by_identity
def access(read: Read) -> Access:
    axes = tuple(map(walk.indices_of, read.subscripts))
    bare = tuple(s.name if isinstance(s, Index) else None for s in read.subscripts)
    affine = frozenset().union(*map(affine_indices, read.subscripts))
    outer = frozenset().union(*axes[:-1])
    inner = axes[-1] - outer if axes else frozenset()
    along = {i for i in inner if is_shifted(read.subscripts[-1], i)}
    near = {i for i in inner - along if _is_near(read.subscripts[-1], i)}
    indices = walk.indices_of(read)
    return Access(read.tensor, axes, bare, indices, affine, frozenset(along), frozenset(near))


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows in the order of their groups: those of group x, which alone read `right`, are `first[x]` and those
    behind it below `end[x]`. `group`: of the index x, which takes `count` values.
    """

    index: str
    count: Expression
    first: Read
    end: Read
    right: Expression


@dataclass(frozen=True, slots=True)
class Roles:
    """The two sides of a contraction, and which index has which part in it, in the line's order.

    borders: where the right side is known to be zero. runs: where it is another one for each group of rows.
    update: what is done with each pair of elements, where it is not that their product is added. runs_apart:
    columns of the right side lie in short runs, each somewhere else.
    """

    left: Expression
    right: Expression
    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]
    borders: tuple[Border, ...] = ()
    runs: Runs | None = None
    update: Update | None = None
    runs_apart: bool = False


@dataclass(frozen=True, slots=True)
class Stairs:
    """Of a product over a block of rows the values of `inner` that each row `index` has, which rise."""

    index: str
    inner: str
    bounds: Bounds


@dataclass(frozen=True)
class Line:
    """A statement with both bounds of every range.

    `unproved`: its reads, and its target, whose subscripts may be out of range. `first`: it writes
    every element of its target, and nothing has touched the target before. `roles`: of a contraction.
    `stairs`: of one in a block, which values each row has. `moments`: it stands for the moments of its value
    (`moments.py`). `ranks`: it stands for the ranks of its values, integers below that number (`ranking.py`).
    `integral`: its target holds integers.
    """

    statement: Accumulate
    unproved: tuple[Read, ...] = ()
    first: bool = False
    roles: Roles | None = None
    stairs: Stairs | None = None
    moments: bool = False
    integral: bool = False
    ranks: Expression | None = None

    @property
    def target(self) -> Read:
        return self.statement.target

    @property
    def stands_alone(self) -> bool:
        """Does it stand for loops of its own, which no other line shares?"""
        return self.moments or self.ranks is not None

    @cached_property
    def answers(self) -> dict[Hashable, Any]:
        """Of functions that were asked about it; see `once_per_line`."""
        return {}

    @cached_property
    def indices(self) -> tuple[str, ...]:
        return tuple(r.index for r in self.statement.ranges)

    @cached_property
    def loops(self) -> tuple[str, ...]:
        """The indices that have loops: a contraction runs over the others by itself."""
        return self.indices if self.roles is None else self.roles.batch

    @cached_property
    def written(self) -> Access:
        return access(self.target)

    @cached_property
    def read(self) -> tuple[Access, ...]:
        return tuple(map(access, self.reads()))

    @property
    def kept(self) -> frozenset[str]:
        """The indices that a subscript of the target holds, those inside of a gather left out."""
        return self.written.affine

    @cached_property
    def reduced(self) -> frozenset[str]:
        return frozenset(self.indices) - self.kept

    def reads(self) -> tuple[Read, ...]:
        found = walk.statement_reads(self.statement)
        runs = None if self.roles is None else self.roles.runs
        return found if runs is None else (*found, runs.first, runs.end)

    @cached_property
    def bounds(self) -> Mapping[str, Bounds]:
        return {r.index: bounds_of(r) for r in self.statement.ranges}

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """How many values each index takes, at the usual extents; those of a window are few."""
        found = {index: _length(*bounds) for index, bounds in self.bounds.items()}
        for index in _within_windows(self):
            found[index] = min(found[index], SMALL)
        return found

    @cached_property
    def weight(self) -> int:
        """How many times it runs, at the usual extents."""
        return prod(self.lengths.values())

    @cached_property
    def bound_by(self) -> Mapping[str, frozenset[str]]:
        """For each index, those that its bounds hang on."""
        pairs = self.bounds.items()
        return {i: frozenset().union(*map(walk.indices_of, bounds)) for i, bounds in pairs}

    @cached_property
    def bounding(self) -> frozenset[str]:
        """The indices that another's bounds hang on."""
        return frozenset().union(*self.bound_by.values())


def once_per_line(
    function: Callable[Concatenate[Line, Asked], Answer],
) -> Callable[Concatenate[Line, Asked], Answer]:
    """Keeps a function's answers with the line, by what else it is asked, by place: of each of the many
    nests that the line may stand in the same is asked."""

    @wraps(function)
    def remembering(line: Line, /, *asked: Asked.args, **named: Asked.kwargs) -> Answer:
        key = (function, asked)
        known = line.answers
        if key not in known:
            known[key] = function(line, *asked, **named)
        answer: Answer = known[key]
        return answer

    return remembering


def few_values(line: Line, index: str) -> int:
    """How many values the index takes, where that is a number; else 0."""
    match line.bounds[index]:
        case Number(int(low)), Number(int(high)):
            return max(high - low, 0)
    return 0


def _within_windows(line: Line) -> Iterator[str]:
    """The indices beside others with a wider range in a subscript: dx of `x[2*n+dx]`."""
    for read in (line.target, *line.reads()):
        for subscript in read.subscripts:
            inside = affine_indices(subscript)
            if len(inside) > 1:
                sizes = {i: breadth(line.bounds[i]) for i in inside if i in line.bounds}
                most = max(sizes.values(), default=0)
                yield from (i for i, size in sizes.items() if size < most)


def breadth(bounds: Bounds) -> int:
    """A guess at which of two ranges is larger: `X-P+1` is than `P`, and that than 3."""
    parts = sum(1 for bound in bounds for _ in walk.subexpressions(bound))
    return parts + (not isinstance(bounds[1], Number))


def _length(lower: Expression, upper: Expression) -> int:
    match lower, upper:
        case Number(int(low)), Number(int(high)):
            return max(high - low, 1)
        case _, Constant():
            return SMALL
    return USUAL


def bounds_of(r: Range) -> Bounds:
    if r.lower is None or r.upper is None:
        raise TypeError(f"the range of {r.index} has to be inferred before it is scheduled")
    return r.lower, r.upper


def limits(bound: Expression, operation: str) -> Iterator[Expression]:
    """What a lower bound is the `max`, or an upper one the `min`, of."""
    match bound:
        case Apply(name, operands) if name == operation:
            for each in operands:
                yield from limits(each, operation)
        case _:
            yield bound


def affine_indices(subscript: Expression) -> frozenset[str]:
    """The indices in it that no read hangs on: those of `i + w[b]` are {i}."""
    if not walk.tensors_in(subscript):
        return walk.indices_of(subscript)
    if isinstance(subscript, Read):
        return frozenset()
    return frozenset().union(*map(affine_indices, walk.children(subscript)))


def is_shifted(subscript: Expression, index: str) -> bool:
    """`j`, `j + di - 1`: one more where the index is one more."""
    match subscript:
        case Index(name):
            return name == index
        case Apply("+", (left, right)):
            in_left, in_right = (index in walk.indices_of(side) for side in (left, right))
            return in_left != in_right and is_shifted(left if in_left else right, index)
        case Apply("-", (left, right)):
            return index not in walk.indices_of(right) and is_shifted(left, index)
    return False


def _is_near(subscript: Expression, index: str) -> bool:
    """`2*j + di`: a few more where the index is one more."""
    found = polynomial(subscript)
    holding = [m for m in found if any(index in walk.indices_of(atom) for atom in m)]
    return holding == [(Index(index),)] and 2 <= found[(Index(index),)] <= NEAR


# -------------------------------------------------------------------------------- first writes


def maps_first(
    lines: Sequence[Line], tensors: Tensors, touched: Container[str]
) -> tuple[Line, ...]:
    """The lines in an order in which tensors are first written whole, where updates commute.

    `T[f[b]] += e` before `for b, j:  T[b,j] += d` moves behind it: so T needs no zeros underneath.
    """
    ordered = list(lines)
    for tensor in dict.fromkeys(line.written.tensor for line in lines):
        writers = [line for line in ordered if line.written.tensor == tensor]
        if tensor in touched or any(x.statement.reduction is Reduction.SET for x in writers):
            continue
        extents = tensors[tensor].extents
        whole = next((x for x in writers if covers(x, extents) and not x.reduced), None)
        if whole is None or whole is writers[0]:
            continue
        late = writers[: next(i for i, line in enumerate(writers) if line is whole)]
        rest = [line for line in ordered if all(line is not other for other in late)]
        place = next(i for i, line in enumerate(rest) if line is whole) + 1
        ordered = [*rest[:place], *late, *rest[place:]]
    return tuple(ordered)


def maps_together(lines: Sequence[Line], tensors: Tensors) -> tuple[Line, ...]:
    """The lines, with maps that add to one tensor as one, in the place of the last: it is written once.

    Those alone that read inputs, and what is smaller than the tensor: nothing is kept for them.
    """
    ordered = list(lines)
    for tensor in dict.fromkeys(line.written.tensor for line in lines):
        writers = [line for line in ordered if line.written.tensor == tensor]
        alike = {(line.target.subscripts, line.statement.ranges) for line in writers}
        if len(writers) < 2 or len(alike) > 1 or not all(map(_is_plain_sum, writers)):
            continue
        rank = len(tensors[tensor].extents)
        if all(_reads_what_stays(line, rank, tensors) for line in writers[:-1]):
            early, last = set(map(id, writers[:-1])), writers[-1]
            whole = _sum_of(writers)
            ordered = [whole if x is last else x for x in ordered if id(x) not in early]
    return tuple(ordered)


def _is_plain_sum(line: Line) -> bool:
    adds = line.statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
    return adds and not line.reduced and line.statement.guard is None


def _sum_of(writers: Sequence[Line]) -> Line:
    first, *more = writers
    value = first.statement.value
    if first.statement.reduction is Reduction.SUBTRACT:
        value = walk.apply("neg", value)
    for line in more:
        sign = "+" if line.statement.reduction is Reduction.ADD else "-"
        value = walk.apply(sign, value, line.statement.value)
    unproved = tuple(dict.fromkeys(read for line in writers for read in line.unproved))
    statement = replace(first.statement, reduction=Reduction.ADD, value=value)
    return replace(first, statement=statement, unproved=unproved)


def _reads_what_stays(line: Line, rank: int, tensors: Tensors) -> bool:
    return all(
        tensors[one.tensor].role == "input" or len(tensors[one.tensor].extents) < rank
        for one in line.read
    )


def reads_whole_axes(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """Does each read go over all of every axis, with an index of its own? Then it is never out of range."""
    return all(
        isinstance(subscript, Index) and line.bounds[subscript.name] == (Number(0), extent)
        for read in walk.reads(expression)
        for subscript, extent in long_axes(read, tensors[read.tensor].extents)
    )


def stays_within(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """Does each read go over every axis with an index of its own, from a place that is there to the end?"""
    for read in walk.reads(expression):
        for subscript, extent in long_axes(read, tensors[read.tensor].extents):
            if not isinstance(subscript, Index):
                return False
            match line.bounds[subscript.name]:
                case Number(int(first)), upper if first >= 0 and upper == extent:
                    pass
                case _:
                    return False
    return True


def long_axes(read: Read, extents: Sequence[Expression]) -> Iterator[tuple[Expression, Expression]]:
    """Subscripts and extents but for those of an axis with a single place, that place."""
    for pair in zip(read.subscripts, extents, strict=True):
        if pair != (walk.ZERO, walk.ONE):
            yield pair


def covers(line: Line, extents: Sequence[Expression]) -> bool:
    """Does the line write every element of its target? `for b, j, i:  T[j,b] += ...`, T being [J,B].

    A guard keeps a reduction from some of what it reads, not from what it writes.
    """
    bounds = line.bounds
    axes = list(long_axes(line.target, extents))
    subscripts = {s.name for s, _ in axes if isinstance(s, Index)}
    guarded = line.statement.guard is not None and not line.reduced
    if guarded or len(subscripts) < len(axes):
        return False
    if line.statement.reduction is Reduction.SET and line.reduced:
        return False
    return all(isinstance(s, Index) and bounds[s.name] == (Number(0), extent) for s, extent in axes)


# ---------------------------------------------------------------------------------- one meaning


def aligned(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines with indices renamed: two of one name have one range, and where two lines go over
    the same axis of the same tensor alike, their indices for it have one name.
    """
    alignment = _Alignment()
    return tuple(map(alignment.renamed, lines))


class _Alignment:
    def __init__(self) -> None:
        self.bounds: dict[str, Bounds] = {}
        self.axes: dict[tuple[str, int], str] = {}  # the index that first went over an axis

    def renamed(self, line: Line) -> Line:
        names: dict[str, str] = {}
        for r in line.statement.ranges:
            renaming = {old: Index(new) for old, new in names.items()}
            lower, upper = (walk.substitute(bound, renaming) for bound in bounds_of(r))
            name = self._name(r.index, (lower, upper), line, set(names.values()))
            names[r.index] = name
            self.bounds[name] = (lower, upper)
        upwards = tuple(replace(r, descending=False) for r in line.statement.ranges)
        line = replace(line, statement=replace(line.statement, ranges=upwards))
        line = with_names(line, names)
        for axis, index in _bare_axes(line):
            self.axes.setdefault(axis, index)
        return line

    def _name(self, index: str, bounds: Bounds, line: Line, taken: set[str]) -> str:
        over = [self.axes[axis] for axis, i in _bare_axes(line) if i == index and axis in self.axes]
        fitting = [n for n in over if self.bounds[n] == bounds and n not in taken]
        if index in fitting:
            return index
        if fitting:
            return fitting[0]
        known = {n for n, own in self.bounds.items() if own != bounds}
        return walk.fresh_name(index, known | taken | (set(line.indices) - {index}))


def _bare_axes(line: Line) -> Iterator[tuple[tuple[str, int], str]]:
    for read in (line.target, *line.reads()):
        for axis, subscript in enumerate(read.subscripts):
            if isinstance(subscript, Index):
                yield (read.tensor, axis), subscript.name


def with_names(line: Line, names: Mapping[str, str]) -> Line:
    """The line with other names for its indices, all at once; those that have none keep theirs."""
    changed = {old: Index(new) for old, new in names.items() if old != new}
    if not changed:
        return line

    def renamed(expression: Expression) -> Expression:
        return walk.substitute(expression, changed)

    ranges = tuple(
        replace(walk.rebuild_range(r, renamed), index=names.get(r.index, r.index))
        for r in line.statement.ranges
    )
    statement = walk.map_statement(replace(line.statement, ranges=()), renamed)
    assert isinstance(statement, Accumulate)
    unproved = tuple(read for read in map(renamed, line.unproved) if isinstance(read, Read))
    return replace(line, statement=replace(statement, ranges=ranges), unproved=unproved)
