"""The rows, columns and parts of a sum of a grid of threads: the least work for the thread that has most.

    void @grid(threads, rows, columns, depth, most_columns, most_sums, found)

Work counts in multiplications of a vector's lane: a tile costs its rows and the loading of what is packed;
to pack an element of the other side costs as much as ten, to read one of the left side eight, and to add an
element of a copy fifteen. Measured on one thread, of products of 1024 x 1024 matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from loopgrad.backends.llvm.writing.repeat import handing, where
from loopgrad.backends.llvm.writing.text import I64, Body, Module
from loopgrad.ir.nodes import Conditional, Expression
from loopgrad.schedule.threads.grid import shape
from loopgrad.schedule.tree import Blocks, Fused, Grid, Scope

TILE, LANES = 6, 16
PACKED, READ, ADDED = 10, 8, 15

# Nanoseconds of work below which to choose would take longer than it would save.
LARGE_WORK = 100_000


class Entry(Protocol):
    """The frame of the code that calls phases."""

    body: Body
    module: Module

    def value(self, expression: Expression) -> str: ...

    def condition(self, expression: Expression) -> str: ...


def grid_of(phase: Fused) -> Blocks | None:
    """The rows of a phase's grid, if it has one."""
    match phase.body:
        case (Blocks(grid=Grid.ROWS) as rows,):
            return rows
    return None


def chosen(rows: Blocks, phase: Fused, threads: str, entry: Entry) -> tuple[str, str, str]:
    """Emits the choice: how many threads there are, of which `threads` could share the rows alone; how many
    of them share a row's columns, and how many their sums.
    """
    body, module = entry.body, entry.module
    found = body.alloca(I64, 2)
    columns = body.element(I64, found, 1)
    body.store(I64, "1", found)
    body.store(I64, "1", columns)
    several = body.value("icmp sgt i64 %threads, 1")
    large = body.value(f"icmp sge i64 {entry.value(phase.work)}, {LARGE_WORK}")

    whole = shape(rows)
    sizes = [entry.value(e) for e in (whole.rows, whole.columns, whole.depth)]
    most = [_count(entry, whole.across), _sums(entry, phase, whole.sums)]
    given = ", ".join(f"i64 {v}" for v in ("%threads", *sizes, *most))
    pointer = module.pointer(I64)

    def choose() -> None:
        body.do(f"call void @{_function(module)}({given}, {pointer} {found})")

    where(body, body.value(f"and i1 {several}, {large}"), choose)
    # With few rows each thread would read, or pack, all of the other side for its own.
    few = body.value(f"icmp slt i64 {sizes[0]}, {body.value(f'mul i64 %threads, {TILE}')}")
    enough = body.value(f"icmp sge i64 {most[0]}, %threads")
    fine = body.value(f"and i1 {several}, {body.value(f'and i1 {few}, {enough}')}")
    small = body.value(f"xor i1 {large}, true")
    where(
        body,
        body.value(f"and i1 {fine}, {small}"),
        lambda: body.store(I64, "%threads", columns),
    )
    sums, across = body.load(I64, found), body.load(I64, columns)
    product = body.value(f"mul i64 {sums}, {across}")
    grid = body.value(f"icmp sgt i64 {product}, 1")
    return body.select(grid, I64, "%threads", threads), across, sums


def _count(entry: Entry, blocks: Blocks) -> str:
    """How many units of the index there are."""
    body = entry.body
    count = body.value(f"sub i64 {entry.value(blocks.upper)}, {entry.value(blocks.lower)}")
    more = body.value(f"add i64 {count}, {blocks.unit - 1}")
    return body.value(f"sdiv i64 {more}, {blocks.unit}")


def _sums(entry: Entry, phase: Fused, blocks: Blocks | None) -> str:
    """How many parts of the sum there may be: one, where copies would be large."""
    if blocks is None:
        return "1"
    extent = next(b for b in phase.buffers if b.scope is Scope.SUMMED).axes[0].extent
    assert isinstance(extent, Conditional)
    small = entry.condition(extent.condition)
    return entry.body.select(small, I64, _count(entry, blocks), "1")


def _function(module: Module) -> str:
    name = "grid"
    if name in module.functions:
        return name
    pointer = module.pointer(I64)
    body = Body(module, name)

    def times(a: str, b: str) -> str:
        return body.value(f"mul i64 {a}, {b}")

    def plus(a: str, b: str) -> str:
        return body.value(f"add i64 {a}, {b}")

    def parts(count: str, of: str) -> str:
        return body.value(f"udiv i64 {plus(count, body.value(f'sub i64 {of}, 1'))}, {of}")

    def whole(count: str, of: str) -> str:
        return body.value(f"icmp eq i64 {body.value(f'urem i64 {count}, {of}')}, 0")

    def at_most(number: str, most: str) -> str:
        return body.value(f"icmp sle i64 {number}, {most}")

    def least(a: str, b: str) -> str:
        return body.select(at_most(a, b), I64, a, b)

    def of_sums(sums: str, best: Sequence[str]) -> Sequence[str]:
        rest = body.value(f"udiv i64 %threads, {sums}")
        fits = whole("%threads", sums)

        def of_columns(columns: str, known: Sequence[str]) -> Sequence[str]:
            rows = body.value(f"udiv i64 {rest}, {columns}")
            fine = body.value(f"and i1 {fits}, {whole(rest, columns)}")
            each, wide, deep = (
                parts("%rows", rows),
                parts("%columns", columns),
                parts("%depth", sums),
            )
            wide = times(parts(wide, str(LANES)), str(LANES))
            tiles = plus(each, parts(each, str(TILE)))
            work = plus(times(plus(tiles, str(PACKED)), wide), times(each, str(READ)))
            work = times(work, deep)
            copied = times(times("%rows", "%columns"), sums)
            added = body.value(f"udiv i64 {times(copied, str(ADDED))}, %threads")
            several = body.value(f"icmp sgt i64 {sums}, 1")
            work = plus(work, body.select(several, I64, added, "0"))
            less = body.value(f"icmp slt i64 {work}, {known[0]}")
            takes = body.value(f"and i1 {fine}, {less}")
            new = (work, sums, columns)
            return [body.select(takes, I64, a, b) for a, b in zip(new, known, strict=True)]

        end = plus(least(rest, "%most_columns"), "1")
        return handing(body, "1", end, of_columns, [(I64, value) for value in best])

    start = [str(2**63 - 1), "1", "1"]
    end = plus(least("%threads", "%most_sums"), "1")
    _, sums, columns = handing(body, "1", end, of_sums, [(I64, value) for value in start])
    body.store(I64, sums, "%found")
    body.store(I64, columns, body.element(I64, "%found", 1))
    body.do("ret void")
    given = ("%threads", "%rows", "%columns", "%depth", "%most_columns", "%most_sums")
    parameters = [*(f"i64 {each}" for each in given), f"{pointer} %found"]
    body.head = f"internal void @{name}({', '.join(parameters)}) noinline"
    module.functions[name] = body.text()
    return name
