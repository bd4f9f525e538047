"""The graph of a program, drawn operation by operation at small sizes: what formulas are judged by.

Written from docs/cost.md alone, slowly. Integers and masks that a call gives are known, so that loops,
gathers and scatters go where they go; the values of real tensors are not, so that both branches of what
hangs on them are in the graph.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopgrad.analysis.facts import Facts
from loopgrad.backends.arithmetic import INTEGER, REAL
from loopgrad.ir import nodes as n
from loopgrad.ir.operations import COMPARE
from loopgrad.ir.walk import reads

Place = tuple[int, ...]


@dataclass
class Graph:
    """Each operation: the operations that it reads."""

    facts: Facts
    sizes: Mapping[str, Any]
    data: Mapping[str, np.ndarray]  # the values of all tensors, from a run
    operations: list[tuple[int, ...]] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaves: dict[tuple[str, Place], dict[int, list[tuple[int, ...]]]] = defaultdict(dict)
        self.done: dict[tuple[str, Place], tuple[int, ...]] = {}
        self.order: dict[int, n.Accumulate] = {}
        self.inputs = {i.name for i in self.facts.program.inputs}
        for statement in self.facts.program.statements:
            self.execute(statement, {})
        for key in list(self.leaves):
            self.element(*key)

    @property
    def work(self) -> int:
        return len(self.operations)

    @property
    def span(self) -> int:
        return max(self.depths, default=0)

    def operation(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        """A new operation; sources are what is read: one operation, or none for what is given."""
        flat = tuple(one for source in sources for one in source)
        self.operations.append(flat)
        self.depths.append(1 + max((self.depths[one] for one in flat), default=0))
        return (len(self.operations) - 1,)

    # ------------------------------------------------------------------------------ statements

    def execute(self, statement: n.Statement, at: dict[str, int]) -> None:
        if isinstance(statement, n.Block):
            for inside in self.points(statement.ranges, at):
                for one in statement.body:
                    self.execute(one, inside)
            return
        assert isinstance(statement, n.Accumulate)
        self.order.setdefault(id(statement), statement)
        for inside in list(self.points(statement.ranges, at)):
            self.iteration(statement, inside)

    def points(self, ranges: Any, at: dict[str, int]) -> Iterator[dict[str, int]]:
        if not ranges:
            yield at
            return
        first, *rest = ranges
        values = range(self.value(first.lower, at), self.value(first.upper, at))
        for value in reversed(values) if first.descending else values:
            yield from self.points(rest, {**at, first.index: value})

    def iteration(self, statement: n.Accumulate, at: dict[str, int]) -> None:
        sources: list[tuple[int, ...]] = []
        guard: tuple[int, ...] | None = None
        if statement.guard is not None:
            holds = self.known(statement.guard, at)
            if holds is False:
                return
            if holds is None:
                guard = self.condition(statement.guard, at)
        parts = [self.draw(statement.value, at)]
        for subscript in statement.target.subscripts:
            if any(reads(subscript)):
                parts.append(self.draw(subscript, at))
        for r in (*self.blocks_around(statement), *statement.ranges):
            for bound in (r.lower, r.upper):
                sources += [self.source(read, at) for read in reads(bound)]
        leaf = tuple(itertools.chain(*parts))
        if guard is not None:
            leaf = self.operation(leaf, guard)
        place = tuple(self.value(s, at) for s in statement.target.subscripts)
        leaf = (*leaf, *itertools.chain(*sources))
        key = (statement.target.tensor, place)
        assert key not in self.done, "it is read before it is complete"
        self.leaves[key].setdefault(id(statement), []).append(leaf)

    def blocks_around(self, statement: n.Accumulate) -> Iterator[n.Range]:
        def inside(body: Any, around: tuple[n.Range, ...]) -> Iterator[n.Range]:
            for one in body:
                if one is statement:
                    yield from around
                elif isinstance(one, n.Block):
                    yield from inside(one.body, (*around, *one.ranges))

        return inside(self.facts.program.statements, ())

    def element(self, tensor: str, place: Place) -> tuple[int, ...]:
        """The operation, or the operations, that the element is complete with."""
        key = (tensor, place)
        if key not in self.done:
            total: tuple[int, ...] = ()
            added = self.leaves.get(key, {})
            for number in [i for i in self.order if i in added]:
                leaves = added[number]
                if self.order[number].reduction is n.Reduction.SET:
                    assert len(leaves) == 1
                    total = leaves[0]
                else:
                    total = self.operation(total, self.tree(leaves))
            self.done[key] = total
        return self.done[key]

    def tree(self, leaves: list[tuple[int, ...]]) -> tuple[int, ...]:
        """A balanced tree: all that is added at once is there when it begins."""
        deepest = max(leaves, key=lambda leaf: max((self.depths[i] for i in leaf), default=0))
        row = [(*leaf, *deepest) for leaf in leaves] if len(leaves) > 1 else leaves
        while len(row) > 1:
            pairs = [self.operation(*row[i : i + 2]) for i in range(0, len(row) - 1, 2)]
            row = pairs + (row[-1:] if len(row) % 2 else [])
        return row[0]

    # ------------------------------------------------------------------------------ expressions

    def value(self, e: Any, at: dict[str, int]) -> Any:
        """The value of an integer expression or a condition; integers are data that are known."""
        below = lambda part: self.value(part, at)
        match e:
            case n.Number(number):
                return number
            case n.Index(name):
                return at[name]
            case n.Extent(name) | n.Constant(name):
                return self.sizes[name]
            case n.Read(tensor, subscripts):
                return self.data[tensor][tuple(map(below, subscripts))].item()
            case n.Compare(operators, operands):
                pairs = zip(operators, itertools.pairwise(operands), strict=True)
                return all(COMPARE[o](below(x), below(y)) for o, (x, y) in pairs)
            case n.Conditional(condition, then, otherwise):
                return below(then) if below(condition) else below(otherwise)
            case n.Apply("and", (left, right)):
                return below(left) and below(right)
            case n.Apply("or", (left, right)):
                return below(left) or below(right)
            case n.Apply("not", (operand,)):
                return not below(operand)
            case n.Apply(name, operands):
                values = [below(o) for o in operands]
                table = (
                    INTEGER if all(isinstance(v, int) for v in values) and name in INTEGER else REAL
                )
                return int(np.floor(values[0])) if name == "floor" else table[name](*values)
        raise AssertionError(e)

    def draw(self, e: Any, at: dict[str, int]) -> tuple[int, ...]:
        match e:
            case n.Conditional(condition, then, otherwise):
                holds = self.known(condition, at)
                if holds is None:
                    parts = [self.condition(condition, at)]
                    parts += [self.draw(branch, at) for branch in (then, otherwise)]
                    return self.operation(*parts)
                return self.draw(then if holds else otherwise, at)
        if not any(reads(e)):
            return ()
        match e:
            case n.Read():
                moving = [self.draw(s, at) for s in e.subscripts if any(reads(s))]
                return (*itertools.chain(*moving), *self.source(e, at))
            case n.Compare() | n.Apply("and" | "or" | "not"):
                return self.condition(e, at) if self.known(e, at) is None else ()
            case n.Apply("stop_gradient", (operand,)):
                return self.draw(operand, at)
            case n.Apply(_, operands):
                return self.operation(*(self.draw(o, at) for o in operands))
        raise AssertionError(e)

    def source(self, read: Any, at: dict[str, int]) -> tuple[int, ...]:
        if read.tensor in self.inputs:
            return ()
        place = tuple(self.value(s, at) for s in read.subscripts)
        extents = self.data[read.tensor].shape
        if not all(0 <= p < extent for p, extent in zip(place, extents, strict=True)):
            return ()  # a branch that is not taken
        return self.element(read.tensor, place)

    def known(self, e: Any, at: dict[str, int]) -> bool | None:
        """What a condition comes out as, if no tensor has a say."""
        if not any(reads(e)):
            return bool(self.value(e, at))
        match e:
            case n.Apply("not", (operand,)):
                found = self.known(operand, at)
                return None if found is None else not found
            case n.Apply("and" | "or" as operation, operands):
                parts = [self.known(o, at) for o in operands]
                if (operation == "or") in parts:
                    return operation == "or"
                return None if None in parts else operation == "and"
            case n.Compare(operators, operands) if len(operators) > 1:
                links = [
                    n.Compare((o,), pair)
                    for o, pair in zip(operators, itertools.pairwise(operands), strict=True)
                ]
                parts = [self.known(link, at) for link in links]
                return False if False in parts else None if None in parts else True
        return None

    def condition(self, e: Any, at: dict[str, int]) -> tuple[int, ...]:
        match e:
            case n.Apply("not", (operand,)):
                return self.operation(self.condition(operand, at))
            case n.Apply("and" | "or", operands):
                return self.joined(operands, at)
            case n.Compare(operators, operands) if len(operators) > 1:
                pairs = zip(operators, itertools.pairwise(operands), strict=True)
                return self.joined([n.Compare((o,), pair) for o, pair in pairs], at)
            case n.Compare(_, operands):
                return self.operation(*(self.draw(o, at) for o in operands))
        return self.draw(e, at)

    def joined(self, parts: Any, at: dict[str, int]) -> tuple[int, ...]:
        """One after the other, those that are known left out."""
        found: tuple[int, ...] | None = None
        for part in parts:
            if self.known(part, at) is None:
                one = self.condition(part, at)
                found = one if found is None else self.operation(found, one)
        assert found is not None
        return found
