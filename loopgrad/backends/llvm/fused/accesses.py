"""Vectors of elements in memory: side by side, at a stride, or wherever; all lanes or some.

Elements are aligned as such, vectors are not: no more is promised of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from loopgrad.backends.llvm.writing.pieces import MASKED_BYTES, call_store_first
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.backends.llvm.writing.text import I64, PAST_CACHES, Body, suffix, vector

_SIZES = {"double": 8, "float": 4, "i64": 8, "i8": 1}
_MOST_APART = 4  # of lanes that are loaded as whole vectors with gaps


@dataclass(frozen=True, slots=True)
class Place:
    """Elements of one LLVM kind, one a lane: `pointer` is where that of the first lane lies.

    `stride` is the distance from lane to lane, in elements: 0 for one element that all lanes share,
    a number, or an i64 that is known when running. Where `offsets`, an i64 a lane, is given, it says
    how far each lies behind `pointer`.
    """

    kind: str
    pointer: str
    stride: int | str = 0
    offsets: str | None = None
    width: str = I64


def all_lanes(lanes: int) -> str:
    return literal_vector("i1", ["true"] * lanes)


def literal_vector(kind: str, values: list[str]) -> str:
    return "<" + ", ".join(f"{kind} {value}" for value in values) + ">"


def splat(body: Body, kind: str, value: str, lanes: int) -> str:
    """The value in every lane."""
    if lanes == 1:
        return value
    if not value.startswith("%"):
        return literal_vector(kind, [value] * lanes)
    full = vector(kind, lanes)
    first = body.value(f"insertelement {full} undef, {kind} {value}, i64 0")
    zeros = f"<{lanes} x i32> zeroinitializer"
    return body.value(f"shufflevector {full} {first}, {full} undef, {zeros}")


def positions(lanes: int, kind: str = I64) -> str:
    """<0, 1, 2, ...>"""
    return literal_vector(kind, [str(lane) for lane in range(lanes)])


def load(body: Body, place: Place, lanes: int, mask: str | None) -> str:
    """A vector, or for stride 0 one element. Where the mask is false nothing is read: 0."""
    kind = place.kind
    if place.offsets is None and place.stride == 0:
        return body.load(kind, place.pointer)
    if place.offsets is None and place.stride in (1, -1):
        return _load_side_by_side(body, place, lanes, mask)
    if _is_near(place):
        return _load_spread(body, place, lanes, mask)
    if _is_one_gather(body, place, lanes):
        return _gathered(body, place, lanes, mask)
    full, pointers = vector(kind, lanes), _pointers(body, place, lanes)
    several = vector(body.module.pointer(kind), lanes)
    at = f"v{lanes}p0" + ("" if body.module.opaque_pointers else suffix(kind))
    name = f"@llvm.masked.gather.{suffix(full)}.{at}"
    body.module.declare(f"declare {full} {name}({several}, i32, {_mask_type(lanes)}, {full})")
    given = f"{_mask_type(lanes)} {mask or all_lanes(lanes)}, {full} zeroinitializer"
    return body.value(f"call {full} {name}({several} {pointers}, i32 {_SIZES[kind]}, {given})")


def store(
    body: Body,
    place: Place,
    value: str,
    lanes: int,
    mask: str | None,
    past: bool = False,
    count: str | None = None,
) -> None:
    """Stores a vector, where the mask holds; of one address twice, the later lane's value.

    past: all lanes are stored, past the caches, to an aligned address. count: the mask holds in the first so
    many lanes, an i64.
    """
    kind = place.kind
    if past:
        full = vector(kind, lanes)
        at = f"{body.module.pointer(full)} {_as_vector(body, place, lanes)}"
        size = _SIZES[kind] * lanes
        body.do(f"store {full} {value}, {at}, align {size}, !nontemporal {PAST_CACHES}")
        return
    if place.offsets is None and place.stride in (1, -1):
        slow = mask is not None and body.module.vector_bytes < MASKED_BYTES
        if slow and count is not None and place.stride == 1:
            call_store_first(body, kind, _SIZES[kind], place.pointer, value, lanes, count)
        else:
            _store_side_by_side(body, place, value, lanes, mask)
        return
    if _is_near(place):
        known = mask is None or count is not None
        if known and body.module.vector_bytes < MASKED_BYTES:
            _store_each(body, place, value, lanes, count if mask else None)
        else:
            _store_spread(body, place, value, lanes, mask)
        return
    full, pointers = vector(kind, lanes), _pointers(body, place, lanes)
    several = vector(body.module.pointer(kind), lanes)
    at = f"v{lanes}p0" + ("" if body.module.opaque_pointers else suffix(kind))
    name = f"@llvm.masked.scatter.{suffix(full)}.{at}"
    body.module.declare(f"declare void {name}({full}, {several}, i32, {_mask_type(lanes)})")
    given = f"{several} {pointers}, i32 {_SIZES[kind]}, {_mask_type(lanes)}"
    body.do(f"call void {name}({full} {value}, {given} {mask or all_lanes(lanes)})")


def store_woven(
    body: Body, place: Place, values: Sequence[str], lanes: int, masks: Sequence[str | None]
) -> None:
    """Stores vectors whose lanes lie side by side: the first of each, then the second of each, and so on.

    place: of the first vector.
    """
    wide = lanes * len(values)
    value = _woven(body, place.kind, values, lanes)
    mask = None
    if any(masks):
        full = all_lanes(lanes)
        mask = _woven(body, "i1", [m or full for m in masks], lanes)
    beside = replace(place, stride=1)
    if mask is None or body.module.vector_bytes >= MASKED_BYTES or wide & (wide - 1):
        _store_side_by_side(body, beside, value, wide, mask)
    else:
        _store_mostly_first(body, beside, value, wide, mask)


def _store_mostly_first(body: Body, place: Place, value: str, lanes: int, mask: str) -> None:
    """The lanes of a mask that mostly holds in the first ones, of any number, and in no others."""
    bits = body.value(f"bitcast {_mask_type(lanes)} {mask} to i{lanes}")
    bits = body.value(f"zext i{lanes} {bits} to i64")
    behind_first = body.value(f"and i64 {bits}, {body.value(f'add i64 {bits}, 1')}")
    first = body.value(f"icmp eq i64 {behind_first}, 0")
    count = body.intrinsic("ctpop", I64, bits)
    where(
        body,
        first,
        lambda: call_store_first(
            body, place.kind, _SIZES[place.kind], place.pointer, value, lanes, count
        ),
    )
    others = body.value(f"xor i1 {first}, true")
    where(body, others, lambda: _store_side_by_side(body, place, value, lanes, mask))


def _woven(body: Body, kind: str, values: Sequence[str], lanes: int) -> str:
    """All lanes of vectors in one, the first of each in front."""
    found, each = values[0], vector(kind, lanes)
    for number, value in enumerate(values[1:], 1):
        have = lanes * number
        if number > 1:  # both sides of a shuffle are of one type
            fill = [*map(str, range(lanes)), *["undef"] * (have - lanes)]
            order = literal_vector("i32", fill)
            wide = f"{each} {value}, {each} undef, <{have} x i32> {order}"
            value = body.value(f"shufflevector {wide}")
        places = [
            number * lane + part if part < number else have + lane
            for lane in range(lanes)
            for part in range(number + 1)
        ]
        both, order = vector(kind, have), literal_vector("i32", list(map(str, places)))
        sides = f"{both} {found}, {both} {value}, <{len(places)} x i32> {order}"
        found = body.value(f"shufflevector {sides}")
    return found


def _is_one_gather(body: Body, place: Place, lanes: int) -> bool:
    """Has the processor an instruction for all lanes? LLVM would make two, of offsets twice as wide."""
    return (place.kind, place.width, lanes, body.module.vector_bytes) == ("float", "i32", 16, 64)


def _gathered(body: Body, place: Place, lanes: int, mask: str | None) -> str:
    full, whole, holds = vector("float", lanes), vector("i32", lanes), _mask_type(lanes)
    byte, pointer = body.module.pointer("i8"), place.pointer
    if not body.module.opaque_pointers:
        pointer = body.value(f"bitcast float* {pointer} to i8*")
    name = "@llvm.x86.avx512.mask.gather.dps.512"
    body.module.declare(f"declare {full} {name}({full}, {byte}, {whole}, {holds}, i32)")
    given = f"{full} zeroinitializer, {byte} {pointer}, {whole} {place.offsets}"
    return body.value(f"call {full} {name}({given}, {holds} {mask or all_lanes(lanes)}, i32 4)")


def behind(body: Body, kind: str, pointer: str, offset: str | int) -> str:
    """The address of the element `offset` behind; it need not be one that exists."""
    at = body.module.pointer(kind)
    return body.value(f"getelementptr {kind}, {at} {pointer}, i64 {offset}")


def _mask_type(lanes: int) -> str:
    return vector("i1", lanes)


def _as_vector(body: Body, place: Place, lanes: int) -> str:
    """The address of the lowest element, as one of vectors."""
    pointer = place.pointer
    if place.stride == -1:
        pointer = behind(body, place.kind, pointer, 1 - lanes)
    if body.module.opaque_pointers:
        return pointer
    return body.value(f"bitcast {place.kind}* {pointer} to {vector(place.kind, lanes)}*")


def _reversed(body: Body, kind: str, value: str, lanes: int) -> str:
    full = vector(kind, lanes)
    order = literal_vector("i32", [str(lane) for lane in reversed(range(lanes))])
    return body.value(f"shufflevector {full} {value}, {full} undef, <{lanes} x i32> {order}")


def _load_side_by_side(body: Body, place: Place, lanes: int, mask: str | None) -> str:
    kind, full = place.kind, vector(place.kind, lanes)
    pointer, at = _as_vector(body, place, lanes), body.module.pointer(full)
    backwards = place.stride == -1
    if mask is None:
        value = body.value(f"load {full}, {at} {pointer}, align {_SIZES[kind]}")
    else:
        if backwards:
            mask = _reversed(body, "i1", mask, lanes)
        name = f"@llvm.masked.load.{suffix(full)}.{_pointer_suffix(body, full)}"
        body.module.declare(f"declare {full} {name}({at}, i32, {_mask_type(lanes)}, {full})")
        given = f"{_mask_type(lanes)} {mask}, {full} zeroinitializer"
        value = body.value(f"call {full} {name}({at} {pointer}, i32 {_SIZES[kind]}, {given})")
        value = _by_itself(body, kind, value, lanes)
    return _reversed(body, kind, value, lanes) if backwards else value


# Of processors with registers as wide alone arithmetic takes masks.
_FENCED = {"double": "double", "float": "float", "i64": "double"}


def _by_itself(body: Body, kind: str, value: str, lanes: int) -> str:
    """What a masked load has read, of which LLVM makes no operand of masked arithmetic.

    It does so where the masks are one, as in `select m, (load m) * q, 0`, and where the register is in
    the way it takes the load out again (LLVM 22), without its mask: it then reads beside the array.
    """
    if body.module.vector_bytes < MASKED_BYTES or kind not in _FENCED:
        return value
    full, fenced = vector(kind, lanes), vector(_FENCED[kind], lanes)
    if fenced != full:
        value = body.value(f"bitcast {full} {value} to {fenced}")
    name = f"@llvm.arithmetic.fence.{suffix(fenced)}"
    body.module.declare(f"declare {fenced} {name}({fenced})")
    value = body.value(f"call {fenced} {name}({fenced} {value})")
    return value if fenced == full else body.value(f"bitcast {fenced} {value} to {full}")


def _store_side_by_side(body: Body, place: Place, value: str, lanes: int, mask: str | None) -> None:
    kind, full = place.kind, vector(place.kind, lanes)
    pointer, at = _as_vector(body, place, lanes), body.module.pointer(full)
    if place.stride == -1:
        value = _reversed(body, kind, value, lanes)
        mask = mask and _reversed(body, "i1", mask, lanes)
    if mask is None:
        body.do(f"store {full} {value}, {at} {pointer}, align {_SIZES[kind]}")
        return
    name = f"@llvm.masked.store.{suffix(full)}.{_pointer_suffix(body, full)}"
    body.module.declare(f"declare void {name}({full}, {at}, i32, {_mask_type(lanes)})")
    given = f"{at} {pointer}, i32 {_SIZES[kind]}, {_mask_type(lanes)} {mask}"
    body.do(f"call void {name}({full} {value}, {given})")


# ------------------------------------------------------------------------------ every second element


def _is_near(place: Place) -> bool:
    """Are whole vectors with gaps, from which lanes are picked, quicker than elements one by one?"""
    if place.offsets is not None or not isinstance(place.stride, int):
        return False
    return 2 <= place.stride <= _MOST_APART and _SIZES[place.kind] >= 4


def _load_spread(body: Body, place: Place, lanes: int, mask: str | None) -> str:
    wide, stride = _wide(place, lanes)
    if stride == 2 and mask is None:
        return _load_overlapping(body, place, lanes)
    if not _is_whole(stride):
        return _load_in_parts(body, place, stride, lanes, mask)
    apart = _mask_apart(body, stride, lanes, mask, range(wide))
    value = _load_side_by_side(body, replace(place, stride=1), wide, apart)
    picked = literal_vector("i32", [str(stride * lane) for lane in range(lanes)])
    full = vector(place.kind, wide)
    return body.value(f"shufflevector {full} {value}, {full} undef, <{lanes} x i32> {picked}")


def _load_overlapping(body: Body, place: Place, lanes: int) -> str:
    """Every second element: of two vectors, the second of which ends with the last of them."""
    full = vector(place.kind, lanes)
    first, second = (
        _load_side_by_side(body, _part(body, place, start), lanes, None) for start in (0, lanes - 1)
    )
    order = [2 * lane if 2 * lane < lanes else 2 * lane + 1 for lane in range(lanes)]
    picked = literal_vector("i32", list(map(str, order)))
    return body.value(f"shufflevector {full} {first}, {full} {second}, <{lanes} x i32> {picked}")


def _store_each(body: Body, place: Place, value: str, lanes: int, count: str | None) -> None:
    """One lane after the other, all or the first so many: a mask for the gaps would take longer."""
    full, kind, stride = vector(place.kind, lanes), place.kind, place.stride
    assert isinstance(stride, int)

    def store_one(lane: int) -> None:
        one = body.value(f"extractelement {full} {value}, i64 {lane}")
        body.store(kind, one, behind(body, kind, place.pointer, stride * lane))

    for lane in range(lanes):
        holds = body.value(f"icmp sgt i64 {count}, {lane}") if count else "true"
        where(body, holds, partial(store_one, lane))


def _store_spread(body: Body, place: Place, value: str, lanes: int, mask: str | None) -> None:
    wide, stride = _wide(place, lanes)
    full, size = vector(place.kind, lanes), wide if _is_whole(stride) else lanes
    for first in range(0, wide, size):
        part = range(first, first + size)
        sources = literal_vector("i32", [str(element // stride) for element in part])
        spread = body.value(f"shufflevector {full} {value}, {full} undef, <{size} x i32> {sources}")
        apart = _mask_apart(body, stride, lanes, mask, part)
        _store_side_by_side(body, _part(body, place, first), spread, size, apart)


def _is_whole(stride: int) -> bool:
    """Is a vector with its gaps one of a size that LLVM has masks for? Others it takes lane by lane."""
    return stride & (stride - 1) == 0


def _part(body: Body, place: Place, first: int) -> Place:
    pointer = behind(body, place.kind, place.pointer, first) if first else place.pointer
    return replace(place, pointer=pointer, stride=1)


def _load_in_parts(body: Body, place: Place, stride: int, lanes: int, mask: str | None) -> str:
    """From vectors side by side, each with its own mask, the lanes that each of them has."""
    full, found = vector(place.kind, lanes), "undef"
    for number in range(stride):
        first = lanes * number
        apart = _mask_apart(body, stride, lanes, mask, range(first, first + lanes))
        value = _load_side_by_side(body, _part(body, place, first), lanes, apart)
        places = [stride * lane - first for lane in range(lanes)]
        order = [
            str(lane) if p < 0 else str(lanes + p) if p < lanes else "undef"
            for lane, p in enumerate(places)
        ]
        picked = literal_vector("i32", order)
        found = body.value(
            f"shufflevector {full} {found}, {full} {value}, <{lanes} x i32> {picked}"
        )
    return found


def _wide(place: Place, lanes: int) -> tuple[int, int]:
    """How many elements there are from the first lane's on, gaps included; and the stride."""
    assert isinstance(place.stride, int)
    return lanes * place.stride, place.stride


def _mask_apart(body: Body, stride: int, lanes: int, mask: str | None, part: range) -> str:
    """The lanes that run, among a part of the elements with gaps."""
    if mask is None:
        return literal_vector("i1", ["false" if i % stride else "true" for i in part])
    sources = literal_vector("i32", [str(lanes if i % stride else i // stride) for i in part])
    kind = _mask_type(lanes)
    return body.value(
        f"shufflevector {kind} {mask}, {kind} zeroinitializer, <{len(part)} x i32> {sources}"
    )


def _pointer_suffix(body: Body, full: str) -> str:
    return "p0" if body.module.opaque_pointers else f"p0{suffix(full)}"


def _pointers(body: Body, place: Place, lanes: int) -> str:
    """The addresses of all lanes."""
    offsets, width = place.offsets, place.width
    if offsets is None:
        if isinstance(place.stride, int):
            steps = [str(place.stride * lane) for lane in range(lanes)]
            offsets = literal_vector(I64, steps)
        else:
            step = splat(body, I64, place.stride, lanes)
            wide = vector(I64, lanes)
            offsets = body.value(f"mul {wide} {step}, {positions(lanes)}")
    at = body.module.pointer(place.kind)
    return body.value(
        f"getelementptr {place.kind}, {at} {place.pointer}, {vector(width, lanes)} {offsets}"
    )
