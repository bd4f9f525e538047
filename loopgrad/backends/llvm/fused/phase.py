"""A `Fused` phase -> two functions, and their call from the entry.

    void @phase.run(context, thread, threads)   unpacks the context; what `loopgrad_parallel` runs
    void @phase(failed, thread, threads, integers..., reals..., tensors...)   the loops

The context is a block of slots of 8 bytes: whether a thread has failed, the phase's scratch memory,
the bytes of it that one thread gets, then the function's parameters in order. Every tensor has a
`noalias` pointer of its own: into memory, or into the thread's part of the scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.backends.llvm.fused.context import Context
from loopgrad.backends.llvm.fused.contributions import Contributions
from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.fused.grid import chosen, grid_of
from loopgrad.backends.llvm.fused.partials import combine
from loopgrad.backends.llvm.fused.splits import Made, join
from loopgrad.backends.llvm.fused.trees import Trees
from loopgrad.backends.llvm.fused.unrolling import Unrolling
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.literal.identities import fill
from loopgrad.backends.llvm.products.lowering import prepared
from loopgrad.backends.llvm.threading import pool
from loopgrad.backends.llvm.writing.layout import Layout
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.backends.llvm.writing.scratch import BYTES, Placed, of_further, offsets
from loopgrad.backends.llvm.writing.text import FREE, I64, ONCE, Body, Module
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Extent, Index, Number, Read, Reduction
from loopgrad.schedule import Phase
from loopgrad.schedule.loops.idle import busy
from loopgrad.schedule.loops.singles import has_no_lanes
from loopgrad.schedule.tree import (
    Blocks,
    Buffer,
    Fused,
    Mark,
    Node,
    Over,
    Scope,
    Step,
    collapsed,
    is_parallel,
    loops,
    shared_blocks,
    steps,
)

# Nanoseconds of work below which other threads would take longer to wake than they would save.
SMALL_WORK = 1_750

# Bytes that a thread should have for itself where it writes again and again: lines of memory at the ends of
# what it has are another's as well.
APART = 1_024

LEAST_BYTES = 16  # of a register

TYPICAL_LENGTH = 64  # of a loop whose bound is an element of a tensor

_HEAD = 3  # slots before the parameters
_UNNAMED = "phase"  # in the text of functions that have no name yet


class EntryFrame(Frame):
    """Gives expressions in extents and constants their values, in the entry or one like it."""

    def __init__(self, layout: Layout, body: Body, integer: Callable[[int], str]):
        super().__init__(body.module, layout, {}, {})
        self.body = body
        self._integer = integer

    def integer(self, slot: int) -> str:
        return self._integer(slot)

    @property
    def looks(self) -> bool:
        """Sizes that overflow are of tensors that no memory holds."""
        return False

    def go_on_where(self, fine: str) -> None:
        """What it computes is right, or not used."""

    def value(self, expression: Expression) -> str:
        return self.body.once(("value", expression), lambda: Vectors(self).integer(expression).text)

    def condition(self, expression: Expression) -> str:
        return self.body.once(
            ("condition", expression), lambda: Vectors(self).condition(expression).text
        )

    def extent(self, expression: Expression) -> str:
        """Of an axis, or of a buffer's; 0 where a formula is negative."""
        return self.body.once(("extent", expression), lambda: self._extent(expression))

    def _extent(self, expression: Expression) -> str:
        text = Vectors(self).extent(expression)
        if isinstance(expression, Number | Extent) or self.slot(expression) is not None:
            return text
        some = self.body.value(f"icmp sgt i64 {text}, 0")
        return self.body.select(some, I64, text, "0")


@dataclass(frozen=True)
class FusedPhase:
    """The functions of a phase, and what its call needs."""

    phase: Fused
    name: str
    frame: Frame
    buffers: tuple[
        Placed, ...
    ]  # in the thread's part of the scratch memory, in order; further ones first

    @property
    def slots(self) -> int:
        frame = self.frame
        return (
            _HEAD
            + len(frame.integers)
            + len(frame.reals)
            + 3 * len(frame.pointers)
            + 2 * frame.grid
        )


def lower(
    phase: Fused, module: Module, layout: Layout, tensors: Mapping[str, TensorFacts]
) -> FusedPhase:
    """Adds the functions of the phase to the module."""
    buffers = {buffer.tensor: buffer for buffer in phase.buffers}
    frame = Frame(module, layout, tensors, buffers)
    frame.grid = grid_of(phase) is not None
    unrolling = Unrolling()
    nodes, workspaces = prepared(unrolling.nodes(phase.body, {}), frame)
    lanes = vector_bytes(module, nodes) // BYTES[module.real]
    if has_no_lanes(nodes):
        frame.body.loops = FREE
    Trees(frame, lanes, workspaces).phase(nodes, unrolling.turns)
    inner = _finish(frame)
    name = _runner(phase, frame, inner)
    placed = [_placed(b, layout) for b in map(frame.buffers.get, frame.pointers) if b is not None]
    return FusedPhase(phase, name, frame, tuple(sorted(placed, key=lambda one: not one.further)))


def _placed(buffer: Buffer, layout: Layout) -> Placed:
    extents = tuple(axis.extent for axis in buffer.axes)
    kind = layout.memory_type(buffer.element)
    return Placed("tensor", buffer.tensor, kind, extents, buffer.further, buffer.is_one_row)


def vector_bytes(module: Module, nodes: tuple[Node, ...]) -> int:
    """Of registers of 64 bytes half, where rows are picked: rows begin at any address, and what is stored
    across two lines of memory and read again soon after takes several times as long. No more than rows of
    a known length fill: what is stored under a mask keeps the next row waiting, if that is in its lanes."""
    picked = any(isinstance(loop, Over) and loop.mark is Mark.PICKED for loop in loops(nodes))
    most = min(module.vector_bytes, 32) if picked else module.vector_bytes
    lengths = list(_lengths(nodes, {}))
    if lengths and None not in lengths:
        longest = max(length for length in lengths if length is not None) * BYTES[module.real]
        while most > LEAST_BYTES and longest <= most // 2:
            most //= 2
    return most


def _lengths(nodes: Sequence[Node], known: Mapping[str, int | None]) -> Iterator[int | None]:
    """How many values vector loops take at most; None where that is not known. `known`: of other indices."""
    for node in nodes:
        if isinstance(node, Over | Blocks):
            match node.upper:
                case Number(int(value)):
                    limit: int | None = value
                case Index(name):
                    limit = known.get(name)
                case _:
                    limit = None
            within = limit if node.lower == Number(0) else None
            if isinstance(node, Over) and node.mark in (Mark.VECTOR, Mark.SCAN):
                yield within
            yield from _lengths(node.body, {**known, node.index: within and within - 1})


def _finish(frame: Frame) -> str:
    """Ends the function with the loops; its name."""
    pointer, module = frame.module.pointer, frame.module
    parameters = [f"{pointer(I64)} noalias %failed", "i64 %thread", "i64 %threads"]
    parameters += [f"i64 {name}" for name in frame.integers.values()]
    parameters += [f"{module.real} {name}" for name in frame.reals.values()]
    for tensor, name in frame.pointers.items():
        parameters.append(f"{pointer(frame.storage(tensor).kind)} noalias {name}")
    if frame.grid:
        parameters += ["i64 %columns", "i64 %sums"]
    frame.body.do("ret void")
    frame.body.head = f"internal void @{_UNNAMED}({', '.join(parameters)}) noinline"
    return _named(module, frame.body.text())


def _named(module: Module, text: str) -> str:
    name = module.shared.setdefault(text, f"{_UNNAMED}{len(module.shared)}")
    module.functions.setdefault(name, text.replace(_UNNAMED, name, 1))
    return name


def _runner(phase: Fused, frame: Frame, inner: str) -> str:
    """Adds the function that unpacks the context; its name."""
    module, pointer = frame.module, frame.module.pointer
    byte = pointer("i8")
    head = f"internal void @{_UNNAMED}({byte} %context, i64 %thread, i64 %threads) {ONCE}"
    body = Body(module, _UNNAMED, head)
    context = Context(body, body.value(f"bitcast {byte} %context to {pointer(I64)}"))
    given = [f"{pointer(I64)} {context.at(0)}", "i64 %thread", "i64 %threads"]
    block = context.load(byte, 1)
    size = context.load(I64, 2)
    own = body.value(f"mul i64 %thread, {size}")
    scratch = body.element("i8", block, own)
    slot = _HEAD
    part = "0"
    grid: list[str] = []
    if frame.grid:
        end = _HEAD + len(frame.integers) + len(frame.reals) + 3 * len(frame.pointers)
        grid = [context.load(I64, end), context.load(I64, end + 1)]
        part = body.value(f"urem i64 %thread, {grid[1]}")
    for _ in frame.integers:
        given.append(f"i64 {context.load(I64, slot)}")
        slot += 1
    for _ in frame.reals:
        given.append(f"{module.real} {context.load(module.real, slot)}")
        slot += 1
    for tensor in frame.pointers:
        kind = pointer(frame.storage(tensor).kind)
        buffer = frame.buffers.get(tensor)
        if buffer is None:
            text = context.load(kind, slot)
        else:
            raw = body.element("i8", scratch, context.load(I64, slot + 1))
            text = body.value(f"bitcast {byte} {raw} to {kind}")
            if buffer.scope is Scope.SUMMED:
                raw = body.element("i8", block, body.value(f"mul i64 {part}, {size}"))
                raw = body.element("i8", raw, context.load(I64, slot + 1))
                text = body.value(f"bitcast {byte} {raw} to {kind}")
                is_first = body.value(f"icmp eq i64 {part}, 0")
                text = body.select(is_first, kind, context.load(kind, slot), text)
            if buffer.scope is Scope.PARTIAL:
                text = _partial(phase, frame, buffer, context, slot, text)
        given.append(f"{kind} {text}")
        slot += 3
    given += [f"i64 {number}" for number in grid]
    body.do(f"call void @{inner}({', '.join(given)})")
    body.do("ret void")
    return _named(module, body.text())


def _partial(
    phase: Fused, frame: Frame, buffer: Buffer, context: Context, slot: int, own: str
) -> str:
    """The thread's copy, with its first values; the first thread takes the tensor's own memory."""
    body, module = context.body, frame.module
    element = frame.storage(buffer.tensor).kind
    kind = module.pointer(element)
    is_first = body.value("icmp eq i64 %thread, 0")
    chosen = body.select(is_first, kind, context.load(kind, slot), own)
    start = _start(phase, frame, buffer)

    def begin() -> None:
        count = context.load(I64, slot + 2)
        value = f"{element} {start}"
        body.do(f"call void @{fill(module, element)}({kind} {chosen}, i64 {count}, {value})")

    if buffer.first:
        begin()
    else:
        where(body, body.value(f"xor i1 {is_first}, true"), begin)
    return chosen


def _start(phase: Fused, frame: Frame, buffer: Buffer) -> str:
    return Contributions(Vectors(frame)).start(_writer(phase, buffer)).text


def _writer(phase: Fused, buffer: Buffer) -> Accumulate:
    """A statement that accumulates into the tensor."""
    for step in steps(phase.body):
        match step:
            case Step(statement) if statement.target.tensor == buffer.tensor:
                if statement.reduction is not Reduction.SET:
                    return statement
            case _:
                target, negative = getattr(step, "target", None), getattr(step, "negative", False)
                if target is not None and target.tensor == buffer.tensor:
                    how = Reduction.SUBTRACT if negative else Reduction.ADD
                    return Accumulate(target, how, target)
    raise TypeError(f"nothing accumulates into the partial `{buffer.tensor}`")


@dataclass(frozen=True, slots=True)
class Given:
    """What the entry knows: values by slot, typed pointers by tensor, the phases' scratch memory."""

    integer: Callable[[int], str]
    real: Callable[[int], str]
    pointer: Callable[[str], str]
    scratch: str
    failed: str  # the block to go to where a phase has failed
    asleep: str  # and where there are no threads for it


def call(fused: FusedPhase, body: Body, given: Given) -> None:
    """Emits the call of a phase into the entry's text."""
    module, frame = body.module, fused.frame
    values = EntryFrame(frame.layout, body, given.integer)
    starts, size = offsets(body, fused.buffers, values.extent)
    further = of_further(body, fused.buffers, values.extent)
    block = given.scratch
    if further != "0":  # of which the first thread has none
        block = body.element("i8", block, body.value(f"sub i64 0, {further}"))
    context = Context(body, body.alloca(I64, fused.slots))
    context.store(I64, "0", 0)
    context.store(module.pointer("i8"), block, 1)
    context.store(I64, size, 2)
    slot = _HEAD
    for number in frame.integers:
        context.store(I64, given.integer(number), slot)
        slot += 1
    for number in frame.reals:
        context.store(module.real, given.real(number), slot)
        slot += 1
    places = dict(zip((b.tensor for b in fused.buffers), starts, strict=True))
    partials = []
    for tensor in frame.pointers:
        buffer = frame.buffers.get(tensor)
        if buffer is None or buffer.scope in (Scope.PARTIAL, Scope.SUMMED):
            kind, text = given.pointer(tensor).split(" ", 1)
            context.store(kind, text, slot)
        if buffer is not None:
            context.store(I64, places[tensor], slot + 1)
        if buffer is not None and buffer.scope is Scope.PARTIAL:
            count = "1"
            for axis in buffer.axes:
                count = body.value(f"mul i64 {count}, {values.extent(axis.extent)}")
            context.store(I64, count, slot + 2)
            partials.append((buffer, places[tensor], count))
        slot += 3
    grid = grid_of(fused.phase)
    threads = _threads(fused, values)
    sums = "1"
    if grid is not None:
        threads, columns, sums = chosen(grid, fused.phase, threads, values)
        context.store(I64, columns, slot)
        context.store(I64, sums, slot + 1)
    split = frame.split.values()
    summed = [b for b in fused.phase.buffers if b.scope is Scope.SUMMED]
    needed = None if partials or split or summed else busy(fused.phase)
    if needed is None:
        _run(fused, body, context, threads, given.asleep)
    else:
        some = values.condition(needed)
        where(body, some, lambda: _run(fused, body, context, threads, given.asleep))

    def finish() -> None:
        for buffer, offset, count in partials:
            statement = _writer(fused.phase, buffer)
            name = combine(module, frame.layout, statement, frame.tensors)
            kind, target = given.pointer(buffer.tensor).split(" ", 1)
            raw = body.element("i8", block, offset)
            copies = body.value(f"bitcast {module.pointer('i8')} {raw} to {kind}")
            body.do(
                f"call void @{name}({module.pointer(I64)} {context.at(0)}, {kind} {target}, "
                f"{kind} {copies}, i64 {size}, i64 {threads}, i64 {count})"
            )

    if partials and threads != "1":
        where(body, body.value(f"icmp sgt i64 {threads}, 1"), finish)
    if split or summed:
        made = Made(block, size, threads, {}, sums, sums)
        loop = fused.phase.body[0]
        if isinstance(loop, Over):
            rows = {each.index: _count(each, values) for each in _rows(loop)}
            made = Made(block, size, threads, rows, _depth(loop, values) or "1", threads)
        for one in (*split, *summed):
            reduction = _writer(fused.phase, one).reduction
            target = given.pointer(one.tensor)
            join(values, one, reduction, made, target, places[one.own], given.asleep)
    if frame.fails or partials:
        fine = body.value(f"icmp eq i64 {context.load(I64, 0)}, 0")
        label = body.fresh("phase")
        body.branch(fine, label, given.failed)
        body.start(label)


def wants_threads(phase: Phase, sizes: Mapping[str, Any]) -> bool:
    """Has a phase enough work for several threads? sizes: of extents, and the values of constants."""
    if not isinstance(phase, Fused) or not phase.body or not is_parallel(phase.body[0]):
        return False
    try:
        return evaluate(_guessed(phase.work), sizes) >= SMALL_WORK
    except (FormulaError, KeyError):
        return False


def _threads(fused: FusedPhase, values: EntryFrame) -> str:
    """How many threads run the phase."""
    phase = fused.phase
    loop = next(iter(phase.body), None)
    if loop is None or not is_parallel(loop):
        return "1"
    body = values.body
    work = values.value(_guessed(phase.work))
    small = body.value(f"icmp slt i64 {work}, {SMALL_WORK}")
    threads = body.select(small, I64, "1", "%threads")
    if not isinstance(loop, Over | Blocks):
        return threads
    if any(True for bound in (loop.lower, loop.upper) for _ in walk.reads(bound)):
        return threads
    count = _count(loop, values)
    if isinstance(loop, Over):
        for inner in _rows(loop)[1:]:
            count = body.value(f"mul i64 {count}, {_count(inner, values)}")
        depth = _depth(loop, values)
        if depth is not None:
            count = body.value(f"mul i64 {count}, {depth}")
    for most in (count, *_apart(fused, values)):
        fewer = body.value(f"icmp slt i64 {most}, {threads}")
        threads = body.select(fewer, I64, most, threads)
    none = body.value(f"icmp slt i64 {threads}, 1")
    return body.select(none, I64, "1", threads)


def _rows(loop: Over) -> tuple[Over | Blocks, ...]:
    """The loops of which threads take pairs, or one."""
    inner = collapsed(loop)
    return (loop,) if inner is None else (loop, inner)


def _depth(loop: Over, values: EntryFrame) -> str | None:
    """Of the blocks that threads share, how many each value of the loops around has, one at least."""
    blocks = shared_blocks(loop)
    if blocks is None:
        return None
    count = _count(blocks, values)
    some = values.body.value(f"icmp sgt i64 {count}, 1")
    return values.body.select(some, I64, count, "1")


def _apart(fused: FusedPhase, values: EntryFrame) -> Iterator[str]:
    """How many threads write far enough from each other, where each has rows of its own that data pick."""
    own = (loop for loop in loops(fused.phase.body) if isinstance(loop, Over) and loop.picks)
    picked = (step for loop in own for step in steps(loop.body) if isinstance(step, Step))
    for tensor in dict.fromkeys(step.statement.target.tensor for step in picked):
        size = str(BYTES[values.module.real])
        for extent in fused.frame.tensors[tensor].extents:
            size = values.body.value(f"mul i64 {size}, {values.extent(extent)}")
        yield values.body.value(f"udiv i64 {size}, {APART}")


def _count(loop: Over | Blocks, values: EntryFrame) -> str:
    """How many values threads may share, or blocks of them."""
    body = values.body
    count = body.value(f"sub i64 {values.value(loop.upper)}, {values.value(loop.lower)}")
    if isinstance(loop, Blocks):
        size = str(loop.counted) if isinstance(loop.counted, int) else values.value(loop.counted)
        more = body.value(f"add i64 {count}, {size}")
        count = body.value(f"sdiv i64 {body.value(f'sub i64 {more}, 1')}, {size}")
    return count


def _guessed(work: Expression) -> Expression:
    """The formula with a number in place of data: a length that nobody knows before the call."""
    return Number(TYPICAL_LENGTH) if isinstance(work, Read) else walk.rebuild(work, _guessed)


def _run(fused: FusedPhase, body: Body, context: Context, threads: str, asleep: str) -> None:
    pointer = body.module.pointer
    raw = body.value(f"bitcast {pointer(I64)} {context.base} to {pointer('i8')}")

    def alone() -> None:
        body.do(f"call void @{fused.name}({pointer('i8')} {raw}, i64 0, i64 1)")

    def together() -> None:
        pool.call(body, f"@{fused.name}", raw, threads, asleep)

    if threads == "1":
        alone()
        return
    several = body.value(f"icmp sgt i64 {threads}, 1")
    where(body, several, together)
    where(body, body.value(f"xor i1 {several}, true"), alone)
