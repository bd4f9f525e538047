"""Copies of rows, of threads that went on with another's, added to the rows: in the threads' order, by all
threads, each some lines of every row.

    void @join(context, thread, threads)

A line is what lies side by side in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from loopgrad.backends.llvm.fused.accesses import Place, behind, load, positions, splat, store
from loopgrad.backends.llvm.fused.context import Context
from loopgrad.backends.llvm.fused.contributions import Contributions, joining
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.fused.shares import share
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.threading import pool
from loopgrad.backends.llvm.writing.layout import Layout
from loopgrad.backends.llvm.writing.repeat import counted, where
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.backends.llvm.writing.text import I64, Body, Module, vector
from loopgrad.ir.nodes import Expression, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Buffer

# The slots: the tensor; where the first thread's copy would be, if it had one, and the bytes from one to
# the next; the threads that made them. How many blocks there are, and how many of each row; how many rows
# of the inner index; the elements from row to row, of either index. The lines of a row, the elements of a
# line; then of each axis of a row but the last, innermost first, the extent and the elements from one value
# to the next.
TARGET, COPIES, STRIDE, THREADS, BLOCKS, DEPTH, WIDTH, OUTER, INNER, LINES, RUN, AXES = range(12)


@dataclass(frozen=True, slots=True)
class Made:
    """What a phase has left: its threads' memory, from `block` on, each so many `bytes` from the next.

    rows: how many values each of the loops around has, outermost first; of each there are `depth` blocks.
    copies: which of the threads have made some, the first included: all, or some of the first.
    """

    block: str
    bytes: str
    threads: str
    rows: Mapping[str, str]
    depth: str
    copies: str


class Entry(Protocol):
    """The frame of the code that calls phases."""

    layout: Layout
    body: Body

    def extent(self, expression: Expression) -> str: ...


def join(
    entry: Entry,
    buffer: Buffer,
    reduction: Reduction,
    made: Made,
    target: str,
    offset: str,
    asleep: str,
) -> None:
    """Emits a call that adds up the copies, if there are some, each at the offset in its thread's memory.

    target: the tensor's address, with its type.
    """
    body, layout = entry.body, entry.layout
    module, kind = body.module, layout.memory_type(buffer.element)
    byte = module.pointer("i8")

    def product(a: str, b: str) -> str:
        return b if a == "1" else a if b == "1" else body.value(f"mul i64 {a}, {b}")

    rows = dict(buffer.rows)
    extents = {axis.position: axis.extent for axis in buffer.axes}
    strides: dict[int, str] = {}
    size = "1"
    for position in reversed(range(len(rows) + len(extents))):
        strides[position] = size
        length = made.rows[rows[position]] if position in rows else entry.extent(extents[position])
        size = product(size, length)
    of_rows = {index: strides[position] for position, index in rows.items()}
    blocks, lines, axes = made.depth, "1", []
    for count in made.rows.values():
        blocks = product(blocks, count)
    for axis in reversed(buffer.axes[:-1]):
        lines = product(lines, entry.extent(axis.extent))
        axes += [entry.extent(axis.extent), strides[axis.position]]
    outer, inner = [*(of_rows[index] for index in made.rows), "0", "0"][:2]
    width = [*made.rows.values(), "1", "1"][1]
    length = entry.extent(buffer.axes[-1].extent)
    given = [made.bytes, made.copies, blocks, made.depth, width, outer, inner, lines, length, *axes]
    context = Context(body, body.alloca(I64, AXES + len(axes)))
    pointer, address = target.split(" ", 1)
    name = _function(module, layout, buffer.element, kind, joining(reduction), len(axes) // 2)

    def add_up() -> None:
        context.store(pointer, address, TARGET)
        context.store(byte, body.element("i8", made.block, offset), COPIES)
        for slot, value in enumerate(given, STRIDE):
            context.store(I64, value, slot)
        raw = body.value(f"bitcast {module.pointer(I64)} {context.base} to {byte}")
        pool.call(body, f"@{name}", raw, made.threads, asleep)

    # Only what a branch alone needs is in it: the entry knows what it has loaded.
    where(body, body.value(f"icmp sgt i64 {made.copies}, 1"), add_up)


def _function(
    module: Module,
    layout: Layout,
    element: ElementType,
    kind: str,
    how: Reduction,
    axes: int,
) -> str:
    """The name of the function for lines along so many axes."""
    name = f"join_{kind}_{how.name.lower()}_{axes}"
    if name in module.functions:
        return name
    frame = Frame(module, layout, {}, {})
    body, byte, pointer = frame.body, module.pointer("i8"), module.pointer(kind)
    contributions = Contributions(Vectors(frame))
    lanes = module.vector_bytes // BYTES[kind]
    context = Context(body, body.value(f"bitcast {byte} %context to {module.pointer(I64)}"))
    target, copies = context.load(pointer, TARGET), context.load(byte, COPIES)
    slots = [context.load(I64, slot) for slot in range(STRIDE, AXES + 2 * axes)]
    stride, count, blocks, depth, width, outer, inner, lines, run, *along = slots
    first, last = share(body, lines)

    def multiply(a: str, b: str) -> str:
        return body.value(f"mul i64 {a}, {b}")

    def add(a: str, b: str) -> str:
        return body.value(f"add i64 {a}, {b}")

    def copy(thread: str) -> None:
        begin = body.value(f"udiv i64 {multiply(blocks, thread)}, {count}")
        row = body.value(f"udiv i64 {begin}, {depth}")
        goes_on = body.value(f"icmp ne i64 {begin}, {multiply(row, depth)}")
        own = body.element("i8", copies, multiply(thread, stride))
        own = body.value(f"bitcast {byte} {own} to {pointer}")
        above = body.value(f"udiv i64 {row}, {width}")
        beside = body.value(f"urem i64 {row}, {width}")
        place = add(multiply(above, outer), multiply(beside, inner))

        def line(number: str) -> None:
            to, rest = place, number
            for extent, apart in zip(along[::2], along[1::2], strict=True):
                outside = body.value(f"udiv i64 {rest}, {extent}")
                here = body.value(f"sub i64 {rest}, {multiply(outside, extent)}")
                to, rest = add(to, multiply(here, apart)), outside
            counted(body, "0", run, lanes, lambda i: some(to, multiply(number, run), i))

        def some(to: str, begin: str, i: str) -> None:
            left = body.value(f"sub i64 {run}, {i}")
            fewer = body.value(f"icmp slt i64 {left}, {lanes}")
            left = body.value(f"trunc i64 {body.select(fewer, I64, left, str(lanes))} to i32")
            numbers = f"{vector('i32', lanes)} {positions(lanes, 'i32')}"
            mask = body.value(f"icmp slt {numbers}, {splat(body, 'i32', left, lanes)}")
            there = Place(kind, behind(body, kind, target, add(to, i)), 1)
            here = Place(kind, behind(body, kind, own, add(begin, i)), 1)
            before, value = (
                Value(load(body, place, lanes, mask), element, lanes) for place in (there, here)
            )
            total = contributions.combined(how, before, value).text
            store(body, there, total, lanes, mask)

        where(body, goes_on, lambda: counted(body, first, last, 1, line))

    some_lines = body.value(f"icmp slt i64 {first}, {last}")
    some_run = body.value(f"icmp sgt i64 {run}, 0")
    where(
        body,
        body.value(f"and i1 {some_lines}, {some_run}"),
        lambda: counted(body, "1", count, 1, copy),
    )
    body.do("ret void")
    body.head = f"internal void @{name}({byte} %context, i64 %thread, i64 %threads) noinline"
    module.functions[name] = body.text()
    return name
