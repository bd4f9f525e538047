"""Stores of the first lanes of a vector, where a processor has no quick one under a mask.

AVX-512 has. AVX2's takes 20 cycles and more on AMD's processors, and LLVM stores one lane at a time where
there is none. So all lanes are stored at once if they are wanted, and else half of them where there are as
many, half as many of the rest, and so on: the same pieces in every row, so that their branches are foreseen.
"""

from __future__ import annotations

from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.backends.llvm.writing.text import Body, vector

MASKED_BYTES = 64  # of the vectors of processors that store under masks as quickly as without


def call_store_first(
    body: Body, kind: str, size: int, pointer: str, value: str, lanes: int, count: str
) -> None:
    """The same as `store_first`, by a function that LLVM inlines: so the pieces are written once a module."""
    module, name = body.module, f"store_first_{lanes}_{kind}"
    parameters = f"{module.pointer(kind)} %at, {vector(kind, lanes)} %value, i64 %count"
    if name not in module.functions:
        head = f"internal void @{name}({parameters}) alwaysinline nounwind"
        inner = Body(module, name, head)
        store_first(inner, kind, size, "%at", "%value", lanes, "%count")
        inner.do("ret void")
        inner.finish()
    given = f"{module.pointer(kind)} {pointer}, {vector(kind, lanes)} {value}, i64 {count}"
    body.do(f"call void @{name}({given})")


def store_first(
    body: Body, kind: str, size: int, pointer: str, value: str, lanes: int, count: str
) -> None:
    """Stores the first `count` of the lanes, an i64 from 0 on; each takes `size` bytes."""
    whole = body.value(f"icmp sge i64 {count}, {lanes}")
    mark = body.fresh("first")
    body.branch(whole, f"{mark}.all", f"{mark}.some")
    body.start(f"{mark}.all")
    _store(body, kind, size, pointer, value, lanes)
    body.jump(f"{mark}.end")
    body.start(f"{mark}.some")
    _store_some(body, kind, size, pointer, value, lanes, count)
    body.jump(f"{mark}.end")
    body.start(f"{mark}.end")


def _store_some(
    body: Body, kind: str, size: int, pointer: str, value: str, lanes: int, count: str
) -> None:
    left = value  # twice as many lanes as the next piece has, of which the first are not stored yet
    half = lanes // 2
    while half:
        bit = body.value(f"icmp ne i64 {body.value(f'and i64 {count}, {half}')}, 0")
        first, rest = (_lanes(body, kind, left, half, start) for start in (0, half))
        done = body.value(f"and i64 {count}, {-2 * half}")
        at = body.value(f"getelementptr {kind}, {body.module.pointer(kind)} {pointer}, i64 {done}")
        _store_where(body, bit, kind, size, at, first, half)
        if half > 1:
            some = vector(kind, half)
            left = body.value(f"select i1 {bit}, {some} {rest}, {some} {first}")
        half //= 2


def _store_where(
    body: Body, holds: str, kind: str, size: int, pointer: str, value: str, lanes: int
) -> None:
    where(body, holds, lambda: _store(body, kind, size, pointer, value, lanes))


def _store(body: Body, kind: str, size: int, pointer: str, value: str, lanes: int) -> None:
    full = vector(kind, lanes)
    if lanes > 1 and not body.module.opaque_pointers:
        pointer = body.value(f"bitcast {kind}* {pointer} to {full}*")
    body.do(f"store {full} {value}, {body.module.pointer(full)} {pointer}, align {size}")


def _lanes(body: Body, kind: str, value: str, count: int, first: int) -> str:
    """So many of twice as many lanes, from the first one named on."""
    full = vector(kind, 2 * count)
    if count == 1:
        return body.value(f"extractelement {full} {value}, i64 {first}")
    order = ", ".join(f"i32 {first + lane}" for lane in range(count))
    return body.value(f"shufflevector {full} {value}, {full} undef, <{count} x i32> <{order}>")
