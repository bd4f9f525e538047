"""The scratch block of a call: what is kept in it, where, and how large it has to be.

Both are computed by compiled code, from the integers of a call: by the entry, which divides the
block, and by `loopgrad_scratch`, which is asked before it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from loopgrad.backends.llvm.writing.text import I64, ONCE, Body, Module
from loopgrad.ir.nodes import Expression

SIZE = "loopgrad_scratch"
ALIGNMENT = 64
TOO_LARGE = 1 << 62  # stands for all that is larger

BYTES = {"double": 8, "float": 4, "i64": 8, "i8": 1}

# Bytes in front of everything that is placed, of which nobody has a use; and no phase then uses the memory
# of another. For tests, which look afterwards who has written there (tests/backends/canaries.py).
GAP = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor's elements or its states, of an LLVM type, in the block.

    further: of the threads of a phase the first has none, as it adds up in the tensor's own memory.
    lines: what fills up the last line of memory is written as well.
    """

    role: Literal["tensor", "state"]
    tensor: str
    kind: str
    extents: tuple[Expression, ...]
    further: bool = False
    lines: bool = False


def offsets(
    body: Body, wanted: Sequence[Placed], extent: Callable[[Expression], str], fits: bool = True
) -> tuple[list[str], str]:
    """Where each begins, and the bytes of all. `extent` gives the value of an axis' extent.

    fits: the block is there; else a number that is too large becomes TOO_LARGE.
    """
    starts, end = [], "0"
    for each in wanted:
        if GAP:
            end = _sum(body, end, str(GAP), fits)
        starts.append(end)
        size = str(BYTES[each.kind])
        for axis in each.extents:
            size = _product(body, size, extent(axis), fits)
        end = _sum(body, end, _aligned(body, size), fits)
    return starts, end


def size_function(
    module: Module,
    wanted: Sequence[Placed],
    phases: Sequence[Sequence[Placed]],
    extents: Callable[[Body], Callable[[Expression], str]],
) -> None:
    """Adds `i64 loopgrad_scratch(integers, threads)`.

    `phases`: what each thread needs in each phase; they use the same memory one after the other, unless
    there are gaps.
    `extents` makes the function that gives an extent's value, from `%integers`.
    """
    head = f"i64 @{SIZE}({module.pointer(I64)} %integers, i64 %threads) {ONCE}"
    body = Body(module, SIZE, head)
    extent = extents(body)
    most = "0"
    for phase in phases:
        size = of_threads(body, phase, extent, fits=False)
        if GAP:
            most = _sum(body, size, most, fits=False)
        elif size != "0":
            more = body.value(f"icmp ugt i64 {size}, {most}")
            most = body.select(more, I64, size, most)
    _, size = offsets(body, wanted, extent, fits=False)
    body.do(f"ret i64 {_sum(body, size, most, fits=False)}")
    body.finish()


def of_threads(
    body: Body, phase: Sequence[Placed], extent: Callable[[Expression], str], fits: bool = True
) -> str:
    """The bytes that all threads together need in a phase. fits: as for `offsets`."""
    _, size = offsets(body, [one for one in phase if not one.further], extent, fits)
    total = size if size == "0" else _product(body, size, "%threads", fits)
    more = of_further(body, phase, extent, fits)
    if more == "0":
        return total
    others = body.value("sub i64 %threads, 1")
    return _sum(body, total, _product(body, more, others, fits), fits)


def of_further(
    body: Body, phase: Sequence[Placed], extent: Callable[[Expression], str], fits: bool = True
) -> str:
    """The bytes that a thread needs which the first one does not: they lie in front of its others."""
    _, size = offsets(body, [one for one in phase if one.further], extent, fits)
    return size


def _product(body: Body, a: str, b: str, fits: bool) -> str:
    """Of two integers that are not negative."""
    if fits:
        return body.value(f"mul i64 {a}, {b}")
    if a.isdecimal() and b.isdecimal():
        return _limited(body, str(int(a) * int(b)))
    body.module.declare("declare {i64, i1} @llvm.umul.with.overflow.i64(i64, i64)")
    both = body.value(f"call {{i64, i1}} @llvm.umul.with.overflow.i64(i64 {a}, i64 {b})")
    product = body.value(f"extractvalue {{i64, i1}} {both}, 0")
    overflows = body.value(f"extractvalue {{i64, i1}} {both}, 1")
    return _limited(body, body.select(overflows, I64, str(TOO_LARGE), product))


def _sum(body: Body, a: str, b: str, fits: bool) -> str:
    total = body.value(f"add i64 {a}, {b}")
    return total if fits else _limited(body, total)


def _limited(body: Body, size: str) -> str:
    if size.isdecimal():
        return str(min(int(size), TOO_LARGE))
    small = body.value(f"icmp ult i64 {size}, {TOO_LARGE}")
    return body.select(small, I64, size, str(TOO_LARGE))


def _aligned(body: Body, size: str) -> str:
    if size.isdecimal():
        return str(int(size) + ALIGNMENT - 1 & -ALIGNMENT)
    more = body.value(f"add i64 {size}, {ALIGNMENT - 1}")
    return body.value(f"and i64 {more}, {-ALIGNMENT}")
