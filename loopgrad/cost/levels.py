"""How many operations of a program's graph stand at which depth, at given sizes.

The graph itself is never built: for each element of a tensor its depth is kept, and how many values are
added up in it, for a statement's points all at once. docs/cost.md says what the graph is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.cost.cases import FREE, is_static
from loopgrad.cost.lines import Line, lines_of
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import COMPARE
from loopgrad.ir.walk import children

Integers = NDArray[np.int64]
Points = dict[str, Any]  # for each index its values, one a point; a block's index is one number

NO, YES, DATA = 0, 1, 2  # a condition: fails, holds, is part of the graph

STATIC: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide,
    "%": np.mod, "**": np.power, "neg": np.negative, "max": np.maximum, "min": np.minimum,
    "abs": np.abs, "sign": np.sign, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "floor": np.floor, "and": np.logical_and,
    "or": np.logical_or, "not": np.logical_not, "relu": lambda x: np.maximum(x, 0),
    "pi": lambda: math.pi, "stop_gradient": lambda x: x, "log1p": np.log1p, "expm1": np.expm1,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x), "erf": np.vectorize(math.erf, otypes=[float]),
}  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """`counts[d]`: the operations at depth d; those of depth 0 are none, inputs and known numbers."""

    counts: Integers

    @property
    def work(self) -> int:
        return int(self.counts.sum())

    @property
    def span(self) -> int:
        return len(self.counts) - 1


def levels(facts: Facts, sizes: Mapping[str, int | float]) -> Levels:
    """The levels of the program's graph. `sizes`: of all extents, and of all constants.

    Raises ValueError where nothing says how long a loop runs.
    """
    for line in lines_of(facts):
        if line.unbounded is not None:
            raise ValueError(f"nothing says how long `{line.unbounded}` runs")
    run = _Run(facts, sizes)
    with np.errstate(all="ignore"):
        run.statements(facts.program.statements, {})
        for name in run.tensors:
            run.folded(name, counted=True)
    counts = run.counts
    last = int(np.max(np.nonzero(counts)[0], initial=0))
    return Levels(counts[: last + 1])


@dataclass
class _Sum:
    """What one statement adds to the elements of its target: how many values, the deepest of them.

    An axis at which data say where is one element long: all may go to the same.
    """

    reduction: Reduction
    deepest: Integers
    values: Integers


class _Run:
    def __init__(self, facts: Facts, sizes: Mapping[str, int | float]):
        self.facts, self.sizes = facts, sizes
        self.lines: dict[int, Line] = {id(line.statement): line for line in lines_of(facts)}
        self.counts = np.zeros(64, np.int64)
        self.tensors: dict[str, dict[int, _Sum]] = {}
        self.known: dict[str, Integers] = {}
        for line in self.lines.values():
            own = self.tensors.setdefault(line.target.tensor, {})
            own[id(line.statement)] = self.nothing(line)

    def nothing(self, line: Line) -> _Sum:
        extents = self.facts.tensors[line.target.tensor].extents
        shape = tuple(
            max(0, int(self.number(e, {}))) if is_static(s) else 1
            for e, s in zip(extents, line.target.subscripts, strict=True)
        )
        return _Sum(line.statement.reduction, np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    # ------------------------------------------------------------------------------- statements

    def statements(self, body: Sequence[Statement], points: Points) -> None:
        for statement in body:
            if isinstance(statement, Block):
                self.block(statement, statement.ranges, points)
            else:
                assert isinstance(statement, Accumulate)
                self.accumulate(statement, points)

    def block(self, block: Block, ranges: Sequence[Range], points: Points) -> None:
        if not ranges:
            self.statements(block.body, points)
            return
        first, *rest = ranges
        line = next(line for line in self.lines.values() if block in line.blocks)
        [known] = [r for r in line.ranges if r.index == first.index]
        low, high = (int(self.number(b, points)) for b in (known.lower, known.upper))
        values = range(low, high)
        for value in reversed(values) if first.descending else values:
            self.block(block, rest, {**points, first.index: value})

    def accumulate(self, statement: Accumulate, around: Points) -> None:
        line = self.lines[id(statement)]
        points, size = self.all_points(line.ranges[len(line.block_indices) :], around)
        bounds = [self.depth(read, points, size, False) for read in line.bounded]
        if statement.guard is None:
            self.add(line, self.value(statement, points, size), bounds, points, size)
            return
        status = self.status(statement.guard, points, size)
        for wanted in (YES, DATA):
            where = status == wanted
            inside, count = _where(points, where), int(where.sum())
            found = self.value(statement, inside, count)
            if wanted == DATA:
                guard = self.condition(statement.guard, inside, count)
                found = self.operation(np.maximum(found, guard))
            self.add(line, found, [b[where] for b in bounds], inside, count)

    def value(self, statement: Accumulate, points: Points, size: int) -> Integers:
        parts = [s for s in statement.target.subscripts if not is_static(s)]
        return self.deepest([statement.value, *parts], points, size)

    def add(
        self, line: Line, depth: Integers, bounds: list[Integers], points: Points, size: int
    ) -> None:
        for bound in bounds:
            depth = np.maximum(depth, bound)
        total = self.tensors[line.target.tensor][id(line.statement)]
        at = tuple(
            np.broadcast_to(self.number(s, points) if is_static(s) else 0, (size,)).astype(np.int64)
            for s in line.target.subscripts
        )
        if at:
            np.maximum.at(total.deepest, at, depth)
            np.add.at(total.values, at, 1)
        elif size:
            total.deepest[()] = max(int(total.deepest), int(depth.max()))
            total.values[()] += size
        self.known.pop(line.target.tensor, None)

    def all_points(self, ranges: Sequence[Range], around: Points) -> tuple[Points, int]:
        points, size = dict(around), 1
        for r in ranges:
            low, high = (
                np.broadcast_to(self.number(b, points), (size,)).astype(np.int64)
                for b in (r.lower, r.upper)
            )
            counts = np.maximum(high - low, 0)
            source = np.repeat(np.arange(size), counts)
            before = np.repeat(np.cumsum(counts) - counts, counts)
            points = {n: v if np.ndim(v) == 0 else v[source] for n, v in points.items()}
            size = int(counts.sum())
            points[r.index] = np.arange(size) - before + low[source]
        return points, size

    # ---------------------------------------------------------------------------------- tensors

    def folded(self, name: str, counted: bool = False) -> Integers:
        """The depth of each element: what statements add up, one after the other."""
        if name in self.known and not counted:
            return self.known[name]
        extents = self.facts.tensors[name].extents
        depth = np.zeros(tuple(max(0, int(self.number(e, {}))) for e in extents), np.int64)
        for one in self.tensors[name].values():
            has = one.values > 0
            if one.reduction is Reduction.SET:
                depth = np.where(has, np.maximum(depth, one.deepest), depth)
                continue
            rounds = one.deepest + _rounds(one.values)
            depth = np.where(has, np.maximum(depth, rounds) + 1, depth)
            if counted:
                self.count_tree(one, has)
                axes = tuple(a for a, n in enumerate(has.shape) if n != depth.shape[a])
                # A tensor without elements has no depth; what a guard keeps from it is computed all the same.
                last = np.maximum(depth.max(axis=axes, keepdims=True, initial=0), rounds + 1)
                self.tally(last[has])
        self.known[name] = depth
        return depth

    def count_tree(self, one: _Sum, has: NDArray[np.bool_]) -> None:
        values, base = one.values[has], one.deepest[has]
        while np.any(values > 1):
            base = base + 1
            pairs = values // 2
            self.tally(base, pairs)
            values = values - pairs

    def tally(self, depth: Integers, times: Integers | None = None) -> None:
        if not depth.size:
            return
        found = np.bincount(depth.ravel(), None if times is None else times.ravel())
        if len(found) > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(len(found), np.int64)])
        self.counts[: len(found)] += found.astype(np.int64)

    def operation(self, depth: Integers) -> Integers:
        self.tally(depth + 1)
        return depth + 1

    # ------------------------------------------------------------------------------ expressions

    def number(self, e: Expression | None, points: Points) -> Any:
        """The value of what reads no tensor."""
        match e:
            case Number(value):
                return value
            case Index(name):
                return points[name]
            case Extent(name) | Constant(name):
                return self.sizes[name]
            case Compare(operators, operands):
                values = [self.number(o, points) for o in operands]
                links = zip(operators, values, values[1:], strict=False)
                return np.logical_and.reduce([COMPARE[o](x, y) for o, x, y in links])
            case Conditional(condition, then, otherwise):
                parts = (self.number(part, points) for part in (condition, then, otherwise))
                return np.where(*parts)
            case Apply(name, operands):
                return STATIC[name](*(self.number(o, points) for o in operands))
        raise AssertionError(e)

    def deepest(self, parts: Sequence[Expression], points: Points, size: int) -> Integers:
        found = np.zeros(size, np.int64)
        for part in parts:
            found = np.maximum(found, self.depth(part, points, size))
        return found

    def depth(self, e: Expression, points: Points, size: int, counted: bool = True) -> Integers:
        """How deep the expression's value stands, at each point; its operations are counted."""
        if isinstance(e, Conditional):
            return self.conditional(e, points, size)
        if is_static(e):
            return np.zeros(size, np.int64)
        if isinstance(e, Read):
            return self.read(e, points, size, counted)
        if _is_condition(e):
            found = np.zeros(size, np.int64)
            where = self.status(e, points, size) == DATA
            found[where] = self.condition(e, _where(points, where), int(where.sum()))
            return found
        below = self.deepest(children(e), points, size)
        return below if isinstance(e, Apply) and e.operation in FREE else self.operation(below)

    def read(self, read: Read, points: Points, size: int, counted: bool) -> Integers:
        moving = [s for s in read.subscripts if not is_static(s)]
        found = np.zeros(size, np.int64)
        if counted:
            found = self.deepest(moving, points, size)
        if read.tensor not in self.tensors:
            return found
        depth = self.folded(read.tensor)
        data = tuple(a for a, s in enumerate(read.subscripts) if not is_static(s))
        if data:
            depth = depth.max(axis=data, keepdims=True, initial=0)
        at, inside = [], np.full(size, depth.size > 0)
        for axis, subscript in enumerate(read.subscripts):
            value = 0 if axis in data else self.number(subscript, points)
            place = np.broadcast_to(value, (size,)).astype(np.int64)
            inside &= (place >= 0) & (place < depth.shape[axis])
            at.append(place)
        own = np.zeros(size, np.int64)
        own[inside] = depth[tuple(place[inside] for place in at)]
        return np.maximum(found, own)

    def conditional(self, e: Conditional, points: Points, size: int) -> Integers:
        status = self.status(e.condition, points, size)
        found = np.zeros(size, np.int64)
        for wanted, parts in (
            (YES, (e.then,)),
            (NO, (e.otherwise,)),
            (DATA, (e.then, e.otherwise)),
        ):
            where = status == wanted
            if not where.any():
                continue
            inside, count = _where(points, where), int(where.sum())
            below = self.deepest(parts, inside, count)
            if wanted == DATA:
                condition = self.condition(e.condition, inside, count)
                below = self.operation(np.maximum(below, condition))
            found[where] = below
        return found

    # ------------------------------------------------------------------------------- conditions

    def status(self, e: Expression, points: Points, size: int) -> NDArray[np.int8]:
        """How the condition comes out at each point, if that is known when the graph is drawn."""
        if is_static(e):
            return np.broadcast_to(self.number(e, points), (size,)).astype(bool).astype(np.int8)
        match e:
            case Apply("not", (operand,)):
                found = self.status(operand, points, size)
                return np.where(found == DATA, DATA, 1 - found).astype(np.int8)
            case Apply("and" | "or" as operation, operands):
                return _joined([self.status(o, points, size) for o in operands], operation == "or")
            case Compare() if len(e.operators) > 1:
                return _joined([self.status(o, points, size) for o in _links(e)], False)
        return np.full(size, DATA, np.int8)

    def condition(self, e: Expression, points: Points, size: int) -> Integers:
        """How deep a condition stands that is part of the graph at all these points."""
        match e:
            case Apply("not", (operand,)):
                return self.operation(self.condition(operand, points, size))
            case Apply("and" | "or", (left, right)):
                return self.both(left, right, points, size)
            case Compare(operators, operands) if len(operators) > 1:
                *links, last = _links(e)
                first = links[0] if len(links) == 1 else _chain(links)
                return self.both(first, last, points, size)
            case Compare(_, operands):
                return self.operation(self.deepest(operands, points, size))
        return self.depth(e, points, size)

    def both(self, left: Expression, right: Expression, points: Points, size: int) -> Integers:
        found = np.zeros(size, np.int64)
        one, other = (self.status(e, points, size) == DATA for e in (left, right))
        for part, where in ((left, one & ~other), (right, other & ~one)):
            found[where] = self.condition(part, _where(points, where), int(where.sum()))
        where = one & other
        inside, count = _where(points, where), int(where.sum())
        below = [self.condition(part, inside, count) for part in (left, right)]
        found[where] = self.operation(np.maximum(*below))
        return found


def _joined(parts: Sequence[NDArray[np.int8]], decides: bool) -> NDArray[np.int8]:
    decided = np.any([p == int(decides) for p in parts], axis=0)
    data = np.any([p == DATA for p in parts], axis=0)
    found = np.where(decided, int(decides), np.where(data, DATA, 1 - int(decides)))
    return found.astype(np.int8)


def _is_condition(e: Expression) -> bool:
    return isinstance(e, Compare) or (isinstance(e, Apply) and e.operation in ("and", "or", "not"))


def _links(e: Compare) -> list[Expression]:
    pairs = zip(e.operators, e.operands, e.operands[1:], strict=False)
    return [Compare((o,), (x, y)) for o, x, y in pairs]


def _chain(links: Sequence[Expression]) -> Expression:
    found = links[0]
    for link in links[1:]:
        found = Apply("and", (found, link))
    return found


def _where(points: Points, where: NDArray[np.bool_]) -> Points:
    return {name: v if np.ndim(v) == 0 else v[where] for name, v in points.items()}


def _rounds(values: Integers) -> Integers:
    """`ceil(log2(values))`, 0 for none."""
    found = np.zeros_like(values)
    left = np.maximum(values, 1) - 1
    while np.any(left):
        found += left > 0
        left = left >> 1
    return found
