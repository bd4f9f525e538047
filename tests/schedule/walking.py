"""Runs a schedule's trees one element at a time: what generated code has to come to, slowly.

Memory that a schedule says needs no start, and buffers at the beginning of each iteration that they
live in, hold nothing; to read it there is a fault of the schedule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopgrad.backends.arithmetic import IDENTITIES, INTEGER, REAL, REAL_UPDATES
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
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
)
from loopgrad.ir.operations import COMPARE, ElementType
from loopgrad.schedule import Nest, Phase, Scheduled, Sequence
from loopgrad.schedule.loops.buffers import _common, uses
from loopgrad.schedule.tree import (
    Blocks,
    Border,
    Buffer,
    Dimension,
    Fused,
    Grid,
    Mark,
    Node,
    Over,
    Pack,
    Picks,
    Product,
    Scope,
    Shares,
    Step,
    collapsed,
    shared_blocks,
)

OWN = (Scope.REGISTER, Scope.ROW, Scope.PARTIAL)


class Undefined(Exception):
    """Something is read that nobody has written."""


class Broken(Exception):
    """A requirement of the schedule does not hold: the literal loops have to be run."""


@dataclass
class Walk:
    scheduled: Scheduled
    extents: Mapping[str, int]
    constants: Mapping[str, Any]
    memory: dict[str, dict[tuple[int, ...], Any]]
    threads: int = 1
    lanes: bool = False  # whether a loop around runs over them
    indices: dict[str, int] = field(default_factory=dict)
    buffers: dict[str, tuple[Buffer, dict[tuple[int, ...], Any]]] = field(default_factory=dict)
    resets: dict[int, list[str]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    part: tuple[int, int] = 0, 1  # of a grid of threads
    portion: tuple[int, int] | None = None  # of blocks that threads share within a loop

    def run(self) -> None:
        for condition in self.scheduled.requires:
            if not self.value(condition):
                raise Broken
        for phase in self.scheduled.phases:
            self.phase(phase)

    # ------------------------------------------------------------------------------- phases

    def phase(self, phase: Phase) -> None:
        match phase:
            case Nest(_, statement, loops, starts):
                if starts:
                    self.fill(statement)
                self.literal(statement, tuple(Range(o.index, o.lower, o.upper) for o in loops))
            case Sequence(_, loops, body):
                for _ in self.over([(o.index, o.lower, o.upper, o.descending) for o in loops]):
                    for inner in body:
                        self.phase(inner)
            case Fused():
                self.fused(phase)

    def fill(self, statement: Accumulate) -> None:
        name = statement.target.tensor
        shape = [self.value(e) for e in self.scheduled.tensors[name].extents]
        start = self.start(statement.reduction, name)
        for at in itertools.product(*map(range, shape)):
            self.memory[name][at] = start

    def literal(self, statement: Accumulate, ranges: tuple[Range, ...]) -> None:
        loops = [(r.index, r.lower, r.upper, False) for r in ranges]
        for _ in self.over(loops):  # type: ignore[arg-type]
            self.update(statement, False)

    def over(self, loops: list[tuple[str, Expression, Expression, bool]]) -> Iterator[None]:
        if not loops:
            yield
            return
        (index, lower, upper, descending), *rest = loops
        values = range(self.value(lower), self.value(upper))
        for value in reversed(values) if descending else values:
            self.indices[index] = value
            yield from self.over(rest)

    def fused(self, phase: Fused) -> None:
        found = uses(phase.body)
        self.resets = {}
        for buffer in phase.buffers:
            if not buffer.further:
                common = _common([use.path for use in found[buffer.tensor]])
                used = [walk.indices_of(use.read) for use in found[buffer.tensor]]
                while common and not any(common[-1].index in indices for indices in used):
                    common.pop()  # a loop that reduces: the buffer lives outside of it
                if common:
                    self.resets.setdefault(id(common[-1]), []).append(buffer.tensor)
        summed_in = [b.axes[0].extent for b in phase.buffers if b.scope is Scope.SUMMED]
        self.copied = any(map(self.value, summed_in))  # else their copies have no memory
        copies, rows = [], []
        summed: dict[tuple[int, str], dict[Any, Any]] = {}
        parts = self.threads if any(_is_parallel(n) for n in phase.body) else 1
        for thread in range(parts):
            self.buffers = {b.tensor: (b, {}) for b in phase.buffers if b.scope in OWN}
            self.split = {b.tensor: (b, {}) for b in phase.buffers if b.scope is Scope.SPLIT}
            for b in phase.buffers:
                if b.scope is Scope.SUMMED:
                    part = thread % self.grid(parts)[1]
                    self.buffers[b.tensor] = b, summed.setdefault((part, b.tensor), {})
                    if not part:
                        del self.buffers[b.tensor]
            self.gone_on: dict[str, int] = {}
            for buffer in phase.buffers:
                if buffer.scope is Scope.PARTIAL:
                    self.start_copy(buffer, phase)
            for node in phase.body:
                self.node(node, (thread, parts))
            copies.append({name: elements for name, (_, elements) in self.buffers.items()})
            rows.append((self.gone_on, self.split))
        self.buffers = {}
        self.add_rows(rows, phase)
        for (part, name), elements in sorted(summed.items()):
            for at, value in elements.items() if part else ():
                self.memory[name][at] += value
        for buffer in phase.buffers:
            if buffer.scope is Scope.PARTIAL:
                self.combine(buffer, [copy[buffer.tensor] for copy in copies], phase)

    def grid(self, threads: int) -> tuple[int, int]:
        """How many threads share a row's columns, and how many its sums: all ways are right."""
        columns, sums = {2: (1, 2), 3: (3, 1), 4: (2, 2), 6: (3, 2)}.get(threads, (1, 1))
        return (columns, sums) if self.copied else (columns * sums, 1)

    def share_grid(self, blocks: Blocks, thread: int, threads: int) -> tuple[int, int]:
        columns, sums = self.grid(threads)
        part, parts = {
            Grid.ROWS: (thread // (columns * sums), threads // (columns * sums)),
            Grid.COLUMNS: (thread // sums % columns, columns),
            Grid.SUMS: (thread % sums, sums),
        }[blocks.grid]
        low, high, unit = self.value(blocks.lower), self.value(blocks.upper), blocks.unit
        count = max(-(-(high - low) // unit), 0)
        begin, end = (low + unit * (count * p // parts) for p in (part, part + 1))
        return begin, min(end, high)

    def add_rows(self, rows: list[Any], phase: Fused) -> None:
        """The copies of rows that threads have gone on with, to the tensors."""
        for at_row, split in rows:
            for name, (buffer, elements) in split.items() if at_row else ():
                reduction = _reduction(name, phase)
                if reduction is Reduction.SUBTRACT:
                    reduction = Reduction.ADD
                for at, value in elements.items():
                    place = {position: at_row[index] for position, index in buffer.rows}
                    place |= {axis.position: i for axis, i in zip(buffer.axes, at, strict=True)}
                    where = tuple(place[i] for i in range(len(place)))
                    memory = self.memory[name]
                    memory[where] = REAL_UPDATES[reduction](memory[where], value)

    def rows_of(self, loop: Over, blocks: Blocks, thread: int, threads: int) -> None:
        """A thread's part of the blocks, counted through the values of the loop, or of pairs."""
        inner = collapsed(loop)
        loops = [loop] if inner is None else [loop, inner]
        values = [range(self.value(o.lower), self.value(o.upper)) for o in loops]
        depth = self.depth(blocks)
        pairs = list(itertools.product(*values))
        first = len(pairs) * depth * thread // threads
        last = len(pairs) * depth * (thread + 1) // threads
        own = dict(self.buffers)
        for number, pair in enumerate(pairs):
            begin, end = max(first - number * depth, 0), min(last - number * depth, depth)
            if begin >= end:
                continue
            self.indices.update(zip((o.index for o in loops), pair, strict=True))
            self.buffers = own | (self.split if begin else {})
            if begin:
                assert not self.gone_on, "a thread goes on with one row"
                self.gone_on = {o.index: self.indices[o.index] for o in loops}
            self.portion = begin, end
            for each in loops:
                self.reset(each)
            for node in loops[-1].body:
                self.node(node)
            self.portion = None
        self.buffers = own
        for each in loops:
            self.indices.pop(each.index, None)

    def depth(self, blocks: Blocks) -> int:
        count = self.value(blocks.upper) - self.value(blocks.lower)
        size = blocks.counted
        size = size if isinstance(size, int) else self.value(size)
        return max(-(-count // size), 1)

    def start_copy(self, buffer: Buffer, phase: Fused) -> None:
        start = self.start(_reduction(buffer.tensor, phase), buffer.tensor)
        for at in itertools.product(*(range(self.value(a.extent)) for a in buffer.axes)):
            self.buffers[buffer.tensor][1][at] = start

    def combine(self, buffer: Buffer, copies: list[dict[Any, Any]], phase: Fused) -> None:
        reduction = _reduction(buffer.tensor, phase)
        if reduction is Reduction.SUBTRACT:
            reduction = Reduction.ADD
        for at in copies[0]:
            total = copies[0][at]
            for copy in copies[1:]:
                total = REAL_UPDATES[reduction](total, copy[at])
            memory = self.memory[buffer.tensor]
            memory[at] = total if buffer.first else REAL_UPDATES[reduction](memory[at], total)

    # -------------------------------------------------------------------------------- nodes

    def node(self, node: Node, part: tuple[int, int] = (0, 1)) -> None:
        match node:
            case Step(statement, first):
                own = {statement.target, *walk.statement_reads(statement)}
                for read in node.unproved:
                    if read not in own:
                        self.place(read)
                self.update(statement, first)
            case Over() if part[1] > 1 and shared_blocks(node):
                self.rows_of(node, shared_blocks(node), *part)
            case Over(index, lower, upper, body, mark, descending):
                low, high = self.share(lower, upper, mark, part)
                if mark is Mark.VECTOR:
                    assert not self.lanes, "lanes within lanes"
                    self.lanes = True
                for step in body:
                    if isinstance(step, Step) and step.first and self.reduces(step, index):
                        self.store(
                            step.statement.target,
                            self.start(step.statement.reduction, step.statement.target.tensor),
                        )
                values = range(low, high)
                for value in reversed(values) if descending else values:
                    self.indices[index] = value
                    if node.picks is not None and not self.is_own(node.picks):
                        continue
                    self.reset(node)
                    for inner in body:
                        if isinstance(inner, Step) and self.reduces(inner, index):
                            self.update(inner.statement, False)
                        else:
                            self.node(inner)
                self.indices.pop(index, None)
                if mark is Mark.VECTOR:
                    self.lanes = False
            case Blocks(index, lower, upper, size, body, mark):
                if node.grid is not Grid.NONE:
                    self.part = part if node.grid is Grid.ROWS else self.part
                    low, high = self.share_grid(node, *self.part)
                else:
                    low, high = self.share(lower, upper, mark, part)
                outer = {
                    k: self.indices[k]
                    for k in (f"{index}.from", f"{index}.to")
                    if k in self.indices
                }
                step = size if size is None or isinstance(size, int) else self.value(size)
                starts = range(low, high, step or max(high - low, 1))
                if node.grid is Grid.SUMS:
                    starts = range(low, low + 1)  # of nothing, too
                if mark is Mark.PARALLEL and self.portion and size is None:
                    begin, end = (low + node.unit * number for number in self.portion)
                    starts, step = [begin][: begin < high], end - begin
                elif mark is Mark.PARALLEL and self.portion:
                    if node.shares is Shares.GROWING:  # first and last by turns
                        half = -(-len(starts) // 2)
                        order = itertools.zip_longest(starts[:half], reversed(starts[half:]))
                        starts = [s for both in order for s in both if s is not None]
                    starts = starts[slice(*self.portion)]
                for begin in starts:
                    end = high if step is None else min(begin + step, high)
                    self.indices[f"{index}.from"], self.indices[f"{index}.to"] = begin, end
                    self.reset(node)
                    for inner in body:
                        self.node(inner)
                for k in (f"{index}.from", f"{index}.to"):
                    self.indices.pop(k, None)
                self.indices.update(outer)
            case Pack():
                pass
            case Product():
                assert not self.lanes, "a product within lanes"
                self.product(node)

    def is_own(self, picks: Picks) -> bool:
        row = min(max(self.value(picks.row), 0), max(self.value(picks.count) - 1, 0))
        here: bool = self.indices[f"{picks.rows}.from"] <= row < self.indices[f"{picks.rows}.to"]
        return here

    def reset(self, node: Over | Blocks) -> None:
        for tensor in self.resets.get(id(node), ()):
            self.buffers[tensor][1].clear()

    def share(
        self, lower: Expression, upper: Expression, mark: Mark, part: tuple[int, int]
    ) -> tuple[int, int]:
        low, high = self.value(lower), self.value(upper)
        if mark is not Mark.PARALLEL:
            return low, high
        thread, threads = part
        count = max(high - low, 0)
        return low + count * thread // threads, low + count * (thread + 1) // threads

    def reduces(self, step: Step, index: str) -> bool:
        subscripts = step.statement.target.subscripts
        return all(index not in _outside_reads(s) for s in subscripts)

    def product(self, node: Product) -> None:
        if node.guard is not None and not self.value(node.guard):
            return

        def loops(dimensions: tuple[Dimension, ...]) -> list[Any]:
            return [(d.index, d.lower, d.upper, False) for d in dimensions]

        for _ in self.over(loops((*node.m, *node.n))):
            how = Reduction.ADD if node.reduction is Reduction.SUBTRACT else node.reduction
            total = self.start(how, node.target.tensor)
            for _ in self.over(loops(node.k)):
                right = self.value(node.right)
                assert right == 0 or all(map(self.is_inside, node.borders)), "no zero on a border"
                total = REAL_UPDATES[how](total, self.value(node.value))
            if not node.first:
                total = REAL_UPDATES[node.reduction](self.element(node.target), total)
            elif node.negative:
                total = -total
            self.store(node.target, total)
        for d in (*node.m, *node.n, *node.k):
            self.indices.pop(d.index, None)

    def is_inside(self, border: Border) -> bool:
        subscript = self.value(border.subscript)
        return bool(self.value(border.lower) <= subscript < self.value(border.upper))

    # ----------------------------------------------------------------------------- elements

    def start(self, reduction: Reduction, tensor: str) -> Any:
        real, integer = IDENTITIES[reduction]
        is_real = self.scheduled.tensors[tensor].element is ElementType.FLOAT
        return real if is_real else integer

    def update(self, statement: Accumulate, first: bool) -> None:
        if statement.guard is not None and not self.value(statement.guard):
            return
        target, reduction = statement.target, statement.reduction
        value = self.value(statement.value)
        if first:
            value = -value if reduction is Reduction.SUBTRACT else value
        elif reduction is not Reduction.SET:
            value = REAL_UPDATES[reduction](self.element(target), value)
        self.store(target, value)

    def shape(self, tensor: str) -> list[int]:
        """Of a tensor: found once, as extents hang on no index."""
        if tensor not in self.shapes:
            self.shapes[tensor] = [self.value(e) for e in self.scheduled.tensors[tensor].extents]
        return self.shapes[tensor]

    def place(self, read: Read) -> tuple[dict[tuple[int, ...], Any], tuple[int, ...]]:
        at = tuple([int(self.value(s)) for s in read.subscripts])
        shape = self.shape(read.tensor)
        # Merged indices: 0, then a place in two axes together.
        if not all(0 <= i < extent for i, extent in zip(at, shape, strict=True)):
            flat = sum(i * math.prod(shape[axis + 1 :]) for axis, i in enumerate(at))
            if min(at) < 0 or not flat < math.prod(shape):
                raise IndexError(f"{read} at {at}, of shape {shape}")
            at = tuple(map(int, np.unravel_index(flat, shape)))
        if read.tensor not in self.buffers:
            return self.memory[read.tensor], at
        buffer, elements = self.buffers[read.tensor]
        kept = []
        for axis in buffer.axes:
            offset = at[axis.position] - self.value(axis.origin)
            if not 0 <= offset < self.value(axis.extent):
                raise IndexError(f"{read} at {at} is beyond its buffer {buffer}")
            kept.append(offset)
        return elements, tuple(kept)

    def element(self, read: Read) -> Any:
        elements, at = self.place(read)
        if at not in elements:
            raise Undefined(f"{read} at {at}")
        return elements[at]

    def store(self, target: Read, value: Any) -> None:
        elements, at = self.place(target)
        elements[at] = value

    def value(self, expression: Expression) -> Any:
        # Those that are asked for most, first: a pattern takes as long as all of the rest.
        if isinstance(expression, Index):
            return self.indices[expression.name]
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Read):
            return self.element(expression)
        if isinstance(expression, Apply):
            return self.applied(expression.operation, expression.operands)
        match expression:
            case Extent(name):
                return self.extents[name]
            case Constant(name):
                return self.constants[name]
            case Compare(operators, operands):
                values = [self.value(o) for o in operands]
                pairs = itertools.pairwise(values)
                return all(COMPARE[o](a, b) for o, (a, b) in zip(operators, pairs, strict=True))
            case Conditional(condition, then, otherwise):
                return self.value(then if self.value(condition) else otherwise)
        raise AssertionError(expression)

    def applied(self, operation: str, operands: tuple[Expression, ...]) -> Any:
        match operation:
            case "and":
                return self.value(operands[0]) and self.value(operands[1])
            case "or":
                return self.value(operands[0]) or self.value(operands[1])
            case "not":
                return not self.value(operands[0])
            case "pi":
                return math.pi
        values = [self.value(o) for o in operands]
        if operation in INTEGER and all(isinstance(v, int | np.integer) for v in values):
            return INTEGER[operation](*map(int, values))
        return REAL[operation](*map(np.float64, values))


def _is_parallel(node: Node) -> bool:
    return isinstance(node, Over | Blocks) and node.mark is Mark.PARALLEL


def _outside_reads(subscript: Expression) -> set[str]:
    if isinstance(subscript, Index):
        return {subscript.name}
    if isinstance(subscript, Read):
        return set()
    return set().union(*map(_outside_reads, walk.children(subscript)))


def _reduction(tensor: str, phase: Fused) -> Reduction:
    """How it is added up; what it starts from may be set before."""

    def found(nodes: tuple[Node, ...]) -> Iterator[Reduction]:
        for node in nodes:
            match node:
                case Step(statement) if statement.target.tensor == tensor:
                    yield statement.reduction
                case Product(target) if target.tensor == tensor:
                    yield node.reduction
                case Over() | Blocks():
                    yield from found(node.body)

    return next(how for how in found(phase.body) if how is not Reduction.SET)


def run(scheduled: Scheduled, call: Any, threads: int = 1) -> dict[str, Any]:
    """The results as arrays, given a call that is bound."""
    memory: dict[str, dict[tuple[int, ...], Any]] = {}
    walk_ = Walk(scheduled, call.extents, call.constants, memory, threads)

    def places(name: str) -> Iterator[tuple[int, ...]]:
        """Of the elements, in order: a schedule for its extents may leave out axes of one element."""
        shape, extents = call.shapes[name], scheduled.tensors[name].extents
        return np.ndindex(*(shape if len(extents) == len(shape) else map(walk_.value, extents)))

    for name, tensor in scheduled.tensors.items():
        memory[name] = {}
        if tensor.role == "input":
            elements = call.arrays[name].reshape(-1).tolist()
            memory[name] = dict(zip(places(name), elements, strict=True))
        elif name not in scheduled.started and name in call.shapes:
            memory[name] = dict.fromkeys(places(name), _identity_of(name, scheduled))
    with np.errstate(all="ignore"):
        walk_.run()
    results = {}
    for result in scheduled.facts.program.results:
        shape = call.shapes[result.name]
        array = np.zeros(shape, call.arrays[result.name].dtype)
        for at, there in zip(np.ndindex(shape), places(result.name), strict=True):
            if there not in memory[result.name]:
                raise Undefined(f"{result.name} at {at} is returned")
            array[at] = memory[result.name][there]
        results[result.name] = array
    return results


def _identity_of(name: str, scheduled: Scheduled) -> Any:
    for _, statement in walk.accumulates(scheduled.facts.program.statements):
        if statement.target.tensor == name and statement.reduction is not Reduction.SET:
            real, integer = IDENTITIES[statement.reduction]
            return real if scheduled.tensors[name].element is ElementType.FLOAT else integer
    return 0
